"""The table of things owed to stores: written in somebody's transaction, and claimed by whoever settles them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.catalog import describe, source
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.guests import Guest
from nightcrew.databases.names import quoted
from nightcrew.databases.parcels import SEPARATOR, part, unpack
from nightcrew.databases.tables import owed
from nightcrew.debt import Balance, Debt, Overdue
from nightcrew.errors import PolicyError, UsageError, misfit, nearest
from nightcrew.owing import Owing

_LONGEST_LOOK = 30.0  # seconds in which rows that still have a key are to be found, for a batch of keys
_LONGEST_REASON = 500
_END = "|"  # without one, some databases take blanks at the end of a text for nothing
_MANY = 1_000
_ALIKE = 10_000  # keys that a collation takes for the same
# What is compared with a text as it is, so that an index serves; whatever else a column holds is written as one first.
_TEXTS = {"char", "character", "character varying", "citext", "longtext", "mediumtext", "nvarchar", "text", "tinytext",
          "varchar"}  # fmt: skip


class Dues:
    """The `Debts` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def owe(self, connection: object, store: str, keys: Iterable[str], not_before: datetime | None) -> int:
        """Owe keys in a transaction of the application's own, by one statement in the driver's words."""
        due = {key: None for key in _checked(keys) if key}
        guest = Guest.of(self._link, connection, "debt")
        named, now = quoted("key", self._link.dialect.quote), self._link.dialect.now
        later = None if not_before is None else self._link.dialect.bid_instant(not_before)
        due_at = now if later is None else guest.mark
        statement = (
            f"INSERT INTO {owed.name} (store, {named}, since, due_at, attempts)"
            f" VALUES ({guest.mark}, {guest.mark}, {now}, {due_at}, 0)"
        )
        if due:
            guest.write(statement, [(store, key, *([] if later is None else [later])) for key in due])
        return len(due)

    def claim(self, store: str, most: int, held: float) -> Sequence[Debt]:
        """Let a claim be the time that a debt is next due at: who dies with it need not give it back."""
        due = sa.select(owed.c.id, owed.c.key, owed.c.attempts)
        due = due.where(owed.c.store == store, owed.c.due_at <= self._link.moment, owed.c.size == 1)
        due = due.order_by(owed.c.due_at, owed.c.id).limit(most).with_for_update(skip_locked=True)
        while True:
            with self._link.transaction() as connection:
                debts = [Debt(row.id, row.key, row.attempts) for row in connection.execute(due)]
                if debts:
                    connection.execute(_these(sa.update(owed), debts).values(due_at=self._link.later(held)))
                    return debts
                if not unpack(connection, store, self._link.moment):
                    return debts

    def of_run(self, run: str, store: str, after: int, most: int, held: float) -> Sequence[Debt]:
        """Take its parcels apart, and go on by the numbers of the rows."""
        these = sa.select(owed.c.id, owed.c.key, owed.c.attempts).where(owed.c.run == run, owed.c.store == store)
        with self._link.transaction() as connection:
            for number in connection.execute(these.where(owed.c.size > 1).with_for_update()).scalars().all():
                part(connection, number)
            rows = connection.execute(these.where(owed.c.id > after).order_by(owed.c.id).limit(most).with_for_update())
            debts = [Debt(row.id, row.key, row.attempts) for row in rows]
            if debts:
                connection.execute(_these(sa.update(owed), debts).values(due_at=self._link.later(held)))
        return debts

    def newest(self, connection: sa.Connection) -> int:
        """Look at the end of the table."""
        return connection.execute(sa.select(sa.func.max(owed.c.id))).scalar_one() or 0

    def incurred(self, connection: sa.Connection, run: str, since: int) -> dict[str, int]:
        """Count by store."""
        these = sa.select(owed.c.store, sa.func.sum(owed.c.size)).where(owed.c.id > since, owed.c.run == run)
        return {row[0]: int(row[1]) for row in connection.execute(these.group_by(owed.c.store))}

    def alike(self, store: str, prefix: str, finds: Callable[[str], object]) -> list[Debt]:
        """Take every parcel apart that has one, first."""
        within = owed.c.key.contains(prefix, autoescape=True)
        parcels = sa.select(owed.c.id).where(owed.c.store == store, owed.c.size > 1, within).limit(1).with_for_update()
        some = sa.select(owed.c.id, owed.c.key, owed.c.attempts).where(owed.c.store == store, owed.c.size == 1)
        with self._link.transaction() as connection:
            while (number := connection.execute(parcels).scalar_one_or_none()) is not None:
                part(connection, number)
            found = connection.execute(some.where(owed.c.key.startswith(prefix, autoescape=True)))
            return [Debt(row.id, row.key, row.attempts) for row in found if finds(row.key)]

    def referred(self, columns: Iterable[Owing], keys: Sequence[str]) -> set[str]:
        """Compare once more to the letter: a collation may take different texts for the same.

        A key that is no text, as a store may have them, is in no column.
        """
        keys = [key for key in keys if storable(key, len(key)) == key]
        by_table: dict[str, list[str]] = defaultdict(list)
        for owing in columns:
            by_table[owing.table].append(owing.column)
        found: set[str] = set()
        with self._link.glimpse(_LONGEST_LOOK) as connection:
            for name, named in by_table.items():
                for column in dict.fromkeys(named):
                    found.update(_texts(connection.execute(self._holding(connection, name, column, keys))))
        return found.intersection(keys)

    def _holding(self, connection: sa.Connection, name: str, column: str, keys: Sequence[str]) -> sa.Select[Any]:
        rows, written, compared = self._column(connection, name, column)
        return sa.select(written).select_from(rows).where(compared.in_(keys)).distinct()

    def _column(self, connection: sa.Connection, name: str, column: str) -> tuple[sa.FromClause, Any, Any]:
        """Return a table, a column of it as a text with an end, and what it is compared by; PolicyError for none."""
        table = describe(connection, self._link.dialect, name)
        if column not in table.columns:
            raise PolicyError(f"table {table.name!r} has no column {column!r}{nearest(column, table.columns)}")
        rows = source(table.name, (column,))
        held, kind = rows.c[column], table.columns[column].kind.partition("(")[0].strip().lower()
        written = self._link.dialect.letters(held)
        return rows, written.concat(_END), held if kind in _TEXTS else written

    def named(self, column: Owing, after: str | None, most: int) -> tuple[Sequence[str], str | None]:
        """Take along the keys that the database takes for the same as the last: none is passed by."""
        with self._link.glimpse(_LONGEST_LOOK) as connection:
            rows, written, compared = self._column(connection, column.table, column.column)
            some = sa.select(written).select_from(rows).where(written != _END)
            further = some if after is None else some.where(compared > after)
            found = _texts(connection.execute(further.order_by(compared).limit(most)))
            if len(found) < most:
                return list(dict.fromkeys(found)), None
            alike = _texts(connection.execute(some.where(compared == found[-1]).distinct().limit(_ALIKE)))
            return list(dict.fromkeys((*found, *alike))), found[-1]

    def owed(self, store: str, keys: Sequence[str]) -> set[str]:
        """Compare to the letter."""
        these = sa.select(owed.c.key).where(owed.c.store == store, owed.c.key.in_(keys))
        with self._link.transaction(writes=False) as connection:
            return {*connection.execute(these).scalars()}.intersection(keys)

    def waiting(self, store: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Look into every parcel that is not due yet, for a key may be in any of them."""
        ahead = owed.c.store == store, owed.c.due_at > self._link.later(seconds)
        alone = sa.select(owed.c.key).where(*ahead, owed.c.size == 1, owed.c.key.in_(keys))
        with self._link.glimpse(_LONGEST_LOOK) as connection:
            found = {*connection.execute(alone).scalars()}
            if self._link.dialect.returning and not self._link.dialect.one_writer:  # which is where parcels are written
                every = sa.func.unnest(sa.func.string_to_array(owed.c.key, SEPARATOR)).label("key")
                packed = sa.select(every).where(*ahead, owed.c.size > 1).subquery()
                found.update(connection.execute(sa.select(packed.c.key).where(packed.c.key.in_(keys))).scalars())
        return found.intersection(keys)

    def incur(self, store: str, keys: Sequence[str]) -> None:
        """Owe each once."""
        if keys:
            since = self._link.now()
            with self._link.transaction() as connection:
                rows = [{"store": store, "key": key, "since": since, "due_at": since, "attempts": 0} for key in keys]
                connection.execute(sa.insert(owed), rows)

    def settle(self, debts: Iterable[Debt]) -> None:
        """Delete their rows."""
        if gone := list(debts):
            with self._link.transaction() as connection:
                connection.execute(_these(sa.delete(owed), gone))

    def leave(self, debts: Iterable[Debt]) -> None:
        """Let them be due at once."""
        if left := list(debts):
            with self._link.transaction() as connection:
                connection.execute(_these(sa.update(owed), left).values(due_at=self._link.moment))

    def put_off(self, failed: Mapping[Debt, tuple[str, timedelta | None]]) -> None:
        """Count an attempt unless somebody else did, who came upon them when the claim was over."""
        with self._link.transaction() as connection:
            for debt in sorted(failed, key=lambda debt: debt.id):
                reason, wait = failed[debt]
                due_at = sa.null() if wait is None else self._link.later(wait.total_seconds())
                one = sa.update(owed).where(owed.c.id == debt.id, owed.c.attempts == debt.attempts)
                told = {"attempts": debt.attempts + 1, "reason": storable(reason, _LONGEST_REASON)}
                connection.execute(one.values(due_at=due_at, **told))

    def recall(self, run: str, columns: Callable[[str], Iterable[Owing]]) -> None:
        """Go through the run's debts once, parcel by parcel, and those that are none many at a time."""
        for alone, most in ((owed.c.size == 1, _MANY), (owed.c.size > 1, 1)):
            last = 0
            while found := self._of_run(run, alone, last, most):
                last = found[-1].id
                for store in dict.fromkeys(row.store for row in found):
                    own = [row for row in found if row.store == store]
                    keys = {row.id: row.key.split(SEPARATOR) if row.size > 1 else [row.key] for row in own}
                    again = self._again(list(columns(store)), [key for some in keys.values() for key in some])
                    self._cut(own, {number: [key for key in some if key not in again] for number, some in keys.items()})

    def _of_run(self, run: str, alone: sa.ColumnElement[bool], last: int, most: int) -> Sequence[Any]:
        some = sa.select(owed).where(owed.c.run == run, alone, owed.c.id > last).order_by(owed.c.id).limit(most)
        with self._link.transaction(writes=False) as connection:
            return connection.execute(some).all()

    def _again(self, columns: Sequence[Owing], keys: Sequence[str]) -> set[str]:
        parts = (keys[start : start + _MANY] for start in range(0, len(keys), _MANY))
        return {key for part in parts for key in self.referred(columns, part)}

    def _cut(self, rows: Sequence[Any], left: Mapping[int, Sequence[str]]) -> None:
        """Leave of each row those keys that are still owed, unless somebody has settled it meanwhile."""
        with self._link.transaction() as connection:
            for row in rows:
                if len(left[row.id]) == row.size:
                    continue
                this = owed.c.id == row.id, owed.c.attempts == row.attempts
                change = sa.update(owed).values(key=SEPARATOR.join(left[row.id]), size=len(left[row.id]))
                connection.execute((change if left[row.id] else sa.delete(owed)).where(*this))

    def balances(self) -> list[Balance]:
        """Count by store."""
        now = self._link.moment
        ways = (owed.c.due_at <= now, owed.c.due_at > now, owed.c.due_at.is_(None))
        counts = [sa.func.sum(sa.case((way, owed.c.size), else_=0)) for way in ways]
        each = sa.select(owed.c.store, *counts, sa.func.min(owed.c.since)).group_by(owed.c.store)
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(each.order_by(owed.c.store)).all()
        return [Balance(row[0], int(row[1]), int(row[2]), int(row[3]), row[4]) for row in rows]

    def overdue(self, store: str | None, most: int) -> list[Overdue]:
        """Look through what was tried."""
        tried = sa.select(owed).where(owed.c.attempts > 0)
        tried = tried if store is None else tried.where(owed.c.store == store)
        first = sa.case((owed.c.due_at.is_(None), 0), else_=1)
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(tried.order_by(first, owed.c.since, owed.c.id).limit(most)).all()
        return [
            Overdue(row.store, row.key, row.attempts, row.reason or "", row.since, row.due_at is None) for row in rows
        ]

    def failed(self) -> dict[str, int]:
        """Return how many debts of each store were given up, of those that have any."""
        each = sa.select(owed.c.store, sa.func.count()).where(owed.c.due_at.is_(None)).group_by(owed.c.store)
        with self._link.transaction(writes=False) as connection:
            return {row[0]: row[1] for row in connection.execute(each.order_by(owed.c.store))}

    def retry(self, store: str | None = None) -> int:
        """Begin with their attempts anew."""
        again = sa.update(owed).where(owed.c.due_at.is_(None))
        again = again if store is None else again.where(owed.c.store == store)
        with self._link.transaction() as connection:
            return connection.execute(again.values(due_at=self._link.moment, attempts=0)).rowcount


def _texts(found: sa.Result[Any]) -> list[str]:
    return [text.removesuffix(_END) for text in found.scalars()]


def _these(statement: Any, debts: Iterable[Debt]) -> Any:
    return statement.where(owed.c.id.in_(sorted(debt.id for debt in debts)))


def _checked(keys: Iterable[Any]) -> Iterable[str]:
    if isinstance(keys, str):
        raise UsageError(f"keys {misfit(keys, (), 'give a list, such as [key]')}")
    for key in keys:
        if key is None:  # what a row without a blob has
            continue
        if wrong := misfit(key, str, "give texts"):
            raise UsageError(f"a key that is owed {wrong}")
        if "\0" in key:
            raise UsageError(f"a key that is owed has a NUL in it ({key[:60]!r}): no store has one like that")
        yield key
