"""SQLite."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

from nightcrew.clock import Clock
from nightcrew.condition import Condition
from nightcrew.consent import Identity
from nightcrew.database import Column, ForeignKey, Partition, Table
from nightcrew.databases import sqlite_catalog, sqlite_condition, sqlite_outlines, texts
from nightcrew.databases.dialect import Address, Divided, Index, Named, Relation, Tally
from nightcrew.databases.explain import Explain
from nightcrew.databases.keys import by_key
from nightcrew.databases.scale import Scale
from nightcrew.databases.sqlite_spelling import SQLiteSpelling
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

# Pages of the log that are left to whoever commits next: SQLite's own number, and what a fast sweep gains by.
_AT_ONCE, _PUT_OFF = 1_000, 8_000
_AS_EVER = -1  # what Python calls the way its driver began transactions before 3.12


def _written(moment: datetime) -> str:
    """Write an instant as SQLAlchemy keeps it: text whose order is the order of time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


class SQLite:
    """SQLite 3.35 and newer, in a file; it runs inside the process, so the process's clock is its clock."""

    now = "nightcrew_now(0)"
    later = "nightcrew_now({micros})"
    claim = _CLAIM
    settle = None
    spelling = SQLiteSpelling()
    returning = True
    unless_there = "ON CONFLICT DO NOTHING"
    migrates_itself = True
    tallies = False
    freezes = False
    one_writer = True
    most_duty = 0.9  # who waits for the file's lock looks for it ten times a second, and must find it free
    locks_keys_apart = False
    deletes_by_value = False
    deepest_cascade = 1_000
    shares_locks = False
    undivided = ()
    quote = '"'
    reserved = SQLiteIdentifierPreparer.reserved_words
    indexes_have_schemas = True
    joins_by_pipes = True
    stamps_updates = False

    def __init__(self) -> None:
        self._monotonic: Callable[[], float] = float
        self._now: Callable[[int], str] = str
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
        self._now = lambda micros: _written(clock.now() + timedelta(microseconds=micros))

        def connected(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            # Off by default: without it a declared ON DELETE CASCADE would leave the children behind.
            connection.execute("PRAGMA foreign_keys = ON")
            # A batch touches pages all over the indexes, and what does not fit is written and read again within it.
            connection.execute("PRAGMA cache_size = -32000")  # kilobytes
            connection.create_function("nightcrew_now", 1, self._now)

        sa.event.listen(engine, "connect", connected)

    def teach(self, driver: Any) -> None:
        """Teach it the clock."""
        driver.create_function("nightcrew_now", 1, self._now)

    def begun(self, driver: Any) -> bool:
        """Ask the driver, which begins one by itself before an INSERT unless it was told not to."""
        by_itself = getattr(driver, "autocommit", _AS_EVER) == _AS_EVER and driver.isolation_level is not None
        return bool(driver.in_transaction) or by_itself

    def begin(self, connection: sa.Connection, *, writes: bool, repeatable: bool, fast: bool = False) -> None:
        """Take the write lock at once: a reader that turns writer cannot wait, it fails."""
        if connection.info.get("fast", False) is not fast:
            connection.info["fast"] = fast
            connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {_PUT_OFF if fast else _AT_ONCE}")
        begun = self._monotonic()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        if repeatable:  # a batch: whatever else of ours has to wait may be waiting for one
            self._waited = max(self._waited, self._monotonic() - begun)

    def condition(self, connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
        """Ask it."""
        return sqlite_condition.condition(connection, relations)

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

    def listed(self, columns: Mapping[str, type]) -> str:
        """Take each object apart."""
        named = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
        return f"SELECT {named} FROM json_each(:rows)"

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
        return sqlite_catalog.relation(connection, schema, name)

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the file's tables."""
        return sqlite_catalog.relations(connection, schema)

    outlines = staticmethod(sqlite_outlines.outlines)

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""
        return sqlite_catalog.columns(connection, relation)

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the whole indexes, up to the first expression in each, and the primary key."""
        return sqlite_catalog.indexes(connection, relation)

    def references(self, connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
        """Return the foreign keys that are met on the way down from the tables."""
        return sqlite_catalog.references(connection, relations)

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

    def letters(self, held: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Name SQLite's own order."""
        return sa.collate(sa.cast(held, sa.Text), "BINARY")

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Compare letter by letter, whatever the column's collation takes for the same."""
        return sa.collate(written, "BINARY").is_distinct_from(value)

    def heap(self, connection: sa.Connection, source: Named, table: Table) -> None:
        """Have none: rows are kept in the order of their key, and a page has no address."""

    def clustered(self, connection: sa.Connection, table: Table) -> bool:
        """Gain nothing by it: most tables are kept in the order their rows came in, which is that of time."""
        return False

    def impatient(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Have nobody to wait for: who else would write waits for the batch."""
        return nullcontext()

    def by_lookup(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Need nothing: no other join is made where there is an index."""
        return nullcontext()

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
