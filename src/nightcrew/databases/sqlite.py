"""SQLite."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby, takewhile
from typing import Any

import sqlalchemy as sa

from nightcrew.clock import Clock
from nightcrew.database import Column, ForeignKey, Table
from nightcrew.databases import texts
from nightcrew.databases.dialect import Address, Index, Named, Relation, Scale
from nightcrew.databases.explain import Explain
from nightcrew.databases.keys import by_key
from nightcrew.databases.times import Reading, epoch, no_time

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

_COLUMNS = 'SELECT name, type AS kind, "notnull" = 0 AS nullable, pk FROM pragma_table_xinfo(:name, :schema)'

_INDEXES = """
SELECT i.name AS name, c.name AS "column", i."unique" AS "unique" FROM pragma_index_list(:name, :schema) AS i,
       pragma_index_xinfo(i.name, :schema) AS c WHERE i.partial = 0 AND c.key = 1 ORDER BY i.seq, c.seqno
"""

# A key may leave the columns out that it refers to: then it means the primary key. Names compare without case.
_REFERENCES = """
SELECT m.name AS name, f.id AS id, f."from" AS child, f."to" AS parent, f.on_delete AS rule
  FROM {schema}.sqlite_master AS m JOIN pragma_foreign_key_list(m.name, :schema) AS f
 WHERE m.type = 'table' AND lower(f."table") = lower(:name) ORDER BY m.name, f.id, f.seq
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
    locks_keys_apart = False
    deletes_by_value = False
    shares_locks = False
    joins_by_pipes = True
    stamps_updates = False

    def __init__(self) -> None:
        self._monotonic: Callable[[], float] = float
        self._waited = 0.0

    def accept(self, url: sa.URL) -> sa.URL:
        """Leave every option to the driver."""
        return url

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
        label = row.name if schema in (None, "main") else f"{schema}.{row.name}"
        return Relation(schema or "main", row.name, label, row.type)

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the file's tables."""
        if not _is_attached(connection, schema):
            return []
        return list(connection.execute(sa.text(_in(connection, schema, _RELATIONS))).scalars())

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""
        rows = connection.execute(sa.text(_COLUMNS), _the(relation))
        return [Column(row.name, row.kind or "untyped", bool(row.nullable)) for row in rows]

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the whole indexes, up to the first expression in each, and the primary key."""
        rows = connection.execute(sa.text(_INDEXES), _the(relation)).all()
        indexes = []
        for _, group in groupby(rows, key=lambda row: row.name):
            parts = list(group)
            columns = tuple(takewhile(lambda column: column is not None, [part.column for part in parts]))
            unique = bool(parts[0].unique) and len(columns) == len(parts)
            indexes.append(Index(columns, primary=False, unique=unique))
        return [*indexes, Index(self._primary_key(connection, relation), primary=True, unique=True)]

    def references(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Return the foreign keys that point at the table."""
        statement = _in(connection, relation.schema, _REFERENCES)
        rows = connection.execute(sa.text(statement), _the(relation)).all()
        names = {column.name.lower(): column.name for column in self.columns(connection, relation)}
        keys = []
        for (child, _), group in groupby(rows, key=lambda row: (row.name, row.id)):
            pairs = list(group)
            columns = tuple(pair.child for pair in pairs)
            named = tuple(names.get(pair.parent.lower(), pair.parent) for pair in pairs if pair.parent is not None)
            owner = Relation(relation.schema, child, relation.label[: -len(relation.name)] + child, "table")
            indexed = any(
                {name.lower() for name in index.columns[: len(columns)]} == {name.lower() for name in columns}
                for index in self.indexes(connection, owner)
            )
            parents = named or self._primary_key(connection, relation)
            keys.append(ForeignKey(owner.label, columns, relation.label, parents, pairs[0].rule, indexed))
        return keys

    def _primary_key(self, connection: sa.Connection, relation: Relation) -> tuple[str, ...]:
        rows = connection.execute(sa.text(_COLUMNS), _the(relation)).all()
        return tuple(row.name for row in sorted(rows, key=lambda row: row.pk) if row.pk)

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
        taken = {name.lower() for name in table.columns}
        free = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), "rowid")
        return self.key(source, table) or by_key([sa.column(free, _selectable=source)])

    def key(self, source: Named, table: Table) -> Address | None:
        """Compare with the values themselves."""
        return by_key([source.c[name] for name in table.primary_key])

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Compare letter by letter, whatever the column's collation takes for the same."""
        return sa.collate(written, "BINARY").is_distinct_from(value)

    def index_used(self, connection: sa.Connection, statement: sa.Select[Any], table: Table) -> str | None:
        """Read the index that the query plan's words name for the table."""
        rows = connection.execute(Explain("EXPLAIN QUERY PLAN", statement)).mappings()
        scan = re.compile(rf"(?:SEARCH|SCAN) {re.escape(table.name.rpartition('.')[2])} USING (.*?)(?: \(|$)")
        named = (match.group(1) for row in rows if (match := scan.match(row["detail"])))
        return next((re.sub(r"^(COVERING )?INDEX ", "", words) for words in named), None)


def _is_attached(connection: sa.Connection, schema: str | None) -> bool:
    files = connection.execute(sa.text("SELECT name FROM pragma_database_list")).scalars().all()
    return schema is None or schema in files


def _in(connection: sa.Connection, schema: str | None, statement: str) -> str:
    return statement.format(schema=connection.dialect.identifier_preparer.quote_identifier(schema or "main"))


def _the(relation: Relation) -> dict[str, str]:
    return {"schema": relation.schema, "name": relation.name}
