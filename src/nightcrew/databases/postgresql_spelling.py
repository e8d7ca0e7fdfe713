"""PostgreSQL's values as the texts that its own input functions read again, whatever their type."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Copy
from nightcrew.database import Column, ForeignKey, Table
from nightcrew.databases import postgresql_catalog
from nightcrew.databases.dialect import Named, Relation
from nightcrew.databases.names import quoted

# Whatever the role is set to: a text has to say all of a value, and be read by another session.
_BEGIN = """
SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 3;
SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content'; SET LOCAL lc_monetary = 'C'
"""
_AHEAD = "SELECT pg_get_serial_sequence(:table, :column)"


class PostgreSQLSpelling:
    """A value is its text; rows go back as one JSON array, which one statement takes apart."""

    def begin(self, connection: sa.Connection) -> None:
        """Set the styles for this transaction only."""
        connection.exec_driver_sql(_BEGIN)

    def written(self, column: Column, held: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Cast to text, which only loses the blanks at the end of a CHAR without a length."""
        if column.kind == "bpchar":
            return sa.case((held.is_not(None), sa.func.format("%s", held)))
        return sa.cast(held, sa.Text)

    def among(self, table: Table, rows: Named, names: Sequence[str], values: Sequence[str]) -> sa.ColumnElement[bool]:
        """Compare with what a JSON array lists."""
        listed = f"SELECT {_read(table, names)} FROM json_array_elements(CAST(:listed AS json)) AS nightcrew_row"
        given = sa.text(listed).bindparams(listed=_array(values))
        own = rows.c[names[0]] if len(names) == 1 else sa.tuple_(*(rows.c[name] for name in names))
        found: sa.ColumnElement[bool] = own.in_(given)
        return found

    def parents(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Read them of the catalog."""
        return postgresql_catalog.parents(connection, relation)

    @contextmanager
    def restoring(self, connection: sa.Connection) -> Iterator[None]:
        """Need nothing: foreign keys are looked at when the statement ends."""
        yield

    def insert(self, connection: sa.Connection, copies: Sequence[tuple[Table, Copy]]) -> None:
        """Insert into all tables by one statement, so that rows may refer to each other in any way."""
        parts, given = [], {}
        for place, (table, copy) in enumerate(copies):
            into, names = _named(table), ", ".join(quoted(name, '"') for name in copy.columns)
            rows = f"SELECT {_read(table, copy.columns)} FROM json_array_elements(CAST(:rows_{place} AS json))"
            insert = f"INSERT INTO {into} ({names}) OVERRIDING SYSTEM VALUE {rows} AS nightcrew_row"
            parts.append(f"nightcrew_{place} AS ({insert})")
            given[f"rows_{place}"] = _array(copy.rows)
        connection.execute(sa.text(f"WITH {', '.join(parts)} SELECT 1"), given)

    def advance(self, connection: sa.Connection, table: Table, copy: Copy) -> None:
        """Move the sequences of columns on to what was put back, where they are behind it."""
        for column in table.columns.values():
            if column.name not in copy.columns or column.kind not in ("smallint", "integer", "bigint"):
                continue
            named = {"table": _named(table), "column": column.name}
            sequence = connection.execute(sa.text(_AHEAD), named).scalar_one()
            if sequence is None:
                continue
            (place,) = copy.of([column.name])
            highest = max((int(row[place]) for row in copy.values if row[place] is not None), default=0)
            behind = f"SELECT setval(CAST(:sequence AS regclass), :highest) FROM {sequence} WHERE last_value < :highest"
            connection.execute(sa.text(behind), {"sequence": sequence, "highest": highest}).all()


def _named(table: Table) -> str:
    return ".".join(quoted(part, '"') for part in table.name.split("."))


def _read(table: Table, names: Sequence[str]) -> str:
    kinds = [table.columns[name].kind for name in names]
    return ", ".join(f"CAST(nightcrew_row ->> {place} AS {kind})" for place, kind in enumerate(kinds))


def _array(rows: Sequence[str]) -> str:
    return f"[{','.join(rows)}]"
