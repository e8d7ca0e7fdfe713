"""Slot → Claim (lease, fence, moment), or nothing if it is taken."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event

from nightcrew.bid import (
    MOST_EARLY,
    between_attempts,
    bid_for,
    check_existed,
    early,
    is_paused,
    lapsed,
    run_id,
    slot_asked_for,
    slot_due,
)
from nightcrew.books import Bid, Bidder, Books, Ranges, Remark, Stage, Standing, Won, altogether
from nightcrew.caller import DRIFT, Caller, drift
from nightcrew.clock import Clock
from nightcrew.errors import DatabaseError
from nightcrew.failsafe import FAILSAFE
from nightcrew.heartbeat import Heartbeat
from nightcrew.job import Job
from nightcrew.outcome import Outcome, State

LEASE = 60.0  # seconds; renewed every third of it, so a dead holder is replaced within a minute
LOSSES = 5  # leases a run may lose before it is buried: a batch that kills its process must not do so for ever
INSIDE = "ticker"  # what the in-process scheduler calls itself
_REMARKS = (FAILSAFE, DRIFT)  # kinds of them


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one slot (None: by hand) of a job, as long as no newer fence exists.

    `moment` is the database's clock when the run was first claimed: every cutoff of the run derives from it.
    `resumed` says that somebody else began the run; the `stages` are how far it had come. Whoever asks for it
    `at_once` is not held to the job's window. `plan` is the ID of the plan that it is to carry out. The `remarks`
    tell how the run came about. Who has `joined` works at a run that somebody else holds, and is `called` to a range.
    """

    job: Job
    won: Won
    slot: datetime | None
    bidder: Bidder
    stages: tuple[Stage, ...] = (Stage(),)
    resumed: bool = False
    at_once: bool = False
    plan: str | None = None
    remarks: tuple[Remark, ...] = ()
    joined: bool = False
    called: int | None = None

    @classmethod
    def of(cls, job: Job, bid: Bid, won: Won, bidder: Bidder) -> "Claim":
        """Return what a bid has won."""
        bidder = replace(bidder, trigger=bid.trigger or bidder.trigger)
        return cls(job, won, bid.slot, bidder, remarks=bid.remarks)

    @property
    def counts(self) -> Mapping[str, int]:
        """The rows per table that the run had taken before."""
        return altogether(self.stages)

    @property
    def late_by(self) -> timedelta | None:
        """How long after its slot the run was claimed, below zero before it; None by hand."""
        return None if self.slot is None else self.moment - self.slot

    @property
    def cut(self) -> bool:
        """Whether the run has ranges that many workers share."""
        return self.stages[0].number is not None

    def stage(self, number: int) -> Stage:
        """Return how far a walk had come."""
        place = number if self.cut else number - 1
        return self.stages[place] if place < len(self.stages) else Stage()

    @property
    def run(self) -> str:
        """The run's id in the ledger."""
        return self.won.run

    @property
    def fence(self) -> int:
        """The number that a newer claim will exceed."""
        return self.won.fence

    @property
    def moment(self) -> datetime:
        """The database's clock when the run was first claimed."""
        return self.won.moment


@dataclass(frozen=True, slots=True)
class Taken:
    """Why a slot cannot be claimed, which is no error: who else has it, had it, or keeps everybody from it.

    Only of a run that failed are there `details`: its error's last line; and `retry_at` where it is tried again. The
    `remarks` are on whoever asked.
    """

    outcome: Outcome
    message: str
    run: str | None = None
    slot: datetime | None = None
    details: str | None = None
    remarks: tuple[Remark, ...] = ()
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """Who asks for a job, and what they want of it as it stands; `at_once` whatever its window says."""

    bidder: Bidder
    wanted: Callable[[Standing, datetime], Bid | Taken]
    at_once: bool = False


class Claims:
    """The claims of one process: how it wins them, and one heartbeat that renews all it holds."""

    def __init__(self, books: Books, ranges: Ranges, clock: Clock, lease: float = LEASE) -> None:
        self._books = books
        self._clock = clock
        self._owner = clock.token()
        self.heartbeat = Heartbeat(books, ranges, clock, lease)
        self.lease = lease

    @property
    def held(self) -> list[str]:
        """The jobs that this process holds a claim of, by name."""
        return self.heartbeat.held

    def due(self, jobs: Iterable[Job], trigger: str, *, start: bool = False) -> list[Claim]:
        """Claim every slot that is due and free, all in one statement, and every run that was left open.

        With `start`, jobs that run on start also get their latest slot if it was due before they were registered.
        """
        claims: list[Claim] = []
        try:
            for claim in self._due(jobs, self._bidder(trigger, Caller()), start=start):
                self._hold(claim)
                claims.append(claim)
        except BaseException:  # what nobody will carry out must not be renewed for ever
            for claim in claims:
                self._give_back(claim)
            raise
        return claims

    def _due(self, jobs: Iterable[Job], bidder: Bidder, *, start: bool) -> Iterator[Claim]:
        enabled = {job.name: job for job in jobs if job.enabled}
        now, standings = self._books.standings(enabled)
        bids: list[Bid] = []
        inside = bidder.trigger == INSIDE
        for name, standing in standings.items():
            job = enabled[name]
            ahead = timedelta(0) if inside else early(job, now)
            if is_paused(standing, now):
                continue
            if standing.paused_at is not None:
                self.end_pause(job, standing, standing.paused_until or now)
            elif (job.window is not None and job.window.closes(now, ahead) is None) or between_attempts(standing, now):
                continue
            elif standing.run is not None:
                reopened = self._left_open(job, standing, now, bidder)
                if isinstance(reopened, Claim):
                    yield reopened
            elif (bid := bid_for(job, standing, now + ahead, inside=inside, start=start)) is not None:
                bids.append(bid)
        if bids:
            by_job = {bid.job: bid for bid in bids}
            most_early = 0.0 if inside else MOST_EARLY.total_seconds()
            won = self._books.claim(bids, bidder, most_early)
            yield from [Claim.of(enabled[one.job], by_job[one.job], one, bidder) for one in won]

    def of_slot(
        self, job: Job, trigger: str, caller: Caller | str | None, slot: datetime | None = None
    ) -> Claim | Taken:
        """Claim the job's latest slot, or the one that `slot` falls into, whoever asks; lost races are asked again.

        Nothing is claimed outside of the job's window. That a caller goes by another schedule is remarked. Raises
        UsageError for a naive `slot`, and one that lies in the future or before the job was there.
        """
        who = Caller.of(caller)

        def wanted(standing: Standing, now: datetime) -> Bid | Taken:
            target = slot_asked_for(job, slot, now) if slot else slot_due(job, standing, now + early(job, now))
            if target is None:
                return Taken(Outcome.NOTHING_TO_DO, f"Job {job.name} has never been due yet.")
            run = run_id(job, target)
            if slot is not None and self._books.run(run) is None:
                check_existed(job, target, standing, now)
            remarks = drift(job, who, slot, now)
            if standing.mark is None or target > standing.mark:
                return Bid(job.name, target, run, standing.fence, lapsed(job, standing, target), remarks=remarks)
            return replace(self._over(run, f"Slot {target:%Y-%m-%d %H:%M:%S}Z", target), remarks=remarks)

        return self._ask(job, _Wish(self._bidder(trigger, who), wanted))

    def join(self, job: Job, run: str, trigger: str, called: int | None = None) -> Claim | None:
        """Work at a run that is cut beside whoever holds it, called to a range perhaps; None where nobody does."""
        now, standings = self._books.standings([job.name])
        standing, row = standings[job.name], self._books.run(run)
        if standing.run != run or standing.owner is None or row is None or is_paused(standing, now):
            return None
        won, stages = Won(job.name, run, standing.fence, row.moment or now), self._books.progress(run)
        bidder = self._bidder(trigger, Caller.of(None))
        by_hand = row.slot is None
        claim = Claim(job, won, row.slot, bidder, stages, resumed=True, at_once=by_hand, joined=True, called=called)
        return self._hold(claim) if claim.cut else None

    def by_hand(self, job: Job, trigger: str, caller: Caller | str | None) -> Claim | Taken:
        """Claim a run that belongs to no slot and moves no mark; for one key of a caller's, once and no more.

        The key makes the run's id, which the ledger has once, whoever and however many ask for it.
        """
        who = Caller.of(caller)
        run = f"{job.name}.manual-{who.token or self._clock.token()[:12]}"

        def wanted(standing: Standing, _now: datetime) -> Bid | Taken:
            known = who.token is not None and self._books.run(run) is not None
            return self._over(run, f"Run {run}", None) if known else Bid(job.name, None, run, standing.fence)

        answer = self._ask(job, _Wish(self._bidder(trigger, who), wanted, at_once=True))
        return replace(answer, at_once=True) if isinstance(answer, Claim) else answer

    def release(self, claim: Claim) -> None:
        """Stop renewing a claim's lease."""
        self.heartbeat.release(claim.job.name, claim.fence, claim.run)

    def end_pause(self, job: Job, standing: Standing, until: datetime) -> bool:
        """Let triggers claim again; the pause's slots end as skipped. False when the standing has changed meanwhile."""
        mark = job.schedule.latest(until)
        return self._books.resume(standing, lapsed(job, standing, job.schedule.after(until)), mark)

    def end_stop(self, job: Job, standing: Standing, until: datetime) -> None:
        """Let the slots that a stop of all kept from running end as skipped, unless a pause of the job did, too."""
        stopped = replace(standing, paused_at=standing.stopped_at, paused_reason=standing.stopped_reason)
        if standing.paused_at is None:
            skipped = lapsed(job, stopped, job.schedule.after(until))
            self._books.resume(standing, skipped, job.schedule.latest(until))

    def _ask(self, job: Job, wish: "_Wish") -> Claim | Taken:
        for attempt in range(5):
            now, standings = self._books.standings([job.name])
            standing = standings[job.name]
            if is_paused(standing, now):
                return Taken(Outcome.PAUSED, _paused(job, standing), slot=standing.mark)
            if standing.paused_at is not None:
                self.end_pause(job, standing, standing.paused_until or now)
                continue
            answer = self._answer(job, standing, now, wish)
            if answer is not None:
                return self._hold(answer) if isinstance(answer, Claim) else answer
            self._clock.wait(Event(), 0.01 * 2**attempt * self._clock.jitter(0.5))
        return _in_progress(job, standing)

    def _answer(self, job: Job, standing: Standing, now: datetime, wish: "_Wish") -> Claim | Taken | None:
        """Answer one look at a standing; None asks for another, because the row has changed under our hands."""
        shut = None if wish.at_once else _shut(job, standing, now) or self._failed_so_far(standing, now)
        if standing.run is not None:
            if standing.lease_until is not None and standing.lease_until >= now:
                return _in_progress(job, standing)
            return shut or self._left_open(job, standing, now, wish.bidder)
        bid = wish.wanted(standing, now)
        if isinstance(bid, Taken):
            if standing.failed_run is not None and bid.run == standing.failed_run:
                return shut or self._taken_over(job, standing, wish.bidder)  # “already done” would be a lie: it failed
            return bid
        if shut:
            return shut
        won = self._books.claim([bid], wish.bidder, early(job, now).total_seconds())
        return Claim.of(job, bid, won[0], wish.bidder) if won else None

    def _left_open(self, job: Job, standing: Standing, now: datetime, bidder: Bidder) -> Claim | Taken | None:
        """Go on with a run that was handed over or whose lease has expired; bury one that kills its holders."""
        if standing.lease_until is not None and standing.lease_until >= now:
            return None
        if standing.owner is not None and standing.attempt >= LOSSES:
            reason = f"attempts used up: {standing.attempt} processes were lost while running it"
            buried = self._books.bury(standing, reason)
            said = f"Run {standing.run} failed: {reason}."
            return Taken(Outcome.FAILED, said, standing.run, details=reason) if buried else None
        return self._taken_over(job, standing, bidder)

    def _over(self, run: str, named: str, slot: datetime | None) -> Taken:
        """Say who ran what is over, and what came of it."""
        row = self._books.run(run)
        if row is None:
            return Taken(Outcome.ALREADY_DONE, f"{named} is over: it or a later one has been run before.", None, slot)
        ended = f" at {row.finished_at:%Y-%m-%d %H:%M:%S}Z" if row.finished_at else ""
        said = f": {row.reason}" if row.reason else ""
        by = f" by {row.trigger}" if row.state not in {State.MISSED, State.SKIPPED} else ""
        outcome = Outcome.FAILED if row.state is State.FAILED else Outcome.ALREADY_DONE
        return Taken(outcome, f"{named} ended as {row.state}{by}{ended}{said}", run, slot, _last_line(row.error))

    def _failed_so_far(self, standing: Standing, now: datetime) -> Taken | None:
        """Say why a run has failed that is to be tried again later."""
        if standing.run is None or not between_attempts(standing, now):
            return None
        run = standing.run
        row = self._books.run(run)
        if row is None:  # pruned by hand meanwhile
            return Taken(Outcome.FAILED, f"Run {run} failed.", run, retry_at=standing.retry_at)
        said = row.reason or f"Run {run} failed."
        return Taken(Outcome.FAILED, said, run, row.slot, _last_line(row.error), retry_at=standing.retry_at)

    def _taken_over(self, job: Job, standing: Standing, bidder: Bidder) -> Claim | None:
        won = self._books.take_over(standing, bidder)
        if won is None:
            return None
        row = self._books.run(won.run)
        slot, stages = row.slot if row else None, self._books.progress(won.run)
        return Claim(job, won, slot, bidder, stages, resumed=True, remarks=self._remarks(won.run))

    def _remarks(self, run: str) -> tuple[Remark, ...]:
        """Return what was remarked on a run when it was claimed first."""
        noted = ((kind, self._books.noted(run, kind)) for kind in _REMARKS)
        return tuple(Remark(kind, facts["sentence"], facts) for kind, facts in noted if facts)

    def _bidder(self, trigger: str, caller: Caller) -> Bidder:
        return Bidder(self._owner, trigger, caller.name and caller.name[:100], self.lease)

    def _hold(self, claim: Claim) -> Claim:
        """Renew a claim's lease from now on; one that cannot be renewed is given back."""
        try:
            self.heartbeat.hold(claim.job.name, claim.fence)
        except BaseException:
            self._give_back(claim)
            raise
        return claim

    def close(self) -> None:
        """Renew nothing any more: the lease of what is still under way runs out, as if the process had ended."""
        self.heartbeat.close()

    def _give_back(self, claim: Claim) -> None:
        """Leave to whoever comes next a run that was claimed and not begun; past that its lease runs out."""
        self.release(claim)
        with suppress(DatabaseError):
            if not claim.joined and (row := self._books.run(claim.run)):
                self._books.settle(claim.job.name, claim.fence, replace(row, state=State.PARTIAL))


def _last_line(error: str | None) -> str | None:
    return next(iter((error or "").strip().splitlines()[-1:]), None)


def _paused(job: Job, standing: Standing) -> str:
    if standing.stopped_at is not None:
        return f"Every job is stopped by {standing.stopped_by}: {standing.stopped_reason}"
    until = f" until {standing.paused_until:%Y-%m-%d %H:%M}Z" if standing.paused_until else ""
    return f"Job {job.name} is paused{until} by {standing.paused_by}: {standing.paused_reason}"


def _shut(job: Job, standing: Standing, now: datetime) -> Taken | None:
    """Return what to answer outside of a job's window, which a caller's clock may reach a little early."""
    if job.window is None or job.window.closes(now, early(job, now)) is not None:
        return None
    opens = f"{job.window.opens(now):%Y-%m-%d %H:%M}Z"
    return Taken(
        Outcome.PAUSED,
        f"Job {job.name} works only within {job.window}: what is due waits until {opens};"
        f" 'nightcrew run {job.name} --now' does not",
        standing.run,
        standing.mark,
    )


def _in_progress(job: Job, standing: Standing) -> Taken:
    run = f" (run {standing.run})" if standing.run else ""
    return Taken(
        Outcome.IN_PROGRESS_ELSEWHERE, f"Job {job.name} is being run elsewhere{run}.", standing.run, standing.mark
    )
