"""Portrait: everything that is said of a job, and how a run of it is spoken of, in words for a person."""

from datetime import timedelta

from nightcrew.bid import MOST_CAUGHT_UP
from nightcrew.books import RunRow
from nightcrew.deed import deed
from nightcrew.duration import span, spell
from nightcrew.job import CatchUp, Job, Overlap
from nightcrew.schedule import Cron, Schedule

_USUAL = timedelta(minutes=1)  # outside callers come within the minute: no later run need stand out
_CAUGHT_UP = {
    CatchUp.ALL: f"runs each slot that passed while nobody was there, {MOST_CAUGHT_UP} at most",
    CatchUp.NONE: "runs no slot that passed while nobody was there",
}


def facts(job: Job, coming: str, archive: str | None = None) -> dict[str, str]:
    """Return everything that is said of a job, by what it is about; `coming` says when it is due next."""
    said = {
        "when": timetable(job.schedule),
        "does": deed(job),
        "next": coming,
        "archive": archive,
        "pace": str(job.pace) if job.policy else None,
        "throttle": ", ".join(map(str, job.throttle)),
        "window": f"works only within {job.window}" if job.window else None,
        "fan out": f"in ranges of {job.fan_out:,} rows and more, for Celery's workers" if job.fan_out else None,
        "on start": "runs the latest slot if nobody has" if job.on_start else None,
        "catch up": _CAUGHT_UP.get(job.catch_up),
        "attempts": _attempts(job),
        "overlap": "skips slots that fall due while it is at work" if job.overlap is Overlap.SKIP else None,
        "failures": "never paused for them" if job.pause_after == 0 else f"paused for a while after {job.pause_after}",
        "primary": _covered(job),
        "routes": ", ".join(route for route in (job.route, job.path) if route),
        "owner": job.owner,
        "runbook": job.runbook,
        "written": f"in {job.origin.at(None)}" if job.origin else None,
    }
    return {name: fact for name, fact in said.items() if fact}


def timetable(schedule: Schedule) -> str:
    """Say a schedule in words, and as it is written where that says it in other words."""
    words = schedule.describe()
    return f"{words} [{schedule.expression}]" if isinstance(schedule, Cron) else words


def late(row: RunRow, job: Job) -> str:
    """Say how late a run was claimed, where that is more than usual; the job's window makes none late."""
    if row.slot is None or row.moment is None or row.late_by is None:
        return ""
    delay = row.moment - job.opens(row.slot)
    return f"{span(delay)} late" if delay > _USUAL else ""


def distance(row: RunRow) -> str:
    """Say how far a run that is still open has come: “400 of 1,000 (40 %)”."""
    if row.done is None or not row.state.open:
        return ""
    return f"{row.done:,} of {row.total:,} ({row.done * 100 // row.total} %)" if row.total else f"{row.done:,} so far"


def _covered(job: Job) -> str | None:
    """Say who is to run a job, and what happens where they do not come."""
    if job.failsafe_after is None:
        return None
    return f"a caller from outside; the in-process scheduler covers a slot {spell(job.failsafe_after)} past it"


def _attempts(job: Job) -> str | None:
    """Say how often a function is called that fails."""
    return f"{job.attempts}, the second {spell(job.backoff)} after the first has failed" if job.backoff else None
