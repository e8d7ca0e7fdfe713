"""A world: tables that refer to each other, their rows, and a policy over one of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.model.writing import Time, Writing, micros

from nightcrew.policy import Policy

LOOSE = ("SET NULL", "SET DEFAULT")
LINK = "LINK"
"""The rule of a reference that the database does not know, and the policy names."""
HALF = "half"
"""A reference of two columns of which one is NULL: it refers to nothing."""


@dataclass(frozen=True)
class Key:
    """A table's primary key, by columns; every table numbers its rows in `id` as well."""

    columns: tuple[str, ...]

    def values(self, number: int) -> tuple[object, ...]:
        """Return the key of a row; no column of a pair tells two rows apart by itself."""
        return {0: (), 1: (self._single(number),), 2: (number % 2, number // 2)}[len(self.columns)]

    def _single(self, number: int) -> object:
        return number if self.columns == ("id",) else f"{number}%s:a'"


NUMBER, CODE, PAIR, NONE = (Key(columns) for columns in (("id",), ("code",), ("room", "nr"), ()))


@dataclass(frozen=True)
class Reference:
    """A foreign key `name` of one table to another, or to itself; tables go by their numbers."""

    name: str
    child: int
    parent: int
    rule: str
    indexed: bool


@dataclass(frozen=True)
class Schema:
    """Tables t0, t1 … by their keys; the one at `root` has a time column, written one way, and is to be swept."""

    keys: tuple[Key, ...]
    references: tuple[Reference, ...]
    root: int
    writing: Writing
    nullable: bool
    walked: bool

    @property
    def tables(self) -> range:
        """The tables' numbers."""
        return range(len(self.keys))

    def down(self, table: int) -> list[Reference]:
        """Return the references that a table's own rows carry."""
        return [reference for reference in self.references if reference.child == table]

    def felt(self, root: int, needed: Collection[str] = ()) -> list[Reference]:
        """Return the references by which the going of root rows is felt at all, however deep."""
        felt: list[Reference] = []
        tables = [root]
        for table in tables:
            for key in self.references:
                kept_out = table == root and key.name in needed
                if key.parent == table and not kept_out and key.rule not in LOOSE and key not in felt:
                    felt.append(key)
                    tables.append(key.child)
        return felt

    def links(self, needed: Collection[str]) -> tuple[str, ...]:
        """Write the links by which rows go along."""
        felt = [key for key in self.felt(self.root, needed) if key.rule == LINK]
        return tuple(self._link(key) for key in felt)

    def _link(self, key: Reference) -> str:
        (column,) = self.keys[key.parent].columns
        return f"t{key.child}.{key.name}" + f" = t{key.parent}.{column}" * (key.parent != self.root)

    def columns(self, reference: Reference) -> tuple[str, ...]:
        """Return the columns of a reference, in the order of the parent's key."""
        key = self.keys[reference.parent].columns
        return (reference.name,) if len(key) == 1 else tuple(f"{reference.name}_{column}" for column in key)


@dataclass(frozen=True)
class Row:
    """A row: the parent's number by reference (or None, or HALF); `time` counts in the root table only."""

    parents: Mapping[str, int | str | None]
    time: Time = None
    kind: int | None = None


@dataclass(frozen=True)
class Said:
    """A predicate: SQL over the root table, and what it says of a row's kind, and of whether it is on the list."""

    sql: str
    truth: Callable[[int | None, bool], bool | None]


@dataclass(frozen=True)
class Scene:
    """Rows by table, the root rows whose numbers are `listed`, and a policy at a moment.

    `where` and `hold` are what the policy's predicates mean, `needed` names the references of its unless_exists.
    """

    rows: tuple[tuple[Row, ...], ...]
    listed: frozenset[int]
    moment: datetime
    policy: Policy
    where: Said | None = None
    hold: Said | None = None
    needed: tuple[str, ...] = ()
    limit: int = 3
    load: int = 1000

    @property
    def cut(self) -> int:
        """The cut, in microseconds since 1970."""
        return micros(self.moment - (self.policy.older_than or timedelta(0)))
