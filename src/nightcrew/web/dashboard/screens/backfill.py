"""Backfill: a job's slots that nobody ran, or that failed: listed from one time to another, and run by a button."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from nightcrew.errors import UsageError
from nightcrew.job import Job
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.screens.start import TRIGGER, attempted
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_SHOWN = 100  # slots that are named one by one


def show(visit: Visit) -> Answer:
    """List what a backfill would run."""
    job, since, until = _asked(visit, visit.request.query)
    slots = visit.crew.backlog(job.name, since, until)
    facts: dict[str, Any] = {"job": job, "since": since, "until": until, "slots": slots[:_SHOWN], "number": len(slots)}
    return page(visit, "backfill.html", **facts)


def run(visit: Visit) -> Answer:
    """Run it, the oldest slot first; what takes long goes on beside the page."""
    job, since, until = _asked(visit, visit.form)
    asked = partial(visit.crew.backfill, job.name, since, until, trigger=TRIGGER, caller=visit.access.actor)
    done = attempted(visit, job.name, asked)
    return visit.go("jobs", job.name, done="backfilling" if done is None else "backfilled" if done else "nothing")


def offered(visit: Visit, job: Job | None) -> bool:
    """Tell whether slots that have passed can be run here: policies have none, and workers run their own."""
    return job is not None and job.policy is None and job.enabled and visit.crew.errand is None


def _asked(visit: Visit, given: Mapping[str, str]) -> tuple[Job, datetime, datetime]:
    job = visit.crew.job_named(visit.path["job"])
    if visit.crew.errand is not None:
        raise UsageError(f"job {job.name!r} is run by workers: 'nightcrew backfill {job.name}' on one of them does it")
    return job, _moment(given.get("from", ""), "from"), _moment(given.get("to", ""), "to")


def _moment(text: str, word: str) -> datetime:
    """Read a time as a browser's field writes it; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"a backfill goes {word} a time such as 2026-01-31T12:00, in UTC: fill in both fields"
        ) from None


WAYS = (
    Way("GET", "/jobs/{job}/backfill", show),
    Way("POST", "/jobs/{job}/backfill", run, Permission.RUN),
)
