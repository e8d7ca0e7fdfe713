"""Job: one job, and what a person may do about it: plan, run, pause, resume."""

from datetime import UTC, datetime, timedelta
from typing import Any

from nightcrew.chronicle import Place
from nightcrew.deed import deed
from nightcrew.errors import UsageError
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.screens.backfill import offered
from nightcrew.web.dashboard.screens.start import start
from nightcrew.web.dashboard.views.job import cause, portrait
from nightcrew.web.dashboard.visit import Answer, Visit, Way

LASTING = {
    "": ("until somebody resumes it", None),
    "1h": ("for an hour", timedelta(hours=1)),
    "4h": ("for 4 hours", timedelta(hours=4)),
    "12h": ("for 12 hours", timedelta(hours=12)),
    "1d": ("for a day", timedelta(days=1)),
    "3d": ("for 3 days", timedelta(days=3)),
    "7d": ("for a week", timedelta(days=7)),
}
NOTICES = {
    "paused": "The job is paused: no trigger runs it, and what ran has ended after the batch it was in.",
    "resumed": "The job runs again when it is due.",
    "handed": "The job was handed to a worker; its run shows here once it has begun.",
    "begun": "The run was asked for, and begins once the job is free.",
    "kept": "No run was begun: the job is paused or stopped, or is not to run here.",
    "backfilled": "The slots were run: their runs are the newest below.",
    "backfilling": "The slots are being run, one by one; their runs show below.",
    "nothing": "There was no slot to be run any more.",
    "busy": "The job is at work already, so no other run was begun.",
}


def show(visit: Visit) -> Answer:
    """Show one job, and a page of its runs."""
    name, asked = visit.path["job"], visit.request.query
    shown = portrait(visit.crew, name, trouble=asked.get("only") == "trouble", before=_before(asked.get("before", "")))
    does = deed(shown.job) if shown.job else "is not in this crew any more: its history stays readable"
    notice = NOTICES.get(asked.get("done", ""))
    now = visit.crew.clock.now().replace(second=0, microsecond=0)
    begun = shown.status.standing.epoch_at if shown.status else now
    past = (max(now - timedelta(days=1), begun + timedelta(minutes=1)), now) if offered(visit, shown.job) else None
    facts: dict[str, Any] = {"does": does, "notice": notice, "lasting": LASTING, "key": visit.key(), "cause": cause}
    return page(visit, "job.html", shown=shown, past=past, **facts)


def plan(visit: Visit) -> Answer:
    """Draw up what a run would do now, and show it."""
    name = visit.path["job"]
    visit.crew.job_named(name)
    drawn = visit.crew.plan(name, keep=True)
    if drawn.id is None:
        raise UsageError(f"job {name!r} is a function of its own: what it would do cannot be counted")
    return visit.go("plans", drawn.id)


def run(visit: Visit) -> Answer:
    """Run it now, outside of its schedule."""
    name = visit.path["job"]
    visit.crew.job_named(name)
    return start(visit, name)


def pause(visit: Visit) -> Answer:
    """Keep every trigger from it."""
    name, reason = visit.path["job"], visit.form.get("reason", "").strip()
    if not reason:
        raise UsageError("a pause needs a reason, for whoever finds the job paused: go back, and say why")
    if (chosen := LASTING.get(visit.form.get("lasting", ""))) is None:
        raise UsageError("a pause lasts as long as the form offers, or until somebody resumes the job")
    until = visit.crew.clock.now() + chosen[1] if chosen[1] else None
    visit.crew.pause(name, by=visit.access.actor, reason=reason, until=until)
    return visit.go("jobs", name, done="paused")


def resume(visit: Visit) -> Answer:
    """Let triggers run it again."""
    name = visit.path["job"]
    visit.crew.resume(name, by=visit.access.actor, reason=visit.form.get("reason", "").strip() or None)
    return visit.go("jobs", name, done="resumed")


def _before(text: str) -> Place | None:
    """Read where a page ends; what is none begins with the newest."""
    at, _, run = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
        return Place(moment.astimezone(UTC), run[:200]) if run and moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


WAYS = (
    Way("GET", "/jobs/{job}", show),
    Way("POST", "/jobs/{job}/plan", plan, Permission.PLAN),
    Way("POST", "/jobs/{job}/run", run, Permission.RUN),
    Way("POST", "/jobs/{job}/pause", pause, Permission.PAUSE),
    Way("POST", "/jobs/{job}/resume", resume, Permission.PAUSE),
)
