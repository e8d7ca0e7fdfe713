"""The table of erasures: opened before the first row goes, closed with a receipt that goes on with the chain."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.connect import Link
from nightcrew.databases.tables import entries, erasures, place
from nightcrew.erased import Closed, Erasure, Facts, State
from nightcrew.errors import DatabaseError

_TOGETHER = 1_000  # hashes that one statement is told
_NAMING = ("undeletable", "kept", "unsettled")  # kinds of entries that name a row, or a key of a store
_COLUMNS = ("id", "job", "table", "subject", "by", "requested_at", "state", "facts", "finished_at", "number",
            "receipt", "digest")  # fmt: skip


class Tombs:
    """The `Erasures` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def open(self, erasure: Erasure) -> None:
        """Insert it."""
        with self._link.transaction() as connection:
            connection.execute(sa.insert(erasures).values(**_row(erasure)))

    def of(self, subject: str) -> list[Erasure]:
        """Look by the hash."""
        these = sa.select(erasures).where(erasures.c.subject == subject)
        return self._read(these.order_by(erasures.c.requested_at.desc(), erasures.c.id.desc()))

    def facts(self, erasure: str) -> Facts:
        """Read its row."""
        with self._link.transaction(writes=False) as connection:
            facts: Facts = connection.execute(sa.select(erasures.c.facts).where(erasures.c.id == erasure)).scalar_one()
            return facts

    def under_way(self, job: str, most: int) -> list[Erasure]:
        """Look by the state."""
        these = sa.select(erasures).where(erasures.c.state == State.OPEN, erasures.c.job == job)
        return self._read(these.order_by(erasures.c.requested_at, erasures.c.id).limit(most))

    def known(self, subjects: Iterable[str]) -> set[str]:
        """Look by the hashes."""
        asked, found = list(dict.fromkeys(subjects)), set[str]()
        with self._link.transaction(writes=False) as connection:
            for start in range(0, len(asked), _TOGETHER):
                some = erasures.c.subject.in_(asked[start : start + _TOGETHER])
                found.update(connection.execute(sa.select(erasures.c.subject).where(some)).scalars())
        return found

    def hold(self, connection: sa.Connection, erasure: str) -> Facts:
        """Lock its row."""
        facts = sa.select(erasures.c.facts).where(erasures.c.id == erasure).with_for_update()
        found: Facts | None = connection.execute(facts).scalar_one_or_none()
        if found is None:
            raise DatabaseError(f"erasure {erasure} is gone from nightcrew_erasures: run the erasure again")
        return found

    def note(self, connection: sa.Connection, erasure: str, facts: Facts) -> None:
        """Update its row."""
        connection.execute(sa.update(erasures).where(erasures.c.id == erasure).values(facts=facts))

    def add(self, erasure: str, change: Callable[[Facts], None]) -> None:
        """Lock, change, update."""
        with self._link.transaction() as connection:
            facts = self.hold(connection, erasure)
            change(facts)
            self.note(connection, erasure, facts)

    def close(self, erasure: Erasure, write: Callable[[int, str, datetime], Closed]) -> Erasure:
        """Number receipts one by one, whoever else closes another meanwhile."""
        now = self._link.now()
        with self._link.transaction() as connection:
            connection.execute(sa.select(place.c.id).where(place.c.id == 1).with_for_update()).all()
            newest = sa.select(erasures.c.number, erasures.c.digest).where(erasures.c.number.is_not(None))
            last = connection.execute(newest.order_by(erasures.c.number.desc()).limit(1)).first()
            number, before = (last.number + 1, last.digest) if last else (1, "")
            closed = write(number, before, now)
            done = closed.state is State.COMPLETE
            self.hold(connection, erasure.id)
            given = {"state": str(closed.state), "receipt": closed.receipt, "digest": closed.digest, "number": number}
            this = sa.update(erasures).where(erasures.c.id == erasure.id)
            connection.execute(this.values(**given, finished_at=now))
            if done:
                same = sa.update(erasures).where(erasures.c.subject == erasure.subject)
                connection.execute(same.where(erasures.c.state != State.OPEN).values(facts={}))
        written = replace(erasure, state=closed.state, receipt=closed.receipt, digest=closed.digest)
        return replace(written, number=number, finished_at=now)

    def drop(self, erasure: Erasure) -> None:
        """Delete its row."""
        with self._link.transaction() as connection:
            this = erasures.c.id == erasure.id
            connection.execute(sa.delete(erasures).where(this, erasures.c.state == State.OPEN))

    def last(self) -> Erasure | None:
        """Look by the number."""
        newest = sa.select(erasures).where(erasures.c.number.is_not(None)).order_by(erasures.c.number.desc())
        return next(iter(self._read(newest.limit(1))), None)

    def some(self) -> list[Erasure]:
        """Look by the number."""
        newest = self.last()
        return [*self.receipts(0, 1), newest] if newest else []

    def receipts(self, after: int, most: int) -> list[Erasure]:
        """Look by the number."""
        return self._read(sa.select(erasures).where(erasures.c.number > after).order_by(erasures.c.number).limit(most))

    def restore(self, lost: Iterable[Erasure]) -> None:
        """Insert them."""
        if rows := [_row(replace(erasure, state=State.RESTORED)) for erasure in lost]:
            with self._link.transaction() as connection:
                connection.execute(sa.insert(erasures), rows)

    def restored(self) -> list[Erasure]:
        """Look by the state."""
        return self._read(sa.select(erasures).where(erasures.c.state == State.RESTORED))

    def replayed(self) -> None:
        """Change the state: what had been closed is, and what had been begun has left another erasure open."""
        these = erasures.c.state == State.RESTORED
        with self._link.transaction() as connection:
            connection.execute(sa.delete(erasures).where(these, erasures.c.number.is_(None)))
            connection.execute(sa.update(erasures).where(these).values(state=str(State.COMPLETE)))

    def ids(self) -> set[str]:
        """Look at all of them."""
        with self._link.transaction(writes=False) as connection:
            return {*connection.execute(sa.select(erasures.c.id).where(erasures.c.state != State.RESTORED)).scalars()}

    def scrub(self, table: str, words: str, named: Callable[[str, str], bool]) -> int:
        """Read the few entries that name anything, and write those anew that name the row."""
        found = sa.select(entries.c.id, entries.c.facts).where(entries.c.kind.in_(_NAMING))
        with self._link.transaction() as connection:
            changed = dict(_scrubbed(connection.execute(found).all(), table, words, named))
            for number, facts in changed.items():
                connection.execute(sa.update(entries).where(entries.c.id == number).values(facts=facts))
        return len(changed)

    def _read(self, these: sa.Select[Any]) -> list[Erasure]:
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(these).mappings().all()
        return [Erasure(**{**{name: row[name] for name in _COLUMNS}, "state": State(row["state"])}) for row in rows]


def _row(erasure: Erasure) -> dict[str, Any]:
    return {name: getattr(erasure, name) for name in _COLUMNS} | {"state": str(erasure.state)}


_ERASED = "(erased)"


def _scrubbed(
    rows: Iterable[Any], table: str, words: str, named: Callable[[str, str], bool]
) -> Iterator[tuple[int, Facts]]:
    for row in rows:
        facts = dict(row.facts)
        if facts.get("table") == table and facts.get("key") == words:
            yield row.id, facts | {"key": _ERASED, "reason": _ERASED}
        elif facts.get("table") == table and words in facts.get("keys", ()):
            yield row.id, facts | {"keys": [_ERASED if key == words else key for key in facts["keys"]]}
        elif "store" in facts and named(facts["store"], str(facts.get("key"))):
            yield row.id, facts | {"key": _ERASED, "reason": _ERASED}
