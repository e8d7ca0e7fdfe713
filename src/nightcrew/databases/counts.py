"""Rows that hang on others, counted by table: many tables in one statement, which says once what they hang on."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Path
from nightcrew.databases.bunch import Bunch
from nightcrew.databases.catalog import source
from nightcrew.databases.paths import below
from nightcrew.databases.target import Clause, Target

Thing = TypeVar("Thing", bound=Hashable)
_Count: TypeAlias = sa.Select[Any]
_End: TypeAlias = str | ForeignKey

_TOGETHER = 40  # counts in one statement: fewer waits for the network, and still a statement of some size


def count_hanging(
    connection: sa.Connection, target: Target, paths: Sequence[Path], *parents: Clause
) -> Mapping[str, int]:
    """Count the rows at the ends of paths, each row once however many paths lead to it."""
    ways: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(paths, key=len):
        ways[path[-1].table].append(path)
    held = _held(target, paths, *parents)
    counts: dict[str, int] = {}
    for names in _portions(ways):
        # Nothing hangs on nothing.
        asked = [name for name in names if any(counts.get(path[-1].parent) != 0 for path in ways[name])]
        counts |= dict.fromkeys(names, 0)
        counts |= _answered(connection, {name: _hanging(target, ways[name], held) for name in asked})
    return counts


def hanging(target: Target, paths: Sequence[Path], *parents: Clause) -> Mapping[str, sa.Select[Any]]:
    """Select the rows at the ends of paths, by table, for a planner to say how many it expects."""
    held = _held(target, paths, *parents)
    ways = {path[-1].table: [other for other in paths if other[-1].table == path[-1].table] for path in paths}
    return {name: _hanging(target, several, held, sa.literal(1)) for name, several in ways.items()}


def count_loosened(connection: sa.Connection, target: Target, *parents: Clause) -> Mapping[ForeignKey, int]:
    """Count by foreign key the rows that stay when our `parents` leave, and lose what they refer to."""
    selection = target.selection
    held = _held(target, selection.loosened + selection.drains + selection.cascades, *parents)
    counts: dict[ForeignKey, int] = {}
    for keys in _portions(path[-1] for path in selection.loosened):
        counts |= _answered(connection, {key: _loosened(target, key, held) for key in keys})
    return counts


@dataclass(frozen=True, slots=True)
class Load:
    """All rows that are touched when some leave, and how many leave with them, by table."""

    rows: int
    counts: Mapping[str, int]


def weigh(connection: sa.Connection, target: Target, bunch: Bunch, most: int) -> Load | None:
    """Count what hangs on a bunch, from the top down, unless it is more than `most` rows with them: then None.

    Nothing is looked at below more rows than that, so that it takes no longer than a batch.
    """
    ways = _ways_on(target, bunch.table.name)
    names = dict.fromkeys(
        (*bunch.table.primary_key, *(name for path in _flat(ways) for name in path[0].parent_columns))
    )
    held = _named(sa.select(*(bunch.source.c[name] for name in names)).where(bunch.held))
    rows, counts = len(bunch.keys), dict[_End, int]()
    if rows > most:
        return None
    for depth in range(1, max(map(len, _flat(ways)), default=0) + 1):
        level = [end for end, paths in ways.items() if max(map(len, paths)) == depth]
        # Nothing hangs on nothing.
        asked = [end for end in level if depth == 1 or any(counts.get(path[-1].parent) != 0 for path in ways[end])]
        counts |= dict.fromkeys(level, 0)
        for ends in _portions(asked):
            bound = most - rows + 1
            found = _answered(connection, {end: _at_most(_hanging(target, ways[end], held), bound) for end in ends})
            counts |= found
            rows += sum(found.values())
            if rows > most:
                return None
    return Load(rows, {end: number for end, number in counts.items() if isinstance(end, str)})


def _ways_on(target: Target, table: str) -> Mapping[_End, list[Path]]:
    """Return the ways down from a table by what they end at: a table, or a key that is set to NULL."""
    selection, ways = target.selection, defaultdict[_End, list[Path]](list)
    root = selection.table.name
    for path in below(selection.drains + selection.cascades, table, root):
        ways[path[-1].table].append(path)
    for path in below(selection.loosened, table, root):
        if path[-1].on_delete == "SET NULL":
            ways[path[-1]].append(path)
    return ways


def _flat(ways: Mapping[_End, list[Path]]) -> Iterator[Path]:
    return (path for paths in ways.values() for path in paths)


def _at_most(count: _Count, bound: int) -> _Count:
    rows = count.with_only_columns(sa.literal_column("1").label("one")).limit(bound).subquery("nightcrew_some")
    return sa.select(sa.func.count()).select_from(rows)


def _named(held: _Count) -> sa.CTE:
    # Set down by itself there, it would have neither an index nor statistics; the others choose better.
    return held.cte("nightcrew_held").prefix_with("NOT MATERIALIZED", dialect="postgresql")


def _held(target: Target, paths: Iterable[Path], *parents: Clause) -> sa.CTE:
    """Name the rows that the ends of paths hang on, with all that refers to them or tells them apart."""
    named = [name for path in paths for name in path[0].parent_columns]
    names = dict.fromkeys((*target.selection.table.primary_key, *named))
    return _named(sa.select(*(target.table.c[name] for name in names)).where(*parents))


def _portions(things: Iterable[Thing]) -> Iterator[Sequence[Thing]]:
    each = list(dict.fromkeys(things))
    for start in range(0, len(each), _TOGETHER):
        yield each[start : start + _TOGETHER]


def _answered(connection: sa.Connection, counts: Mapping[Thing, _Count]) -> Mapping[Thing, int]:
    if not counts:
        return {}
    row = connection.execute(sa.select(*(count.scalar_subquery() for count in counts.values()))).one()
    return dict(zip(counts, tuple(row), strict=True))


def _hanging(target: Target, ways: Sequence[Path], held: sa.CTE, what: Clause | None = None) -> _Count:
    end = source(ways[0][-1].table, [column for path in ways for column in path[-1].columns])
    hanging = sa.or_(*(target.hanging(path, end, among=held) for path in ways))
    return sa.select(sa.func.count() if what is None else what).select_from(end).where(hanging)


def _loosened(target: Target, key: ForeignKey, held: sa.CTE) -> _Count:
    selection = target.selection
    leaving = [path for path in selection.drains + selection.cascades if path[-1].table == key.table]
    own = selection.table.primary_key if key.table == selection.table.name else ()
    end = source(key.table, [*own, *key.columns, *(name for path in leaving for name in path[-1].columns)])
    ways = [target.hanging(path, end, among=held) for path in selection.loosened if path[-1] == key]
    goes = [target.hanging(path, end, among=held) for path in leaving]
    goes += [target.ours(end, held)] if own else []
    return sa.select(sa.func.count()).select_from(end).where(sa.or_(*ways), *(way.is_not(True) for way in goes))
