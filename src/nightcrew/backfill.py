"""Backfill: slots that have passed and nobody ran, or that failed, are run one by one, the oldest first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event

from nightcrew.bid import run_id
from nightcrew.books import Books, RunRow
from nightcrew.claim import Claim
from nightcrew.claims import Claims
from nightcrew.clock import Clock, instant
from nightcrew.done import turned_away
from nightcrew.errors import UsageError, misfit
from nightcrew.job import Job
from nightcrew.outcome import Outcome, State
from nightcrew.report import Report
from nightcrew.rivalry import in_force

MOST = 1_000  # slots of one call
_AGAIN = {State.MISSED, State.SKIPPED, State.FAILED}
_ENDS = {Outcome.PARTIAL, Outcome.PAUSED, Outcome.IN_PROGRESS_ELSEWHERE, Outcome.CANCELLED}
_LOOK = 0.25  # seconds between two looks whether somebody else is still at work
_POLITE = 3.0  # seconds in all that are left to a ticker for slots that are due by now: it looks once a second
_TICK = timedelta(microseconds=1)


def backlog(job: Job, since: datetime, until: datetime, books: Books) -> list[datetime]:
    """Return the slots from one instant to another that are to be run, the oldest first.

    Those are the slots that ended as missed, skipped or failed, and those that nobody has come to yet. Of what the
    ledger has forgotten nobody knows whether it was run, so it is left alone. Raises UsageError for a job that removes
    rows, and for times that are naive, in the wrong order, still to come, older than the job, or too far apart.
    """
    _check(job, since, until)
    now, standings = books.standings([job.name])
    standing = standings[job.name]
    job = in_force(job, standing)
    if until > now:
        raise UsageError(f"backfill of job {job.name!r} to {instant(until)} ends in the future: it is {instant(now)}")
    if since < standing.epoch_at:
        raise UsageError(
            f"backfill of job {job.name!r} from {instant(since)} begins before its schedule did, at"
            f" {instant(standing.epoch_at)}: name a time after that"
        )
    slots = list(job.schedule.between(since - _TICK, until, MOST + 1))
    if len(slots) > MOST:
        raise UsageError(
            f"backfill of job {job.name!r} comes to more than {MOST:,} slots: let it end with"
            f" {instant(slots[MOST - 1])}, and go on from there"
        )
    rows = books.accounts(job.name, since, until)
    own = {row.id: row for row in rows}
    mark = standing.mark or standing.epoch_at
    return [slot for slot in slots if slot > mark or _is_left(slot, own.get(run_id(job, slot)), rows)]


def _check(job: Job, since: datetime, until: datetime) -> None:
    if job.policy is not None:
        raise UsageError(
            f"job {job.name!r} takes what has expired by now, whatever slot it runs for: one run makes up for all that"
            f" passed, as in 'nightcrew run {job.name} --now'"
        )
    for word, given in (("from", since), ("to", until)):
        if wrong := misfit(given, datetime, "write an aware datetime, such as datetime(2026, 1, 31, 12, tzinfo=UTC)"):
            raise UsageError(f"backfill of job {job.name!r} {word} what {wrong}")
        if given.tzinfo is None:
            raise UsageError(
                f"backfill of job {job.name!r} {word} {given.isoformat()} has no time zone: write it in UTC, as in"
                " 2026-01-31T12:00:00Z"
            )
    if since > until:
        raise UsageError(f"backfill of job {job.name!r} ends before it begins: {instant(until)} < {instant(since)}")


def _is_left(slot: datetime, own: RunRow | None, rows: Sequence[RunRow]) -> bool:
    if own is not None:
        return own.state in _AGAIN
    return any(row.slot and (row.since or row.slot) <= slot <= row.slot for row in rows if row.state in _AGAIN)


@dataclass(slots=True)
class Backfill:
    """Who backfills a job, and how each claim is carried out; `stop` ends it after the batch it is in."""

    job: Job
    trigger: str
    caller: str | None
    claims: Claims
    clock: Clock
    stop: Event
    work: Callable[[Claim], Report]
    _politeness: float = field(default=_POLITE, init=False)

    def on(self, slots: Sequence[datetime]) -> list[Report]:
        """Run slot after slot until somebody stops it; one that fails keeps no other from being run."""
        reports: list[Report] = []
        for slot in slots:
            if self.stop.is_set():
                break
            reports += self._run(slot)
            if reports[-1].outcome in _ENDS:
                break
        return reports

    def _run(self, slot: datetime) -> list[Report]:
        """Run a slot, and before it what somebody has left open; wait, but not for long, for who is at work now."""
        reports: list[Report] = []
        begun = self.clock.monotonic()
        while True:
            waited = self.clock.monotonic() - begun
            polite = self._politeness > 0
            asked = self.claims.of_past(self.job, self.trigger, self.caller, slot, polite=polite)
            if isinstance(asked, Claim):
                reports.append(self.work(asked))
                if asked.slot == slot or reports[-1].outcome in _ENDS:
                    return reports
                begun = self.clock.monotonic()
            elif asked.outcome is not Outcome.IN_PROGRESS_ELSEWHERE or waited > self.claims.lease or self.stop.is_set():
                return [*reports, turned_away(self.job, self.trigger, asked, self.clock.now())]
            else:
                self.clock.wait(self.stop, _LOOK)
                if polite and asked.run is None:  # nobody is at work: it is we who wait, however short the lease
                    self._politeness -= _LOOK
                    begun = self.clock.monotonic()
