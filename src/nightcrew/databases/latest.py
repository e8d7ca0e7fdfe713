"""The newest rows of each group, which stay: counted, and held so that nobody removes them meanwhile.

A row leaves when enough rows of its group are newer, by the time column and then the key. Whoever removed one of those
while a batch is under way would leave too few; so a batch locks them first, and then counts only what it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from nightcrew.database import Latest, Selection
from nightcrew.databases.dialect import Address, Dialect, Named

_Clause: TypeAlias = sa.ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a table that stay for being the latest; `rival` is the table once more, and `address` finds its rows.

    Rows are in the `order` of these columns, the time first.
    """

    latest: Latest
    order: tuple[str, ...]
    table: sa.TableClause
    rival: Named
    address: Address
    shares_locks: bool

    def enough(self, *held: _Clause) -> _Clause:
        """Return the predicate that enough rows of a row's group are newer, of those `held` where that is given.

        A NULL equals nothing: a row with one in its group has no newer ones.
        """
        together = [self.rival.c[name] == self.table.c[name] for name in self.latest.per]
        newer = _after(self._ordered(self.rival), self._ordered(self.table))
        rows: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(self.rival).where(*together, newer, *held)
        last = rows.limit(1).offset(self.latest.number - 1).correlate(self.table)
        return last.scalar_subquery().is_not(None)

    def secure(self, connection: sa.Connection, among: _Clause) -> _Clause:
        """Lock the latest rows of the groups of these rows, past those somebody holds; return `enough` of the held."""
        found = connection.execute(self._keepers(among)).all()
        lock = sa.select(*self.address.columns).select_from(self.rival)
        lock = lock.with_for_update(read=self.shares_locks, skip_locked=True)
        held = connection.execute(lock.where(self.address.among(found))).all() if found else []
        return self.enough(self.address.among(held)) if held else sa.false()

    def _keepers(self, among: _Clause) -> sa.Select[Any]:
        """Select every row that is not older than the last that stays of its group, where the group has so many."""
        named: list[_Clause] = [self.table.c[name] for name in self.latest.per]
        all_of_it: _Clause = sa.literal_column("1").label("nightcrew_all")
        groups = (
            sa.select(*named or [all_of_it])
            .select_from(self.table)
            .where(among)
            .distinct()
            .subquery("nightcrew_groups")
        )
        edge = [self._last(groups, name).label(f"nightcrew_{place}") for place, name in enumerate(self.order)]
        edges = (
            sa.select(*(groups.c[name] for name in self.latest.per), *edge)
            .select_from(groups)
            .subquery("nightcrew_edges")
        )
        ends = [edges.c[label.name] for label in edge]
        together = [self.rival.c[name] == edges.c[name] for name in self.latest.per]
        rows = self._ordered(self.rival)
        young = sa.and_(*together, rows[0] >= ends[0], ~_after(ends, rows))
        return sa.select(*self.address.columns).select_from(self.rival.join(edges, young))

    def _last(self, groups: sa.Subquery, name: str) -> sa.ScalarSelect[Any]:
        """Select a column of the last row of a group that stays."""
        others = self.table.alias("nightcrew_others")
        rows = sa.select(others.c[name]).where(*(others.c[part] == groups.c[part] for part in self.latest.per))
        rows = rows.where(others.c[self.order[0]].is_not(None)).order_by(
            *(others.c[part].desc() for part in self.order)
        )
        return rows.limit(1).offset(self.latest.number - 1).correlate(groups).scalar_subquery()

    def _ordered(self, rows: sa.FromClause) -> list[_Clause]:
        return [rows.c[name] for name in self.order]


def keep(connection: sa.Connection, dialect: Dialect, source: sa.TableClause, selection: Selection) -> Kept | None:
    """Look at how the latest rows of a table are found again, if any of them stay for being that."""
    if selection.latest is None:
        return None
    rival = source.alias("nightcrew_rival")
    address = dialect.address(connection, rival, selection.table)
    assert address is not None  # noqa: S101 - a plan demands a primary key
    order = (selection.column, *selection.table.primary_key)
    return Kept(selection.latest, order, source, rival, address, dialect.shares_locks)


def _after(ones: Sequence[_Clause], others: Sequence[_Clause]) -> _Clause:
    """Compare by the first columns that differ; the first comparison is written out so that an index can serve."""
    pairs = list(zip(ones, others, strict=True))
    ways = [
        sa.and_(*(one == other for one, other in pairs[:place]), pairs[place][0] > pairs[place][1])
        for place in range(len(pairs))
    ]
    return sa.and_(pairs[0][0] >= pairs[0][1], sa.or_(*ways))
