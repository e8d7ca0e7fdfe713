"""The values of MySQL and MariaDB as texts and numbers that come back as they were, whatever the column's type."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Copy
from nightcrew.database import Column, ForeignKey, Table
from nightcrew.databases import mysql_catalog
from nightcrew.databases.dialect import Named, Relation
from nightcrew.databases.keys import by_key
from nightcrew.databases.names import quoted
from nightcrew.databases.row_spelling import RowSpelling, union

_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point", "linestring",
          "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection",
          "vector")  # fmt: skip
_WHOLE = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "bit", "year")
# Zero dates, and a zero that shall not be counted up, are among what a table may hold.
_AS_IT_WAS = "SET SESSION foreign_key_checks = 0, sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'"
_MODE = "SELECT @@SESSION.sql_mode"


class MySQLSpelling(RowSpelling):
    """A value is its text; bytes are bytes, and so is what is made of them; whole numbers are numbers."""

    most = 1_000

    def begin(self, connection: sa.Connection) -> None:
        """Need nothing: sessions of ours are in UTC."""

    def written(self, column: Column, held: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Say all of a value: a FLOAT would be rounded, and the driver makes something of dates that they are not."""
        kind = _kind(column)
        if kind in _TEXTS:
            return held
        if kind in _BYTES:
            return sa.func.hex(held)
        if kind in _WHOLE:
            return sa.literal_column("0") + held if kind == "bit" else held
        if kind in ("float", "double", "real"):
            return held + sa.literal_column("0e0")
        return sa.cast(held, sa.CHAR)

    def among(
        self, table: Table, rows: Named, names: Sequence[str], values: Sequence[Sequence[Any]]
    ) -> sa.ColumnElement[bool]:
        """List the values."""
        known = by_key([rows.c[name] for name in names])
        assert known is not None  # noqa: S101 - nobody asks for rows by no column
        return known.among(_ready([table.columns[name] for name in names], values))

    def listed(self, table: Table, own: Named, values: Sequence[Sequence[Any]]) -> sa.Select[Any] | None:
        """Leave numbers and bytes alone."""
        columns = [table.columns[column.name] for column in own.c]
        if all(_kind(column) in (*_WHOLE, *_BYTES) for column in columns):
            return None
        return union(own, ([sa.literal(value) for value in one] for one in _ready(columns, values)))

    def parents(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Read them of the catalog."""
        return mysql_catalog.parents(connection, relation)

    @contextmanager
    def restoring(self, connection: sa.Connection) -> Iterator[None]:
        """Leave the order in which rows come to us: whoever puts them back has looked at what they refer to."""
        mode = connection.exec_driver_sql(_MODE).scalar_one()
        connection.exec_driver_sql(_AS_IT_WAS)
        try:
            yield
        finally:
            connection.exec_driver_sql("SET SESSION foreign_key_checks = 1, sql_mode = %s", (mode,))

    def insert(self, connection: sa.Connection, copies: Sequence[tuple[Table, Copy]], *, ordered: bool) -> None:
        """Insert into one table after the other; the driver makes statements of many rows."""
        for table, copy in copies:
            into = ".".join(quoted(part, "`") for part in table.name.split("."))
            names = ", ".join(quoted(name, "`") for name in copy.columns)
            marks = ", ".join(["%s"] * len(copy.columns))
            rows = _ready([table.columns[name] for name in copy.columns], copy.values)
            statement = f"INSERT INTO {into} ({names})".replace("%", "%%")
            connection.exec_driver_sql(f"{statement} VALUES ({marks})", rows)

    def advance(self, connection: sa.Connection, table: Table, copy: Copy) -> None:
        """Leave it to the database, which counts on from the highest."""


def _kind(column: Column) -> str:
    return column.kind.partition("(")[0].split()[0].lower()


def _ready(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return rows as the driver takes them."""
    of_bytes = [_kind(column) in _BYTES for column in columns]
    if not any(of_bytes):
        return [tuple(one) for one in rows]
    return [
        tuple(
            bytes.fromhex(value) if is_bytes and value is not None else value
            for value, is_bytes in zip(one, of_bytes, strict=True)
        )
        for one in rows
    ]
