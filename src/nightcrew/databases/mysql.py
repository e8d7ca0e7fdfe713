"""MySQL and MariaDB."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.reserved_words import RESERVED_WORDS_MARIADB, RESERVED_WORDS_MYSQL

from nightcrew.clock import Clock
from nightcrew.condition import Condition
from nightcrew.consent import Identity
from nightcrew.database import Column, Counted, ForeignKey, Partition, Table
from nightcrew.databases import mysql_catalog, mysql_condition, mysql_identity, mysql_outlines, mysql_partitions
from nightcrew.databases.dialect import Address, Divided, Index, Named, Relation, Removal, Tally
from nightcrew.databases.explain import Explain
from nightcrew.databases.keys import by_key
from nightcrew.databases.mysql_spelling import MySQLSpelling
from nightcrew.databases.names import quoted
from nightcrew.databases.scale import Scale
from nightcrew.databases.times import Reading, day, epoch, iso, naive, no_time, raw
from nightcrew.errors import SafetyStop

# record changed since last read, lock wait timeout, deadlock, query interrupted or too long, server shutdown
_TRANSIENT = {1020, 1205, 1213, 1317, 1969, 3024, 1053}

# foreign keys, SIGNAL in a trigger, CHECK (MySQL, MariaDB), NOT NULL, duplicates, values that do not fit
_OF_ROW = {1216, 1217, 1451, 1452, 1644, 3819, 4025, 1048, 1062, 1264, 1265, 1292, 1364, 1365, 1366, 1406, 1411, 1690}

# no such column, ambiguous column, grammar, misused aggregate, no such table, function or schema; wrong arguments
_OF_STATEMENT = {1054, 1052, 1064, 1111, 1146, 1305, 1128, 1582, 1583, 1630, 1241}

_LOCK_WAIT = 1  # second
_IN_TRANSACTION = 1  # the flag of the protocol's status
_BY_KEY = "FORCE INDEX (PRIMARY)"

# With ANSI_QUOTES a double-quoted name in a predicate is a name, as it is elsewhere, and a misspelt one an error.
_SESSION = (
    f"SET SESSION time_zone = '+00:00', SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}, SESSION sql_safe_updates = 0,"
    " SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')"
    # MariaDB makes a table of a long list of keys, joins it with all of ours, and so waits for rows that are not in it.
    " /*M!100318 , SESSION in_predicate_conversion_threshold = 0 */"
    # A crew that stands still in a batch holds its rows, and its claim. MySQL itself has no bound for that.
    " /*M!100300 , SESSION idle_transaction_timeout = 30 */"
)

# UTC_TIMESTAMP is the statement's start: a wait for a lock makes a lease shorter and a slot less due, not the reverse.
# The rows that changed are read back: neither server answers a joined UPDATE with them.
# Each bid finds its row by the key: of a few rows all would be locked, and waited for where somebody holds one.
_CLAIM = """
UPDATE JSON_TABLE(:bids, '$[*]' COLUMNS (
           job VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.job',
           slot DATETIME(6) PATH '$.slot',
           run VARCHAR(150) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.run',
           fence BIGINT PATH '$.fence')) AS due
  STRAIGHT_JOIN nightcrew_jobs AS j FORCE INDEX (PRIMARY) ON j.name = due.job AND j.fence = due.fence
   SET j.fence = due.fence + 1, j.mark = COALESCE(due.slot, j.mark), j.run = due.run, j.owner = :owner, j.attempt = 0,
       j.failed_run = IF(due.slot IS NULL, j.failed_run, NULL),
       j.paused_at = NULL, j.paused_by = NULL, j.paused_reason = NULL, j.paused_until = NULL,
       j.lease_until = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND
 WHERE j.run IS NULL AND (j.paused_at IS NULL OR j.paused_until <= UTC_TIMESTAMP(6))
   AND (due.slot IS NULL OR ((j.mark IS NULL OR due.slot > j.mark)
        AND due.slot <= UTC_TIMESTAMP(6) + INTERVAL :early MICROSECOND))
"""

_LISTED = {
    str: "VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    int: "BIGINT",
    datetime: "DATETIME(6)",
}

_LOGS_STATEMENTS = "SELECT @@log_bin = 1 AND @@sql_log_bin = 1 AND @@binlog_format = 'STATEMENT'"
_LONGEST_OF_BATCH = 10  # seconds a statement may take; MySQL itself bounds none but a SELECT
_SMALL = 8_000_000  # bytes of a table that is in memory, so that it is read in any order at the same cost

# The documented first values: what is before them is the zero date, which means "never" where NULL is forbidden.
_FLOORS = {"datetime": "1000-01-01 00:00:00", "timestamp": "1970-01-01 00:00:01", "date": "1000-01-01"}
_WHOLE = ("int", "bigint", "integer", "mediumint")
_FRACTION = ("decimal", "double", "float")
_NUMBERED = ("bit", "enum", "set")  # what is a number within
_LETTERS = mysql.CHAR(charset="utf8mb4")
_WORDS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json")

# What every role may read; the length of the history is among it on one of the two servers only.
_STRAIN = """
SHOW GLOBAL STATUS WHERE Variable_name IN
    ('Threads_running', 'Innodb_row_lock_current_waits', 'Innodb_history_list_length')
"""
_SCALES = (
    Scale("threads_running", "{value:.0f} threads are running", 25, 50),
    Scale("innodb_row_lock_current_waits", "{value:.0f} sessions wait for a row", 3, 10),
    Scale("innodb_history_list_length", "purging is {value:,.0f} changes behind", 100_000, 1_000_000),
)


class MySQL:
    """MySQL 8 and MariaDB 10.6 and newer, through PyMySQL."""

    now = "UTC_TIMESTAMP(6)"
    later = "UTC_TIMESTAMP(6) + INTERVAL {micros} MICROSECOND"
    claim = _CLAIM
    settle = None
    spelling = MySQLSpelling()
    returning = False
    unless_there = "ON DUPLICATE KEY UPDATE {column} = {column}"
    migrates_itself = False
    tallies = False
    freezes = False
    one_writer = False
    most_duty = 1.0
    locks_keys_apart = True  # a foreign key locks the entry in the index that it refers to, and no other
    deletes_by_value = True  # and MariaDB before 11.1 reads the whole table for DELETE … IN (SELECT …)
    deepest_cascade = 15
    shares_locks = False  # MySQL and MariaDB spell it differently
    undivided = ()
    quote = "`"
    reserved = RESERVED_WORDS_MYSQL | RESERVED_WORDS_MARIADB
    indexes_have_schemas = False
    joins_by_pipes = False
    stamps_updates = True  # TIMESTAMP … ON UPDATE CURRENT_TIMESTAMP

    def accept(self, url: sa.URL) -> sa.URL:
        """Leave every option to the driver."""
        return url

    def missing(self, url: sa.URL) -> Path | None:
        """Leave it to the server, which makes no database by itself."""
        return None

    def engine_options(self) -> Mapping[str, Any]:
        """Never hold gap locks, and never read a snapshot older than the statement."""
        connect = {"connect_timeout": 5, "init_command": _SESSION, "charset": "utf8mb4"}
        return {"isolation_level": "READ COMMITTED", "connect_args": connect}

    def prepare(self, engine: sa.Engine, clock: Clock) -> None:
        """Refuse a server that logs statements."""
        sa.event.listen(engine, "connect", _refuse_log_of_statements)

    def teach(self, driver: Any) -> None:
        """Teach nothing: the server knows its time."""

    def begun(self, driver: Any) -> bool:
        """Ask the driver, which begins one by itself unless it was told not to."""
        return not driver.get_autocommit() or bool(driver.server_status & _IN_TRANSACTION)

    def begin(self, connection: sa.Connection, *, writes: bool, repeatable: bool, fast: bool = False) -> None:
        """Bound a batch's statements where the server can; all else was set up when the session was opened."""
        longest = _LONGEST_OF_BATCH if repeatable else 0
        if getattr(connection.dialect, "is_mariadb", False) and connection.info.get("longest", 0) != longest:
            connection.exec_driver_sql(f"SET SESSION max_statement_time = {longest}")
            connection.info["longest"] = longest

    def bid_instant(self, moment: datetime) -> str:
        """Write an instant as a DATETIME(6) in UTC."""
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")

    def listed(self, columns: Mapping[str, type]) -> str:
        """Read a JSON table."""
        named = ", ".join(f"{name} {_LISTED[kind]} PATH '$.{name}'" for name, kind in columns.items())
        return f"SELECT * FROM JSON_TABLE(:rows, '$[*]' COLUMNS ({named})) AS one"

    def condition(self, connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
        """Ask it."""
        return mysql_condition.condition(connection, relations)

    def identity(self, connection: sa.Connection) -> Identity:
        """Name the server, and those it is a replica of: one that takes over has another name, and a dump has none."""
        return mysql_identity.identity(connection)

    @contextmanager
    def watched(self, connection: sa.Connection, swept: Relation | None) -> Iterator[dict[str, int]]:
        """Ask the session's own counter, which knows no tables, and counts what triggers remove but no cascades.

        A row of a divided table is counted twice: as the table's, and as its partition's.
        """
        removed: dict[str, int] = {}
        each = 2 if swept is not None and mysql_partitions.divided(connection, swept) else 1
        before = _handled(connection)
        yield removed
        removed[""] = -((before - _handled(connection)) // each)

    def tally(self, connection: sa.Connection, tables: Iterable[str], seconds: float | None) -> Tally | None:
        """Have none: the session's counters know neither tables nor cascades."""
        return None

    def estimate(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Multiply what the plan expects of each table."""
        expected = 1.0
        for row in connection.execute(Explain("EXPLAIN EXTENDED", statement)).mappings():
            expected *= float(row["rows"] or 1) * float(row.get("filtered") or 100) / 100
        return int(expected)

    scales = _SCALES

    @contextmanager
    def glimpse(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        """Bind the session, which is another's afterwards: the two servers count in other units."""
        if getattr(connection.dialect, "is_mariadb", False):
            connection.exec_driver_sql(f"SET SESSION max_statement_time = {seconds}")
            connection.info["longest"] = seconds  # the next transaction sets its own
        else:
            connection.exec_driver_sql(f"SET SESSION max_execution_time = {round(1000 * seconds)}")
        connection.exec_driver_sql("START TRANSACTION READ ONLY")
        try:
            yield
        finally:
            if not connection.invalidated and "longest" not in connection.info:
                connection.exec_driver_sql("SET SESSION max_execution_time = DEFAULT")

    def strain(self, connection: sa.Connection) -> Mapping[str, float | None]:
        """Read the server's own counters."""
        rows = connection.exec_driver_sql(_STRAIN).all()
        return {name.lower(): float(figure) for name, figure in rows}

    def transient(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the server's error number."""
        return _number(error) in _TRANSIENT

    def of_row(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the server's error number."""
        return _number(error) in _OF_ROW

    def of_statement(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by the server's error number."""
        return _number(error) in _OF_STATEMENT

    # ── the application's tables ─────────────────────────────────────────────────────────────────────────────────

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """Look a table or view up in the URL's database, or in `schema`."""
        return mysql_catalog.relation(connection, schema, name)

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the schema's tables."""
        return mysql_catalog.relations(connection, schema)

    outlines = staticmethod(mysql_outlines.outlines)

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""
        return mysql_catalog.columns(connection, relation)

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the b-tree indexes, up to the first expression or prefix in each."""
        return mysql_catalog.indexes(connection, relation)

    def references(self, connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
        """Return the foreign keys that are met on the way down from the tables, through other databases too."""
        return mysql_catalog.references(connection, relations)

    def unanalysed(self, connection: sa.Connection, labels: Sequence[str]) -> Sequence[str]:
        """Need no looking: the engine keeps figures of its indexes by itself."""
        return ()

    def reading(self, connection: sa.Connection, source: sa.TableClause, column: Column, cut: datetime) -> Reading:
        """Read DATETIME and TIMESTAMP in UTC (the session's zone), dates, and numbers since 1970."""
        written, bare = source.c[column.name], column.kind.partition("(")[0].partition(" ")[0].lower()
        if bare in _WHOLE + _FRACTION:
            return epoch(connection, written, cut, _as_text, whole=bare in _WHOLE)
        if bare not in _FLOORS:
            raise no_time(source, column.name, column.kind)
        spoken = sa.Date() if bare == "date" else mysql.DATETIME(fsp=6)
        bound = day(cut).isoformat() if bare == "date" else naive(_ceiling(cut, column.kind))

        def at(text: str) -> sa.ColumnElement[Any]:
            return sa.cast(raw(text), spoken)

        before = sa.and_(written >= at(_FLOORS[bare]), written < at(bound))
        return Reading(written, at(bound), before, before, _as_text, at, iso)

    def address(self, connection: sa.Connection, source: Named, table: Table) -> Address | None:
        """Find a row by its key."""
        return self.key(source, table)

    def key(self, source: Named, table: Table) -> Address | None:
        """Compare with the values, by nothing else: of a small table the planner would rather read all, and wait."""
        columns = [source.c[name] for name in table.primary_key]
        found = by_key(columns, [_exact(source.c[name], table.columns[name].kind) for name in table.primary_key])
        if found is None or not isinstance(source, sa.TableClause):
            return found
        named = ".".join(quoted(part, self.quote) for part in (source.schema, source.name) if part)

        def steer(statement: Removal) -> Removal:
            if isinstance(statement, sa.Delete):  # takes a hint only in the form that names what it deletes from
                statement = statement.prefix_with(sa.literal_column(named))
            return statement.with_hint(_BY_KEY, source)

        return replace(found, steer=steer, in_order=lambda rows: rows.with_hint(source, _BY_KEY))

    def letters(self, held: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Write it in letters that have every sign, and compare these."""
        return sa.collate(sa.cast(held, _LETTERS), "utf8mb4_bin")

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Compare texts letter by letter: a collation may take different ones for the same, and a number for any."""
        if column.kind.partition("(")[0] in _WORDS:
            written, value = (self.letters(part) for part in (written, value))
        return written.is_distinct_from(value)

    def heap(self, connection: sa.Connection, source: Named, table: Table) -> None:
        """Have none: rows are kept in the order of their key, and a page has no address."""

    def clustered(self, connection: sa.Connection, table: Table) -> bool:
        """Keep every table in the order of its primary key."""
        schema, _, name = table.name.rpartition(".")
        return bool(table.primary_key) and mysql_catalog.size(connection, schema, name) > _SMALL

    def impatient(self, connection: sa.Connection) -> AbstractContextManager[None] | None:
        """Wait for no row on MariaDB; MySQL knows no wait below a second, and so cannot."""
        return _impatient(connection) if getattr(connection.dialect, "is_mariadb", False) else None

    def by_lookup(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Need nothing: no other join is made where there is an index."""
        return nullcontext()

    def partitions(self, connection: sa.Connection, divided: Divided) -> list[Partition]:
        """Read the bounds of a table that is divided by this column, or by a function of it that keeps its order."""
        return mysql_partitions.partitions(connection, divided)

    def drop(
        self, connection: sa.Connection, divided: Divided, partition: Partition, allow: Callable[[int], None]
    ) -> Counted | None:
        """Drop it under a lock of its table, which ends the caller's transaction."""
        return mysql_partitions.drop(connection, divided, partition, allow)

    def rows_expected(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Read the plan's estimate, in which only one of the two servers counts what a predicate passes by."""
        row = connection.execute(Explain("EXPLAIN", statement)).mappings().first()
        found = row and row["rows"]
        return None if row is None or found is None else round(int(found) * float(row.get("filtered") or 100) / 100)

    def index_used(self, connection: sa.Connection, statement: sa.Select[Any], table: Table) -> str | None:
        """Read the key that the plan names for the table."""
        rows = connection.execute(Explain("EXPLAIN", statement)).mappings()
        name = table.name.rpartition(".")[2]
        return next((row["key"] for row in rows if row["table"] == name and row["key"]), None)


def _refuse_log_of_statements(connection: Any, _record: object) -> None:
    """A replica that repeats a statement with a LIMIT or a skipped lock may remove other rows than we did."""
    with connection.cursor() as cursor:
        cursor.execute(_LOGS_STATEMENTS)
        ((logs_statements,),) = cursor.fetchall()
    if logs_statements:
        raise SafetyStop(
            "this database writes its binary log in STATEMENT format, by which a replica might lose other rows than a"
            " sweep removes: set binlog_format to ROW"
        )


@contextmanager
def _impatient(connection: sa.Connection) -> Iterator[None]:
    connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}")


def _handled(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_delete'").one()[1])


def _number(error: sa.exc.DBAPIError) -> object:
    return None if error.orig is None else next(iter(error.orig.args), None)


def _ceiling(cut: datetime, kind: str) -> datetime:
    """Round a cut up to what a column can hold: the same times come before it.

    MariaDB cuts a finer bound short as it looks up the greatest time in an index, and then finds no row at all.
    """
    digits = int(kind.partition("(")[2].partition(")")[0] or 0)
    return cut + timedelta(microseconds=-cut.microsecond % 10 ** (6 - digits))


def _exact(column: sa.ColumnElement[Any], kind: str) -> sa.ColumnElement[Any]:
    """Select a value that finds itself again, and what comes after it in the order of an index.

    A FLOAT is written with few digits, BIT as bytes; the driver misspells a TIME that is negative or longer than a day;
    an ENUM or SET is ordered by its number, but compared with a text as a text.
    """
    bare = kind.partition("(")[0].partition(" ")[0].lower()
    if bare == "float":
        return column.op("+")(sa.literal_column("0e0"))
    if bare in _NUMBERED:
        return sa.cast(column, mysql.INTEGER(unsigned=True))
    return _as_text(column) if bare == "time" else column


def _as_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.cast(value, sa.CHAR())
