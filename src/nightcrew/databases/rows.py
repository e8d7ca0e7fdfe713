"""The application's rows: counted, and taken in bounded batches that lose nothing which should live.

A sweep walks the index of its time column in windows of so many rows; the cursor is where the next one starts.
What may leave is decided by the predicate alone, judged on locked rows or within the removing statement itself, so
that the walk only saves reading.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.database import (
    MOST,
    Catalog,
    Connection,
    Counted,
    Cursor,
    Form,
    Key,
    Left,
    Partition,
    Selection,
    Shielded,
    Survey,
    Taken,
)
from nightcrew.databases import parcels
from nightcrew.databases.catalog import read, source, split
from nightcrew.databases.connect import Link
from nightcrew.databases.copies import Copies
from nightcrew.databases.counts import count_hanging, count_loosened, hanging
from nightcrew.databases.dialect import Divided
from nightcrew.databases.forms import empty, next_keys
from nightcrew.databases.haul import Haul
from nightcrew.databases.partings import check
from nightcrew.databases.ranges import bounded, divided, divisible, ended, parted
from nightcrew.databases.strain import Strain
from nightcrew.databases.target import Target, aim
from nightcrew.databases.windows import (
    Pages,
    Window,
    after,
    beyond,
    by_key,
    following,
    onward,
    quiet,
    start,
    to_take,
    whole,
    within,
)
from nightcrew.errors import DatabaseError, PolicyError, SafetyStop, did_you_mean
from nightcrew.gauge import Source
from nightcrew.throttle import Pace

# Rows looked at for one row taken, where a predicate may pass most of them by: it bounds what a statement reads.
_LOOK = 10
_REMEMBERED = 64
_WORDLESS = 10  # times as long as a count may take where it is all that there is
LONGEST_COUNT = 30.0  # seconds a statement may count


class Rows:
    """The `Database` that a link leads to."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._targets: dict[tuple[object, ...], Target] = {}
        self._strains: dict[Pace, Strain] = {}

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self._link.name

    @property
    def losses(self) -> int:
        """Those that anybody who uses the link has come upon."""
        return self._link.losses

    @property
    def most_duty(self) -> float:
        """All of the time, but where others would wait for their turn in vain."""
        return self._link.dialect.most_duty

    def now(self) -> datetime:
        """Return the database's clock, in UTC."""
        return self._link.now()

    @contextmanager
    def transaction(self, pace: Pace = Pace.GENTLE, *, frozen: bool = False) -> Iterator[Connection]:
        """Open a batch's transaction, READ COMMITTED or `frozen` in REPEATABLE READ; its commit awaits no disk."""
        with self._link.transaction(repeatable=True, fast=pace is Pace.FAST) as connection:
            if frozen:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    def freezes(self, selection: Selection) -> bool:
        """Go by what is known of it: it is aimed at by the first batch, which is never even with any before."""
        target = self._known(selection)
        return target is not None and target.freezes

    def catalog(self, names: Iterable[str]) -> Catalog:
        """Read of the live catalog what these tables are, and what hangs on them."""
        with self._link.transaction(writes=False) as connection:
            return read(connection, self._link.dialect, names)

    def survey(self, selection: Selection) -> Survey:
        """Count what `selection` holds, in a transaction that can change nothing; what takes long is estimated."""
        begun = self._link.monotonic()
        try:
            return self._counted(selection)
        except DatabaseError:
            if self._link.monotonic() - begun < LONGEST_COUNT:
                raise
        return self._expected(selection)

    def _counted(self, selection: Selection) -> Survey:
        with self._link.glimpse(LONGEST_COUNT) as connection:
            target = self.target(connection, selection)
            column, mark = target.reading.column, target.reading.mark
            ends = mark(sa.func.min(column)), mark(sa.func.max(column))
            look = sa.select(sa.func.count(), *ends).select_from(target.table).where(*target.expired)
            rows, oldest, newest = connection.execute(look).one()
            hang = count_hanging(connection, target, selection.drains + selection.cascades, *target.expired)
            loosened = count_loosened(connection, target, *target.expired)
            walk = sa.select(column).where(*target.expired).order_by(column).limit(1000)
            index = self._link.dialect.index_used(connection, walk, selection.table)
        spell = target.reading.spell
        return Survey(
            rows=rows,
            oldest=None if oldest is None else spell(oldest),
            newest=None if newest is None else spell(newest),
            counts={selection.table.name: rows, **hang},
            index=index,
            loosened=loosened,
        )

    def expected(self, selection: Selection, seconds: float, cursor: Cursor | None = None) -> Counted | None:
        """Count what `selection` holds if that takes no longer than so many seconds, else take the planner's word.

        Where the planner has none to give, as in SQLite, the count may take ten times as long.
        """
        with self._link.transaction(writes=False) as connection:
            target = self.target(connection, selection)
            # What has just gone is still in the planner's figures, so it is asked for what comes behind that.
            ahead = sa.select(target.reading.column).where(*onward(target, cursor or {}), *target.expired)
            guess = self._link.dialect.rows_expected(connection, ahead)
        try:
            with self._link.glimpse(seconds if guess is not None else _WORDLESS * seconds) as connection:
                count = sa.select(sa.func.count()).select_from(target.table).where(*target.expired)
                return Counted(connection.execute(count).scalar_one(), exact=True)
        except DatabaseError:
            return None if guess is None else Counted(max(1, guess), exact=False)  # that none is left is never a guess

    def oldest(self, selection: Selection, most: int, seconds: float) -> list[Key]:
        """Return the primary keys of the oldest rows that `selection` holds, unless that takes longer than that."""
        if not selection.table.primary_key:
            return []
        try:
            with self._link.glimpse(seconds) as connection:
                target = self.target(connection, selection)
                key = [target.table.c[name] for name in selection.table.primary_key]
                first = sa.select(*key).where(*target.expired).order_by(target.reading.column, *key).limit(most)
                return [tuple(row) for row in connection.execute(first)]
        except DatabaseError:
            return []

    def shielded(self, selection: Selection, most: int, seconds: float) -> tuple[Shielded, ...]:
        """Find out which rows stay for the shields only, so many by their keys; no count takes longer than that."""
        return tuple(self._shielded(selection, place, most, seconds) for place in range(len(selection.shields)))

    def _shielded(self, selection: Selection, place: int, most: int, seconds: float) -> Shielded:
        shield, rows, keys = selection.shields[place], None, list[Key]()
        try:
            with self._link.glimpse(seconds) as connection:
                target = self.target(connection, selection)
                stay = (*target.due, target.shields[place])
                key = [target.table.c[name] for name in selection.table.primary_key]
                named = sa.select(*key).where(*stay).order_by(target.reading.column, *key).limit(most)
                keys = [tuple(row) for row in connection.execute(named)]
                count = sa.select(sa.func.count()).select_from(target.table).where(*stay)
                rows = connection.execute(count).scalar_one()
        except DatabaseError:
            pass  # what is known by then is said
        return Shielded(shield, rows, tuple(keys))

    def partitions(self, selection: Selection) -> tuple[Partition, ...]:
        """Return the partitions whose rows have all expired, oldest first."""
        with self._link.transaction(writes=False) as connection:
            divided = self._divided(connection, selection)
            return tuple(self._link.dialect.partitions(connection, divided)) if divided else ()

    def drop(
        self, connection: Connection, selection: Selection, partition: Partition, allow: Callable[[int], None]
    ) -> Counted | None:
        """Drop one of them, unless it holds a row that stays by now."""
        divided = self._divided(connection, selection)
        return self._link.dialect.drop(connection, divided, partition, allow) if divided else None

    def _divided(self, connection: sa.Connection, selection: Selection) -> Divided | None:
        column = selection.table.columns[selection.column]
        relation = self._link.dialect.relation(connection, *split(selection.table.name))
        reading = self.target(connection, selection).reading
        leads = selection.table.leads(column.name)
        return Divided(relation, reading, column.name, column.kind, leads) if relation else None

    def _expected(self, selection: Selection) -> Survey:
        """Ask the planner what it expects."""
        estimate = self._link.dialect.estimate
        with self._link.glimpse(LONGEST_COUNT) as connection:
            target = self.target(connection, selection)
            own = estimate(connection, sa.select(sa.literal(1)).select_from(target.table).where(*target.expired))
            if own is None:
                raise SafetyStop(
                    f"counting rows of {selection.table.name} takes longer than {LONGEST_COUNT:g} s, and this database"
                    " has no estimate: give the job an index, or say max_fraction = 1 and leave max_rows out"
                )
            hang = hanging(target, selection.drains + selection.cascades, *target.expired)
            counts = {name: estimate(connection, rows) or 0 for name, rows in hang.items()}
        return Survey(own, None, None, {selection.table.name: own, **counts}, None, exact=False)

    def size(self, table: str, most: int) -> int:
        """Count a table's rows up to so many; it is estimated where that takes long."""
        every = sa.select(sa.literal(1).label("one")).select_from(source(table, ()))
        begun = self._link.monotonic()
        try:
            with self._link.glimpse(LONGEST_COUNT) as connection:
                some = every.limit(most).subquery()
                rows: int = connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
                return rows
        except DatabaseError:
            if self._link.monotonic() - begun < LONGEST_COUNT:
                raise
        with self._link.glimpse(LONGEST_COUNT) as connection:
            return min(most, self._link.dialect.estimate(connection, every) or 0)

    def watched(self, connection: Connection, table: str) -> AbstractContextManager[dict[str, int]]:
        """Let the database itself count, in the mapping, what rows are removed inside the block, by table."""
        return self._link.dialect.watched(connection, self._link.dialect.relation(connection, *split(table)))

    def gauges(self, pace: Pace) -> tuple[Source, ...]:
        """Return the one gauge of the strain the database is under."""
        if pace not in self._strains:
            self._strains[pace] = Strain(self._link, pace)
        return (self._strains[pace],)

    def ask(self, question: str, seconds: float) -> Any:
        """Return the first value of the first row that an application's own SELECT finds, or None; changes nothing."""
        with self._link.glimpse(seconds) as connection:
            row = connection.execute(sa.text(question.replace(":", r"\:"))).first()
        return None if row is None else row[0]

    def take(
        self,
        connection: Connection,
        selection: Selection,
        cursor: Cursor,
        limit: int,
        most: int = MOST,
        *,
        even: bool = False,
        frozen: bool = False,
    ) -> Taken:
        """Remove (or change) the next rows of `selection`, at most `limit`, inside the caller's transaction.

        With what hangs on them they are at most `most`; of a row that has more, a slice of what hangs on it goes.
        `even` rows are not looked at beforehand, where the database tells afterwards what went with them; raises
        DatabaseError where that is far more, or somebody holds one, and what was taken is to be rolled back. Where the
        transaction is `frozen`, what they owe is read before they go, as it saw it, and none is held for that.
        Every call removes rows, or moves the cursor on, or is the last: whatever others hold or change, it ends.
        """
        target = bounded(self.target(connection, selection), cursor)
        target = replace(target, copies=Copies(self._link.dialect) if selection.archived else None)
        limit = limit if selection.form is Form.LOCKED else min(limit, most)
        limit = min(limit, parcels.MOST if frozen else parcels.FEW) if selection.blobs else limit
        at_once = frozen or target.goes_at_once(even=even)
        place = whole(cursor) if at_once else cursor
        window = to_take(connection, target, place, limit if at_once else _size(selection, limit))
        if window is None:
            return Taken(0, {}, {}, exhausted=True, unsure={} if "page" in cursor else None)
        haul = empty(connection, target, window, limit, most, even=even, frozen=frozen)
        counts = Counter(haul.hanging)
        counts[selection.table.name] += haul.removed
        going_on, kept = _further(connection, target, window, haul, cursor)
        unsure = None if haul.clean else cursor
        if isinstance(window, Pages):
            clean = haul.removed >= haul.seen and quiet(connection, target, window, last=going_on is None)
            unsure = None if clean else {}  # anywhere
        stands, load = ended(going_on or cursor, cursor), max(haul.load, haul.removed)
        copies = target.copies.taken(connection, counts) if target.copies else ()
        counts.update({copy.table: copy.size - counts[copy.table] for copy in copies})  # some came in between two looks
        return Taken(haul.removed, dict(counts), stands, going_on is None, kept, unsure, load, haul.cut, copies)

    def divides(self, selection: Selection) -> bool:
        """Go by what is the limit: a core, or what one walk can fill as well as two, unless it also writes copies."""
        dialect = self._link.dialect
        filled = selection.form in dialect.undivided and not selection.archived
        return divisible(selection) and not (filled or dialect.one_writer)

    def divide(
        self, connection: Connection, selection: Selection, cursor: Cursor, rows: int
    ) -> tuple[Cursor, Cursor] | None:
        """Divide what a walk has ahead of it in two, unless that is less than so many rows."""
        return divided(connection, bounded(self.target(connection, selection), cursor), cursor, rows)

    def part(self, selection: Selection, cursor: Cursor, rows: int, most: int) -> list[Cursor]:
        """Part what a walk has ahead in ranges of about so many rows, `most` at most; in one where it cannot be."""
        parts: list[Cursor] = []
        shared = divisible(selection) and not self._link.dialect.one_writer
        while shared and len(parts) < most - 1:
            with self._link.transaction(writes=False) as connection:
                target = bounded(self.target(connection, selection), cursor)
                two = parted(connection, target, cursor, rows, most - len(parts))
            if two is None:
                break
            parts.append(two[0])
            cursor = two[1]
        return [*parts, cursor]

    def left(self, selection: Selection, cursor: Cursor, limit: int) -> Left:
        """Count what a stretch of `limit` rows from the cursor on still holds of `selection`; waits for nobody."""
        with self._link.transaction(writes=False) as connection:
            target = bounded(self.target(connection, selection), cursor)
            window = following(connection, target, cursor, limit)
            if window is None:
                return Left(0, None, {}, exhausted=True)
            reading = target.reading
            look = sa.select(sa.func.count(), reading.mark(sa.func.min(reading.column))).select_from(target.table)
            rows, first = connection.execute(look.where(*window.bounds(target), *target.expired)).one()
            going_on = after(connection, target, window)
        found = start(target, window, first) if rows else None
        return Left(rows, found, ended(going_on or cursor, cursor), exhausted=going_on is None)

    def nearest(self, selection: Selection, cursor: Cursor, most: int = 1) -> list[Key]:
        """Return the keys of the rows that a batch of at most so many would take at the cursor."""
        with self._link.transaction(writes=False) as connection:
            target = bounded(self.target(connection, selection), cursor)
            window = following(connection, target, cursor, _size(selection, most))
            if window is None:
                return []
            return [tuple(row) for row in connection.execute(next_keys(target, window, most))]

    def target(self, connection: sa.Connection, selection: Selection) -> Target:
        """Aim once a run, for it samples the column; a run is known by its cut, and its walks by what they pass by."""
        if selection.column not in selection.table.columns:
            raise PolicyError(
                f"table {selection.table.name!r} has no column {selection.column!r}"
                f"{did_you_mean(selection.column, selection.table.columns)}"
            )
        target = self._known(selection)
        if target is None:
            check(connection, self._link.dialect, selection)
            target = aim(connection, self._link.dialect, selection)
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            self._targets[_key(selection)] = target
        return target

    def _known(self, selection: Selection) -> Target | None:
        target = self._targets.get(_key(selection))
        return None if target is None or target.selection != selection else target


def _key(selection: Selection) -> tuple[object, ...]:
    """Return what mostly tells one selection from another, and is quickly compared."""
    selected = (selection.table.name, selection.column, selection.cut)
    return (*selected, selection.form, selection.spared, selection.only, selection.living)


def _further(
    connection: sa.Connection, target: Target, window: Window, haul: Haul, cursor: Cursor
) -> tuple[Cursor | None, int]:
    """Return where a walk goes on after a batch, None at its end, and how many of the rows it saw were kept."""
    if haul.begun:
        return within(window, target, haul.last) if isinstance(window, Pages) else cursor, haul.kept
    if haul.through:
        return after(connection, target, window), haul.kept
    if haul.past is not None:
        return by_key(window, target, haul.last, haul.past), haul.kept
    if haul.removed < haul.seen and haul.alike and target.key is not None:
        # Some of a batch of one time stay, because a trigger keeps them or they were refreshed: there may be so
        # many that they hide the others. They are looked at again, and counted then.
        return by_key(window, target, haul.last), 0
    if haul.removed == 0:
        return beyond(connection, target, window, haul.last), haul.kept
    return within(window, target, haul.last, haul.page), haul.kept


def _size(selection: Selection, limit: int) -> int:
    """Return how many rows a window holds for a batch of `limit`."""
    # One less than so many batches, for a batch that is not full ends the window without another look.
    return limit if selection.form is Form.RANGE else limit * _LOOK - 1
