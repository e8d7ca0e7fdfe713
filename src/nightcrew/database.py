"""The shape of a relational database: its verbs about the application's tables, and the values they speak in."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from nightcrew.archives.frame import Copy
from nightcrew.errors import PolicyError
from nightcrew.gauge import Source
from nightcrew.owing import Owing
from nightcrew.policy import Action, Value
from nightcrew.throttle import Pace

Connection: TypeAlias = Any
"""An open transaction; opaque outside `databases/`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `kind` is the database's own word for its type. What is `computed`, nobody writes."""

    name: str
    kind: str
    nullable: bool
    computed: bool = False


LINK = "LINK"
"""The rule of a foreign key that is none in the database, and that a policy names all the same."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key seen from the table it points at: `table`.`columns` refer to `parent`.`parent_columns`.

    `index` names one of the child that leads with its columns; without one every delete of a parent reads the whole
    child table. `kind` is "table", or the word for what the child is instead.
    """

    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str  # CASCADE | SET NULL | SET DEFAULT | RESTRICT | NO ACTION | LINK
    index: str | None
    kind: str = "table"

    @property
    def indexed(self) -> bool:
        """Whether the rows that refer to one of the parent are found by an index."""
        return self.index is not None


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `name` carries the schema where it is not the one that is implied.

    The `indexes` are named by their columns; `unique` are those that allow no values twice. The primary key is among
    both.
    """

    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]
    indexes: Mapping[tuple[str, ...], str]
    unique: tuple[tuple[str, ...], ...] = ()

    def leads(self, column: str) -> bool:
        """Tell whether some index starts with `column`."""
        return self.leading(column) is not None

    def leading(self, column: str) -> str | None:
        """Return the name of an index that starts with `column`."""
        return next((name for columns, name in self.indexes.items() if columns[:1] == (column,)), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What one reading of the live catalog found: the tables that were named, and the keys of all that hangs on them.

    `tables` are found by the names they were asked for, and by their own; `references` by the table they point at;
    `refusals` say why a name that was asked for is no table whose rows could leave. `create_index` writes the statement
    that makes an index over columns of a table, for a person to paste. Tables that are `large` are too large to be read
    whole for every row that leaves; it is asked only of those that were named, and of those that a foreign key without
    an index would read so. With `one_writer`, nobody else writes while a batch does; if `answering`, a statement tells
    what it took. The planner has no figures of large tables that are `unanalysed`, until their statement is run.
    """

    tables: Mapping[str, Table]
    references: Mapping[str, tuple[ForeignKey, ...]]
    refusals: Mapping[str, str]
    create_index: Callable[[str, Sequence[str]], str]
    large: Container[str] = ()
    one_writer: bool = False
    answering: bool = True
    unanalysed: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """Return a table that was named; raises PolicyError naming the nearest right name."""
        if name in self.refusals:
            raise PolicyError(self.refusals[name])
        return self.tables[name]

    def children(self, table: str) -> tuple[ForeignKey, ...]:
        """Return the foreign keys that point at a table, which is one of the named or hangs on them."""
        return self.references.get(table, ())


class Form(StrEnum):
    """How a batch takes its rows; the races that each form survives stand in tests/contract/test_races.py."""

    RANGE = "range"
    """R: one statement over a window of the column; for a time that does not change and rows nothing hangs on."""
    CONTENDED = "contended"
    """C: rows that somebody else holds are left for later; for values that other traffic changes."""
    LOCKED = "locked"
    """L: lock first, then look again in a second statement; for rows that others hang on."""


Key: TypeAlias = tuple[Any, ...]
"""The values of one row's primary key, and whatever else it takes to find the row by them."""

Path: TypeAlias = tuple[ForeignKey, ...]
"""Foreign keys from the swept table down to a table that hangs on it, one per step."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Rows of `table` that keep a row alive: those whose `columns` equal the row's `parent_columns`."""

    table: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Latest:
    """The `number` newest rows of each group stay; a group is all rows of the same values in the columns `per`."""

    number: int
    per: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shield:
    """A row stays as long as one that the `hold` protects hangs on it by this path."""

    path: Path
    hold: str


@dataclass(frozen=True, slots=True)
class Shielded:
    """How many rows would go but for a shield, None where counting them took too long, and the keys of some."""

    shield: Shield
    rows: int | None
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of one table that may leave at one moment, and how they are to be taken; `cut` is exclusive, in UTC.

    A row that stays gets the values in `set`, and has been through it once it has those of the columns `marks`.
    `drains` are deleted by our own statements before their parents, deepest first; `cascades` leave by the
    database's own rule and are only counted, as are the rows at the ends of `loosened` paths, which stay and lose
    what they refer to. `keys` are all by which rows go along; where they lead round, `knots` are the tables as they are
    emptied, those together that lead to each other, whose rows are followed one by one. A row stays for the `shields`,
    or if a column says one of the `living`. `spared` rows are passed by; `only` is one row, taken `whenever`. `alone`:
    only the time decides. Keys in `blobs` are owed by the `run`, due after a `grace`; `archived` rows are copied.
    """

    table: Table
    column: str
    cut: datetime
    form: Form
    where: str | None = None
    hold: str | None = None
    absences: tuple[Absence, ...] = ()
    living: tuple[str, tuple[str, ...]] | None = None
    latest: Latest | None = None
    action: Action = Action.DELETE
    set: Mapping[str, Value] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    drains: tuple[Path, ...] = ()
    cascades: tuple[Path, ...] = ()
    loosened: tuple[Path, ...] = ()
    keys: tuple[ForeignKey, ...] = ()
    knots: tuple[tuple[str, ...], ...] = ()
    spared: tuple[Key, ...] = ()
    only: Key | None = None
    alone: bool = False
    shields: tuple[Shield, ...] = ()
    blobs: tuple[Owing, ...] = ()
    grace: timedelta = timedelta(0)
    archived: bool = False
    run: str | None = None
    whenever: bool = False

    @property
    def emptied(self) -> bool:
        """Whether statements of ours delete what hangs on the rows, before them."""
        return bool(self.drains or self.knots)

    @property
    def partly(self) -> frozenset[str]:
        """The tables of which a survey counts some rows only: those that lead round, and all below them."""
        knot = {table: group for group in self.knots for table in group}
        found = {key.table for key in self.keys if key.parent in knot.get(key.table, ())}
        while more := {key.table for key in self.keys if key.parent in found} - found:
            found |= more
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a selection holds right now: rows, their oldest and newest time as text, rows per table, the index used.

    `loosened` rows stay and lose what they refer to by a key. What is not `exact` is what the planner expects.
    """

    rows: int
    oldest: str | None
    newest: str | None
    counts: Mapping[str, int]
    index: str | None
    loosened: Mapping[ForeignKey, int] = field(default_factory=dict)
    exact: bool = True

    @property
    def reach(self) -> Mapping[str, int]:
        """How many rows of each table are removed or changed in all."""
        reach = dict(self.counts)
        for key, rows in self.loosened.items():
            reach[key.table] = reach.get(key.table, 0) + rows
        return reach


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows there are, or were: counted if `exact`, else what the planner expects."""

    rows: int
    exact: bool


MOST = 20_000
"""Rows that one batch takes in all."""

Cursor: TypeAlias = Mapping[str, Any]
"""Where a walk stands, as JSON values: a hint that saves reading. One with an `end` leads no further than there."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one batch took: rows per table, where the next one starts, and whether nothing is left to look at.

    `kept` rows were to go, and a trigger keeps them. From `unsure` on somebody has to look for others that were to go;
    None where it is certain that none stayed. Of a row with too many hanging on it only a slice of these may have gone:
    then there are counts, and no `rows`. The `load` are all rows that were touched, with those that lost what they
    referred to. A batch is `cut` where more rows were looked at than fit. The `copies` are of rows that are archived.
    """

    rows: int
    counts: Mapping[str, int]
    cursor: Cursor
    exhausted: bool
    kept: int = 0
    unsure: Cursor | None = None
    load: int = 0
    cut: bool = False
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a table, by its name and schema, and about how many rows it holds."""

    name: str
    rows: int
    schema: str


@dataclass(frozen=True, slots=True)
class Left:
    """What a look at one stretch found: rows that should have gone, where the first is, where the next look starts."""

    rows: int
    first: Cursor | None
    cursor: Cursor
    exhausted: bool


class Database(Protocol):
    """A relational database that holds the application's tables."""

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""

    @property
    def losses(self) -> int:
        """How many connections were lost: if the server has crashed, batches that had committed may be undone."""

    @property
    def most_duty(self) -> float:
        """The share of the time that batches may take, whatever the pace, for others to have their turn."""

    def now(self) -> datetime:
        """Return the database's clock, in UTC."""

    def transaction(self, pace: Pace = Pace.GENTLE, *, frozen: bool = False) -> AbstractContextManager[Connection]:
        """Open a short transaction: READ COMMITTED, UTC, waits for locks bounded; commits unless the block raises.

        A `frozen` one sees all as it was when it asked first, and fails where it comes upon what others changed since.
        """

    def freezes(self, selection: Selection) -> bool:
        """Tell whether rows of a selection that are even with those before go best in a frozen transaction."""

    def catalog(self, names: Iterable[str]) -> Catalog:
        """Read of the live catalog what these tables are, and what hangs on them."""

    def survey(self, selection: Selection) -> Survey:
        """Count what `selection` holds, changing nothing; it is estimated where that is slow."""

    def size(self, table: str, most: int) -> int:
        """Count a table's rows up to so many; it is estimated where that is slow."""

    def watched(self, connection: Connection, table: str) -> AbstractContextManager[dict[str, int]]:
        """Let the database itself count, in the mapping, what rows are removed inside a block that sweeps a table.

        The mapping is full when the block ends; what cannot be told by table stands under the empty name.
        """

    def expected(self, selection: Selection, seconds: float, cursor: Cursor | None = None) -> Counted | None:
        """Count what `selection` holds in at most so many seconds, else take a planner's word for what is to come."""

    def oldest(self, selection: Selection, most: int, seconds: float) -> list[Key]:
        """Return the primary keys of the oldest rows that `selection` holds, unless that takes longer than that."""

    def shielded(self, selection: Selection, most: int, seconds: float) -> tuple[Shielded, ...]:
        """Find out which rows stay for the shields only, so many by their keys; no count takes longer than that."""

    def partitions(self, selection: Selection) -> tuple[Partition, ...]:
        """Return the partitions that hold nothing but what an `alone` selection takes, oldest first."""

    def drop(
        self, connection: Connection, selection: Selection, partition: Partition, allow: Callable[[int], None]
    ) -> Counted | None:
        """Drop one of them, unless it holds a row that stays by now; waits for nobody longer than a second.

        `allow` is told how many rows are about to go, and raises where they are too many. Some databases commit by it.
        """

    def take(
        self,
        connection: Connection,
        selection: Selection,
        cursor: Cursor,
        limit: int,
        most: int = MOST,
        *,
        even: bool = False,
        frozen: bool = False,
    ) -> Taken:
        """Remove (or change) the next rows of `selection`, at most `limit`, inside the caller's transaction.

        With what hangs on them they are at most `most`, or a slice of what hangs on one that has more. Where they are
        `even` with those before, some more go without a look, none held where that transaction is `frozen`; raises
        DatabaseError if they were not.
        """

    def divides(self, selection: Selection) -> bool:
        """Tell whether two walks at once take such rows faster than one does."""

    def divide(
        self, connection: Connection, selection: Selection, cursor: Cursor, rows: int
    ) -> tuple[Cursor, Cursor] | None:
        """Divide what a walk has ahead in two, unless that is less than so many rows; the first cursor has an end."""

    def part(self, selection: Selection, cursor: Cursor, rows: int, most: int) -> list[Cursor]:
        """Part what a walk has ahead in ranges of about so many rows, `most` at most; in one where it cannot be."""

    def left(self, selection: Selection, cursor: Cursor, limit: int) -> Left:
        """Count what a stretch of `limit` rows from the cursor on still holds of `selection`; waits for nobody."""

    def nearest(self, selection: Selection, cursor: Cursor, most: int = 1) -> list[Key]:
        """Return the keys of the rows that a batch of at most so many would take at the cursor."""

    def gauges(self, pace: Pace) -> Iterable[Source]:
        """Return what the database can say of its strain, judged as a sweep of this pace should."""

    def ask(self, question: str, seconds: float) -> Any:
        """Return the first value of the first row that an application's own SELECT finds, or None; changes nothing."""
