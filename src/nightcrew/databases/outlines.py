"""The tables of a schema at one look, for whoever has to find out what an unprepared database holds."""

from datetime import datetime

from nightcrew.databases.catalog import describe, source
from nightcrew.databases.connect import Link
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.outline import Outline

_MOST = 5_000  # tables that are looked at
_LONGEST_LOOK = 10.0  # seconds that a statement about all tables may take
_PATIENCE = 2.0  # seconds that the values of one column may take


class Outlines:
    """The `Sights` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def outlines(self) -> list[Outline]:
        """Ask the catalog alone: a role that may read it suffices."""
        with self._link.glimpse(_LONGEST_LOOK) as connection:
            return self._link.dialect.outlines(connection, _MOST)

    def unreadable(self, table: str, column: str, cut: datetime) -> str | None:
        """Look at the ends of a column, where its type does not tell that it is a time."""
        dialect = self._link.dialect
        try:
            with self._link.glimpse(_PATIENCE) as connection:
                found = describe(connection, dialect, table)
                dialect.reading(connection, source(table, [column]), found.columns[column], cut)
        except (PolicyError, DatabaseError) as refusal:
            if isinstance(refusal, DatabaseError) and refusal.away:
                raise
            return str(refusal)
        return None
