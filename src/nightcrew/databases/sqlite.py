"""SQLite."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

from nightcrew.clock import Clock
from nightcrew.consent import Identity
from nightcrew.database import Column, ForeignKey, Partition, Table
from nightcrew.databases import texts
from nightcrew.databases.below import below
from nightcrew.databases.dialect import Address, Divided, Index, Named, Relation, Scale, Tally
from nightcrew.databases.explain import Explain
from nightcrew.databases.keys import by_key
from nightcrew.databases.times import Reading, epoch, no_time, raw

_CLAIM = """
UPDATE nightcrew_jobs AS j
   SET fence = j.fence + 1, mark = COALESCE(due.slot, j.mark), run = due.run, owner = :owner, attempt = 0,
       failed_run = CASE WHEN due.slot IS NULL THEN j.failed_run END,
       paused_at = NULL, paused_by = NULL, paused_reason = NULL, paused_until = NULL,
       lease_until = nightcrew_now(:lease)
  FROM (SELECT json_extract(value, '$.job') AS job, json_extract(value, '$.slot') AS slot,
               json_extract(value, '$.run') AS run, json_extract(value, '$.fence') AS fence
          FROM json_each(:bids)) AS due
 WHERE due.job = j.name AND due.fence = j.fence AND j.run IS NULL
   AND (j.paused_at IS NULL OR j.paused_until <= nightcrew_now(0))
   AND (due.slot IS NULL OR ((j.mark IS NULL OR due.slot > j.mark) AND due.slot <= nightcrew_now(:early)))
RETURNING name AS job, run, fence, nightcrew_now(0) AS moment
"""

_RELATION = """
SELECT name, type FROM {schema}.sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(:name)
"""
_RELATIONS = "SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

_COLUMNS = """
SELECT t.value AS "table", c.name AS name, c.type AS kind, c."notnull" = 0 AS nullable, c.pk AS pk
  FROM json_each(:names) AS t JOIN pragma_table_xinfo(t.value, :schema) AS c ORDER BY t.key, c.cid
"""

_INDEXES = """
SELECT t.value AS "table", i.name AS name, c.name AS "column", i."unique" AS "unique"
  FROM json_each(:names) AS t JOIN pragma_index_list(t.value, :schema) AS i
  JOIN pragma_index_xinfo(i.name, :schema) AS c
 WHERE i.partial = 0 AND c.key = 1 ORDER BY t.key, i.seq, c.seqno
"""

_REFERENCES = """
SELECT m.name AS name, f.id AS id, f."from" AS child, f."table" AS parent_name, f."to" AS parent, f.on_delete AS rule
  FROM {schema}.sqlite_master AS m JOIN pragma_foreign_key_list(m.name, :schema) AS f
 WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq
"""


def _written(moment: datetime) -> str:
    """Write an instant as SQLAlchemy keeps it: text whose order is the order of time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


class SQLite:
    """SQLite 3.35 and newer, in a file; it runs inside the process, so the process's clock is its clock."""

    now = "nightcrew_now(0)"
    later = "nightcrew_now({micros})"
    claim = _CLAIM
    returning = True
    migrates_itself = True
    one_writer = True
    most_duty = 0.9  # who waits for the file's lock looks for it ten times a second, and must find it free
    locks_keys_apart = False
    deletes_by_value = False
    deepest_cascade = 1_000
    shares_locks = False
    quote = '"'
    reserved = SQLiteIdentifierPreparer.reserved_words
    indexes_have_schemas = True
    joins_by_pipes = True
    stamps_updates = False

    def __init__(self) -> None:
        self._monotonic: Callable[[], float] = float
        self._waited = 0.0

    def accept(self, url: sa.URL) -> sa.URL:
        """Leave every option to the driver."""
        return url

    def missing(self, url: sa.URL) -> Path | None:
        """Look for the file; SQLite's own kind of URI is left to SQLite."""
        file = Path(url.database or "")
        return None if str(url.database).startswith("file:") or file.exists() else file.absolute()

    def engine_options(self) -> Mapping[str, Any]:
        """Wait long for another writer: the lock goes to whoever asks first, so that one of many may wait a while."""
        return {"connect_args": {"timeout": 20, "check_same_thread": False}}

    def prepare(self, engine: sa.Engine, clock: Clock) -> None:
        """Teach each connection the clock and the foreign keys, and leave BEGIN to us."""
        self._monotonic = clock.monotonic

        def connected(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            # Off by default: without it a declared ON DELETE CASCADE would leave the children behind.
            connection.execute("PRAGMA foreign_keys = ON")
            connection.create_function(
                "nightcrew_now", 1, lambda micros: _written(clock.now() + timedelta(microseconds=micros))
            )

        sa.event.listen(engine, "connect", connected)

    def begin(self, connection: sa.Connection, *, writes: bool, repeatable: bool) -> None:
        """Take the write lock at once: a reader that turns writer cannot wait, it fails."""
        begun = self._monotonic()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        if repeatable:  # a batch: whatever else of ours has to wait may be waiting for one
            self._waited = max(self._waited, self._monotonic() - begun)

    def identity(self, connection: sa.Connection) -> Identity:
        """Name the file by its place and by its number: what was moved has the one, what was put back the other."""
        named = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
        file = Path(named).resolve()
        marks = (f"file {file}", f"file number {file.stat().st_ino}") if file.exists() else ()
        return Identity(marks, marks)

    @contextmanager
    def watched(self, connection: sa.Connection, swept: Relation | None) -> Iterator[dict[str, int]]:
        """Ask SQLite's compiler which tables the statements, their triggers and cascades remove rows of."""
        driver: Any = connection.connection.driver_connection
        removed: dict[str, int] = {}

        def compiled(action: int, table: str | None, _column: str | None, schema: str | None, _by: str | None) -> int:
            if action == sqlite3.SQLITE_DELETE and table and schema == "main" and not table.startswith("sqlite_"):
                removed[table] = 1
            return sqlite3.SQLITE_OK

        driver.set_authorizer(compiled)
        try:
            yield removed
        finally:
            driver.set_authorizer(None)

    def tally(self, connection: sa.Connection, tables: Iterable[str], seconds: float | None) -> Tally | None:
        """Have none: its counters know no tables."""
        return None

    def estimate(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Have none: SQLite's planner says no numbers."""

    scales = (Scale("waited", "a batch waited {value:.2f} s for another writer", 0.05, 1.0),)

    @contextmanager
    def glimpse(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        """Let SQLite ask every few thousand steps whether the time is over."""
        driver: Any = connection.connection.driver_connection
        until = self._monotonic() + seconds
        driver.set_progress_handler(lambda: self._monotonic() > until, 10_000)
        driver.execute("PRAGMA query_only = ON")
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)
            driver.execute("PRAGMA query_only = OFF")

    def strain(self, connection: sa.Connection) -> Mapping[str, float | None]:
        """Return the longest wait for the write lock since the last look: the file itself tells nothing."""
        waited, self._waited = self._waited, 0.0
        return {"waited": waited}

    def bid_instant(self, moment: datetime) -> str:
        """Write an instant as the mark's column keeps it."""
        return _written(moment)

    def transient(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the result code: busy or locked."""
        return getattr(error.orig, "sqlite_errorcode", None) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, 517, 261}

    def of_row(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the primary result code: a constraint, or RAISE in a trigger."""
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CONSTRAINT

    def of_statement(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the one code for whatever cannot be prepared."""
        return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR

    # ── the application's tables ─────────────────────────────────────────────────────────────────────────────────

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """Look a table or view up in the file, or in an attached one."""
        if not _is_attached(connection, schema):
            return None
        statement = _in(connection, schema, _RELATION)
        row = connection.execute(sa.text(statement), {"name": name}).one_or_none()
        if row is None:
            return None
        return _relation(schema or "main", row.name, row.type)

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the file's tables."""
        if not _is_attached(connection, schema):
            return []
        return list(connection.execute(sa.text(_in(connection, schema, _RELATIONS))).scalars())

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""
        rows = _columns(connection, relation.schema, [relation.name])[relation.name]
        return [Column(row.name, row.kind or "untyped", bool(row.nullable)) for row in rows]

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the whole indexes, up to the first expression in each, and the primary key."""
        columns = _columns(connection, relation.schema, [relation.name])
        return _indexes(connection, relation.schema, columns)[relation.name]

    def references(self, connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
        """Return the foreign keys that are met on the way down from the tables."""
        keys = []
        for schema in dict.fromkeys(relation.schema for relation in relations):
            tops = [relation.name for relation in relations if relation.schema == schema]
            rows = connection.execute(sa.text(_in(connection, schema, _REFERENCES)), {"schema": schema}).all()
            found = [list(group) for _, group in groupby(rows, key=lambda row: (row.name, row.id))]
            links = ((_folded(pairs[0].parent_name), _folded(pairs[0].name), pairs) for pairs in found)
            met = below(map(_folded, tops), links)
            spelled = {_folded(name): name for name in (*tops, *(pairs[0].name for pairs in met))}
            columns = _columns(connection, schema, spelled.values())
            indexes = _indexes(connection, schema, columns)
            for pairs in met:
                child, parent = pairs[0].name, spelled[_folded(pairs[0].parent_name)]
                keys.append(_foreign_key(schema, pairs, indexes[child], parent, columns[parent]))
        return keys

    def unanalysed(self, connection: sa.Connection, labels: Sequence[str]) -> Sequence[str]:
        """Need no looking: without figures the planner takes the index that a key has."""
        return ()

    def reading(self, connection: sa.Connection, source: sa.TableClause, column: Column, cut: datetime) -> Reading:
        """Read ISO texts and numbers since 1970: a column's values tell, for its declared type binds nothing."""
        written = source.c[column.name]
        ends = sa.func.min(written), sa.func.max(written)
        kinds = {connection.execute(sa.select(sa.func.typeof(end))).scalar_one() for end in ends} - {"null"}
        if kinds <= {"text"}:
            return texts.reading(connection, written, cut)
        if kinds <= {"integer", "real"}:
            return epoch(connection, written, cut, texts.number, whole=kinds == {"integer"})
        held = " and ".join(sorted(kinds))
        raise no_time(source, column.name, f"{column.kind} and holds {held} values")

    def address(self, connection: sa.Connection, source: Named, table: Table) -> Address | None:
        """Find a row by its key, or by its rowid where the table has none."""
        return self.key(source, table) or _by_rowid(source, table)

    def key(self, source: Named, table: Table) -> Address | None:
        """Compare with the values themselves; a key that may be NULL in many rows stands for the rowid after it."""
        columns = [source.c[name] for name in table.primary_key]
        kinds = [table.columns[name].kind.upper() for name in table.primary_key]
        if kinds != ["INTEGER"] and any(table.columns[name].nullable for name in table.primary_key):
            return _by_rowid(source, table, *columns)
        found = by_key(columns)
        return replace(found, among=_listed(columns[0])) if found and len(columns) == 1 else found

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Compare letter by letter, whatever the column's collation takes for the same."""
        return sa.collate(written, "BINARY").is_distinct_from(value)

    def heap(self, connection: sa.Connection, source: Named, table: Table) -> None:
        """Have none: rows are kept in the order of their key, and a page has no address."""

    def partitions(self, connection: sa.Connection, divided: Divided) -> list[Partition]:
        """Have none."""
        return []

    def drop(
        self, connection: sa.Connection, divided: Divided, partition: Partition, allow: Callable[[int], None]
    ) -> None:
        """Have none."""

    def rows_expected(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Have no idea: the planner tells none."""
        return None

    def index_used(self, connection: sa.Connection, statement: sa.Select[Any], table: Table) -> str | None:
        """Read the index that the query plan's words name for the table."""
        rows = connection.execute(Explain("EXPLAIN QUERY PLAN", statement)).mappings()
        scan = re.compile(rf"(?:SEARCH|SCAN) {re.escape(table.name.rpartition('.')[2])} USING (.*?)(?: \(|$)")
        named = (match.group(1) for row in rows if (match := scan.match(row["detail"])))
        return next((re.sub(r"^(COVERING )?INDEX ", "", words) for words in named), None)


def _rowid(source: Named, table: Table) -> sa.ColumnElement[Any]:
    taken = {name.lower() for name in table.columns}
    free = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), "rowid")
    rowid: sa.ColumnElement[Any] = sa.column(free, _selectable=source)
    return rowid


def _by_rowid(source: Named, table: Table, *columns: sa.ColumnElement[Any]) -> Address:
    rowid = _rowid(source, table)
    return Address((*columns, rowid), _listed(rowid), order=(rowid,), after=lambda row: rowid > row[-1])


def _listed(column: sa.ColumnElement[Any]) -> Callable[[Sequence[Sequence[Any]]], sa.ColumnElement[bool]]:
    """Find rows by the last value of each, in a list that the planner thinks is short.

    Of a long IN (…) it thinks so ill that it would rather read every row that any other condition lets through.
    """

    def among(rows: Sequence[Sequence[Any]]) -> sa.ColumnElement[bool]:
        values = [row[-1] for row in rows]
        if not all(isinstance(value, int) or (isinstance(value, str) and "\0" not in value) for value in values):
            return column.in_(values)
        each = sa.func.json_each(raw(json.dumps(values))).table_valued("value")
        return column.in_(sa.select(each.c.value))

    return among


def _is_attached(connection: sa.Connection, schema: str | None) -> bool:
    files = connection.execute(sa.text("SELECT name FROM pragma_database_list")).scalars().all()
    return schema is None or schema in files


def _in(connection: sa.Connection, schema: str | None, statement: str) -> str:
    return statement.format(schema=connection.dialect.identifier_preparer.quote_identifier(schema or "main"))


def _relation(schema: str, name: str, kind: str = "table") -> Relation:
    return Relation(schema, name, name if schema == "main" else f"{schema}.{name}", kind)


def _folded(name: str) -> bytes:
    """Return what SQLite compares names by: it takes the capitals of ASCII only for the same letters."""
    return name.encode().lower()


def _columns(connection: sa.Connection, schema: str, tables: Iterable[str]) -> dict[str, list[Any]]:
    """Return the columns of each table, in its order."""
    named: dict[str, list[Any]] = {name: [] for name in tables}
    for row in connection.execute(sa.text(_COLUMNS), {"schema": schema, "names": json.dumps(list(named))}):
        named[row.table].append(row)
    return named


def _indexes(connection: sa.Connection, schema: str, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Index]]:
    """Return the indexes of each table whose columns these are, its primary key the last."""
    named: dict[str, list[Index]] = {name: [] for name in columns}
    rows = connection.execute(sa.text(_INDEXES), {"schema": schema, "names": json.dumps(list(named))})
    for (table, name), group in groupby(rows, key=lambda row: (row.table, row.name)):
        parts = list(group)
        plain = tuple(takewhile(lambda column: column is not None, [part.column for part in parts]))
        unique = bool(parts[0].unique) and len(plain) == len(parts)
        named[table].append(Index(name, plain, primary=False, unique=unique))
    for table, indexes in named.items():
        indexes.append(Index("PRIMARY KEY", _primary_key(columns[table]), primary=True, unique=True))
    return named


def _primary_key(columns: Sequence[Any]) -> tuple[str, ...]:
    return tuple(row.name for row in sorted(columns, key=lambda row: row.pk) if row.pk)


def _foreign_key(
    schema: str, pairs: Sequence[Any], indexes: Sequence[Index], parent: str, parent_columns: Sequence[Any]
) -> ForeignKey:
    """Read a key, which may leave the columns out that it refers to: then it means the primary key.

    Names compare without case.
    """
    columns, names = tuple(pair.child for pair in pairs), {row.name.lower(): row.name for row in parent_columns}
    named = tuple(names.get(pair.parent.lower(), pair.parent) for pair in pairs if pair.parent is not None)
    return ForeignKey(
        _relation(schema, pairs[0].name).label,
        columns,
        _relation(schema, parent).label,
        named or _primary_key(parent_columns),
        pairs[0].rule,
        next((index.name for index in indexes if index.begins_with(columns)), None),
    )
