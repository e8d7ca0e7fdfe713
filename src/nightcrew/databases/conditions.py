"""How the database is, and what the role of this crew may do there."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.condition import Condition, Reach
from nightcrew.databases.catalog import source, split
from nightcrew.databases.connect import Link

_PATIENCE = 5.0  # seconds


class Ward:
    """The `Conditions` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self, tables: Sequence[str]) -> Condition:
        """Look up what is there, and let the database tell."""
        with self._link.glimpse(_PATIENCE) as connection:
            named = {table: self._link.dialect.relation(connection, *split(table)) for table in tables}
            there = {table: relation for table, relation in named.items() if relation is not None}
            return self._link.dialect.condition(connection, there)

    def reach(self, table: str, column: str, seconds: float) -> Reach:
        """Ask for any row first: the ends of a column are read from its index, or by reading it all."""
        rows = source(table, [column])
        first, last = sa.func.min(rows.c[column]), sa.func.max(rows.c[column])
        any_row: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(rows).limit(1)
        with self._link.glimpse(seconds) as connection:
            if connection.execute(any_row).first() is None:
                return Reach(some=False, oldest=None, newest=None)
            ends = connection.execute(sa.select(sa.cast(first, sa.String(64)), sa.cast(last, sa.String(64)))).one()
        return Reach(some=True, oldest=ends[0], newest=ends[1])
