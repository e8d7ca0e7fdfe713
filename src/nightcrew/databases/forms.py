"""How a window is emptied: by range, past rows that others hold, or locked first and looked at again.

Each form is the least that survives its races (tests/contract/test_races.py): a plain range delete waits for a
writer and judges the row anew; rows whose values others change are never waited for: they are locked before they go, or
go by a range delete that gives up where it would wait; and a row whose life depends on other rows is locked by one
statement and judged by the next, because only that one sees what was committed while the lock was taken. Rows that owe
something, or are archived, are read by one statement and go by the next, where a frozen transaction makes the second
fail over whatever is no longer as the first saw it; where there is none, they are held, or answered with as they go.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from nightcrew.database import MOST, Form
from nightcrew.databases import bills, partings
from nightcrew.databases.bunch import ours
from nightcrew.databases.counts import weigh
from nightcrew.databases.dialect import Removal
from nightcrew.databases.haul import Haul
from nightcrew.databases.portions import fitting, take_slice
from nightcrew.databases.target import Clause, Keys, Target
from nightcrew.databases.windows import KeyRange, Pages, Stretch, Window
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Action

_FAR = 8  # times as many rows as a batch may take are far more: pages are not equally full
_LONGEST = 0.1  # seconds that rows of which nobody knows what hangs on them may take to go
# Or each statement about such, where what they are is read beforehand: it writes more than it reads.
_LONGEST_READ = 0.5


@dataclass(frozen=True, slots=True)
class _Held:
    """Rows as they were locked, each the place it is found at, its key where it was taken by that, and its time."""

    target: Target
    window: Window
    rows: Sequence[Sequence[Any]]
    through: bool

    @property
    def places(self) -> Keys:
        """Where they are found."""
        width = self._width
        return [tuple(row[:width]) for row in self.rows]

    @property
    def _width(self) -> int:
        return len(self.target.found.columns)

    def upto(self, place: Sequence[Any]) -> "_Held":
        """Leave out what was locked after one of them."""
        count = self.places.index(tuple(place)) + 1
        return self if count == len(self.rows) else replace(self, rows=self.rows[:count], through=False)

    def since(self, place: Sequence[Any]) -> "_Held":
        """Leave out what was locked before one of them."""
        return replace(self, rows=self.rows[self.places.index(tuple(place)) :])

    def haul(self, removed: int, **more: Any) -> Haul:
        """Say what is to be said of them whatever came of it."""
        if not self.rows:
            return Haul(removed, self.through, **more)
        last, keyed = self.rows[-1], _by_key(self.window)
        return Haul(
            removed,
            self.through,
            last[-1],
            seen=len(self.rows),
            alike=_alike(self.target, self.window, same=self.rows[0][-1] == last[-1]),
            past=tuple(last[self._width : -1]) if keyed else None,
            **more,
        )


def empty(
    connection: sa.Connection,
    target: Target,
    window: Window,
    limit: int,
    most: int,
    *,
    even: bool = False,
    frozen: bool = False,
) -> Haul:
    """Remove at most `limit` rows of a window, in the selection's form, `most` with what hangs on them.

    Where they are `even`, as much hangs on each as on those before, and nobody holds one, or has changed one in a
    `frozen` transaction's time; raises DatabaseError where it turns out otherwise.
    """
    if frozen and window.measured and (haul := _as_seen(connection, target, window, limit, most)):
        return haul
    if target.selection.form is Form.LOCKED:
        haul = _unweighed(connection, target, window, limit, most) if even else None
        return haul or _locked(connection, target, window, limit, most)
    if window.measured and (haul := _at_once(connection, target, window, limit, even=even)):
        return haul
    plain = target.copies is None and not target.selection.blobs
    if target.address is None and isinstance(window, Stretch) and plain:
        removed = _run(connection, target.removal(*window.bounds(target)).with_dialect_options(mysql_limit=limit))
        return Haul(removed, removed < limit, window.low, seen=removed)
    return _contended(connection, target, window, limit)


def _at_once(connection: sa.Connection, target: Target, window: Window, limit: int, *, even: bool) -> Haul | None:
    """Remove whatever has expired in a window by one statement; None where its rows have to be locked beforehand.

    The statement judges anew what changed while it waited, so that it is the wait that must not be: for rows that
    others change, or for those that stay and lie among keys.
    """
    by_range, by_key = target.selection.form is Form.RANGE, isinstance(window, KeyRange)
    if not by_range and not (even and target.unsettled is None):
        return None
    if target.noted_first:
        return None
    patience = nullcontext() if by_range and not by_key else target.dialect.impatient(connection)
    if patience is None:
        return None
    with patience:
        return _whole(connection, target, window, limit)


def _whole(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    """Remove whatever has expired in a window of at most so many rows."""
    statement, by_key = target.removal(*window.bounds(target)), isinstance(window, KeyRange)
    steered = target.found.steer(statement) if by_key and target.found.steer else statement
    removed = partings.remove(connection, target, steered, *window.bounds(target), *target.expired)
    # Where rows are kept by key, no trigger keeps one without a word, and the statement has seen every one.
    return Haul(removed, through=True, clean=by_key or (window.full and removed >= limit))


def _contended(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    address = target.found
    if address.inside is not None and not _by_key(window) and target.copies is None:
        return _in_one_statement(connection, target, window, limit)
    held = _hold(connection, target, window, limit)
    removed = _remove(connection, target, held.places) if held.rows else 0
    return held.haul(removed, kept=len(held.rows) - removed)


def _hold(connection: sa.Connection, target: Target, window: Window, limit: int) -> _Held:
    """Lock the next rows of a window."""
    places = target.found.columns
    keys = target.key.columns if target.key and _by_key(window) else ()
    rows = connection.execute(_lock(target, window, limit, *places, *keys, _mark(target))).all()
    return _Held(target, window, rows, through=len(rows) < limit)


def _in_one_statement(connection: sa.Connection, target: Target, window: Window, limit: int) -> Haul:
    """Lock and remove rows at once: they are counted as they were found, for fewer may be removed."""
    address = target.found
    assert address.inside is not None and address.place is not None  # noqa: PT018, S101 - asked by the caller
    changes, keys = target.selection.action is not Action.DELETE, bills.labelled(target, target.table)
    place = address.place.label("place")
    rows = _lock(target, window, limit, place, target.reading.column.label("time"), *(keys if changes else ()))
    held = rows.cte("held")
    removal = target.removal(address.inside(sa.select(held.c.place)))
    unsettled = sa.false() if target.unsettled is None else target.unsettled
    gone = removal.returning(unsettled.label("unsettled"), *(() if changes else keys)).cte("gone")
    answer: sa.Select[Any] = sa.select(
        sa.select(sa.func.count()).select_from(held).scalar_subquery(),
        sa.select(sa.func.count()).select_from(gone).scalar_subquery(),
        sa.select(target.reading.mark(sa.func.max(held.c.time))).scalar_subquery(),
        sa.select(sa.func.min(held.c.time) == sa.func.max(held.c.time)).scalar_subquery(),
        sa.select(sa.func.count()).select_from(gone).where(gone.c.unsettled).scalar_subquery(),
        _page(target, window, sa.select(sa.func.max(held.c.place)).scalar_subquery()),
    )
    answer = bills.with_debts(answer, target, held if changes else gone)  # a changed row answers with what it has now
    seen, removed, last, alike, still, page = connection.execute(answer).one()
    _demand_settled(target, still)
    alike = _alike(target, window, same=alike)
    return Haul(removed, seen < limit, last, kept=seen - removed, seen=seen, alike=alike, page=page)


def _page(target: Target, window: Window, place: sa.ScalarSelect[Any]) -> Clause:
    return target.heap.page(place) if target.heap and isinstance(window, Pages) else sa.null()


def _locked(connection: sa.Connection, target: Target, window: Window, limit: int, most: int) -> Haul:
    """Lock, look again, empty what hangs on as many of the confirmed rows as fit into a batch, remove them."""
    held = _hold(connection, target, window, min(limit, most))
    if held.rows and target.removes_by_look:
        return _left_to_the_database(connection, target, held, most)
    keys = _confirmed(connection, target, held.places) if held.rows else ()
    if not keys:
        return held.haul(0)
    confirmed = len(keys)
    with target.looking_up(connection):
        portion = fitting(connection, target, ours(target, keys), most)
        if portion is None:
            return _begun(connection, target, held.since(keys[0]), most)
        keys = portion.bunch.keys
        hanging = portion.clear(connection, target)
    removed = _remove(connection, target, keys, confirmed=True, noted=portion.web is not None)
    if portion.web is not None:  # some may have gone by the database's own rule before
        removed = len(keys) - portion.bunch.counted(connection)
        hanging -= Counter({target.selection.table.name: len(keys)})
    if removed < len(keys) and target.selection.emptied:
        raise DatabaseError(
            f"table {target.selection.table.name!r} kept {len(keys) - removed} rows whose dependent rows were deleted"
            " in the same transaction, which is rolled back: look for a trigger that prevents the delete",
            transient=True,  # or a row that unless_exists names came in meanwhile, without a foreign key to hold it off
            of_row=True,
        )
    cut = len(keys) < confirmed
    taken = held.upto(keys[-1]) if cut else held
    return taken.haul(removed, hanging=hanging, kept=len(keys) - removed, cut=cut, load=portion.load)


def _unweighed(connection: sa.Connection, target: Target, window: Window, limit: int, most: int) -> Haul | None:
    """Let rows go first, and hear from the database what went with them; None where that would not be heard.

    To look for what hangs on them beforehand takes as long as half of their removal, to lock them a fifth of it. Where
    the delete comes upon a row that somebody holds, it gives up after a moment, and judges it anew if it need not.
    """
    tables = target.tallied
    if not tables or not target.removes_by_look or target.noted_below:
        return None

    def locked_first() -> Haul:
        held = _hold(connection, target, window, limit)
        return held.haul(_remove(connection, target, held.places) if held.rows else 0)

    at_once = target.goes_at_once(even=True) and window.measured
    take = partial(_whole, connection, target, window, limit) if at_once else locked_first
    return _told(connection, target, most, _LONGEST, take)


def _as_seen(connection: sa.Connection, target: Target, window: Window, limit: int, most: int) -> Haul | None:
    """Read what goes, and let it go, by the one view that a frozen transaction has: nothing is held for that.

    To hold rows, or to let a delete answer with what they were, costs more. None where nobody would tell what went.
    """

    def take() -> Haul:
        bounds = window.bounds(target)
        with target.looking_up(connection) if target.noted_below else nullcontext():
            partings.note_seen(connection, target, *bounds, *target.expired)
        removed = _run(connection, target.removal(*bounds))
        return Haul(removed, through=True, clean=window.full and removed >= limit)

    if target.tallied:
        return _told(connection, target, most, _LONGEST_READ, take)
    with target.dialect.impatient(connection) or nullcontext():
        return take()


def _told(
    connection: sa.Connection, target: Target, most: int, longest: float, take: Callable[[], Haul]
) -> Haul | None:
    """Hear from the database what went with rows, once they have gone; None where it would not tell."""
    tables = target.tallied
    before = target.dialect.tally(connection, tables, longest)
    if before is None:
        return None
    haul = take()
    after = target.dialect.tally(connection, tables, None)
    assert after is not None  # noqa: S101 - it was not None before
    load = after.touched - before.touched
    if haul.removed < haul.seen or load > min(_FAR * most, MOST):
        raise DatabaseError(
            f"rows of table {target.selection.table.name!r} are not like those before: some stay, or far more hangs on"
            " them; what was taken is rolled back, to be taken with care",
            transient=True,
        )
    gone = Counter(after.removed) - Counter(before.removed)
    del gone[tables[0]]
    return replace(haul, hanging=gone, load=load)


def _left_to_the_database(connection: sa.Connection, target: Target, held: _Held, most: int) -> Haul:
    """Remove locked rows with what goes by the database's own rule: the delete itself is the second look."""
    with target.looking_up(connection):
        portion = fitting(connection, target, ours(target, held.places), most)
        if portion is None:
            return _begun(connection, target, held, most)
        partings.note_below(connection, target, portion.bunch)
    keys = portion.bunch.keys
    removed = _remove(connection, target, keys, confirmed=False)
    hanging, kept = portion.counts, 0
    if removed < len(keys):
        stay = [tuple(key) for key in connection.execute(sa.select(*target.found.columns).where(portion.bunch.held))]
        unmoved = weigh(connection, target, portion.bunch.of(stay), portion.load)
        hanging = hanging - Counter(unmoved.counts if unmoved else {})
        kept = len(_confirmed(connection, target, stay))
    cut = len(keys) < len(held.rows)
    taken = held.upto(keys[-1]) if cut else held
    return taken.haul(removed, hanging=hanging, kept=kept, cut=cut, load=portion.load)


def _begun(connection: sa.Connection, target: Target, held: _Held, most: int) -> Haul:
    """Take a slice of what hangs on the first row that is still to go, if it is that."""
    keys = _confirmed(connection, target, held.places[:1])
    first = held.upto(held.places[0])
    if not keys:
        return first.haul(0)
    begun = take_slice(connection, target, ours(target, keys), most)
    return first.haul(0, hanging=begun.counts, begun=True, load=begun.load)


def _confirmed(connection: sa.Connection, target: Target, places: Keys) -> Keys:
    """Look at locked rows a second time; return those that are still to go, in the order they were locked in."""
    address = target.found
    among = address.among(places)
    again = sa.select(*address.columns).where(among, *target.expired)
    if target.kept:
        again = again.where(target.kept.secure(connection, among))
    found = {tuple(row) for row in connection.execute(again)}
    return [place for place in places if place in found]


def _remove(
    connection: sa.Connection, target: Target, keys: Keys, *, confirmed: bool = False, noted: bool = False
) -> int:
    """Remove locked rows, or change them, and see to it that they will not be taken again."""
    if not noted:
        partings.note(connection, target, ours(target, keys))
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
    """Select the next rows of a window and lock them, past those that somebody holds: no sweep waits for others."""
    rows = sa.select(*columns).where(*window.bounds(target), *target.expired).limit(limit)
    rows = rows.with_for_update(skip_locked=True)
    if target.key and _by_key(window):
        in_order = target.key.in_order if isinstance(window, KeyRange) else None
        rows = rows.order_by(*target.key.order)
        return in_order(rows) if in_order else rows
    if isinstance(window, Stretch) and target.walked:
        return rows.order_by(target.reading.column)
    return rows


def _alike(target: Target, window: Window, *, same: bool) -> bool:
    """Tell whether the walk has nothing but one time to go on by: rows without an index are all the same to it."""
    return isinstance(window, Stretch) and (same or not target.walked)


def _by_key(window: Window) -> bool:
    return isinstance(window, KeyRange) or (isinstance(window, Stretch) and window.past is not None)


def next_keys(target: Target, window: Window, limit: int) -> sa.Select[Any]:
    """Select the keys of the rows that a batch takes."""
    return _lock(target, window, limit, *(target.key or target.found).columns)


def _mark(target: Target) -> Clause:
    return target.reading.mark(target.reading.column).label("nightcrew_mark")


def _run(connection: sa.Connection, statement: Removal) -> int:
    return connection.execute(statement).rowcount
