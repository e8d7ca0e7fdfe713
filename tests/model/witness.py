"""A witness of the claim protocol: it holds what the database says after each turn against what was promised."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from tests.model.account import accounted

from nightcrew.bid import early, is_paused
from nightcrew.books import Standing
from nightcrew.claim import Claim
from nightcrew.databases.books import Ledgers
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import runs
from nightcrew.outcome import State
from nightcrew.schedule import Schedule

effects = sa.Table("effects", sa.MetaData(), sa.Column("run", sa.String(150)), sa.Column("batch", sa.Integer))
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
EVERY_ROW = 100_000


class Witness:
    """Knows of each job how it stood before, which slots were claimed, and which must have come to an end."""

    def __init__(self, link: Link, schedules: Iterable[Schedule], batches: int) -> None:
        self._link = link
        self._books = Ledgers(link)
        self._schedules = {schedule.meaning: schedule for schedule in schedules}
        self._batches = batches
        self.before: dict[str, Standing] = {}
        self.lifted = False  # whether somebody ends a pause in this turn
        self.pruned = False
        self._floor: dict[str, datetime] = {}  # up to here no slot of the schedule in force ever existed
        self._owed: dict[str, set[datetime]] = defaultdict(set)
        self._won: set[tuple[str, int]] = set()
        self.begun: set[tuple[str, int]] = set()  # the claims under which work has begun
        self._slots: set[tuple[str, datetime]] = set()

    def holds(self, job: str, fence: int) -> bool:
        """Tell whether a claim was nobody else's when the turn began."""
        standing = self.before[job]
        return standing.fence == fence and standing.owner is not None

    def halted(self, job: str, now: datetime) -> bool:
        """Tell whether nobody may work on a job's run."""
        return is_paused(self.before[job], now) or self.before[job].cancelled

    def gone(self, run: str) -> bool:
        """Tell whether the ledger knows nothing of a run."""
        return self._books.run(run) is None

    def claimed(self, claim: Claim, now: datetime, *, past: bool = False) -> None:
        """Hear of a claim that was won, and see whether it could be."""
        job, before = claim.job, self.before[claim.job.name]
        assert (job.name, claim.fence) not in self._won, "a fence was won twice"
        assert claim.fence > before.fence, "a fence is not newer"
        self._won.add((job.name, claim.fence))
        rests = before.rests and claim.at_once
        assert rests or not is_paused(before._replace(stopped_at=None), now), "a paused job was claimed"
        assert before.run is None or before.left(now), "a lease that holds was taken"
        if claim.resumed:
            return
        assert before.run is None or before.cancelled or self.gone(before.run), "a job was claimed over an open run"
        if claim.slot is not None and not past:
            assert (job.name, claim.slot) not in self._slots, f"slot {claim.slot} was claimed twice"
            assert claim.slot <= now + early(job, now), "a slot was claimed before its time"
            self._slots.add((job.name, claim.slot))

    def prune(self, which: sa.ColumnElement[bool]) -> None:
        """Take rows out of the ledger, and expect nothing of them any more."""
        with self._link.transaction() as connection:
            connection.execute(sa.delete(runs).where(which))
        self.pruned = True
        for job, owed in self._owed.items():
            owed.intersection_update(set(filter(self._known(job), owed)))

    def hold_to_account(self, jobs: Iterable[str], now: datetime) -> tuple[datetime, dict[str, Standing]]:
        """Hold every row against what it was, and everything done against what may be; return how the jobs stand."""
        look = self._books.standings(jobs)
        _, after = look
        for job, standing in after.items():
            before = self.before.get(job)
            if before is None:
                self._floor[job] = standing.epoch_at
                continue
            assert standing.mark == before.mark or standing.mark > (before.mark or LONG_AGO), "a mark went back"
            assert standing.fence >= before.fence, "a fence went back"
            self._count(before, standing)
            if before.paused_at and is_paused(before, now) and not self.lifted:
                assert standing.paused_at, "a pause ended by itself"
            self._owe(job, before, standing)
        self.before, self.lifted = after, False
        with self._link.transaction(writes=False) as connection:
            done = Counter(map(tuple, connection.execute(sa.select(effects.c.run, effects.c.batch))))
            ended = connection.execute(sa.select(runs.c.id).where(runs.c.state == State.DONE)).scalars().all()
        assert not [batch for batch, times in done.items() if times > 1], "a batch was done twice"
        whole = all((run, batch) in done for run in ended for batch in range(self._batches))
        assert whole, "a run ended without all its batches"
        return look

    def hold_to_the_end(self, jobs: Iterable[str]) -> None:
        """See that nothing is open any more, and that nothing was forgotten."""
        for job in jobs:
            assert self.before[job].run is None, "a run sticks"
            rows = self._books.runs(job, limit=EVERY_ROW)
            assert not [row for row in rows if row.state.open], "a run is open that nobody is to go on with"
            known = accounted(rows)
            assert all(known(slot) for slot in self._owed[job]), "a slot has gone from the ledger"

    def _count(self, before: Standing, after: Standing) -> None:
        """See that of the open run those attempts are counted which began and were lost, and none is forgotten."""
        if after.run is None or after.run != before.run:
            return
        taken = after.fence > before.fence and before.owner is not None
        lost = taken and (before.job, before.fence) in self.begun
        assert after.attempt == before.attempt + lost, "an attempt was counted that was none, or one was not"

    def _owe(self, job: str, before: Standing, after: Standing) -> None:
        """Note which slots were passed over by now, and see that the ledger knows each."""
        passed, mark = set(), before.mark or LONG_AGO
        if after.meaning != before.meaning:
            passed |= self._between(before, self._floor[job], max(after.epoch_at, mark))
            self._floor[job] = max(after.epoch_at, mark)
        passed |= self._between(after, self._floor[job], after.mark or LONG_AGO)
        fresh = passed - self._owed[job]
        if fresh:
            known = self._known(job)
            lost = sorted(slot for slot in fresh if not known(slot))
            assert not lost or self.pruned, f"nothing is said of {job}'s slots {lost}"
            self._owed[job] |= fresh - set(lost)

    def _between(self, standing: Standing, after: datetime, until: datetime) -> set[datetime]:
        return set(self._schedules[standing.meaning].between(after, until)) if after < until else set()

    def _known(self, job: str) -> Callable[[datetime], bool]:
        return accounted(self._books.runs(job, limit=EVERY_ROW))
