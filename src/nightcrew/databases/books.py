"""nightcrew's own tables: the claim protocol's statements, the runs, and the ledger's entries.

The protocol (row compare-and-set, persisted mark, fence, lease, database clock) is the one modelled and raced in
docs/protocol.md. Every decision is made on the job's own row, so that no join can show an old snapshot.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from nightcrew.books import (
    Batch,
    Bid,
    Bidder,
    Checkpoint,
    Distance,
    Finished,
    Registration,
    RunRow,
    Sequel,
    Settled,
    Stage,
    Standing,
    Won,
    cancelled,
)
from nightcrew.database import Connection
from nightcrew.databases import checkpoints, endings, history, pauses, registrations, standings
from nightcrew.databases.bids import begin, note, remark, win
from nightcrew.databases.connect import Link
from nightcrew.databases.divisions import is_held, retire
from nightcrew.databases.guests import lent
from nightcrew.databases.listed import parts
from nightcrew.databases.stages import stages
from nightcrew.databases.tables import entries, jobs, place, runs
from nightcrew.errors import ClaimLost, DatabaseError, JobPaused, RunCancelled
from nightcrew.outcome import State

_WORDS = (
    jobs.c.run,
    *(jobs.c.cancelled_run, jobs.c.cancelled_by, jobs.c.cancelled_reason),
    *(jobs.c.paused_by, jobs.c.paused_reason),
)


class Ledgers:
    """The `Books` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._now = link.moment
        self._later = link.later

    def is_away(self, error: BaseException) -> bool:
        """Tell whether an error says that this database is out of reach, and not that another is."""
        return isinstance(error, DatabaseError) and error.away and error.link is self._link

    # ── standings ────────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, given: Sequence[Registration]) -> None:
        """Make sure every job has its row; a new one fires nothing that was due before now."""
        registrations.register(self._link, given)

    def reschedule(
        self,
        standing: Standing,
        registration: Registration,
        seen: datetime,
        unrun: RunRow | None,
        *,
        waits: bool = True,
    ) -> bool:
        """Give a job another schedule from when its row was `seen` on; False when the row has changed since.

        It fires nothing that was due before. Slots of the old one that nobody had run yet end as the row `unrun`.
        """
        return registrations.reschedule(self._link, standing, registration, seen, unrun, waits=waits)

    def challenge(self, asked: Sequence[tuple[Standing, str]]) -> None:
        """Ask whether any crew has the schedules in force, for those that would take their places; does not wait."""
        registrations.challenge(self._link, asked)

    def answer(self, asked: Sequence[Standing]) -> None:
        """Say that some crew has the schedules in force; does not wait."""
        registrations.answer(self._link, asked)

    def standings(self, names: Iterable[str] | None = None) -> tuple[datetime, dict[str, Standing]]:
        """Read the database's clock and the standings in one statement; raises RowLost for a name that has no row."""
        return standings.named(self._link, names)

    def stirring(self, names: Sequence[str]) -> tuple[datetime, float, dict[str, Standing]]:
        """Read the same of these jobs, and of every one that somebody waits for, whatever its schedule says.

        Also returns the monotonic instant at which the database's clock was known.
        """
        return standings.stirring(self._link, names)

    def pause(self, job: str, by: str, reason: str, until: datetime | None) -> None:
        """Keep every trigger from claiming this job's slots."""
        pauses.begin(self._link, job, by, reason, until)

    def resume(
        self, standing: Standing, skipped: Sequence[RunRow], mark: datetime | None, *, waits: bool = True
    ) -> bool:
        """End a pause, record its slots and move the mark past them, at once; False when the standing has changed."""
        return pauses.end(self._link, standing, skipped, mark, waits=waits)

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, bids: Sequence[Bid], bidder: Bidder, early: float = 0.0) -> list[Won]:
        """Claim all slots that are still free, in one statement; `early` is how many seconds ahead of one is allowed.

        A lost race is a quiet value: whatever was not won is not in the answer.
        """
        try:
            with self._link.transaction() as connection:
                won = win(connection, self._link, bids, bidder, early)
                by_job = {bid.job: bid for bid in bids if bid.remarks or bid.lapsed}
                begun = [by_job[one.job] for one in won if one.job in by_job] if by_job else []
                remark(connection, self._link, begun)
                note(connection, self._now, [row for bid in begun for row in bid.lapsed])
            return won
        except DatabaseError as error:
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                return self._claim_around_known_runs(bids, bidder, early)
            if error.transient and not error.away:
                return []
            raise

    def _claim_around_known_runs(self, bids: Sequence[Bid], bidder: Bidder, early: float) -> list[Won]:
        """Claim one by one; a slot whose run already stands in the ledger (a restored job row) is marked as done."""
        if len(bids) > 1:
            return [won for bid in bids for won in self.claim([bid], bidder, early)]
        (bid,) = bids
        if bid.slot is None:  # it belongs to no slot, and moves no mark
            return []
        known = sa.update(jobs).where(jobs.c.name == bid.job, jobs.c.fence == bid.fence)
        with self._link.transaction() as connection:
            connection.execute(known.values(mark=bid.slot, fence=jobs.c.fence + 1))
        return []

    def take_over(self, standing: Standing, bidder: Bidder) -> Won | None:
        """Take an open run whose lease has expired, or that was handed over, or (`failed_run`) that failed."""
        run = str(standing.run or standing.failed_run)
        left = sa.and_(jobs.c.run == run, sa.or_(jobs.c.owner.is_(None), jobs.c.lease_until < self._now))
        free = left if standing.run else sa.and_(jobs.c.run.is_(None), jobs.c.failed_run == run)
        lost = sa.and_(jobs.c.owner.is_not(None), jobs.c.begun == standing.fence)
        taken = {
            "attempt": jobs.c.attempt + sa.case((lost, 1), else_=0),  # of whoever had it: before the next has
            "fence": jobs.c.fence + 1,
            "run": run,
            "owner": bidder.owner,
            "lease_until": self._later(bidder.lease),
            "retry_at": None,
        }
        same = (
            jobs.c.name == standing.job,
            jobs.c.fence == standing.fence,
            jobs.c.paused_at.is_(None),
            _uncancelled(),
            # An attempt that has failed since the look has changed no fence, and is not tried again at once.
            jobs.c.failures == standing.failures,
        )
        taken_over = sa.update(jobs).where(*same, free).ordered_values(*taken.items())
        try:
            with self._link.transaction() as connection:
                if not bidder.waits and is_held(connection, standing.job, run):
                    return None
                if connection.execute(taken_over).rowcount == 0:
                    return None
                retire(connection, run, standing.fence + 1)
                return self._reopen(connection, standing, run, bidder)
        except DatabaseError as error:
            if error.transient and not error.away:
                return None
            raise

    def claim_past(self, standing: Standing, bid: Bid, bidder: Bidder) -> Won | None:
        """Claim a slot before the mark, which stays; a run that it has had is opened again."""
        same = (jobs.c.name == bid.job, jobs.c.fence == bid.fence, jobs.c.run.is_(None), jobs.c.paused_at.is_(None))
        taken = {"run": bid.run, "owner": bidder.owner, "lease_until": self._later(bidder.lease), "attempt": 0}
        known = sa.select(runs.c.id).where(runs.c.id == bid.run)
        try:
            with self._link.transaction() as connection:
                one = sa.update(jobs).where(*same).values({"fence": jobs.c.fence + 1, **taken})
                if connection.execute(one).rowcount == 0:
                    return None
                if connection.execute(known).first() is not None:
                    return self._reopen(connection, standing, bid.run, bidder)
                now = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
                won = Won(bid.job, bid.run, bid.fence + 1, now)
                begin(connection, self._link, bid, won.moment, bidder)
                return won
        except DatabaseError as error:
            if error.transient and not error.away:
                return None
            raise

    def _reopen(self, connection: sa.Connection, standing: Standing, run: str, bidder: Bidder) -> Won | None:
        fence = standing.fence + 1
        row = connection.execute(sa.select(runs.c.moment).where(runs.c.id == run)).one_or_none()
        if row is None:  # pruned by hand meanwhile: there is nothing left to go on with
            connection.execute(sa.update(jobs).where(jobs.c.name == standing.job).values(endings.OVER))
            return None
        going = {"state": State.RUNNING, "fence": fence, "owner": bidder.owner, "finished_at": None, "error": None}
        connection.execute(sa.update(runs).where(runs.c.id == run).values(going))
        self.append(connection, run, "taken_over", {"trigger": bidder.trigger, "from": standing.owner})
        return Won(standing.job, run, fence, row.moment, standing.failures)

    def begin(self, job: str, fence: int, run: str, lease: float) -> None:
        """Note that work begins, and renew the lease; raises ClaimLost for a superseded fence.

        It is an attempt if nobody sees its end. A run that never began when its process died has cost nobody anything.
        """
        held = sa.update(jobs).where(*self._held(job, fence), self._running())
        begun = {"begun": fence, "lease_until": self._later(lease)}
        attempt = sa.select(jobs.c.attempt + jobs.c.failures + 1).where(jobs.c.name == job).scalar_subquery()
        with self._link.transaction(repeatable=True) as connection:
            if connection.execute(held.values(begun)).rowcount == 0:
                raise self._why_not(connection, job, fence)
            connection.execute(sa.update(runs).where(runs.c.id == run).values(attempt=attempt))

    def hold(self, connection: Connection, job: str, fence: int, *, locks: bool = True) -> None:
        """Keep a claim from being taken over, or its job from being paused, until the transaction it guards has ended.

        One that does not lock it is only told how it stands. Raises ClaimLost for a superseded fence, RunCancelled when
        the run was cancelled, and JobPaused when the job was paused, or every sweep stopped.
        """
        held = sa.select(jobs.c.fence).where(*self._held(job, fence), self._running())
        if connection.execute(held.with_for_update(read=True) if locks else held).first() is None:
            raise self._why_not(connection, job, fence)

    def renew(self, connection: Connection | None, job: str, fence: int, lease: float) -> None:
        """Renew a lease, in the given transaction or its own, once nobody holds the claim; raises as `hold` does."""
        if connection is None:
            with self._link.transaction(repeatable=True) as own:
                self.renew(own, job, fence, lease)
            return
        held = sa.update(jobs).where(*self._held(job, fence), self._running())
        if connection.execute(held.values(lease_until=self._later(lease))).rowcount == 0:
            raise self._why_not(connection, job, fence)

    @staticmethod
    def _held(job: str, fence: int) -> tuple[sa.ColumnElement[bool], ...]:
        return jobs.c.name == job, jobs.c.fence == fence, jobs.c.owner.is_not(None)

    def _running(self) -> sa.ColumnElement[bool]:
        """Return the predicate that the run was not cancelled, and neither a pause nor a stop of all is in force."""
        stopped = sa.exists().where(place.c.stopped_at.is_not(None))
        awake = sa.or_(jobs.c.paused_at.is_(None), jobs.c.paused_until <= self._now)
        return sa.and_(_uncancelled(), awake, ~stopped)

    def _why_not(self, connection: sa.Connection, job: str, fence: int) -> ClaimLost | JobPaused | RunCancelled:
        """Say why a claim could not be held, or its lease renewed."""
        look = sa.select(*_WORDS, *standings.stop()).where(*self._held(job, fence))
        row = connection.execute(look).first()
        return _lost(job, fence) if row is None else _halt(row)

    def halted(self, job: str, fence: int) -> ClaimLost | JobPaused | RunCancelled | None:
        """Return why work under a claim has to stop, as `hold` would raise it, where it has to; changes nothing."""
        with self._link.transaction(writes=False) as connection:
            return self._halted(connection, job, fence)

    def _halted(self, connection: sa.Connection, job: str, fence: int) -> ClaimLost | JobPaused | RunCancelled | None:
        look = sa.select(self._running().label("running"), *_WORDS, *standings.stop()).where(*self._held(job, fence))
        row = connection.execute(look).first()
        if row is None:
            return _lost(job, fence)
        return None if row.running else _halt(row)

    def renew_all(self, held: Sequence[tuple[str, int]], lease: float) -> set[tuple[str, int]]:
        """Renew many leases in few statements; return those (job, fence) that were renewed.

        A row that a batch of ours holds is passed over: its sweep renews it between two batches.
        """
        return set().union(*(self._renewed(part, lease) for part in parts(held)))

    def _renewed(self, held: Sequence[tuple[str, int]], lease: float) -> set[tuple[str, int]]:
        mine = sa.tuple_(jobs.c.name, jobs.c.fence).in_(list(held))
        pick = sa.select(jobs.c.name).where(mine).order_by(jobs.c.name).with_for_update(skip_locked=True)
        with self._link.transaction() as connection:
            free = connection.execute(pick).scalars().all()
            held_still = jobs.c.owner.is_not(None)
            renewed = sa.update(jobs).where(jobs.c.name.in_(free), mine, held_still)
            connection.execute(renewed.values(lease_until=self._later(lease)))
            kept = sa.select(jobs.c.name, jobs.c.fence).where(jobs.c.name.in_(free), mine, held_still)
            return {(row.name, row.fence) for row in connection.execute(kept)}

    def settle(self, job: str, fence: int, row: RunRow, sequel: Sequel, *, cut: bool = False) -> Settled | None:
        """Close the run, or hand it over (partial), from then on (retrying); None when a newer fence exists.

        The batches of one that may be `cut` keep count in its row, and none of them commits later.
        """
        with self._link.transaction() as connection:
            return endings.settle(connection, self._link, fence, row, sequel, cut=cut)

    def settle_done(self, ended: Sequence[Finished]) -> set[tuple[str, int]]:
        """Close runs that are done under these fences, all at once; return those (job, fence) that were the newest."""
        in_order = sorted(ended, key=attrgetter("job"))
        with self._link.transaction() as connection:
            done = (endings.settle_done(connection, self._link, part) for part in parts(in_order))
            return set().union(*done)

    def cancel(self, job: str, run: str, by: str, reason: str) -> bool:
        """Let an open run end where it is, and nobody go on with it; False when the job has no such run open."""
        with self._link.transaction() as connection:
            return endings.cancel(connection, self._link, job, run, (by, reason))

    def close(self, standing: Standing, row: RunRow, sequel: Sequel) -> Settled | None:
        """Close, as the row says, an open run that nobody holds; None when the standing has changed; does not wait."""
        with self._link.transaction() as connection:
            return endings.close(connection, self._link, standing, row, sequel)

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, connection: Connection | None, run: str, kind: str, facts: Mapping[str, Any]) -> None:
        """Add a ledger entry, in the given transaction or its own."""
        entry = sa.insert(entries).values(run=run, at=self._now, kind=kind, facts=dict(facts))
        if connection is not None:
            connection.execute(entry)
            return
        with self._link.transaction() as own:
            own.execute(entry)

    def progress(self, run: str) -> tuple[Stage, ...]:
        """Return where a run's batches stand: in the one range there is, or in each of several."""
        return stages(self._link, run)

    def noted(self, run: str, kind: str) -> Mapping[str, Any] | None:
        """Return the facts of a run's newest entry of a kind."""
        return history.noted(self._link, run, kind)

    def batches(self, run: str, most: int) -> list[Batch]:
        """Return a run's newest batches, so many at most, the oldest of them first."""
        return history.batches(self._link, run, most)

    def runs(self, job: str | None = None, states: Iterable[State] = (), limit: int = 20) -> list[RunRow]:
        """Return the newest runs first."""
        return history.newest(self._link, job, list(states), limit)

    def latest(self, job: str | None = None) -> dict[str, RunRow]:
        """Return the newest run of every job, or of one; slots that nobody ran are not runs."""
        return history.latest(self._link, job)

    def accounts(self, job: str, since: datetime, until: datetime) -> list[RunRow]:
        """Return what is known of a job's slots from one instant to another, in 5,000 rows at most."""
        return history.accounts(self._link, job, since, until)

    def run(self, run: str) -> RunRow | None:
        """Return one run."""
        return history.one(self._link, run)

    def entries(self, run: str, limit: int = 1000) -> list[Mapping[str, Any]]:
        """Return a run's ledger entries, oldest first."""
        return history.of_run(self._link, run, limit)

    # ── how far a function is ────────────────────────────────────────────────────────────────────────────────────

    def save(self, connection: object, won: Won, point: Checkpoint, lease: float) -> None:
        """Keep where a function stands, in the given transaction or its own, and renew the lease; raises as `renew`.

        Of a job that is paused it is kept, too, and JobPaused raised then.
        """
        with self._link.transaction() if connection is None else lent(self._link, connection, "checkpoint") as going:
            held = sa.update(jobs).where(*self._held(won.job, won.fence))
            if going.execute(held.values(lease_until=self._later(lease))).rowcount == 0:
                raise _lost(won.job, won.fence)
            checkpoints.write(going, won.run, point)
            halt = self._halted(going, won.job, won.fence)
        if halt is not None:
            raise halt

    def saved(self, run: str) -> Checkpoint:
        """Return where the function that a run calls stood when it last said so."""
        return checkpoints.read(self._link, run)

    def came(self, distances: Mapping[str, Distance]) -> None:
        """Note how far runs have come, except where somebody holds their rows."""
        checkpoints.note(self._link, distances)


def _lost(job: str, fence: int) -> ClaimLost:
    return ClaimLost(f"job {job!r}: another crew holds a newer fence than {fence}")


def _uncancelled() -> sa.ColumnElement[bool]:
    """Return the predicate that a job's open run, or the next one, was not cancelled: another one may have been."""
    return sa.or_(jobs.c.cancelled_run.is_(None), jobs.c.run.is_(None), jobs.c.cancelled_run != jobs.c.run)


def _halt(row: Any) -> JobPaused | RunCancelled:
    if row.cancelled_run is not None and row.cancelled_run == row.run:
        return RunCancelled(cancelled(row.cancelled_by, row.cancelled_reason))
    if row.stopped_at is not None:
        return JobPaused(f"every job is stopped by {row.stopped_by}: {row.stopped_reason}")
    return JobPaused(f"paused by {row.paused_by}: {row.paused_reason}")
