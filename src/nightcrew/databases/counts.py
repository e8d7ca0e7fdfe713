"""Rows that hang on others, counted by table: many tables in one statement, which says once what they hang on."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Path
from nightcrew.databases.catalog import source
from nightcrew.databases.target import Clause, Target

Thing = TypeVar("Thing", bound=Hashable)
_Count: TypeAlias = sa.Select[Any]

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


def count_loosened(connection: sa.Connection, target: Target, *parents: Clause) -> Mapping[ForeignKey, int]:
    """Count by foreign key the rows that stay when our `parents` leave, and lose what they refer to."""
    selection = target.selection
    held = _held(target, selection.loosened + selection.drains + selection.cascades, *parents)
    counts: dict[ForeignKey, int] = {}
    for keys in _portions(path[-1] for path in selection.loosened):
        counts |= _answered(connection, {key: _loosened(target, key, held) for key in keys})
    return counts


def _held(target: Target, paths: Iterable[Path], *parents: Clause) -> sa.CTE:
    """Name the rows that the ends of paths hang on, with all that refers to them or tells them apart."""
    named = [name for path in paths for name in path[0].parent_columns]
    names = dict.fromkeys((*target.selection.table.primary_key, *named))
    held = sa.select(*(target.table.c[name] for name in names)).where(*parents).cte("nightcrew_held")
    # Set down by itself there, it would have neither an index nor statistics; the others choose better.
    return held.prefix_with("NOT MATERIALIZED", dialect="postgresql")


def _portions(things: Iterable[Thing]) -> Iterator[Sequence[Thing]]:
    each = list(dict.fromkeys(things))
    for start in range(0, len(each), _TOGETHER):
        yield each[start : start + _TOGETHER]


def _answered(connection: sa.Connection, counts: Mapping[Thing, _Count]) -> Mapping[Thing, int]:
    if not counts:
        return {}
    row = connection.execute(sa.select(*(count.scalar_subquery() for count in counts.values()))).one()
    return dict(zip(counts, tuple(row), strict=True))


def _hanging(target: Target, ways: Sequence[Path], held: sa.CTE) -> _Count:
    end = source(ways[0][-1].table, [column for path in ways for column in path[-1].columns])
    hanging = sa.or_(*(target.hanging(path, end, among=held) for path in ways))
    return sa.select(sa.func.count()).select_from(end).where(hanging)


def _loosened(target: Target, key: ForeignKey, held: sa.CTE) -> _Count:
    selection = target.selection
    leaving = [path for path in selection.drains + selection.cascades if path[-1].table == key.table]
    own = selection.table.primary_key if key.table == selection.table.name else ()
    end = source(key.table, [*own, *key.columns, *(name for path in leaving for name in path[-1].columns)])
    ways = [target.hanging(path, end, among=held) for path in selection.loosened if path[-1] == key]
    goes = [target.hanging(path, end, among=held) for path in leaving]
    goes += [target.ours(end, held)] if own else []
    return sa.select(sa.func.count()).select_from(end).where(sa.or_(*ways), *(way.is_not(True) for way in goes))
