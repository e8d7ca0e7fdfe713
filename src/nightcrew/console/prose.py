"""Prose: jobs, runs and standings in words for a person, and as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nightcrew.books import RunRow
from nightcrew.clock import instant
from nightcrew.console.screen import Screen
from nightcrew.crew import Nightcrew
from nightcrew.deed import deed
from nightcrew.duration import span, spell, when
from nightcrew.errors import ConfigurationError, MissingExtra, NoDatabase
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.policy import Policy, Sql
from nightcrew.portrait import distance, facts, late
from nightcrew.report import indented, seconds
from nightcrew.roll import JobStatus
from nightcrew.settings import ERASURE_KEY, Settings
from nightcrew.verdict import Mood
from nightcrew.verdict import verdict as judge

_GLYPHS = {Mood.GOOD: ("✓", "green"), Mood.WARN: ("!", "yellow"), Mood.BAD: ("✗", "red")}
_LATER = (NoDatabase, MissingExtra)  # what the machine that checks need not have, if the one that runs does
_YEAR = timedelta(days=366)
_SLOTS = 1500  # about four a day for a year: more often than that, no leap of a clock matters


def clock(moment: datetime | None) -> str:
    """Write an instant for a person: to the minute unless it has seconds, in UTC."""
    if moment is None:
        return "-"
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%d %H:%M:%SZ" if utc.second else "%Y-%m-%d %H:%MZ")


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def job(job: Job, now: datetime) -> dict[str, Any]:
    """Return a job as JSON."""
    return {
        "name": job.name,
        "label": job.label,
        "schedule": job.schedule.expression,
        "timezone": job.schedule.timezone,
        "when": job.schedule.describe(),
        "does": deed(job),
        "routes": [route for route in (job.route, job.path) if route],
        "policy": _rule(job.policy) if job.policy else None,
        "pace": str(job.pace),
        "throttle": [str(hook) for hook in job.throttle],
        "window": str(job.window) if job.window else None,
        "fanOut": job.fan_out,
        "onStart": job.on_start,
        "catchUp": str(job.catch_up),
        "attempts": job.attempts,
        "backoff": spell(job.backoff) if job.backoff else None,
        "overlap": str(job.overlap),
        "pauseAfter": job.pause_after,
        "primary": str(job.primary),
        "failsafeAfter": spell(job.failsafe_after) if job.failsafe_after else None,
        "enabled": job.enabled,
        "owner": job.owner,
        "runbook": job.runbook,
        "nextSlot": instant(job.schedule.after(now)) if job.enabled else None,
    }


def _rule(policy: Policy) -> dict[str, Any]:
    """Return a policy as JSON; an age is written as nightcrew.toml takes it."""
    given = {name: {"sql": value.expression} if isinstance(value, Sql) else value for name, value in policy.set.items()}
    return {
        "table": policy.table,
        "column": policy.column,
        "olderThan": spell(policy.older_than) if policy.older_than else None,
        "where": policy.where,
        "hold": policy.hold,
        "unlessExists": list(policy.unless_exists),
        "erase": policy.erase,
        "links": list(policy.links),
        "traces": [{"store": trace.store, "keys": trace.keys} for trace in policy.traces],
        "keep": dict(policy.keep),
        "allowUnindexed": policy.allow_unindexed,
        "maxRows": policy.max_rows,
        "maxFraction": policy.max_fraction,
        "action": str(policy.action),
        "set": given,
        "keepLatest": policy.keep_latest,
        "per": list(policy.per),
        "archive": spell(policy.archive) if policy.archive else None,
        "blobsAfter": spell(policy.grace) if policy.blobs else None,
    }


def job_line(job: Job, now: datetime) -> list[str]:
    """Return a job as the row JOB, WHEN, NEXT, WHAT of a table."""
    coming = _coming(job, job.schedule.after(now), now) if job.enabled else "disabled"
    return [job.name, job.schedule.describe(), coming, deed(job)]


def _coming(job: Job, slot: datetime | None, now: datetime) -> str:
    """Say when a slot will be run: one that is due outside of the job's window waits for it."""
    if job.window is None or slot is None:
        return when(slot, now)
    return f"{when(job.window.opens(slot), now)}, within {job.window}"


def portrait(job: Job, now: datetime, archive: str | None = None) -> list[str]:
    """Return everything that is said of a job, a line each."""
    slots, slot = [], now
    for _ in range(3 if job.enabled else 0):
        slot = job.schedule.after(slot)
        slots.append(f"{clock(slot)} ({when(slot, now)})")
    coming = ", ".join(slots) or "never: it is disabled"
    said = facts(job, coming, archive).items()
    return [f"{job.name}: {job.label}", *(f"  {name:<9} {fact}" for name, fact in said)]


# ── how they stand ───────────────────────────────────────────────────────────────────────────────────────────────────


def verdict(found: Sequence[JobStatus], bad: Sequence[str], screen: Screen) -> str:
    """Say in one line whether all is well, where these jobs need attention."""
    said = judge(found, bad)
    return f"{screen.paint(*_GLYPHS[said.mood])} {said.sentence}"


def status(each: JobStatus) -> dict[str, Any]:
    """Return how a job stands as JSON."""
    standing = each.standing
    return {
        "job": each.job.name,
        "when": each.job.schedule.describe(),
        "enabled": each.job.enabled,
        "paused": each.paused,
        "pausedBy": standing.paused_by if each.paused else None,
        "pausedReason": standing.paused_reason if each.paused else None,
        "pausedUntil": iso(standing.paused_until) if each.paused else None,
        "stoppedAt": iso(standing.stopped_at),
        "stoppedBy": standing.stopped_by,
        "stoppedReason": standing.stopped_reason,
        "failuresInARow": standing.fail_streak,
        "lastSucceededAt": iso(standing.last_ok_at),
        "nextSlot": iso(each.next_slot),
        "retryAt": iso(standing.retry_at),
        "window": str(each.job.window) if each.job.window else None,
        "waitsUntil": iso(each.opens),
        "lastRun": run(each.last) if each.last else None,
    }


def status_line(each: JobStatus, now: datetime, screen: Screen) -> list[str]:
    """Return how a job stands as the row JOB, WHEN, LAST, NEXT, REMOVED, BY of a table."""
    last = each.last
    ended = screen.mark(str(last.state)) + f" {when(last.finished_at or last.moment, now)}" if last else "never"
    beside = _comma(late(last, each.job)) + _comma(distance(last)) if last else ""
    coming = _coming(each.job, each.opens or each.next_slot, now) if each.next_slot else "disabled"
    if each.standing.retry_at is not None:
        coming = f"again {when(each.standing.retry_at, now)}"
    if each.standing.stopped_at is not None:
        coming = f"stopped: {each.standing.stopped_reason}"
    elif each.paused:
        until = each.standing.paused_until
        coming = f"paused{f' until {clock(until)}' if until else ''}: {each.standing.paused_reason}"
    removed = f"{last.deleted:,}" if last else "-"
    return [each.job.name, each.job.schedule.describe(), ended + beside, coming, removed, last.trigger if last else "-"]


def no_runs(*, failed: bool) -> str:
    """Say that there is nothing to list."""
    return "no run has failed or was missed" if failed else "no runs yet"


def run(row: RunRow) -> dict[str, Any]:
    """Return a run as JSON."""
    return {
        "runId": row.id,
        "job": row.job,
        "slot": iso(row.slot),
        "state": str(row.state),
        "trigger": row.trigger,
        "caller": row.caller,
        "reason": row.reason,
        "attempt": row.attempt,
        "startedAt": iso(row.moment),
        "finishedAt": iso(row.finished_at),
        "lateSeconds": seconds(row.late_by),
        "deletedCount": row.deleted,
        "counts": dict(row.counts),
        "done": row.done,
        "total": row.total,
        "error": row.error,
        "firstSlot": iso(row.since),
    }


def run_line(row: RunRow, job: Job | None, now: datetime, screen: Screen) -> list[str]:
    """Return a run as the row RUN, STARTED, ENDED AS, REMOVED, TOOK, BY, REASON of a table.

    Its job may be registered no more.
    """
    took = span(row.finished_at - row.moment) if row.finished_at and row.moment else "-"
    started = when(row.moment, now) + _comma(late(row, job) if job else "")
    said = (distance(row) if row.state is State.RUNNING else "") or row.reason
    return [row.id, started, screen.mark(str(row.state)), f"{row.deleted:,}", took, row.trigger, said or "-"]


def _comma(text: str) -> str:
    return f", {text}" if text else ""


def traces(row: RunRow, crew: Nightcrew) -> list[str]:
    """Return what each attempt at a run failed with, under the run's name: most often a traceback."""
    tried = row.attempt > 1 or row.state is State.RETRYING
    failed = [entry["facts"] for entry in crew.entries(row.id) if entry["kind"] == "failed_attempt"] if tried else []
    errors = [facts["error"] for facts in failed]
    if row.error and row.state is not State.RETRYING:  # the last one's stands there, too
        errors.append(row.error)
    return [line for error in errors for line in ("", f"{row.id}:", *indented(error, 2))]


def iso(moment: datetime | None) -> str | None:
    """Return an instant as JSON has it."""
    return None if moment is None else instant(moment)


# ── what a check finds ───────────────────────────────────────────────────────────────────────────────────────────────


def faults(crew: Nightcrew) -> list[str]:
    """Say what cannot work as it is set, beyond what the checks tell."""
    problem = _database(crew)
    return [str(problem)] if problem and not isinstance(problem, _LATER) else []


def doubts(settings: Settings, crew: Nightcrew) -> list[str]:
    """Say what works, and may surprise, beyond what the checks tell."""
    problem = _database(crew)
    found = [str(problem)] if isinstance(problem, _LATER) else []
    erasing = [job.name for job in crew.jobs.values() if job.policy and job.policy.erase]
    if erasing and settings.erasure_key is None:
        found.append(
            f"{ERASURE_KEY} is not set, so {', '.join(erasing)} removes rows, and what they name in stores, without"
            " looking for anything else of a person, and without a receipt; 'nightcrew secret new' makes one"
        )
    return found


def _database(crew: Nightcrew) -> ConfigurationError | None:
    """Return what is wrong with the database's URL, having asked no database."""
    try:
        crew.check_url()
    except ConfigurationError as problem:
        return problem
    return None
