"""PostgreSQL's values as the texts that its own input functions read again, whatever their type."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from nightcrew.archives.frame import Copy, Lines, row
from nightcrew.database import Column, ForeignKey, Table
from nightcrew.databases import postgresql_catalog
from nightcrew.databases.dialect import Named, Relation
from nightcrew.databases.names import quoted

# Whatever the role is set to: a text has to say all of a value, and be read by another session.
_BEGIN = """
SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 3;
SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content'; SET LOCAL lc_monetary = 'C'
"""

# A line of a frame is nearly one of these: null is bare, all else in quotes.
_AS_LINES = """(FORMAT csv, NULL 'null', QUOTE '"', ESCAPE '\\')"""
_ESCAPED = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\b": "\b", "\\f": "\f"}  # in JSON, and not in what COPY reads
_CODED = re.compile(r"\\u([0-9a-f]{4})")
_PLAIN = ("smallint", "integer", "bigint", "uuid", "date", "boolean")  # written in one way
_BREAK, _ASIDE = "\n", "\0"  # no text here has the latter


class PostgreSQLSpelling:
    """A value is its text; rows go back as one JSON array, which one statement takes apart."""

    most = 20_000
    demanding = True

    def begin(self, connection: sa.Connection) -> None:
        """Set the styles for this transaction only."""
        connection.exec_driver_sql(_BEGIN)

    def line(
        self, written: Sequence[sa.ColumnElement[Any]], key: Sequence[sa.ColumnElement[Any]] = ()
    ) -> Sequence[sa.ColumnElement[Any]]:
        """Let the server make an array of them, which takes it less time than us; the key is among them."""
        return [sa.cast(sa.func.array_to_json(array(written)), sa.Text).label("line")]

    def gathered(self, lines: sa.Select[Any]) -> sa.Select[Any]:
        """Let it join the lines, too: of a row by itself, the driver would make more work than all else here."""
        found = lines.cte("found")
        return sa.select(sa.func.string_agg(*found.c, "\n"), sa.func.count()).select_from(found)

    def heard(self, answer: sa.Result[Any], width: int) -> Lines:
        """Take what it made."""
        row: Sequence[Any] = answer.one()
        return Lines(row[0] or "", row[1])

    def written(self, column: Column, held: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Cast to text, which only loses the blanks at the end of a CHAR without a length."""
        if column.kind == "bpchar":
            return sa.case((held.is_not(None), sa.func.format("%s", held)))
        return sa.cast(held, sa.Text)

    def among(
        self, table: Table, rows: Named, names: Sequence[str], values: Sequence[Sequence[Any]]
    ) -> sa.ColumnElement[bool]:
        """Compare with what a JSON array lists."""
        given = _listed(table, names, values)
        own = rows.c[names[0]] if len(names) == 1 else sa.tuple_(*(rows.c[name] for name in names))
        found: sa.ColumnElement[bool] = own.in_(given)
        return found

    def listed(self, table: Table, own: Named, values: Sequence[Sequence[Any]]) -> sa.Select[Any] | None:
        """Take a JSON array apart; beside the columns themselves, their collations hold."""
        names = [column.name for column in own.c]
        if all(table.columns[name].kind in _PLAIN for name in names):
            return None
        nothing = sa.select(*own.c).where(sa.false())
        rows = nothing.union_all(_listed(table, names, values).columns(*own.c))
        return sa.select(rows.subquery("nightcrew_rows"))

    def parents(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Read them of the catalog."""
        return postgresql_catalog.parents(connection, relation)

    @contextmanager
    def restoring(self, connection: sa.Connection) -> Iterator[None]:
        """Need nothing: foreign keys are looked at when the statement ends."""
        yield

    def insert(self, connection: sa.Connection, copies: Sequence[tuple[Table, Copy]], *, ordered: bool) -> None:
        """Copy them in, table by table; by one statement for all where rows may refer to each other in any way."""
        if not ordered:
            _insert_at_once(connection, copies)
            return
        for table, copy in copies:
            names = ", ".join(quoted(name, '"') for name in copy.columns)
            _copy(connection, f"COPY {_named(table)} ({names}) FROM STDIN {_AS_LINES}", _read_by_copy(copy.lines))

    def advance(self, connection: sa.Connection, table: Table, copy: Copy) -> None:
        """Move the sequences of columns on to what was put back, where they are behind it."""
        whole = [name for name in copy.columns if table.columns[name].kind in ("smallint", "integer", "bigint")]
        asked = [f"pg_get_serial_sequence(:table, :column_{place})" for place in range(len(whole))]
        if not whole:
            return
        named = {"table": _named(table)} | {f"column_{place}": name for place, name in enumerate(whole)}
        sequences = connection.execute(sa.text(f"SELECT {', '.join(asked)}"), named).one()
        for name, sequence in zip(whole, sequences, strict=True):
            if sequence is not None:
                (place,) = copy.of([name])
                highest = max((int(row[place]) for row in copy.values if row[place] is not None), default=0)
                behind = (
                    f"SELECT setval(CAST(:sequence AS regclass), :highest) FROM {sequence} WHERE last_value < :highest"
                )
                connection.execute(sa.text(behind), {"sequence": sequence, "highest": highest}).all()


def _insert_at_once(connection: sa.Connection, copies: Sequence[tuple[Table, Copy]]) -> None:
    parts, given = [], {}
    for place, (table, copy) in enumerate(copies):
        names = ", ".join(quoted(name, '"') for name in copy.columns)
        rows = f"SELECT {_read(table, copy.columns)} FROM json_array_elements(CAST(:rows_{place} AS json))"
        insert = f"INSERT INTO {_named(table)} ({names}) OVERRIDING SYSTEM VALUE {rows} AS nightcrew_row"
        parts.append(f"nightcrew_{place} AS ({insert})")
        given[f"rows_{place}"] = f"[{copy.lines.replace(_BREAK, ',')}]"
    connection.execute(sa.text(f"WITH {', '.join(parts)} SELECT 1"), given)


def _copy(connection: sa.Connection, statement: str, data: str) -> None:
    """Copy through the driver, and let its errors be SQLAlchemy's."""
    driver: Any = connection.connection.driver_connection
    kind = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as into:
            into.write(data)
    except kind as error:
        raise sa.exc.DBAPIError.instance(None, None, error, kind, dialect=connection.dialect) from error


def _read_by_copy(lines: str) -> str:
    """Return lines as COPY reads them with `_AS_LINES`: without brackets, and escaped as it knows it.

    What is a text of ours is in quotes, and no other sign is, so that all of them can be replaced at once; a row by
    itself would take longer here than there.
    """
    plain = lines[1:-1].replace("]\n[", _BREAK)
    if "\\" not in plain:
        return plain
    plain = plain.replace("\\\\", _ASIDE)  # what is escaped itself escapes nothing
    for escaped, sign in _ESCAPED.items():
        plain = plain.replace(escaped, sign)
    return _CODED.sub(lambda found: chr(int(found[1], 16)), plain).replace(_ASIDE, "\\\\")


def _listed(table: Table, names: Sequence[str], values: Sequence[Sequence[Any]]) -> sa.TextClause:
    listed = f"SELECT {_read(table, names)} FROM json_array_elements(CAST(:listed AS json)) AS nightcrew_row"
    return sa.text(listed).bindparams(listed=row(values))


def _named(table: Table) -> str:
    return ".".join(quoted(part, '"') for part in table.name.split("."))


def _read(table: Table, names: Sequence[str]) -> str:
    kinds = [table.columns[name].kind for name in names]
    return ", ".join(f"CAST(nightcrew_row ->> {place} AS {kind})" for place, kind in enumerate(kinds))
