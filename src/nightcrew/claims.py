"""Claims: what a process wins and holds, by whatever way it asks for a job; or why it is taken."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event

from nightcrew.agenda import Agenda
from nightcrew.bid import (
    MOST_EARLY,
    between_attempts,
    bid_for,
    check_existed,
    early,
    hand_id,
    is_paused,
    is_waiting,
    lapsed,
    run_id,
    slot_asked_for,
    slot_due,
)
from nightcrew.books import Bid, Bidder, Books, Remark, RunRow, Sequel, Standing, Won
from nightcrew.caller import DRIFT, Caller, drift
from nightcrew.claim import Claim
from nightcrew.clock import Clock, Lease
from nightcrew.ending import bury, end_cancelled
from nightcrew.errors import DatabaseError
from nightcrew.failsafe import FAILSAFE
from nightcrew.heartbeat import Heartbeat
from nightcrew.job import Job
from nightcrew.outcome import Outcome, State
from nightcrew.ranges import Ranges
from nightcrew.rivalry import Rivalry, in_force
from nightcrew.stride import Share, Stride
from nightcrew.taken import Taken, failed_so_far, in_progress, over, paused, shut

LEASE = 60.0  # seconds; renewed every third of it, so a dead holder is replaced within a minute
LOSSES = 5  # leases a run may lose before it is buried: a batch that kills its process must not do so for ever
INSIDE = "ticker"  # what the in-process scheduler calls itself
_REMARKS = (FAILSAFE, DRIFT)  # kinds of them


@dataclass(frozen=True, slots=True)
class _Wish:
    """Who asks for a job, and what they want of it as it stands; `at_once` whatever its window says."""

    bidder: Bidder
    wanted: Callable[[Job, Standing, datetime], Bid | Taken]
    at_once: bool = False


_CONTENDED = {Outcome.ALREADY_DONE, Outcome.IN_PROGRESS_ELSEWHERE}


class Claims:
    """The claims of one process: how it wins them, and one heartbeat that renews all it holds.

    Whoever buries a run lets `buried` hear of it: nobody else can. Of a slot that was asked for here, and was
    taken or over by then, `lost` hears with what had asked for it.
    """

    def __init__(
        self,
        books: Books,
        ranges: Ranges,
        clock: Clock,
        lease: float = LEASE,
        buried: Callable[[Job, RunRow], object] = lambda job, row: None,
        lost: Callable[[Job, str], object] = lambda job, trigger: None,
    ) -> None:
        self._books = books
        self._clock = clock
        self._buried = buried
        self._lost = lost
        self._owner = clock.token()
        self.heartbeat = Heartbeat(books, ranges, clock, lease)
        self.lease = lease
        self.rivalry = Rivalry(books, clock)
        self.agenda = Agenda(books, clock)
        self.stride = Stride(clock)

    @property
    def held(self) -> list[str]:
        """The jobs that this process holds a claim of, by name."""
        return self.heartbeat.held

    def waiting(self, jobs: Iterable[Job]) -> list[str]:
        """Return the jobs that `due` would claim something of now, by name."""
        by_name = {job.name: job for job in jobs if job.enabled}
        now, standings = self._books.standings(by_name)
        changed = self.rivalry.settle(by_name, standings, now)
        still = ((name, standing) for name, standing in standings.items() if name not in changed)
        return [name for name, standing in still if is_waiting(in_force(by_name[name], standing), standing, now)]

    def due(
        self,
        jobs: Iterable[Job],
        trigger: str,
        *,
        start: bool = False,
        buried: list[tuple[Job, Taken]] | None = None,
        stop: Event | None = None,
        hands: int | None = None,
    ) -> list[Claim]:
        """Claim every slot that is due and free, all in one statement, and every run that was left open.

        With `start`, jobs that run on start also get their latest slot if it was due before they were registered.
        Runs that nobody goes on with any more are added to the `buried`. With `stop`, which ends it, it waits for what
        will be due in an instant, having looked at that before. With so many `hands`, no more is claimed than they can
        begin with soon, and the next look goes on.
        """
        claims: list[Claim] = []
        asked_at = self._clock.monotonic()
        try:
            bidder = replace(self._bidder(trigger, Caller()), waits=False)  # one held row must not keep all from all
            for found in self._due(jobs, bidder, self.stride.share(hands), asked_at, start=start, stop=stop):
                if isinstance(found, Claim):
                    claims.append(self._hold(found, asked_at))  # an error must find those before it
                elif buried is not None:
                    buried.append(found)
        except BaseException:  # what nobody will carry out must not be renewed for ever
            for claim in claims:
                self._give_back(claim)
            raise
        return claims

    def _due(
        self, jobs: Iterable[Job], bidder: Bidder, share: Share, asked_at: float, *, start: bool, stop: Event | None
    ) -> Iterator[Claim | tuple[Job, Taken]]:
        enabled = {job.name: job for job in jobs if job.enabled}
        inside = bidder.trigger == INSIDE
        waits = stop if not start else None
        now, moment, standings = self.agenda.look(enabled, sparing=inside and not start, ahead=waits is not None)
        changed = self.rivalry.settle(enabled, standings, now)
        bids: list[Bid] = []
        for name, standing in standings.items():
            ours = standing.meaning == enabled[name].schedule.meaning
            job = enabled[name] = in_force(enabled[name], standing)
            by = moment if inside else now + early(job, now)
            free = name not in changed and not is_paused(standing, now)
            shut = free and job.window is not None and job.window.closes(now, by - now) is None
            ready = free and standing.paused_at is None and not shut and not between_attempts(standing, now)
            bid = None
            if ready and standing.run is None:
                bid = bid_for(job, standing, by, inside=inside, start=start)
            self.agenda.heed(job, standing, moment, ours=ours, soon=name in changed or bid is not None)
            if bid is not None:
                bids.append(bid)
            elif free and standing.paused_at is not None:
                self.end_pause(job, standing, standing.paused_until or now)
            elif ready and standing.run is not None:
                fits = not standing.left(now) or share.takes(job)
                if fits and (reopened := self._left_open(job, standing, now, bidder)) is not None:
                    yield reopened if isinstance(reopened, Claim) else (job, reopened)
        by_job = share.first(bids, enabled, start=start)
        self.agenda.leave(share.left)
        if by_job and not (waits and self._clock.wait(waits, self.agenda.until(moment))):
            won = self._books.claim(list(by_job.values()), bidder, 0.0 if inside else MOST_EARLY.total_seconds())
            for name in by_job.keys() - {one.job for one in won}:
                self._lost(enabled[name], bidder.trigger)
            for one in won:
                self.agenda.claimed(enabled[one.job], by_job[one.job].slot, now)
                yield Claim.of(enabled[one.job], by_job[one.job], one, bidder, Lease(self._clock, self.lease, asked_at))

    def of_slot(
        self, job: Job, trigger: str, caller: Caller | str | None, slot: datetime | None = None
    ) -> Claim | Taken:
        """Claim the job's latest slot, or the one that `slot` falls into, whoever asks; lost races are asked again.

        Nothing is claimed outside of the job's window. That a caller goes by another schedule is remarked. Raises
        UsageError for a naive `slot`, and one that lies in the future or before the job was there.
        """
        who = Caller.of(caller)

        def wanted(job: Job, standing: Standing, now: datetime) -> Bid | Taken:
            target = slot_asked_for(job, slot, now) if slot else slot_due(job, standing, now + early(job, now))
            if target is None:
                return Taken(Outcome.NOTHING_TO_DO, f"Job {job.name} has never been due yet.")
            run = run_id(job, target)
            if slot is not None and not self._books.accounts(job.name, target, target):
                check_existed(job, target, standing, now)
            remarks = drift(job, who, slot, now)
            if standing.mark is None or target > standing.mark:
                return Bid(job.name, target, run, standing.fence, lapsed(job, standing, target), remarks=remarks)
            return replace(over(self._books, job, run, target), remarks=remarks)

        answer = self._ask(job, _Wish(self._bidder(trigger, who), wanted))
        if isinstance(answer, Taken) and answer.outcome in _CONTENDED:
            self._lost(job, trigger)
        return answer

    def join(self, job: Job, run: str, trigger: str, called: int | None = None) -> Claim | None:
        """Work at a run that is cut beside whoever holds it, called to a range perhaps; None where nobody does."""
        asked_at = self._clock.monotonic()
        now, standings = self._books.standings([job.name])
        standing, row = standings[job.name], self._books.run(run)
        if standing.run != run or standing.left(now) or row is None or is_paused(standing, now):
            return None
        won, stages = Won(job.name, run, standing.fence, row.moment or now), self._books.progress(run)
        bidder = self._bidder(trigger, Caller.of(None))
        by_hand = row.slot is None
        claim = Claim(job, won, row.slot, bidder, stages, resumed=True, at_once=by_hand, joined=True, called=called)
        return self._hold(claim, asked_at) if claim.cut else None

    def of_past(self, job: Job, trigger: str, caller: str | None, slot: datetime, *, polite: bool) -> Claim | Taken:
        """Claim a slot that has passed, unless it was run; the mark stays where it is.

        Whoever is `polite` lets the slot that is due by now go first.
        """

        def wanted(job: Job, standing: Standing, now: datetime) -> Bid | Taken:
            run = run_id(job, slot)
            if standing.mark is None or slot > standing.mark:
                return Bid(job.name, slot, run, standing.fence, lapsed(job, standing, slot))
            row = self._books.run(run)
            if standing.failed_run == run or (row and row.state not in {State.FAILED, State.MISSED, State.SKIPPED}):
                return over(self._books, job, run, slot)
            if polite and bid_for(job, standing, now) is not None:
                return in_progress(job, standing)
            return Bid(job.name, slot, run, standing.fence, past=True)

        return self._ask(job, _Wish(self._bidder(trigger, Caller(caller)), wanted))

    def by_hand(self, job: Job, trigger: str, caller: Caller | str | None) -> Claim | Taken:
        """Claim a run that belongs to no slot and moves no mark; for one key of a caller's, once and no more.

        The key makes the run's id, which the ledger has once, whoever and however many ask for it. It ends a pause of
        nightcrew's own: whoever has mended what made the runs fail need not wait for it.
        """
        who = Caller.of(caller)
        run = hand_id(job.name, who.token or self._clock.token()[:12])

        def wanted(_job: Job, standing: Standing, _now: datetime) -> Bid | Taken:
            known = who.token is not None and self._books.run(run) is not None
            return over(self._books, job, run, None) if known else Bid(job.name, None, run, standing.fence)

        answer = self._ask(job, _Wish(self._bidder(trigger, who), wanted, at_once=True))
        return answer._replace(at_once=True) if isinstance(answer, Claim) else answer

    def release(self, claim: Claim) -> None:
        """Stop renewing a claim's lease."""
        self.heartbeat.release(claim.job.name, claim.fence, claim.run, claim.lease)

    def call_off(self, claim: Claim, why: str) -> None:
        """End as cancelled a run that was claimed and must not begin; where even that fails, its lease runs out."""
        self._leave(claim, State.CANCELLED, why)

    def end_pause(self, job: Job, standing: Standing, until: datetime, *, waits: bool = False) -> bool:
        """Let triggers claim again; the pause's slots end as skipped. False when the standing has changed meanwhile."""
        job = in_force(job, standing)
        mark = job.schedule.latest(until)
        return self._books.resume(standing, lapsed(job, standing, job.schedule.after(until)), mark, waits=waits)

    def end_stop(self, job: Job, standing: Standing, until: datetime) -> None:
        """Let the slots that a stop of all kept from running end as skipped, unless a pause of the job did, too."""
        job = in_force(job, standing)
        stopped = standing._replace(paused_at=standing.stopped_at, paused_reason=standing.stopped_reason)
        if standing.paused_at is None:
            skipped = lapsed(job, stopped, job.schedule.after(until))
            self._books.resume(standing, skipped, job.schedule.latest(until))

    def _ask(self, job: Job, wish: "_Wish") -> Claim | Taken:
        for attempt in range(5):
            asked_at = self._clock.monotonic()
            now, standings = self._books.standings([job.name])
            standing = standings[job.name]
            if self.rivalry.settle({job.name: job}, standings, now):
                continue
            if is_paused(standing, now) and not (wish.at_once and standing.rests):
                return paused(job, standing)
            answer = None
            if standing.paused_at is None:
                answer = self._answer(in_force(job, standing), standing, now, wish)
            elif self.end_pause(job, standing, now if is_paused(standing, now) else standing.paused_until or now):
                continue
            if answer is not None:
                return self._hold(answer, asked_at) if isinstance(answer, Claim) else answer
            self._clock.wait(Event(), 0.01 * 2**attempt * self._clock.jitter(0.5))
        return in_progress(job, standing)

    def _answer(self, job: Job, standing: Standing, now: datetime, wish: "_Wish") -> Claim | Taken | None:
        """Answer one look at a standing; None asks for another, because the row has changed under our hands."""
        closed = None if wish.at_once else shut(job, standing, now) or failed_so_far(self._books, standing, now)
        if standing.run is not None:
            if not standing.left(now):
                return in_progress(job, standing)
            return closed or self._left_open(job, standing, now, wish.bidder)
        bid = wish.wanted(job, standing, now)
        if isinstance(bid, Taken):
            if standing.failed_run is not None and bid.run == standing.failed_run:
                return closed or self._taken_over(job, standing, wish.bidder)  # “already done” would be a lie
            return bid
        if closed:
            return closed
        return self._claimed(job, standing, bid, wish.bidder, early(job, now))

    def _claimed(self, job: Job, standing: Standing, bid: Bid, bidder: Bidder, early: timedelta) -> Claim | None:
        if bid.past:
            known = self._books.run(bid.run) is not None
            if (past := self._books.claim_past(standing, bid, bidder)) is None:
                return None
            stages = self._books.progress(bid.run)
            return Claim.of(job, bid, past, bidder)._replace(stages=stages, resumed=known)
        won = self._books.claim([bid], bidder, early.total_seconds())
        return Claim.of(job, bid, won[0], bidder) if won else None

    def _left_open(self, job: Job, standing: Standing, now: datetime, bidder: Bidder) -> Claim | Taken | None:
        """Go on with a run that was handed over or whose lease has expired; bury one that kills its holders."""
        if not standing.left(now):
            return None
        if standing.cancelled:
            end_cancelled(self._books, job, standing)
            return None
        if standing.owner is not None and standing.losses >= LOSSES:
            if (buried := bury(self._books, job, standing)) is None:
                return None
            self._buried(job, buried)
            return Taken(Outcome.FAILED, f"Run {buried.id} failed: {buried.reason}.", buried.id, details=buried.reason)
        return self._taken_over(job, standing, bidder)

    def _taken_over(self, job: Job, standing: Standing, bidder: Bidder) -> Claim | None:
        if (won := self._books.take_over(standing, bidder)) is None:
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

    def _hold(self, claim: Claim, asked_at: float) -> Claim:
        """Renew a claim's lease from now on, which was asked for at an instant; one that cannot be is given back."""
        lease = claim.lease or Lease(self._clock, self.lease, asked_at)
        try:
            self.heartbeat.hold(claim.job.name, claim.fence, lease)
        except BaseException:
            self._give_back(claim)
            raise
        return claim if claim.lease else claim._replace(lease=lease)

    def close(self) -> None:
        """Renew nothing any more: the lease of what is still under way runs out, as if the process had ended."""
        self.heartbeat.close()

    def _give_back(self, claim: Claim) -> None:
        """Leave to whoever comes next a run that was claimed and not begun; past that its lease runs out."""
        self._leave(claim, State.PARTIAL, None)

    def _leave(self, claim: Claim, state: State, why: str | None) -> None:
        self.release(claim)
        with suppress(DatabaseError):
            if not claim.joined and (row := self._books.run(claim.run)):
                self._books.settle(claim.job.name, claim.fence, replace(row, state=state, reason=why), Sequel())
