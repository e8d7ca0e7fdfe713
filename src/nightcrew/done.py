"""Done: how the work of a run ended, as the ledger has it and as it is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from nightcrew.books import Finished, Remark, RunRow
from nightcrew.claim import Claim
from nightcrew.clock import instant
from nightcrew.job import Job
from nightcrew.outcome import Outcome, State
from nightcrew.report import Report
from nightcrew.taken import Taken


class Done(NamedTuple):
    """How the work of a run ended, before it is settled; it is called by its `kind`, or its outcome."""

    state: State
    outcome: Outcome
    message: str
    deleted: int = 0
    counts: Mapping[str, int] | None = None
    remaining: int | None = 0
    error: str | None = None
    details: str | None = None
    traceback: str | None = None
    note: str | None = None
    retry_at: datetime | None = None
    kind: str | None = None

    @property
    def heard_as(self) -> str:
        """What listeners hear it called."""
        return self.kind or str(self.outcome)


@dataclass(frozen=True, slots=True)
class Gone:
    """What a run has come to: rows of the job's own table and of each with `counts`, or what its function counted."""

    number: int
    counts: Mapping[str, int] | None = None

    @classmethod
    def of(cls, job: Job, counts: Mapping[str, int]) -> "Gone":
        """Return what these rows per table come to."""
        return cls(removed(job, counts), counts)

    def __str__(self) -> str:
        """Say it before “so far”."""
        return f"{self.number:,} counted" if self.counts is None else rows_of(self.number)


def begun(claim: Claim) -> Mapping[str, Any]:
    """Return what is told of a run that begins."""
    job, slot = claim.job, claim.slot
    facts = {"label": job.label, "trigger": claim.bidder.trigger, "slot": slot and instant(slot)}
    return facts | {"schedule": job.schedule.expression, "timezone": job.schedule.timezone}


def row_of(claim: Claim, done: Done) -> RunRow:
    """Return what the ledger is to say of a run."""
    return RunRow(
        id=claim.run,
        job=claim.job.name,
        slot=claim.slot,
        state=done.state,
        trigger=claim.bidder.trigger,
        reason=_remarked(done.message, claim.remarks),
        deleted=done.deleted,
        counts=done.counts or {},
        error=done.error,
    )


def finished(claim: Claim, done: Done) -> Finished:
    """Return the same of one that is settled together with others."""
    return Finished(claim.job.name, claim.fence, claim.run, _remarked(done.message, claim.remarks), done.deleted)


def report_of(claim: Claim, done: Done, now: datetime, duration_ms: int) -> Report:
    """Report a run that was carried out, by the process's own clock."""
    return Report(
        job=claim.job.name,
        outcome=done.outcome,
        message=done.message,
        timestamp=now,
        trigger=claim.bidder.trigger,
        run=claim.run,
        slot=claim.slot,
        deleted=done.deleted,
        counts=done.counts or {},
        late_by=claim.late_by,
        duration_ms=duration_ms,
        remaining=done.remaining,
        next_slot=claim.job.schedule.after(max(now, claim.moment, claim.slot or now)),
        error=done.message if done.outcome in (Outcome.FAILED, Outcome.REFUSED) else None,
        details=done.details,
        note=_remarked(done.note, claim.remarks),
        retry_at=done.retry_at,
    )


def _remarked(said: str | None, remarks: Sequence[Remark]) -> str | None:
    """Add to what is said of a run how it came about."""
    if not remarks:
        return said
    return "; ".join(([said.removesuffix(".")] if said else []) + [remark.sentence for remark in remarks])


def turned_away(job: Job, trigger: str, taken: Taken, now: datetime) -> Report:
    """Report a slot that was not claimed, and why."""
    return Report(
        job=job.name,
        outcome=taken.outcome,
        message=taken.message,
        timestamp=now,
        trigger=trigger,
        run=taken.run,
        slot=taken.slot,
        next_slot=job.schedule.after(now) if job.enabled else None,
        error=taken.message if taken.outcome is Outcome.FAILED else None,
        details=taken.details,
        note=_remarked(None, taken.remarks),
        retry_at=taken.retry_at,
    )


def removed(job: Job, counts: Mapping[str, int]) -> int:
    """Return the rows of the job's own table among the counts."""
    return 0 if job.policy is None else job.policy.own(counts)


def rows_of(number: int, which: str = "") -> str:
    """Say how many rows: “1 row”, “2,000 expired rows”."""
    return f"1 {which}row" if number == 1 else f"{number:,} {which}rows"
