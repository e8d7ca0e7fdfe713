"""A cursor → the next window of a sweep: a stretch of the time column's index that holds so many rows."""

from dataclasses import dataclass

import sqlalchemy as sa

from nightcrew.database import Cursor
from nightcrew.databases.target import Clause, Target


@dataclass(frozen=True, slots=True)
class Window:
    """From `low`, inclusive, to `high`, exclusive; no `high` means to the cut, no `low` the whole table.

    A `tied` window is the one value `low`, shared by more rows than a window may hold.
    """

    low: str | None
    high: str | None = None
    tied: bool = False

    def bounds(self, target: Target) -> list[Clause]:
        """Return the window as a predicate."""
        column, at = target.reading.column, target.reading.at
        if self.low is None:
            return []
        if self.tied:
            return [column == at(self.low)]
        return [column >= at(self.low)] + ([column < at(self.high)] if self.high is not None else [])


def following(connection: sa.Connection, target: Target, cursor: Cursor, size: int) -> Window | None:
    """Return the window of at most `size` rows at the cursor, or None when nothing has expired from there on."""
    if not target.walked or target.selection.only is not None:
        return Window(None)
    low = cursor.get("from")
    if low is not None and "to" in cursor:
        return Window(low, cursor["to"])
    if low is None and (low := _first(connection, target)) is None:
        return None
    column, at = target.reading.column, target.reading.at
    # The value is written out once, outside: an OFFSET would write out every row that it passes over.
    walk = sa.select(column.label("time")).where(column >= at(low), target.reading.before).order_by(column)
    end_of_window = walk.offset(size).limit(1).subquery("walk").c.time
    end = connection.execute(sa.select(target.reading.mark(end_of_window), end_of_window > at(low))).one_or_none()
    if end is None:
        return Window(low)
    high, further = end
    return Window(low, high) if further else Window(low, tied=True)


def after(connection: sa.Connection, target: Target, window: Window) -> Cursor | None:
    """Return where the walk goes on once a window was looked through, or None at the cut."""
    if not window.tied:
        return None if window.high is None else {"from": window.high}
    return beyond(connection, target, window.low)


def within(window: Window, target: Target, mark: str | None) -> Cursor:
    """Return where the walk goes on in the same window, whose end need not be looked for again."""
    if not target.walked:
        return {}
    return {"from": mark} if window.tied else {"from": mark, "to": window.high}


def beyond(connection: sa.Connection, target: Target, mark: str | None) -> Cursor | None:
    """Return where the walk goes on after all rows of one time, or None at the cut."""
    if mark is None or not target.walked:
        return None
    low = _first(connection, target, target.reading.column > target.reading.at(mark))
    return None if low is None else {"from": low}


def _first(connection: sa.Connection, target: Target, *where: Clause) -> str | None:
    column = target.reading.column
    first = sa.select(target.reading.mark(column)).where(target.reading.before, *where).order_by(column).limit(1)
    low: str | None = connection.execute(first).scalar_one_or_none()
    return low
