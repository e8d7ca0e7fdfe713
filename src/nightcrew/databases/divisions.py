"""The ranges of runs that are cut: each is worked at by one at a time, under a lease of its own.

A batch locks its range's row and no other, so that those of several ranges go on side by side. Whoever takes the run
over, hands it over or ends it retires the ranges in the same transaction, and so waits for every batch under way:
none can commit later. Rows are locked in this order: the job's, its ranges', its run's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Books, Stage
from nightcrew.database import Connection, Cursor
from nightcrew.databases.connect import Instant, Link, micros
from nightcrew.databases.tables import jobs, ranges, runs
from nightcrew.errors import ClaimLost, NightcrewError
from nightcrew.ranges import OUTSIDE, Range

ATTEMPTS = 5  # times a range may be taken without a batch: it must not kill one worker after the other for ever
_NOBODYS = -1  # the fence of a range that belongs to no claim


class Divisions:
    """The `Ranges` of one database."""

    def __init__(self, link: Link, books: Books) -> None:
        self._link = link
        self._books = books
        self._now = sa.type_coerce(sa.literal_column(link.dialect.now), Instant())

    def cut(
        self,
        connection: Connection,
        run: str,
        fence: int,
        so_far: Mapping[str, int],
        parts: Sequence[Cursor],
        table: str,
    ) -> None:
        """Write down the ranges of a run, in the transaction that holds its claim, and what it took before them.

        Its row counts from then on what is taken in all, of the `table` and of those that hang on it.
        """
        self._lock(connection, run)
        same = {"run": run, "fence": fence, "attempt": 0, "doubts": []}
        outside = {"number": OUTSIDE, "first": {}, "cursor": {}, "total": dict(so_far), "finished_at": self._now}
        connection.execute(sa.insert(ranges).values(**same, **outside))
        rows = [{"number": n, "first": dict(one), "cursor": dict(one), "total": {}} for n, one in enumerate(parts, 1)]
        connection.execute(sa.insert(ranges), [same | row for row in rows])
        self._add_up(connection, run, table)

    def take(self, job: str, run: str, fence: int, owner: str, lease: float, first: int | None = None) -> Range | None:
        """Take a range that nobody works at, `first` if that is one; None where there is none.

        Raises ClaimLost and JobPaused for the claim, and NightcrewError for a range that kills whoever takes it.
        """
        free = self._free(run, fence)
        numbers = sa.select(ranges.c.number).where(*free).order_by(_preferring(first), ranges.c.number)
        taken = {"owner": owner, "lease_until": self._later(lease), "attempt": ranges.c.attempt + 1}
        with self._link.transaction() as connection:
            self._books.hold(connection, job, fence, locks=False)
            for number in connection.execute(numbers).scalars().all():
                one = _one(run, number)
                # One at a time: of several that it sorts, MySQL would lock all.
                pick = sa.select(ranges).where(*one, *free).with_for_update(skip_locked=True)
                if (row := connection.execute(pick).first()) is not None:
                    connection.execute(sa.update(ranges).where(*one).values(taken))
                    return _range(job, owner, row)
        return None

    def hold(self, connection: Connection, taken: Range, lease: float) -> None:
        """Keep a range from being taken by another until the transaction it guards has ended, and renew its lease."""
        mine = sa.update(ranges).where(*_mine(taken)).values(lease_until=self._later(lease))
        if connection.execute(mine).rowcount == 0:
            raise _lost(taken)
        self._books.hold(connection, taken.job, taken.fence, locks=False)

    def renew(self, taken: Range, lease: float) -> None:
        """Renew a range's lease between two batches, once what the last one left under way has ended."""
        with self._link.transaction() as connection:
            self.hold(connection, taken, lease)

    def renew_all(self, held: Sequence[Range], lease: float) -> None:
        """Renew the leases of those that are still held and are in no batch, which does it itself."""
        which = sa.tuple_(ranges.c.run, ranges.c.number, ranges.c.owner)
        mine = which.in_([(one.run, one.number, one.owner) for one in held])
        pick = sa.select(ranges.c.run, ranges.c.number).where(mine, ranges.c.finished_at.is_(None))
        pick = pick.order_by(ranges.c.run, ranges.c.number).with_for_update(skip_locked=True)
        with self._link.transaction() as connection:
            for run, number in connection.execute(pick).all():
                renewed = sa.update(ranges).where(*_one(run, number)).values(lease_until=self._later(lease))
                connection.execute(renewed)

    def account(
        self, connection: Connection, run: str, stage: Stage, table: str, lease: float | None = None
    ) -> Counter[str]:
        """Write down where a range stands, and return what the run took in all, which is in its row from then on.

        The run's row is locked before its ranges are added up: every batch before has committed, and none can by the
        side.
        """
        self._lock(connection, run)
        stands: dict[str, Any] = {"cursor": dict(stage.cursor), "total": dict(stage.total)}
        if lease is not None:
            stands |= {"attempt": 0, "lease_until": self._later(lease)}
        connection.execute(sa.update(ranges).where(*_one(run, stage.number)).values(stands))
        return self._add_up(connection, run, table)

    def _add_up(self, connection: sa.Connection, run: str, table: str) -> Counter[str]:
        each = connection.execute(sa.select(ranges.c.total).where(ranges.c.run == run)).scalars()
        total = sum(map(Counter, each), Counter[str]())
        in_all = {"counts": dict(total), "deleted": total[table]}
        connection.execute(sa.update(runs).where(runs.c.id == run).values(in_all))
        return total

    def stage(self, run: str, number: int) -> Stage:
        """Return where a range stands."""
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(ranges).where(*_one(run, number))).one()
        return Stage(row.cursor, row.total, number)

    def finish(self, taken: Range, doubts: Sequence[Cursor]) -> None:
        """Note that a range is at its end, and where somebody has to look again."""
        ended = {"finished_at": self._now, "owner": None, "lease_until": None, "doubts": list(map(dict, doubts))}
        with self._link.transaction() as connection:
            if connection.execute(sa.update(ranges).where(*_mine(taken)).values(ended)).rowcount == 0:
                raise _lost(taken)

    def close(self, job: str, run: str, fence: int, owner: str) -> list[Cursor] | None:
        """Return where to look again once all ranges are at their ends, to the first who asks under a fence.

        None while some are not, and to everybody else.
        """
        outside = _one(run, OUTSIDE)
        first = sa.update(ranges).where(*outside, sa.or_(ranges.c.fence != fence, ranges.c.owner.is_(None)))
        with self._link.transaction() as connection:
            self._books.hold(connection, job, fence, locks=False)
            if connection.execute(_open(run)).first() is not None:
                return None
            if connection.execute(first.values(fence=fence, owner=owner)).rowcount == 0:
                return None
            each = connection.execute(sa.select(ranges.c.doubts).where(ranges.c.run == run).order_by(ranges.c.number))
            return [cursor for doubts in each.scalars() for cursor in doubts]

    def leave(self, taken: Range) -> None:
        """Leave a range to whoever comes next, unless somebody has it by now; nobody was killed by it."""
        attempt = sa.case((ranges.c.attempt > 0, ranges.c.attempt - 1), else_=0)
        left = sa.update(ranges).where(*_mine(taken)).values(owner=None, lease_until=None, attempt=attempt)
        with self._link.transaction() as connection:
            connection.execute(left)

    def free(self, run: str, fence: int) -> list[int]:
        """Return the numbers of the ranges that nobody works at."""
        free = sa.select(ranges.c.number).where(*self._free(run, fence)).order_by(ranges.c.number)
        with self._link.transaction(writes=False) as connection:
            return list(connection.execute(free).scalars())

    def manned(self, run: str) -> bool:
        """Tell whether anybody works at a range of a run."""
        manned = _open(run).where(ranges.c.owner.is_not(None), ranges.c.lease_until >= self._now)
        with self._link.transaction(writes=False) as connection:
            return connection.execute(manned).first() is not None

    def dissolve(self, connection: Connection, run: str) -> None:
        """End all ranges where they stand, for whoever holds the claim to go through what they leave by itself."""
        retire(connection, run, _NOBODYS)
        ended = {"finished_at": self._now, "doubts": [{}]}
        connection.execute(sa.update(ranges).where(ranges.c.run == run).values(ended))

    def adrift(self) -> list[tuple[str, str]]:
        """Return (job, run) of those runs under way that have a range which nobody works at."""
        found = (
            sa.select(jobs.c.name, jobs.c.run).join(ranges, sa.and_(*self._free(jobs.c.run, jobs.c.fence))).distinct()
        )
        held = jobs.c.owner.is_not(None), jobs.c.lease_until >= self._now, jobs.c.paused_at.is_(None)
        with self._link.transaction(writes=False) as connection:
            return [(row.name, row.run) for row in connection.execute(found.where(*held).order_by(jobs.c.name))]

    def _lock(self, connection: sa.Connection, run: str) -> None:
        connection.execute(sa.select(runs.c.id).where(runs.c.id == run).with_for_update(key_share=True)).one()

    def _free(self, run: Any, fence: Any) -> tuple[sa.ColumnElement[bool], ...]:
        nobodys = sa.or_(ranges.c.owner.is_(None), ranges.c.lease_until < self._now)
        return ranges.c.run == run, ranges.c.fence == fence, ranges.c.finished_at.is_(None), nobodys

    def _later(self, seconds: float) -> Any:
        return sa.type_coerce(sa.literal_column(self._link.dialect.later.format(micros=micros(seconds))), Instant())


def retire(connection: sa.Connection, run: str, fence: int = _NOBODYS) -> None:
    """Take every range that is not at its end from whoever works at it, once their batches have ended.

    They are free under the fence; without one, for nobody until the run is taken over.
    """
    open_ones = sa.update(ranges).where(ranges.c.run == run, ranges.c.finished_at.is_(None))
    connection.execute(open_ones.values(fence=fence, owner=None, lease_until=None))


def is_held(connection: sa.Connection, job: str, run: str | None = None) -> bool:
    """Tell whether somebody's transaction holds a job's row, or one of the ranges of its run; else they are ours now.

    A process that was frozen in a batch does so for as long as its server lets it.
    """
    free = sa.select(jobs.c.name).where(jobs.c.name == job).with_for_update(skip_locked=True)
    if connection.execute(free).first() is None:
        return True
    each = sa.select(ranges.c.number).where(ranges.c.run == run, ranges.c.finished_at.is_(None))
    every_one = set() if run is None else set(connection.execute(each).scalars())
    return bool(every_one) and every_one > set(connection.execute(each.with_for_update(skip_locked=True)).scalars())


def is_cut(connection: sa.Connection, run: str) -> bool:
    """Tell whether a run has ranges."""
    return connection.execute(sa.select(ranges.c.run).where(ranges.c.run == run).limit(1)).first() is not None


def _open(run: str) -> sa.Select[Any]:
    return sa.select(ranges.c.number).where(ranges.c.run == run, ranges.c.finished_at.is_(None)).limit(1)


def _preferring(number: int | None) -> sa.ColumnElement[int]:
    return sa.case((ranges.c.number == number, 0), else_=1)


def _range(job: str, owner: str, row: Any) -> Range:
    """Return a range as it is when it is taken; raises NightcrewError for one that kills whoever takes it."""
    if row.attempt >= ATTEMPTS:
        raise NightcrewError(f"range {row.number} of run {row.run} was lost {row.attempt} times without a batch")
    stage = Stage(row.cursor, row.total, row.number)
    return Range(job, row.run, row.number, row.fence, owner, row.first, stage, row.attempt)


def _one(run: str, number: int | None) -> tuple[sa.ColumnElement[bool], ...]:
    return ranges.c.run == run, ranges.c.number == number


def _mine(taken: Range) -> tuple[sa.ColumnElement[bool], ...]:
    one = _one(taken.run, taken.number)
    return (*one, ranges.c.fence == taken.fence, ranges.c.owner == taken.owner, ranges.c.finished_at.is_(None))


def _lost(taken: Range) -> ClaimLost:
    return ClaimLost(f"range {taken.number} of run {taken.run} is somebody else's by now")
