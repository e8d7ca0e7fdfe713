"""Parcels: keys that left with one batch, as one row, for a row each would cost more than all else that a sweep does.

Only PostgreSQL writes them, where one statement removes rows and says which keys they had. Whoever settles them takes
them apart first, into a row for each key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.tables import owed

FEW, MOST = 30_000, 100_000
"""Keys in a parcel: of rows that a statement writes as it takes them, and of those that it has only read."""
SEPARATOR = "\x1f"
"""What stands between two keys of a parcel; a key that has it goes alone."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Parts of a statement that write the keys which another part has found; `counted` has how many `rows` that found.

    Each row is read once. Keys that go alone are looked for where there are any.
    """

    counted: sa.CTE
    parts: tuple[sa.CTE, ...]


def found(key: sa.ColumnElement[str], name: str) -> list[sa.ColumnElement[Any]]:
    """Return a row's key under a name, as a part of a statement answers with it: NULL where it is none, or goes alone.

    What goes alone has another name.
    """
    whole = sa.func.strpos(key, SEPARATOR) == 0
    plain = sa.case((whole, sa.func.nullif(key, "")))
    return [plain.label(name), sa.case((~whole, key)).label(f"{name}_alone")]


def packed(rows: sa.CTE, name: str, given: Mapping[str, sa.ColumnElement[Any]]) -> Parcel:
    """Write the keys that were found under a name as one row, with what is `given` of them all, by column."""
    key, alone = rows.c[name], rows.c[f"{name}_alone"]
    counts = {"rows": sa.func.count(), "size": sa.func.count(key), "others": sa.func.count(alone)}
    columns = [sa.func.string_agg(key, SEPARATOR).label("key")]
    columns += [count.label(called) for called, count in counts.items()]
    counted = sa.select(*columns).select_from(rows).cte(f"{name}_counted")
    parcel = sa.select(counted.c["key"], counted.c["size"], *given.values()).where(counted.c["size"] > 0)
    some = sa.select(counted.c["others"] > 0).scalar_subquery()
    others = sa.select(alone, sa.literal(1), *given.values()).select_from(rows).where(some, alone.is_not(None))
    names = ["key", "size", *given]
    inserts = (sa.insert(owed).from_select(names, each) for each in (parcel, others))
    return Parcel(counted, tuple(insert.cte(f"{name}_owed_{place}") for place, insert in enumerate(inserts)))


def pack(
    connection: sa.Connection,
    rows: sa.TableClause,
    where: sa.ColumnElement[bool],
    key: sa.ColumnElement[str],
    given: Mapping[str, sa.ColumnElement[Any]],
) -> None:
    """Write the keys of rows that nobody changes as one row, but for those that go alone.

    That there are none of these is found out on the way; where there are, the rows are read again.
    """
    whole, names = sa.func.nullif(key, ""), ["key", "size", *given]
    alone = sa.func.strpos(key, SEPARATOR) > 0

    def parcel(others: sa.ColumnElement[int], *more: sa.ColumnElement[bool]) -> sa.Select[Any]:
        text, size = sa.func.string_agg(whole, SEPARATOR), sa.func.count(whole)
        look = sa.select(text.label("key"), size.label("size"), others.label("others")).select_from(rows)
        counted = look.where(where, *more).cte("counted")
        full = counted.c["size"] > 0, counted.c["others"] == 0
        one = sa.select(counted.c["key"], counted.c["size"], *given.values()).where(*full)
        return sa.select(counted.c["others"]).add_cte(sa.insert(owed).from_select(names, one).cte("written"))

    if connection.execute(parcel(sa.func.count().filter(alone))).scalar_one():
        connection.execute(parcel(sa.literal(0), ~alone))
        each = sa.select(key, sa.literal(1), *given.values()).select_from(rows).where(where, alone)
        connection.execute(sa.insert(owed).from_select(names, each))


def unpack(connection: sa.Connection, store: str, now: sa.ColumnElement[Any]) -> int:
    """Take the oldest parcel of a store that is due apart; return how many keys were in it, 0 where there is none."""
    due = sa.select(owed.c.id).where(owed.c.store == store, owed.c.due_at <= now, owed.c.size > 1)
    due = due.order_by(owed.c.due_at, owed.c.id).limit(1).with_for_update(skip_locked=True)
    number = connection.execute(due).scalar_one_or_none()
    return 0 if number is None else part(connection, number)


def part(connection: sa.Connection, number: int) -> int:
    """Take a locked parcel apart, into a row for each key; return how many these are."""
    this = owed.c.id == number
    each = sa.func.unnest(sa.func.string_to_array(owed.c.key, SEPARATOR))
    same = [column for column in owed.c if column.name not in ("id", "key", "size")]
    singles = sa.select(each, *same).where(this)
    names = ["key", *(column.name for column in same)]
    unpacked = connection.execute(sa.insert(owed).from_select(names, singles)).rowcount
    connection.execute(sa.delete(owed).where(this))
    return unpacked
