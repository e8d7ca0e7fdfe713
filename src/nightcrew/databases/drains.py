"""What hangs on rows that a batch holds, deleted before them by statements of our own, the deepest first."""

from collections import Counter
from collections.abc import Iterable

import sqlalchemy as sa

from nightcrew.database import MOST, Path
from nightcrew.databases.bills import linked
from nightcrew.databases.bunch import Bunch, beneath
from nightcrew.databases.catalog import source
from nightcrew.databases.keys import by_key
from nightcrew.databases.partings import note, note_below
from nightcrew.databases.paths import below, lock
from nightcrew.databases.target import Keys, Target

_CHUNK = 1_000  # values that one statement is told
_ALL = 2 * MOST  # rows of a level: a batch has fewer, and what comes in below while it is under way stays behind


def drain(connection: sa.Connection, target: Target, bunch: Bunch) -> Counter[str]:
    """Delete what hangs on a bunch and does not leave by the database's own rule; return the rows by table."""
    counts: Counter[str] = Counter()
    paths = below(target.selection.drains, bunch.table.name, target.selection.table.name)
    _hold_between(connection, target, paths, bunch)
    for path in paths:
        counts[path[-1].table] += _drain(connection, target, path, bunch)
    return counts


def _hold_between(connection: sa.Connection, target: Target, paths: Iterable[Path], bunch: Bunch) -> None:
    """Lock the rows between ours and the ends of drained paths, from the top down, before any of them goes.

    Each level is drained by a statement of its own: without the lock a row in between could be given to another parent
    when what hangs on it is gone already, or be given a new child that then stands in the way.
    """
    for path in dict.fromkeys(path[:-1] for path in paths if len(path) > 1):
        lock(connection, target, path, bunch)


def _drain(connection: sa.Connection, target: Target, path: Path, bunch: Bunch) -> int:
    # A value by itself is compared as the child's collation says, which may take another parent's for the same.
    found = target.selection.blobs or target.copies is not None or target.dialect.deletes_by_value
    if found and linked(path):
        return _drain_found(connection, target, path, bunch)
    end = source(path[-1].table, path[-1].columns)
    if not target.dialect.deletes_by_value:
        hanging = target.hanging(path, end, bunch.held, among=bunch.source)
        return connection.execute(sa.delete(end).where(hanging)).rowcount
    known = by_key([end.c[name] for name in path[-1].columns])
    assert known is not None  # noqa: S101 - a foreign key has columns
    parents = [tuple(row) for row in connection.execute(_parents(target, path, bunch))]
    chunks: Iterable[Keys] = (parents[start : start + _CHUNK] for start in range(0, len(parents), _CHUNK))
    return sum(connection.execute(sa.delete(end).where(known.among(chunk))).rowcount for chunk in chunks)


def _drain_found(connection: sa.Connection, target: Target, path: Path, bunch: Bunch) -> int:
    """Delete the very rows that were locked, and whose debts are written, and none that came in by a link since."""
    for key in path:
        bunch = beneath(connection, target, bunch, key, _ALL)
    note_below(connection, target, bunch)
    note(connection, target, bunch)
    return bunch.removed(connection)


def _parents(target: Target, path: Path, bunch: Bunch) -> sa.Select[tuple[object, ...]]:
    """Select the values by which the rows at a path's end refer to what hangs on a bunch."""
    named = path[-1].parent_columns
    if len(path) == 1:
        exact = bunch.address.columns if named == bunch.table.primary_key else None
        return sa.select(*(exact or (bunch.source.c[name] for name in named))).where(bunch.held)
    above = source(path[-2].table, (*named, *path[-2].columns))
    hanging = target.hanging(path[:-1], above, bunch.held, among=bunch.source)
    return sa.select(*(above.c[name] for name in named)).where(hanging).distinct()
