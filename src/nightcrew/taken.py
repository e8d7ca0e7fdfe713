"""Taken: why a slot cannot be claimed, in words for whoever asked for it."""

from dataclasses import dataclass
from datetime import datetime

from nightcrew.bid import between_attempts, early
from nightcrew.books import Books, Remark, Standing
from nightcrew.job import Job
from nightcrew.outcome import Outcome, State


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


def over(books: Books, job: Job, run: str, slot: datetime | None) -> Taken:
    """Say who ran what is over, and what came of it."""
    row = books.run(run)
    if row is None and slot is not None:  # it may be one of several that nobody ran
        row = next(iter(books.accounts(job.name, slot, slot)), None)
    named = f"Run {run}" if slot is None else f"Slot {slot:%Y-%m-%d %H:%M:%S}Z"
    if row is None:
        return Taken(Outcome.ALREADY_DONE, f"{named} is over: it or a later one has been run before.", None, slot)
    ended = f" at {row.finished_at:%Y-%m-%d %H:%M:%S}Z" if row.finished_at else ""
    said = f": {row.reason}" if row.reason else ""
    by = f" by {row.trigger}" if row.state in {State.DONE, State.FAILED} else ""
    outcome = Outcome.FAILED if row.state is State.FAILED else Outcome.ALREADY_DONE
    return Taken(outcome, f"{named} ended as {row.state}{by}{ended}{said}", run, slot, _last_line(row.error))


def failed_so_far(books: Books, standing: Standing, now: datetime) -> Taken | None:
    """Say why a run has failed that is to be tried again later."""
    if standing.run is None or standing.cancelled or not between_attempts(standing, now):
        return None
    run = standing.run
    row = books.run(run)
    if row is None:  # pruned by hand meanwhile
        return Taken(Outcome.FAILED, f"Run {run} failed.", run, retry_at=standing.retry_at)
    said = row.reason or f"Run {run} failed."
    return Taken(Outcome.FAILED, said, run, row.slot, _last_line(row.error), retry_at=standing.retry_at)


def _last_line(error: str | None) -> str | None:
    return next(iter((error or "").strip().splitlines()[-1:]), None)


def paused(job: Job, standing: Standing) -> Taken:
    """Say who keeps every trigger out, and why."""
    return Taken(Outcome.PAUSED, _pause(job, standing), slot=standing.mark)


def _pause(job: Job, standing: Standing) -> str:
    if standing.stopped_at is not None:
        return f"Every job is stopped by {standing.stopped_by}: {standing.stopped_reason}"
    until = f" until {standing.paused_until:%Y-%m-%d %H:%M}Z" if standing.paused_until else ""
    return f"Job {job.name} is paused{until} by {standing.paused_by}: {standing.paused_reason}"


def shut(job: Job, standing: Standing, now: datetime) -> Taken | None:
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


def in_progress(job: Job, standing: Standing) -> Taken:
    """Say that somebody is at work on a job."""
    run = f" (run {standing.run})" if standing.run else ""
    return Taken(
        Outcome.IN_PROGRESS_ELSEWHERE, f"Job {job.name} is being run elsewhere{run}.", standing.run, standing.mark
    )
