"""Bunch: rows of one table that a batch holds, and how they are found again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Table
from nightcrew.databases.catalog import describe, source
from nightcrew.databases.dialect import Address, Named, Removal
from nightcrew.databases.target import Clause, Keys, Target, row
from nightcrew.errors import PolicyError

_CHUNK = 1_000  # rows that one statement is told


@dataclass(frozen=True, slots=True)
class Bunch:
    """Locked rows of a table, by their keys."""

    table: Table
    source: sa.TableClause
    address: Address
    keys: Keys

    @property
    def held(self) -> Clause:
        """The predicate that a row is one of them."""
        return self.address.among(self.keys)

    def first(self, count: int) -> "Bunch":
        """Return the first so many of them."""
        return replace(self, keys=self.keys[:count])

    def of(self, keys: Keys) -> "Bunch":
        """Return others of the table."""
        return replace(self, keys=keys)

    def chunks(self) -> Iterator["Bunch"]:
        """Part them into bunches that a statement can be told of."""
        for start in range(0, len(self.keys), _CHUNK):
            yield self.of(self.keys[start : start + _CHUNK])

    def removed(self, connection: sa.Connection) -> int:
        """Delete them; return how many went."""
        return self._each(connection, lambda part: sa.delete(part.source).where(part.held))

    def counted(self, connection: sa.Connection) -> int:
        """Count those that are there."""
        count = sa.select(sa.func.count()).select_from(self.source)
        there: int = sum(connection.execute(count.where(part.held)).scalar_one() for part in self.chunks())
        return there

    def loosened(self, connection: sa.Connection, key: ForeignKey) -> int:
        """Let them refer to nothing by a foreign key of theirs, as far as its columns may be NULL; return how many."""
        names = [name for name in key.columns if self.table.columns[name].nullable]
        if not names:
            return 0
        refers = [self.source.c[name].is_not(None) for name in key.columns]
        nothing = dict.fromkeys(names, sa.null())
        return self._each(connection, lambda part: sa.update(part.source).where(part.held, *refers).values(nothing))

    def _each(self, connection: sa.Connection, statement: Callable[["Bunch"], Removal]) -> int:
        steer = self.address.steer or (lambda composed: composed)
        return sum(connection.execute(steer(statement(part))).rowcount for part in self.chunks())


def ours(target: Target, keys: Keys) -> Bunch:
    """Return rows of the swept table."""
    return Bunch(target.selection.table, target.table, target.found, keys)


def beneath(
    connection: sa.Connection,
    target: Target,
    bunch: Bunch,
    key: ForeignKey,
    most: int,
    beside: tuple[Bunch, ForeignKey] | None = None,
) -> Bunch:
    """Find and lock at most so many of the rows that refer to a bunch by a foreign key, in no order.

    Where `beside` is given, they must refer to that bunch by that key, too. Raises PolicyError for a table whose rows
    nothing tells apart.
    """
    child = place(connection, target, key.table)
    again = child.source.alias("nightcrew_child")
    address = _address(connection, target, again, child.table)
    found: list[Sequence[object]] = []
    for part in bunch.chunks():
        refers = [_refers(again, one, by) for one, by in ((part, key), *([beside] if beside else []))]
        rows = sa.select(*address.columns).select_from(again).where(*refers)
        found += connection.execute(rows.limit(most - len(found)).with_for_update()).all()
        if len(found) >= most:
            break
    return child.of([tuple(values) for values in found])


def _refers(rows: Named, bunch: Bunch, key: ForeignKey) -> Clause:
    parents = sa.select(*(bunch.source.c[name] for name in key.parent_columns)).where(bunch.held)
    refers: Clause = row(rows, key.columns).in_(parents)
    return refers


def place(connection: sa.Connection, target: Target, name: str) -> Bunch:
    """Return no rows of a table; what the catalog says of it is asked once."""
    if name not in target.described:
        own = target.selection.table
        table = own if name == own.name else describe(connection, target.dialect, name)
        rows = source(name, table.columns)
        target.described[name] = Bunch(table, rows, _address(connection, target, rows, table), ())
    known: Bunch = target.described[name]
    return known


def _address(connection: sa.Connection, target: Target, rows: Named, table: Table) -> Address:
    """Find rows by their key where they have one, for the triggers of what goes before may move them."""
    address = target.dialect.key(rows, table) or target.dialect.address(connection, rows, table)
    if address is None:
        raise PolicyError(
            f"table {table.name!r} has no primary key, by which its rows could be taken in slices: add one"
        )
    return address
