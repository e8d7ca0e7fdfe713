"""The table of whom nothing is sent to."""

import sqlalchemy as sa

from nightcrew.databases.connect import Link, storable
from nightcrew.databases.tables import suppressions
from nightcrew.errors import DatabaseError
from nightcrew.suppression import Subject, Suppression

_LONGEST_SUBJECT, _LONGEST_REASON, _LONGEST_NAME = 330, 500, 100


class Silence:
    """The `Suppressions` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def add(self, subject: Subject, topic: str, reason: str, by: str) -> None:
        """Look first, and once more where somebody's row came in between."""
        try:
            self._add(subject, topic, reason, by)
        except DatabaseError as error:
            if not error.of_row:
                raise
            self._add(subject, topic, reason, by)

    def _add(self, subject: Subject, topic: str, reason: str, by: str) -> None:
        named = {"subject": _text(subject), "topic": topic}
        said = {"reason": storable(reason, _LONGEST_REASON), "by": storable(by, _LONGEST_NAME)}
        there = sa.exists().where(*(suppressions.c[name] == value for name, value in named.items()))
        values = [sa.literal(value, suppressions.c[name].type) for name, value in (named | said).items()]
        absent = sa.select(*values, self._link.moment).where(~there)
        with self._link.transaction() as connection:
            connection.execute(sa.insert(suppressions).from_select([*named, *said, "since"], absent))

    def remove(self, subject: Subject, topic: str, reason: str | None = None) -> bool:
        """Delete its row."""
        this = [suppressions.c.subject == _text(subject), suppressions.c.topic == topic]
        this += [] if reason is None else [suppressions.c.reason == reason]
        with self._link.transaction() as connection:
            return connection.execute(sa.delete(suppressions).where(*this)).rowcount > 0

    def of(self, subject: Subject) -> dict[str, str]:
        """Read its rows."""
        theirs = sa.select(suppressions.c.topic, suppressions.c.reason).where(suppressions.c.subject == _text(subject))
        with self._link.transaction(writes=False) as connection:
            return {row.topic: row.reason for row in connection.execute(theirs)}

    def listed(self, most: int) -> list[Suppression]:
        """Read some."""
        newest = sa.select(suppressions).order_by(suppressions.c.since.desc(), suppressions.c.subject).limit(most)
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(newest).all()
        return [Suppression(Subject.read(row.subject), row.topic, row.reason, row.by, row.since) for row in rows]


def _text(subject: Subject) -> str:
    return storable(subject.text, _LONGEST_SUBJECT)
