"""Ending: how a run ends that nobody holds any more, because its holders died or somebody cancelled it."""

from datetime import datetime

from nightcrew.bid import overlapped
from nightcrew.books import Books, RunRow, Sequel, Standing, altogether, cancelled
from nightcrew.errors import UsageError
from nightcrew.job import Job, Overlap
from nightcrew.outcome import State

_TRIES = 5  # of a row that changes under our hands


def bury(books: Books, job: Job, standing: Standing) -> RunRow | None:
    """Close as failed a run that was left open and has cost so many processes; None when that has changed."""
    reason = f"attempts used up: {standing.losses} processes were lost while running it"
    return _close(books, job, standing, State.FAILED, reason)


def end_cancelled(books: Books, job: Job | None, standing: Standing) -> RunRow | None:
    """Close a run that was cancelled while nobody held it, or whose holder has died; None when that has changed."""
    return _close(books, job, standing, State.CANCELLED, cancelled(standing.cancelled_by, standing.cancelled_reason))


def cancel(books: Books, job: Job | None, row: RunRow, by: str, reason: str) -> RunRow:
    """Cancel a run: it ends after the batch it is in, or now where nobody has it in hand; return how it stands.

    Raises UsageError for one that is over.
    """
    for _ in range(_TRIES):
        if not row.state.open or not books.cancel(row.job, row.id, by, reason):
            break
        now, standings = books.standings([row.job])
        standing = standings[row.job]
        if not (standing.cancelled and standing.left(now)):
            return books.run(row.id) or row
        if (ended := end_cancelled(books, job, standing)) is not None:
            return ended
    else:  # somebody's transaction holds it still: whoever looks once that is over ends the run
        return books.run(row.id) or row
    row = books.run(row.id) or row
    if row.state.open:
        raise UsageError(f"run {row.id} is not open in the row of job {row.job!r} any more: there is nothing to cancel")
    at = f" at {row.finished_at:%Y-%m-%d %H:%M:%S}Z" if row.finished_at else ""
    raise UsageError(f"run {row.id} is over, it ended as {row.state}{at}: there is nothing left to cancel")


def _close(books: Books, job: Job | None, standing: Standing, state: State, why: str) -> RunRow | None:
    """Close a run with what its batches took, which its row does not say when its holder has died."""
    run = str(standing.run)
    row = books.run(run)
    counts = altogether(books.progress(run))
    if job is not None and job.policy is not None:
        removed, kept = job.policy.own(counts), "rows were removed before"
    else:
        removed, kept = max(row.deleted if row else 0, books.saved(run).counted), "were counted before"
    error = why if state is State.FAILED else None
    ended = RunRow(
        id=run,
        job=standing.job,
        slot=row.slot if row else None,
        state=state,
        trigger=row.trigger if row else "none",
        reason=f"{why}; {removed:,} {kept}" if removed else why,
        deleted=removed,
        counts=counts,
        error=error,
    )
    begun = row.moment if row else None
    return ended if books.close(standing, ended, sequel(books, job, begun, ended.slot)) else None


def sequel(books: Books, job: Job | None, begun: datetime | None, slot: datetime | None = None) -> Sequel:
    """Say what else is to become of a job whose run ends, which began then: for a slot in turn, or for none."""
    if job is None or begun is None or job.overlap is not Overlap.SKIP:
        return Sequel(job.pause_after if job else 0)
    now, standings = books.standings([job.name])
    standing = standings[job.name]
    past = slot is not None and standing.mark is not None and slot < standing.mark
    return Sequel(job.pause_after, None if past else overlapped(job, standing, begun, now))
