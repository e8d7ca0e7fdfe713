"""nightcrew's own table of what people did."""

import sqlalchemy as sa

from nightcrew.acts import Act
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.tables import acts

_LONGEST = {"actor": 100, "verb": 30, "job": 100, "run": 150, "plan": 64, "reason": 500}


class Deeds:
    """The `Acts` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def keep(self, act: Act) -> None:
        """Write down what somebody did."""
        said = {name: getattr(act, name) for name in _LONGEST}
        kept = {name: text and storable(text, _LONGEST[name]) for name, text in said.items()}
        with self._link.transaction() as connection:
            connection.execute(sa.insert(acts).values(at=self._link.moment, **kept))

    def newest(self, *, job: str | None = None, before: int | None = None, limit: int = 50) -> list[Act]:
        """Return the newest acts first, of one job or all, those before a number where one is given."""
        statement = sa.select(acts).order_by(acts.c.id.desc()).limit(limit)
        if job is not None:
            statement = statement.where(acts.c.job == job)
        if before is not None:
            statement = statement.where(acts.c.id < before)
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(statement).mappings().all()
        return [Act(**{name: row[name] for name in _LONGEST}, at=row["at"], number=row["id"]) for row in found]
