"""What differs from one database to the next, asked as capabilities; everything else is shared."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.sql.selectable import NamedFromClause

from nightcrew.archives.frame import Copy, Lines
from nightcrew.clock import Clock
from nightcrew.condition import Condition
from nightcrew.consent import Identity
from nightcrew.database import Column, Counted, ForeignKey, Form, Partition, Table
from nightcrew.databases.heap import Heap
from nightcrew.databases.scale import Scale
from nightcrew.databases.times import Reading
from nightcrew.errors import PolicyError
from nightcrew.outline import Outline

Removal: TypeAlias = sa.Delete | sa.Update
Named: TypeAlias = sa.TableClause | NamedFromClause


@dataclass(frozen=True, slots=True)
class Relation:
    """A name the catalog knows, in its own spelling: `kind` is "table", or the word for what it is instead.

    `label` is the name by which the application's statements find it: without the schema where that is implied.
    """

    schema: str
    name: str
    label: str
    kind: str

    def __post_init__(self) -> None:
        """Refuse a dot within a name, which would read as a schema."""
        if "." in self.name or "." in self.schema:
            raise PolicyError(f"table {self.name!r} in {self.schema!r} has a dot in its name: rename it")


@dataclass(frozen=True, slots=True)
class Index:
    """An index by its name, and the plain columns it begins with, as far as they order it."""

    name: str
    columns: tuple[str, ...]
    primary: bool
    unique: bool

    def begins_with(self, columns: Sequence[str]) -> bool:
        """Tell whether these columns are its first ones, in whatever order; their names compare without case."""
        return {name.lower() for name in self.columns[: len(columns)]} == {name.lower() for name in columns}


@dataclass(frozen=True, slots=True)
class Address:
    """What tells one row of a table from every other, for as long as it is locked: its key, or where it is stored.

    `columns` are selected, and `among` finds the rows again by the values that came back. Where the database has
    it, `inside` finds them by a select of their `place` within the same statement, so that nothing travels. Where
    the planner might find them by way of other rows, which somebody may have locked, `steer` keeps it from that; the
    statement may then look into no other table, for it would lock what it reads there. A key has an `order`, too:
    `after` a row come those that are further on in it, and `upto` it the others. Where rows are kept in that order, a
    select reads them in it once it is put `in_order`.
    """

    columns: tuple[sa.ColumnElement[Any], ...]
    among: Callable[[Sequence[Sequence[Any]]], sa.ColumnElement[bool]]
    place: sa.ColumnElement[Any] | None = None
    inside: Callable[[sa.Select[Any]], sa.ColumnElement[bool]] | None = None
    steer: Callable[[Removal], Removal] | None = None
    order: tuple[sa.ColumnElement[Any], ...] = ()
    after: Callable[[Sequence[Any]], sa.ColumnElement[bool]] | None = None
    upto: Callable[[Sequence[Any]], sa.ColumnElement[bool]] | None = None
    in_order: Callable[[sa.Select[Any]], sa.Select[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Divided:
    """A table as its partitions are looked for, by a `column` of a `kind`; `leads` if an index begins with it."""

    relation: Relation
    reading: Reading
    column: str
    kind: str
    leads: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of some tables were `removed` by now, and how many were removed or changed in all of them."""

    removed: Mapping[str, int]
    touched: int


class Spelling(Protocol):
    """How values are written so that they come back as they were, and how rows of them go back into their tables."""

    @property
    def most(self) -> int:
        """How many values `among` may be told at once."""

    @property
    def demanding(self) -> bool:
        """Whether each row that comes is held against all keys at once, where `restoring` lets rows come."""

    def begin(self, connection: sa.Connection) -> None:
        """Let what this transaction reads say all of a value."""

    def line(
        self, written: Sequence[sa.ColumnElement[Any]], key: Sequence[sa.ColumnElement[Any]] = ()
    ) -> Sequence[sa.ColumnElement[Any]]:
        """Compose what a row is asked for, to be a line: a JSON array of what its columns are written as.

        Its key comes with it where the line does not tell it.
        """

    def gathered(self, lines: sa.Select[Any]) -> sa.Select[Any]:
        """Compose what answers for all that a select finds of rows, as `heard` takes it."""

    def heard(self, answer: sa.Result[Any], width: int) -> Lines:
        """Write rows down of which so many values are their columns'."""

    def written(self, column: Column, held: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Compose what a column's value is written as."""

    def among(
        self, table: Table, rows: Named, names: Sequence[str], values: Sequence[Sequence[Any]]
    ) -> sa.ColumnElement[bool]:
        """Compose the test whether columns of a table have one of these values, as they were written."""

    def listed(self, table: Table, own: Named, values: Sequence[Sequence[Any]]) -> sa.Select[Any] | None:
        """Compose rows of its own columns of a table that are not in it, which compare as they would there.

        None where values that are the same are always written in the same way.
        """

    def parents(self, connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
        """Return the foreign keys by which a table refers to others, and to itself."""

    def restoring(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Let rows come in the block in any order, whatever they refer to."""

    def insert(self, connection: sa.Connection, copies: Sequence[tuple[Table, Copy]], *, ordered: bool) -> None:
        """Insert rows into their tables, as these are now, what the database would count up included.

        If they are `ordered`, no table's rows refer to those of a later one.
        """

    def advance(self, connection: sa.Connection, table: Table, copy: Copy) -> None:
        """Let whatever counts up a table's columns go on behind the rows that were put back."""


class Dialect(Protocol):
    """The few answers a database must give before the shared statements fit it."""

    @property
    def now(self) -> str:
        """SQL for the database's clock in UTC."""

    @property
    def later(self) -> str:
        """SQL for that clock plus {micros} microseconds."""

    @property
    def claim(self) -> str:
        """What claims every slot of :bids (JSON) that is still free; with a `settle`, it writes the runs, too."""

    @property
    def settle(self) -> str | None:
        """What closes the runs of :rows (JSON) under their fences; None where no statement changes two tables."""

    @property
    def returning(self) -> bool:
        """Whether an UPDATE answers with the rows it changed; else they are read back."""

    @property
    def unless_there(self) -> str:
        """What ends an INSERT that leaves a row of the same key, of which {column} is one, as it is."""

    @property
    def migrates_itself(self) -> bool:
        """Whether nightcrew's tables are made on first use, for a database that is one application's own file."""

    @property
    def one_writer(self) -> bool:
        """Whether a transaction that writes keeps all others from it."""

    @property
    def most_duty(self) -> float:
        """The share of the time that batches may take: less than 1 where who waits for a lock is given none."""

    def accept(self, url: sa.URL) -> sa.URL:
        """Return the URL without the options that are answered here; raises ConfigurationError for a senseless one."""

    def missing(self, url: sa.URL) -> Path | None:
        """Return the file that a connection would make, for a database that is one and is not there."""

    def engine_options(self) -> Mapping[str, Any]:
        """Return what SQLAlchemy needs to open connections as nightcrew wants them."""

    def prepare(self, engine: sa.Engine, clock: Clock) -> None:
        """Hook into new connections; one to a server that batches are unsafe on raises SafetyStop."""

    def teach(self, driver: Any) -> None:
        """Let a connection of the driver's that is not one of ours understand `now` and `later`."""

    def begun(self, driver: Any) -> bool:
        """Tell whether what a connection of the driver's writes is part of a transaction that somebody will end."""

    def begin(self, connection: sa.Connection, *, writes: bool, repeatable: bool, fast: bool = False) -> None:
        """Set up a fresh transaction: UTC, and a bound on waiting for locks."""

    def bid_instant(self, moment: datetime) -> str:
        """Return an instant as :bids and :rows want it."""

    def listed(self, columns: Mapping[str, type]) -> str:
        """Return a SELECT of the columns (str, int, datetime) of what :rows lists, which is JSON."""

    def glimpse(self, connection: sa.Connection, seconds: float) -> AbstractContextManager[None]:
        """Let what is asked inside change nothing, and take no longer than so many seconds a statement."""

    def condition(self, connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
        """Look how the database is, and what this role may do with some tables, by the names they were asked for."""

    def identity(self, connection: sa.Connection) -> Identity:
        """Return what tells this database from its copies, and stays the same when a replica takes its place."""

    def watched(self, connection: sa.Connection, swept: Relation | None) -> AbstractContextManager[dict[str, int]]:
        """Let the database itself count the rows that are removed inside a block that sweeps a table, by table."""

    @property
    def freezes(self) -> bool:
        """Whether a transaction can be frozen: REPEATABLE READ, and who comes upon what others changed since, fails."""

    @property
    def tallies(self) -> bool:
        """Whether `tally` can tell."""

    def tally(self, connection: sa.Connection, tables: Iterable[str], seconds: float | None) -> Tally | None:
        """Read the database's own count of what a batch has done to tables so far, by whatever rule or trigger.

        The batch's statements from then on take no longer than so many seconds, and wait for a lock no longer than a
        tenth of that; or both as long as usual. None where the database does not count by table, or is told not to.
        """

    def estimate(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Return how many rows the planner expects of a select, or None where it expects nothing."""

    @property
    def scales(self) -> Sequence[Scale]:
        """How the figures of `strain` are judged."""

    def strain(self, connection: sa.Connection) -> Mapping[str, float | None]:
        """Read how hard the server works and who waits; None is a figure that exists and is kept from this role."""

    def transient(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether the same transaction may succeed a moment later (deadlock, lock wait, busy)."""

    def of_row(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether some row would not have a statement that is sound: a constraint, a trigger, a value."""

    def of_statement(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether the statement makes no sense: its grammar, or a table, column or function that is not there."""

    @property
    def spelling(self) -> Spelling:
        """How rows are copied and put back."""

    # ── the application's tables ─────────────────────────────────────────────────────────────────────────────────

    @property
    def locks_keys_apart(self) -> bool:
        """Whether a row that was locked can still be referred to by a key that is not its primary one."""

    @property
    def deletes_by_value(self) -> bool:
        """Whether a DELETE is told its rows one by one: by a select, it would keep triggers from the tables there."""

    @property
    def deepest_cascade(self) -> int:
        """How many rows, each hanging on the last, may go by ON DELETE CASCADE from one that is deleted."""

    @property
    def shares_locks(self) -> bool:
        """Whether a row can be kept from changing without keeping others from referring to it."""

    @property
    def undivided(self) -> Container[Form]:
        """The forms in which two walks are no faster than one."""

    @property
    def quote(self) -> str:
        """The sign around a name in the database's own clients, whatever our sessions are set to."""

    @property
    def reserved(self) -> Container[str]:
        """The words that are no names without it, in small letters."""

    @property
    def indexes_have_schemas(self) -> bool:
        """Whether CREATE INDEX names the schema with the index, and not with the table."""

    @property
    def joins_by_pipes(self) -> bool:
        """Whether || joins texts; elsewhere it means OR."""

    @property
    def stamps_updates(self) -> bool:
        """Whether a column may take the time of an UPDATE that does not name it."""

    def letters(self, held: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Compose a column's value as a text that is compared letter by letter, whatever its collation."""

    def differs(
        self, written: sa.ColumnElement[Any], column: Column, value: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Compose the test whether a column has another value than this one, as it would be stored; NULL is a value."""

    def relation(self, connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
        """Look a table or view up, in the schema that is implied unless one is given."""

    def relations(self, connection: sa.Connection, schema: str | None) -> list[str]:
        """Return the names of the schema's tables, for suggestions."""

    def outlines(self, connection: sa.Connection, most: int) -> list[Outline]:
        """Read at most so many tables of the schema that is implied, but for partitions, by a few statements in all."""

    def columns(self, connection: sa.Connection, relation: Relation) -> list[Column]:
        """Return the columns in the table's order."""

    def indexes(self, connection: sa.Connection, relation: Relation) -> list[Index]:
        """Return the indexes that a range scan can use for every row."""

    def references(self, connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
        """Return the foreign keys that lead to the tables, however far down, by a few statements in all."""

    def unanalysed(self, connection: sa.Connection, labels: Sequence[str]) -> Sequence[str]:
        """Name those of some tables that are large, and of whose content the planner has no figures."""

    def reading(self, connection: sa.Connection, source: sa.TableClause, column: Column, cut: datetime) -> Reading:
        """Find out how a column writes time; raises PolicyError for one that does not."""

    def address(self, connection: sa.Connection, source: Named, table: Table) -> Address | None:
        """Return how rows are found again while nothing changes them, or None where nothing tells them apart."""

    def key(self, source: Named, table: Table) -> Address | None:
        """Return how rows are found by their primary key, however they change, or None without one."""

    def heap(self, connection: sa.Connection, source: Named, table: Table) -> Heap | None:
        """Return how the table is walked page by page, or None where it cannot be, or is too small to gain by it."""

    def clustered(self, connection: sa.Connection, table: Table) -> bool:
        """Tell whether rows are kept in the order of their key, in a table large enough for that to matter."""

    def impatient(self, connection: sa.Connection) -> AbstractContextManager[None] | None:
        """Let a statement in the block fail rather than wait for a row that somebody holds; None where it cannot."""

    def by_lookup(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Let joins in the block look rows up one by one, so that they take as long as what they find is much."""

    def partitions(self, connection: sa.Connection, divided: Divided) -> list[Partition]:
        """Return those that hold nothing but what has expired, oldest first, and may be dropped.

        One partition always stays; so do those whose rows would be missed by triggers, or by subscribers of a log.
        """

    def drop(
        self, connection: sa.Connection, divided: Divided, partition: Partition, allow: Callable[[int], None]
    ) -> Counted | None:
        """Lock a partition without waiting long, look whether it may be dropped still, and drop it.

        None where it may not; `allow` is told how many rows are about to go, and raises where that is too many. Where a
        DDL statement commits, so does this.
        """

    def rows_expected(self, connection: sa.Connection, statement: sa.Select[Any]) -> int | None:
        """Ask the planner how many rows it expects `statement` to find, where it has an idea."""

    def index_used(self, connection: sa.Connection, statement: sa.Select[Any], table: Table) -> str | None:
        """Ask the planner which index of the table it would read `statement` by."""
