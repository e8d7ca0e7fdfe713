"""How a window is emptied: by range, past rows that others hold, or locked first and looked at again.

Each form is the least that survives its races (tests/contract/test_races.py): a plain range delete waits for a
writer and judges the row anew; rows whose values others change are locked before they go, never waited for; and a
row whose life depends on other rows is locked by one statement and judged by the next, because only that one sees
what was committed while the lock was taken.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Form, Path
from nightcrew.databases.catalog import source
from nightcrew.databases.counts import count_hanging
from nightcrew.databases.dialect import Removal
from nightcrew.databases.target import Clause, Keys, Target
from nightcrew.databases.windows import Stretch, Window
from nightcrew.errors import DatabaseError, PolicyError

_CHUNK = 1_000  # values that one statement is told


@dataclass(frozen=True, slots=True)
class Haul:
    """What came of one window: rows removed, whether it was looked through, the last time seen, rows that hung on.

    `kept` rows were locked and judged, and a trigger would not let them go. A window is `clean` when as many rows left
    as it was found to hold. The rows are `alike` when one time is all that the walk knows of them; `past` is the last
    key, where they were taken by key.
    """

    removed: int
    through: bool
    last: str | None = None
    hanging: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    clean: bool = False
    alike: bool = False
    past: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """Rows as they were locked: the `places` they are found at, and what a Haul says of them whatever came of it."""

    places: Keys
    through: bool
    last: str | None = None
    alike: bool = False
    past: Sequence[Any] | None = None

    def haul(self, removed: int, hanging: Mapping[str, int] | None = None, kept: int = 0) -> Haul:
        return Haul(removed, self.through, self.last, hanging or {}, kept, alike=self.alike, past=self.past)


def empty(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    """Remove at most `limit` rows of a window, in the selection's form."""
    if target.selection.form is Form.LOCKED:
        return _locked(connection, target, window, limit)
    if target.selection.form is Form.RANGE and window.measured:
        removed = _run(connection, target.removal(*window.bounds(target)))
        return Haul(removed, through=True, clean=window.clean(removed, limit))
    if target.address is None and isinstance(window, Stretch):
        removed = _run(connection, target.removal(*window.bounds(target)).with_dialect_options(mysql_limit=limit))
        return Haul(removed, removed < limit, window.low)
    return _contended(connection, target, window, limit)


def _contended(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    address = target.found
    if address.inside is not None and not _by_key(window):
        return _in_one_statement(connection, target, window, limit)
    held = _hold(connection, target, window, limit)
    removed = _remove(connection, target, held.places) if held.places else 0
    return held.haul(removed, kept=len(held.places) - removed)


def _hold(connection: sa.Connection, target: Target, window: Window, limit: int) -> _Held:
    """Lock the next rows of a window."""
    places = target.found.columns
    keys = target.key.columns if target.key and _by_key(window) else ()
    rows = connection.execute(_lock(target, window, limit, *places, *keys, _mark(target))).all()
    if not rows:
        return _Held((), through=True)
    return _Held(
        [row[: len(places)] for row in rows],
        through=len(rows) < limit,
        last=rows[-1][-1],
        alike=_alike(target, window, same=rows[0][-1] == rows[-1][-1]),
        past=tuple(rows[-1][len(places) : -1]) if keys else None,
    )


def _in_one_statement(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    """Lock and remove at once: the rows are counted as they were locked, for fewer may be removed."""
    address, column = target.found, target.reading.column
    assert address.inside is not None  # noqa: S101 - asked by the caller
    assert address.place is not None  # noqa: S101 - goes with it
    held = _lock(target, window, limit, address.place.label("place"), column.label("time")).cte("held")
    removal = target.removal(address.inside(sa.select(held.c.place)))
    unsettled = sa.false() if target.unsettled is None else target.unsettled
    gone = removal.returning(unsettled.label("unsettled")).cte("gone")
    answer = sa.select(
        sa.select(sa.func.count()).select_from(held).scalar_subquery(),
        sa.select(sa.func.count()).select_from(gone).scalar_subquery(),
        sa.select(target.reading.mark(sa.func.max(held.c.time))).scalar_subquery(),
        sa.select(sa.func.min(held.c.time) == sa.func.max(held.c.time)).scalar_subquery(),
        sa.select(sa.func.count()).select_from(gone).where(gone.c.unsettled).scalar_subquery(),
    )
    seen, removed, last, alike, still = connection.execute(answer).one()
    _demand_settled(target, still)
    return Haul(removed, seen < limit, last, kept=seen - removed, alike=_alike(target, window, same=alike))


def _locked(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    """Lock, look again, drain what hangs on the confirmed rows, remove them."""
    address = target.found
    held = _hold(connection, target, window, limit)
    if not held.places:
        return held.haul(0)
    among = address.among(held.places)
    again = sa.select(*address.columns).where(among, *target.expired)
    if target.kept:
        again = again.where(target.kept.secure(connection, among))
    keys = connection.execute(again).all()
    if not keys:
        return held.haul(0)
    hanging = Counter(count_hanging(connection, target, target.selection.cascades, address.among(keys)))
    _hold_between(connection, target, address.among(keys))
    for path in target.selection.drains:
        hanging[path[-1].table] += _drain(connection, target, path, keys)
    removed = _remove(connection, target, keys, confirmed=True)
    if removed < len(keys) and target.selection.drains:
        raise DatabaseError(
            f"table {target.selection.table.name!r} kept {len(keys) - removed} rows whose dependent rows were deleted"
            " in the same transaction, which is rolled back: look for a trigger that prevents the delete",
            transient=True,  # or a row that unless_exists names came in meanwhile, without a foreign key to hold it off
            of_row=True,
        )
    return held.haul(removed, hanging, len(keys) - removed)


def _hold_between(connection: sa.Connection, target: Target, held: Clause) -> None:
    """Lock the rows between ours and the ends of drained paths, from the top down, before any of them goes.

    Each level is drained by a statement of its own: without the lock a row in between could be given to another parent
    when what hangs on it is gone already, or be given a new child that then stands in the way.
    """
    for path in dict.fromkeys(path[:-1] for path in target.selection.drains if len(path) > 1):
        between = source(path[-1].table, path[-1].columns)
        lock: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(between).where(target.hanging(path, between, held))
        )
        connection.execute(lock.with_for_update()).all()


def _drain(connection: sa.Connection, target: Target, path: Path, keys: Keys) -> int:
    """Delete what hangs on locked rows at a path's end."""
    if not target.dialect.deletes_by_value:
        return _run(connection, target.drain(path, keys))
    parents = [tuple(row) for row in connection.execute(target.parents(path, keys))]
    chunks = (parents[start : start + _CHUNK] for start in range(0, len(parents), _CHUNK))
    return sum(_run(connection, target.drain_of(path, chunk)) for chunk in chunks)


def _remove(connection: sa.Connection, target: Target, keys: Keys, *, confirmed: bool = False) -> int:
    """Remove locked rows, or change them, and see to it that they will not be taken again."""
    statement = target.removal_of(keys, confirmed=confirmed)
    if target.unsettled is None:
        return _run(connection, statement)
    if target.dialect.returning:  # a changed row may have another place than the one it was locked at
        flags = connection.execute(statement.returning(target.unsettled)).scalars().all()
        _demand_settled(target, sum(map(bool, flags)))
        return len(flags)
    removed = _run(connection, statement)
    still = sa.select(sa.func.count()).select_from(target.table).where(target.found.among(keys), target.unsettled)
    _demand_settled(target, connection.execute(still).scalar_one())
    return removed


def _demand_settled(target: Target, still: int) -> None:
    if still:
        raise PolicyError(
            f"set gave {still} rows of table {target.selection.table.name!r} values that they do not have afterwards,"
            " so that each run would set them again; that is rolled back: look for an expression that gives another"
            f" value each time, or is made of a column that is set ({', '.join(target.selection.marks)})"
        )


def _lock(target: Target, window: Window, limit: int, *columns: Clause) -> sa.Select[Any]:
    """Select rows and lock them, past those that somebody holds, so that no sweep waits for the application."""
    lock = sa.select(*columns).where(*window.bounds(target), *target.expired).limit(limit)
    if target.key and _by_key(window):
        lock = lock.order_by(*target.key.order)
    elif isinstance(window, Stretch) and target.walked:
        lock = lock.order_by(target.reading.column)
    return lock.with_for_update(skip_locked=True)


def _alike(target: Target, window: Window, *, same: bool) -> bool:
    """Tell whether the walk has nothing but one time to go on by: rows without an index are all the same to it."""
    return isinstance(window, Stretch) and (same or not target.walked)


def _by_key(window: Window) -> bool:
    return isinstance(window, Stretch) and window.past is not None


def next_keys(target: Target, window: Window, limit: int) -> sa.Select[Any]:
    """Select the keys of the rows that a batch takes."""
    return _lock(target, window, limit, *(target.key or target.found).columns)


def _mark(target: Target) -> Clause:
    return target.reading.mark(target.reading.column).label("nightcrew_mark")


def _run(connection: sa.Connection, statement: Removal) -> int:
    return connection.execute(statement).rowcount
