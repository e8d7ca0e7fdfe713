"""SQLite's values as they are: each has a kind of its own, whatever its column's type."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Copy
from nightcrew.database import Column, ForeignKey, Table
from nightcrew.databases import sqlite_catalog
from nightcrew.databases.dialect import Named, Relation
from nightcrew.databases.keys import by_key
from nightcrew.databases.names import quoted
from nightcrew.databases.row_spelling import RowSpelling, union

_SOME = 500  # values that one statement may be told


class SQLiteSpelling(RowSpelling):
    """A value is a number, a text, or bytes."""

    most = 10_000

    def begin(self, connection: sa.Connection) -> None:
        """Need nothing."""

    def written(self, column: Column, held: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Leave it as it is."""
        return held

    def among(
        self, table: Table, rows: Named, names: Sequence[str], values: Sequence[Sequence[Any]]
    ) -> sa.ColumnElement[bool]:
        """List the values."""
        known, found = by_key([rows.c[name] for name in names]), [tuple(one) for one in values]
        assert known is not None  # noqa: S101 - nobody asks for rows by no column
        return sa.or_(*(known.among(found[start : start + _SOME]) for start in range(0, len(found), _SOME)))

    def listed(self, table: Table, own: Named, values: Sequence[Sequence[Any]]) -> sa.Select[Any] | None:
        """Know of no column what its values are; a number is cast, or a text would not be held against it as one."""
        return union(own, ([_given(value) for value in one] for one in values))

    def parents(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Read them of the catalog."""
        return sqlite_catalog.parents(connection, relation)

    @contextmanager
    def restoring(self, connection: sa.Connection) -> Iterator[None]:
        """Look at foreign keys when the transaction ends."""
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        yield

    def insert(self, connection: sa.Connection, copies: Sequence[tuple[Table, Copy]], *, ordered: bool) -> None:
        """Insert into one table after the other."""
        for table, copy in copies:
            into = ".".join(quoted(part, '"') for part in table.name.split("."))
            names = ", ".join(quoted(name, '"') for name in copy.columns)
            marks = ", ".join("?" * len(copy.columns))
            connection.exec_driver_sql(
                f"INSERT INTO {into} ({names}) VALUES ({marks})", [tuple(one) for one in copy.values]
            )

    def advance(self, connection: sa.Connection, table: Table, copy: Copy) -> None:
        """Leave it to the database, which counts on from the highest."""


def _given(value: Any) -> sa.ColumnElement[Any]:
    given = sa.literal(value)
    return sa.cast(given, sa.Numeric) if isinstance(value, int | float) else given
