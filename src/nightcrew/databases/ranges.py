"""A cursor → a range that ends before the cut, and two of them where a walk leaves a part of its way to another one."""

from dataclasses import replace

import sqlalchemy as sa

from nightcrew.database import Cursor, Selection
from nightcrew.databases.heap import Heap
from nightcrew.databases.keys import read, written
from nightcrew.databases.target import Target
from nightcrew.databases.windows import KeyRange


def divisible(selection: Selection) -> bool:
    """Tell whether no row hangs on two rows of the table, which two walks would both have to lock."""
    tables = [path[-1].table for path in selection.drains + selection.cascades + selection.loosened]
    alone = len({selection.table.name, *tables}) == len(tables) + 1
    return alone and not (selection.latest or selection.knots)


def bounded(target: Target, cursor: Cursor) -> Target:
    """Aim at the rows before a cursor's end alone, if it has one."""
    if "end" not in cursor:
        return target
    end = cursor["end"]
    if "key" in cursor:
        until = tuple(KeyRange(None, read(end)).bounds(target))
        return replace(target, own=target.own + until, until=until)
    if target.heap is not None and "from" not in cursor:
        before = target.heap.place < target.heap.at(end)
        heap = replace(target.heap, pages=end, pages_now=sa.literal(end))
        return replace(target, own=(*target.own, before), heap=heap)
    before = target.reading.column < target.reading.at(end)
    reading = replace(target.reading, before=sa.and_(target.reading.before, before))
    return replace(target, own=(*target.own, before), reading=reading)


def ended(cursor: Cursor, like: Cursor) -> Cursor:
    """Let a cursor end where another one does."""
    return {**cursor, "end": like["end"]} if "end" in like else cursor


def divided(connection: sa.Connection, target: Target, cursor: Cursor, rows: int) -> tuple[Cursor, Cursor] | None:
    """Divide what is ahead of a cursor in two; None where that is less than so many rows, or nobody can tell.

    Pages are halved. Of an index, so many rows are left to the first, and to the second what comes after them: to find
    its middle would take long.
    """
    if "page" in cursor and target.heap is not None:
        return _by_page(connection, target.heap, cursor, rows)
    if cursor.get("key"):
        return _by_key(connection, target, cursor, rows)
    if "from" in cursor and "past" not in cursor and target.walked:
        return _by_time(connection, target, cursor, rows)
    return None


def parted(
    connection: sa.Connection, target: Target, cursor: Cursor, rows: int, most: int
) -> tuple[Cursor, Cursor] | None:
    """Part so many rows from what is ahead of a cursor, or as many more as leave no more than `most` parts of pages."""
    if "page" not in cursor or target.heap is None:
        return divided(connection, target, cursor, rows)
    first, end = cursor["page"], connection.execute(sa.select(target.heap.pages_now)).scalar_one()
    parts = min(most, int((end - first) * target.heap.per_page / rows))
    if parts < 2:
        return None
    middle = first + (end - first) // parts
    return {"page": first, "end": middle}, ended({"page": middle}, cursor)


def _by_page(connection: sa.Connection, heap: Heap, cursor: Cursor, rows: int) -> tuple[Cursor, Cursor] | None:
    first, end = cursor["page"], connection.execute(sa.select(heap.pages_now)).scalar_one()
    if (end - first) * heap.per_page < rows:
        return None
    middle = (first + end) // 2
    return {"page": first, "end": middle}, ended({"page": middle}, cursor)


def _by_key(connection: sa.Connection, target: Target, cursor: Cursor, rows: int) -> tuple[Cursor, Cursor] | None:
    key, past = target.key, cursor["key"]
    assert key is not None  # noqa: S101 - or it would not be walked by it
    ahead = sa.select(*key.columns).where(*KeyRange(read(past), None).bounds(target), *target.until)
    ahead = ahead.order_by(*key.order).offset(rows).limit(1)
    row = connection.execute(key.in_order(ahead) if key.in_order else ahead).one_or_none()
    if row is None:
        return None
    middle = written(tuple(row))
    return {"key": past, "end": middle}, ended({"key": middle}, cursor)


def _by_time(connection: sa.Connection, target: Target, cursor: Cursor, rows: int) -> tuple[Cursor, Cursor] | None:
    low, column, reading = cursor["from"], target.reading.column, target.reading
    walk = sa.select(column.label("time")).where(column >= reading.at(low), reading.before).order_by(column)
    ahead = walk.offset(rows).limit(1).subquery("walk").c.time
    middle = connection.execute(sa.select(reading.mark(ahead)).where(ahead > reading.at(low))).scalar_one_or_none()
    if middle is None:
        return None
    return {"from": low, "end": middle}, ended({"from": middle}, cursor)
