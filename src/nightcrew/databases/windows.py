"""A cursor → the next window of a sweep: a stretch of the time's index, or of the table in the order it is kept in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import sqlalchemy as sa

from nightcrew.database import Cursor, Form, Selection
from nightcrew.databases.heap import Heap
from nightcrew.databases.keys import read, written
from nightcrew.databases.quiet import Since, stayed, still
from nightcrew.databases.target import Clause, Target
from nightcrew.policy import Action

_FEW, _FEW_LOOKED_AT = 20, 200  # pages of a window so small that it had better begin where something has expired
_LEAP = 500  # pages that are looked through for that at once: four megabytes


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `low`, inclusive, to `high`, exclusive; no `high` means to the cut, no `low` the whole table.

    A `tied` stretch is the one value `low`, shared by more rows than a window may hold. Where a batch's worth of its
    rows stays, a stretch is gone through in the order of keys: `past` is the one that was looked at last.
    """

    low: str | None
    high: str | None = None
    tied: bool = False
    past: Sequence[Any] | None = None

    @property
    def measured(self) -> bool:
        """Whether it holds no more rows than a batch may take, whatever they are."""
        return self.low is not None and not self.tied

    @property
    def full(self) -> bool:
        """Whether it was found to hold a batch of rows, so that none is left once so many have gone."""
        return self.high is not None

    def bounds(self, target: Target) -> list[Clause]:
        """Return the window as a predicate."""
        column, at = target.reading.column, target.reading.at
        further = [target.key.after(self.past)] if self.past and target.key and target.key.after else []
        if self.low is None:
            return further
        if self.tied:
            return [column == at(self.low), *further]
        return [column >= at(self.low)] + ([column < at(self.high)] if self.high is not None else [])


@dataclass(frozen=True, slots=True)
class Pages:
    """From page `first` of the table's file, inclusive, to page `end`, exclusive; nobody disturbed it `since`."""

    first: int
    end: int
    since: Since | None = None
    measured = True
    full = False

    def at(self, page: int) -> Cursor:
        """Return the cursor to go on at a page with."""
        return {"page": page, "since": list(self.since)} if self.since else {"page": page}

    def bounds(self, target: Target) -> list[Clause]:
        """Return the window as a predicate."""
        assert target.heap is not None  # noqa: S101 - or there would be no such window
        place, at = target.heap.place, target.heap.at
        return [place >= at(self.first), place < at(self.end)]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """From key `past`, exclusive, to key `upto`, inclusive, of a table that is kept in the order of its key."""

    past: Sequence[Any] | None
    upto: Sequence[Any] | None
    measured = True
    full = False

    def after(self, past: Sequence[Any] | None) -> Cursor:
        """Return the cursor to go on with after a key in it."""
        cursor = {"key": None if past is None else written(past)}
        return cursor if self.upto is None else {**cursor, "upto": written(self.upto)}

    def bounds(self, target: Target) -> list[Clause]:
        """Return the window as a predicate."""
        key = target.key
        assert key is not None and key.after is not None and key.upto is not None  # noqa: PT018, S101 - or there would be no such window
        low = [] if self.past is None else [key.after(self.past)]
        return low if self.upto is None else [*low, key.upto(self.upto)]


Window: TypeAlias = Stretch | Pages | KeyRange


def following(connection: sa.Connection, target: Target, cursor: Cursor, size: int) -> Window | None:
    """Return the window of at most `size` rows at the cursor, or None when nothing has expired from there on."""
    if target.selection.only is not None:
        return Stretch(None)
    if "past" in cursor:
        return Stretch(cursor.get("from"), tied="from" in cursor, past=read(cursor["past"]))
    if target.heap is not None and "from" not in cursor:
        return _pages(connection, target, target.heap, cursor, size)
    if "key" in cursor or (target.clustered and not cursor):
        return _keys(connection, target, cursor, size)
    return _stretch(connection, target, cursor, size) if target.walked else Stretch(None)


def to_take(connection: sa.Connection, target: Target, cursor: Cursor, size: int) -> Window | None:
    """Return the window of a batch that is about to take rows, and hears from now on whether anybody else writes."""
    since = None
    if target.heap is not None and "from" not in cursor and not _moves_rows(target.selection):
        since = still(connection, target.heap, cursor)  # before any page is looked at
    window = following(connection, target, cursor, size)
    return replace(window, since=since) if isinstance(window, Pages) else window


def whole(cursor: Cursor) -> Cursor:
    """Leave out the end of the window that a cursor is in: it held more rows than go by one statement."""
    return {name: value for name, value in cursor.items() if name not in {"to", "upto"}}


def _stretch(connection: sa.Connection, target: Target, cursor: Cursor, size: int) -> Stretch | None:
    low = cursor.get("from")
    if low is not None and "to" in cursor:
        return Stretch(low, cursor["to"])
    if low is None and (low := _first(connection, target)) is None:
        return None
    column, at = target.reading.column, target.reading.at
    # The value is written out once, outside: an OFFSET would write out every row that it passes over.
    walk = sa.select(column.label("time")).where(column >= at(low), target.reading.before).order_by(column)
    end_of_window = walk.offset(size).limit(1).subquery("walk").c.time
    end = connection.execute(sa.select(target.reading.mark(end_of_window), end_of_window > at(low))).one_or_none()
    if end is None:
        return Stretch(low)
    high, further = end
    return Stretch(low, high) if further else Stretch(low, tied=True)


def _pages(connection: sa.Connection, target: Target, heap: Heap, cursor: Cursor, size: int) -> Pages | None:
    # What is counted as it is locked, or once it has gone, need not be bounded by the window beforehand.
    per_page = heap.per_page if target.selection.form is Form.LOCKED else heap.at_most
    first, pages = cursor.get("page", 0), max(1, int(size / per_page))
    if not _reaches(connection, heap, first):
        return None
    few = _FEW if target.selection.form is Form.RANGE else _FEW_LOOKED_AT
    if pages < few:  # thousands of pages that hold nothing would be as many batches
        # Where something expires on every page, the leap would cost more than the batch.
        looks = (_next_page(connection, target, heap, Pages(first, first + span)) for span in (pages, _LEAP))
        first = next((page for page in looks if page is not None), first + _LEAP - pages)
    return Pages(first, first + pages)


def _keys(connection: sa.Connection, target: Target, cursor: Cursor, size: int) -> KeyRange:
    past = read(cursor["key"]) if cursor.get("key") else None
    if "upto" in cursor:
        return KeyRange(past, read(cursor["upto"]))
    key = target.key
    assert key is not None and key.in_order is not None  # noqa: PT018, S101 - or it would not be walked by it
    ahead = sa.select(*key.columns).where(*KeyRange(past, None).bounds(target), *target.until).order_by(*key.order)
    last = connection.execute(key.in_order(ahead.offset(size - 1).limit(1))).one_or_none()
    return KeyRange(past, None if last is None else tuple(last))


def _next_page(connection: sa.Connection, target: Target, heap: Heap, ahead: Pages) -> int | None:
    """Return the first of the pages ahead on which something has expired."""
    look = sa.select(heap.page(sa.func.min(heap.place))).where(*ahead.bounds(target), *target.expired)
    page: int | None = connection.execute(look).scalar_one()
    return page


def _moves_rows(selection: Selection) -> bool:
    """Tell whether our own batches may change other rows of the table, or what decides about them."""
    return selection.form is Form.LOCKED or selection.action is not Action.DELETE


def quiet(connection: sa.Connection, target: Target, window: Pages, *, last: bool) -> bool:
    """Tell whether nobody else has written so far, as is known for certain once the last window was emptied.

    Whoever did may have moved rows to room on a page behind the walk.
    """
    assert target.heap is not None  # noqa: S101 - or there would be no such window
    return window.since is not None and (not last or stayed(connection, target.heap, window.since))


def onward(target: Target, cursor: Cursor) -> list[Clause]:
    """Return the predicate for what a walk at the cursor has before it, as far as the cursor tells."""
    if "from" in cursor and target.walked:
        return [target.reading.column >= target.reading.at(cursor["from"])]
    if "page" in cursor and target.heap is not None:
        return [target.heap.place >= target.heap.at(cursor["page"])]
    return []


def after(connection: sa.Connection, target: Target, window: Window) -> Cursor | None:
    """Return where the walk goes on once a window was looked through, or None at the cut."""
    if isinstance(window, Pages):
        return _past(connection, target, window)
    if isinstance(window, KeyRange):
        return None if window.upto is None else {"key": written(window.upto)}
    if not window.tied:
        return None if window.high is None else {"from": window.high}
    return beyond(connection, target, window, window.low)


def within(window: Window, target: Target, mark: str | None, page: int | None = None) -> Cursor:
    """Return where the walk goes on in the same window, whose end need not be looked for again.

    Before the last `page` that was read there is nothing more but rows that others hold.
    """
    if isinstance(window, Pages):
        return window.at(window.first if page is None else page)
    if isinstance(window, KeyRange):
        return window.after(window.past)
    if not target.walked:
        return {}
    return {"from": mark} if window.tied else {"from": mark, "to": window.high}


def by_key(window: Window, target: Target, mark: str | None, past: Sequence[Any] = ()) -> Cursor:
    """Return where the walk goes on among rows of one time (in the whole table, without an index), by their keys."""
    if isinstance(window, KeyRange):
        return window.after(past)
    keys = {"past": written(past)}
    low = window.low if isinstance(window, Stretch) and window.tied else mark
    return {"from": low, **keys} if target.walked else keys


def beyond(connection: sa.Connection, target: Target, window: Window, mark: str | None) -> Cursor | None:
    """Return where the walk goes on after all rows of one time, or None at the cut."""
    if not isinstance(window, Stretch):
        return after(connection, target, window)
    if mark is None or not target.walked:
        return None
    low = _first(connection, target, target.reading.column > target.reading.at(mark))
    return None if low is None else {"from": low}


def start(target: Target, window: Window, first: Any) -> Cursor:
    """Return a cursor from which a walk comes by every row of a window whose time is `first` or later."""
    if isinstance(window, Pages):
        return {"page": window.first}
    if isinstance(window, KeyRange):
        return {"key": None if window.past is None else written(window.past)}
    return {"from": first} if target.walked else {}


def _past(connection: sa.Connection, target: Target, window: Pages) -> Cursor | None:
    assert target.heap is not None  # noqa: S101 - or there would be no such window
    return window.at(window.end) if _reaches(connection, target.heap, window.end) else None


def _reaches(connection: sa.Connection, heap: Heap, page: int) -> bool:
    """Tell whether the file has this page, looking again at its end: what was updated meanwhile stands behind it."""
    return page < heap.pages or page < connection.execute(sa.select(heap.pages_now)).scalar_one()


def _first(connection: sa.Connection, target: Target, *where: Clause) -> str | None:
    column = target.reading.column
    first = sa.select(target.reading.mark(column)).where(target.reading.before, *where).order_by(column).limit(1)
    low: str | None = connection.execute(first).scalar_one_or_none()
    return low
