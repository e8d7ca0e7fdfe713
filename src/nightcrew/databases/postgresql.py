"""PostgreSQL."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from nightcrew.clock import Clock
from nightcrew.condition import Condition
from nightcrew.consent import Identity
from nightcrew.database import Column, Counted, ForeignKey, Form, Partition, Table
from nightcrew.databases import (
    postgresql_catalog,
    postgresql_condition,
    postgresql_heap,
    postgresql_outlines,
    postgresql_partitions,
    postgresql_strain,
    postgresql_tally,
)
from nightcrew.databases.dialect import Address, Divided, Index, Named, Relation, Tally
from nightcrew.databases.explain import Explain
from nightcrew.databases.heap import Heap
from nightcrew.databases.keys import after
from nightcrew.databases.names import quoted
from nightcrew.databases.postgresql_claims import CLAIM, SETTLE
from nightcrew.databases.postgresql_spelling import PostgreSQLSpelling
from nightcrew.databases.times import Reading, day, epoch, iso, naive, no_time, raw
from nightcrew.errors import ConfigurationError

# deadlock, serialization failure, lock timeout, statement cancelled, server shutting down or starting up, and an answer
# larger than the server can make, which is smaller for fewer rows
_TRANSIENT = {"40P01", "40001", "55P03", "57014", "57P01", "57P02", "57P03", "54000"}

# data exception, constraint, triggered action, WITH CHECK OPTION, raised by a function
_OF_ROW = ("22", "23", "09", "44", "P0")

# BEGIN and its settings are one message, sent for each transaction: a pooler may hand the session to others in between.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO';"
    # Compiling a statement takes longer than most of ours.
    " SET LOCAL jit = off;"
    # What we count takes one of the server's cores, and leaves the others to its clients.
    " SET LOCAL max_parallel_workers_per_gather = 0;"
    # Rows that row-level security hides would keep their parents alive, unseen: it must refuse, not filter.
    " SET LOCAL row_security = off; SET LOCAL lock_timeout = '2s';"
    " SET LOCAL idle_in_transaction_session_timeout = '30s'"
)
# What a batch has to wait for is left for later; and its commit waits for no disk, for it can be done again.
_LONGEST_OF_BATCH, _LONGEST_WAIT, _LONGEST_LOOK = "10s", "300ms", "10ms"
_BATCH = (
    f"; SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = '{_LONGEST_OF_BATCH}';"
    f" SET LOCAL lock_timeout = '{_LONGEST_WAIT}'"
)
_SCHEMA = re.compile(r"[^\x00-\x1f%]{1,63}")  # the driver takes a % for a parameter

_LISTED = {str: "text", int: "bigint", datetime: "timestamptz"}

_IDENTITY = """
SELECT 'cluster ' || s.system_identifier || ', database ' || d.oid || ', table '
       || CAST(to_regclass('nightcrew_place') AS oid)
  FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database()
"""
# Rows of a partition count for the table that it is a part of.
_REMOVED = """
SELECT n.nspname AS schema, c.relname AS name, pg_table_is_visible(c.oid) AS visible, sum(s.n_tup_del) AS rows
  FROM pg_stat_xact_user_tables AS s JOIN pg_class AS c ON c.oid = COALESCE(pg_partition_root(s.relid), s.relid)
  JOIN pg_namespace AS n ON n.oid = c.relnamespace GROUP BY 1, 2, 3
"""

_WHOLE, _FRACTION = ("bigint", "integer"), ("numeric", "double precision", "real")


class PostgreSQL:
    """PostgreSQL 13 and newer, through psycopg 3."""

    now = "clock_timestamp()"
    later = "clock_timestamp() + {micros} * interval '1 microsecond'"
    claim = CLAIM
    settle = SETTLE
    spelling = PostgreSQLSpelling()
    returning = True
    unless_there = "ON CONFLICT DO NOTHING"
    migrates_itself = False
    tallies = True
    freezes = True
    one_writer = False
    most_duty = 1.0
    locks_keys_apart = False
    deletes_by_value = False
    deepest_cascade = 1_000
    shares_locks = True
    undivided = (Form.RANGE, Form.CONTENDED)  # one walk fills the log, and knows by the way whether others wrote
    quote = '"'
    reserved = RESERVED_WORDS
    indexes_have_schemas = False
    joins_by_pipes = True
    stamps_updates = False

    def __init__(self) -> None:
        self._begin = _BEGIN

    def accept(self, url: sa.URL) -> sa.URL:
        """Look for every table in the schema that Prisma's option `schema` names, as its own client does."""
        if "schema" not in url.query:
            return url
        schema = url.query["schema"]
        if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
            raise ConfigurationError(
                "database URL has a schema= that names no schema: write one name, as in ?schema=public"
            )
        self._begin = f"{_BEGIN}; SET LOCAL search_path = {quoted(schema, self.quote)}"
        return url.difference_update_query(["schema"])

    def missing(self, url: sa.URL) -> Path | None:
        """Leave it to the server, which makes no database by itself."""
        return None

    def engine_options(self) -> Mapping[str, Any]:
        """Never rely on a repeatable snapshot or on server-side prepared statements (poolers)."""
        connect = {"application_name": "nightcrew", "connect_timeout": 5, "prepare_threshold": None}
        return {"isolation_level": "AUTOCOMMIT", "connect_args": connect}  # the driver leaves BEGIN to us

    def prepare(self, engine: sa.Engine, clock: Clock) -> None:
        """Need nothing: the server has a clock of its own."""

    def teach(self, driver: Any) -> None:
        """Teach nothing: the server knows its time."""

    def begun(self, driver: Any) -> bool:
        """Ask the driver, which begins one by itself unless it was told not to."""
        return not driver.autocommit or driver.info.transaction_status.name != "IDLE"

    def begin(self, connection: sa.Connection, *, writes: bool, repeatable: bool, fast: bool = False) -> None:
        """Set the time zone and bound every wait, for this transaction only."""
        connection.exec_driver_sql(self._begin + _BATCH if repeatable else self._begin)

    def bid_instant(self, moment: datetime) -> str:
        """Write an instant with its offset."""
        return moment.isoformat()

    def listed(self, columns: Mapping[str, type]) -> str:
        """Read a record set."""
        named = ", ".join(f"{name} {_LISTED[kind]}" for name, kind in columns.items())
        return f"SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS one({named})"

    def condition(self, connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
        """Ask it."""
        return postgresql_condition.condition(connection, relations)

    def identity(self, connection: sa.Connection) -> Identity:
        """Name the cluster, the database and the very table: a replica has them all, a dump that was restored none."""
        mark = connection.execute(sa.text(_IDENTITY)).scalar_one()
        return Identity((mark,), (mark,))

    @contextmanager
    def watched(self, connection: sa.Connection, swept: Relation | None) -> Iterator[dict[str, int]]:
        """Ask the server's own statistics of this transaction, in which cascades and triggers count like the rest."""
        removed: dict[str, int] = {}
        before = _removed(connection)
        yield removed
        removed.update({table: rows for table, rows in (_removed(connection) - before).items() if rows})

    def tally(self, connection: sa.Connection, tables: Iterable[str], seconds: float | None) -> Tally | None:
        """Ask the same statistics for these tables alone: reading them for all takes as long as there are many."""
        if seconds is None:
            return postgresql_tally.tally(connection, tables, _LONGEST_OF_BATCH, _LONGEST_WAIT)
        longest, longest_wait = (f"{max(1, round(1000 * bound))}ms" for bound in (seconds, seconds / 10))
        return postgresql_tally.tally(connection, tables, longest, longest_wait)

    def estimate(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Read it in the plan."""
        (plan,) = connection.execute(Explain("EXPLAIN (FORMAT JSON)", statement)).scalar_one()
        return int(plan["Plan"]["Plan Rows"])

    scales = postgresql_strain.SCALES

    @contextmanager
    def glimpse(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        """Bind it to this transaction."""
        connection.exec_driver_sql(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {round(1000 * seconds)}")
        yield

    def strain(self, connection: sa.Connection) -> Mapping[str, float | None]:
        """Read the locks, the sessions, the WAL and the replicas."""
        return postgresql_strain.figures(connection)

    def transient(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by SQLSTATE."""
        return getattr(error.orig, "sqlstate", None) in _TRANSIENT

    def of_row(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by SQLSTATE's class."""
        return str(getattr(error.orig, "sqlstate", None)).startswith(_OF_ROW)

    def of_statement(self, error: sa.exc.DBAPIError) -> bool:
        """Judge by SQLSTATE's class, in which a missing privilege stands, too."""
        state = str(getattr(error.orig, "sqlstate", None))
        return state.startswith("42") and state != "42501"

    # ── the application's tables ─────────────────────────────────────────────────────────────────────────────────

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """Look a table or view up along the search path, or in `schema`."""
        return postgresql_catalog.relation(connection, schema, name)

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the schema's tables."""
        return postgresql_catalog.relations(connection, schema)

    outlines = staticmethod(postgresql_outlines.outlines)

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""
        return postgresql_catalog.columns(connection, relation)

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the valid, whole b-tree indexes, up to the first expression in each."""
        return postgresql_catalog.indexes(connection, relation)

    def references(self, connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
        """Return the foreign keys that are met on the way down from the tables."""
        return postgresql_catalog.references(connection, relations)

    def unanalysed(self, connection: sa.Connection, labels: Sequence[str]) -> Sequence[str]:
        """Look for figures of any column: the number of rows is kept by CREATE INDEX too, and is not enough."""
        return postgresql_catalog.unanalysed(connection, labels)

    def reading(self, connection: sa.Connection, source: sa.TableClause, column: Column, cut: datetime) -> Reading:
        """Read timestamps with a zone or in UTC, dates, and numbers since 1970."""
        written, bare = source.c[column.name], column.kind.partition("(")[0].partition(" with")[0]
        if bare in _WHOLE + _FRACTION:
            return epoch(connection, written, cut, _as_text, whole=bare in _WHOLE)
        spoken: sa.types.TypeEngine[Any]
        if bare == "timestamp":
            zoned = column.kind.endswith("with time zone")
            spoken, bound = sa.TIMESTAMP(timezone=zoned), cut.isoformat() if zoned else naive(cut)
        elif bare == "date":
            spoken, bound = sa.Date(), day(cut).isoformat()
        else:
            raise no_time(source, column.name, column.kind)

        def at(text: str) -> sa.ColumnElement[Any]:
            return sa.cast(raw(text), spoken)

        before = written < at(bound)
        return Reading(written, at(bound), before, before, _as_json, at, iso)

    def address(self, connection: sa.Connection, source: Named, table: Table) -> Address | None:
        """Find a row by its place in the file; in a divided table, where places repeat, by its key."""
        schema, _, name = table.name.rpartition(".")
        relation = self.relation(connection, schema or None, name)
        place: sa.ColumnClause[Any] = sa.column("ctid", _selectable=source)
        if relation and not postgresql_catalog.divided(connection, relation):
            return Address(
                (_as_text(place),),
                # One text, for the driver would escape a list's places one by one, and they need it not.
                lambda rows: (
                    place == sa.any_(sa.cast(raw('{"' + '","'.join(row[0] for row in rows) + '"}'), _array("tid")))
                ),
                place,
                lambda select: place == sa.any_(sa.func.array(select.scalar_subquery())),
            )
        part: sa.ColumnClause[Any] = sa.column("tableoid", _selectable=source)
        return self.key(source, table) or _by_value([(part, "oid"), (place, "tid")])

    def key(self, source: Named, table: Table) -> Address | None:
        """Compare in the kinds that the catalog names: a value passes the driver as text, so that none is rounded."""
        parts = [(source.c[name], table.columns[name].kind) for name in table.primary_key]
        return _by_value(parts) if parts else None

    def heap(self, connection: sa.Connection, source: Named, table: Table) -> Heap | None:
        """Measure the table's file."""
        schema, _, name = table.name.rpartition(".")
        relation = self.relation(connection, schema or None, name)
        return postgresql_heap.heap(connection, source, relation.schema, relation.name) if relation else None

    def clustered(self, connection: sa.Connection, table: Table) -> bool:
        """Keep tables in no order at all: they are walked by page."""
        return False

    @contextmanager
    def impatient(self, connection: sa.Connection) -> Iterator[None]:
        """Wait for a moment, in which most who hold a row let it go; what fails is rolled back with the bound."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LONGEST_LOOK}'")
        yield
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT}'")

    @contextmanager
    def by_lookup(self, connection: sa.Connection) -> Iterator[None]:
        """Keep the planner from reading a whole table for some hundred rows, for it reckons each to lie on the disk."""
        connection.exec_driver_sql("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        yield
        connection.exec_driver_sql("SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT")

    def partitions(self, connection: sa.Connection, divided: Divided) -> list[Partition]:
        """Read the bounds of a table that is divided by this very column."""
        return postgresql_partitions.partitions(connection, divided, _Kind(divided.kind))

    def drop(
        self, connection: sa.Connection, divided: Divided, partition: Partition, allow: Callable[[int], None]
    ) -> Counted | None:
        """Drop it in the caller's transaction."""
        return postgresql_partitions.drop(connection, divided, _Kind(divided.kind), partition, allow)

    def letters(self, held: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Name the one order that every server has."""
        return sa.collate(sa.cast(held, sa.Text), "C")

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Cast to what the column stores; kinds whose equality is none, or too wide, are compared as written."""
        stored: sa.ColumnElement[Any] = sa.cast(value, _Kind(column.kind))
        if column.kind in ("json", "xml", "citext"):
            written, stored = _as_text(written), _as_text(stored)
        return written.is_distinct_from(stored)

    def rows_expected(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Read the plan's estimate."""
        (plan,) = connection.execute(Explain("EXPLAIN (FORMAT JSON)", statement)).scalar_one()
        return int(plan["Plan"]["Plan Rows"])

    def index_used(self, connection: sa.Connection, statement: sa.Select[Any], table: Table) -> str | None:
        """Look for the scan of the table in the plan."""
        (plan,) = connection.execute(Explain("EXPLAIN (FORMAT JSON)", statement)).scalar_one()
        return _scan(plan["Plan"], table.name.rpartition(".")[2])


class _Kind(sa.types.UserDefinedType[Any]):
    """A type the catalog names."""

    cache_ok = True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def get_col_spec(self, **_options: Any) -> str:
        return self.kind


def _removed(connection: sa.Connection) -> Counter[str]:
    rows = connection.execute(sa.text(_REMOVED))
    return Counter({postgresql_catalog.label(row.schema, row.name, row.visible): int(row.rows) for row in rows})


def _by_value(parts: Sequence[tuple[sa.ColumnElement[Any], str]]) -> Address:
    def among(rows: Sequence[Sequence[Any]]) -> sa.ColumnElement[bool]:
        lists = [sa.cast(raw([row[i] for row in rows]), _array(kind)) for i, (_, kind) in enumerate(parts)]
        known = sa.func.unnest(*lists).table_valued(*(f"k{i}" for i in range(len(lists)))).render_derived()
        return sa.tuple_(*(part for part, _ in parts)).in_(sa.select(*known.c))

    def behind(row: Sequence[Any]) -> sa.ColumnElement[bool]:
        values = [sa.cast(raw(value), _Kind(kind)) for value, (_, kind) in zip(row, parts, strict=True)]
        return after(columns, values)

    columns = tuple(part for part, _ in parts)
    return Address(tuple(_as_text(column) for column in columns), among, order=columns, after=behind)


def _array(kind: str) -> _Kind:
    return _Kind(f"{kind}[]")


def _as_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.cast(value, sa.Text())


def _as_json(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Write a time as ISO 8601 whatever the session's DateStyle is, infinity and years before 1 included."""
    return sa.func.btrim(_as_text(sa.func.to_json(value)), sa.literal_column("'\"'"))


def _scan(node: Mapping[str, Any], table: str) -> str | None:
    """Return the index by which a plan reads `table`."""
    if node.get("Relation Name") == table or node["Node Type"] == "Bitmap Index Scan":
        name = node.get("Index Name")
        if name is not None:
            return str(name)
    found = (_scan(child, table) for child in node.get("Plans", ()))
    return next((name for name in found if name is not None), None)
