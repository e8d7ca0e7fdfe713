"""Plan: what a run would do, to be carried out by one button; past a rail only by whoever types the job's name."""

import re
from collections.abc import Iterable
from threading import Lock

from nightcrew.errors import UsageError
from nightcrew.job import Job
from nightcrew.plan import Plan
from nightcrew.rails import grown, lapsed
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page, sorry
from nightcrew.web.dashboard.screens.start import begun, start
from nightcrew.web.dashboard.views.plan import Prospect, prospect
from nightcrew.web.dashboard.visit import Answer, Visit, Way

# Of a form that was clicked twice the second would agree once more, and nobody's run would use that up.
_one_by_one = Lock()
_GONE = "Nobody knows this plan any more: plans are forgotten after a while. Draw up a new one on the job's page."


def show(visit: Visit) -> Answer:
    """Show a plan."""
    found = prospect(visit.crew, visit.path["plan"])
    if found is None:
        return sorry(visit, 404, "No such plan", _GONE)
    return page(visit, "plan.html", found=found, key=visit.key(), grown=visit.request.query.get("done") == "grown")


def run(visit: Visit) -> Answer:
    """Carry a plan out, having agreed to what it would be refused for if whoever asks may, and says so."""
    found = prospect(visit.crew, visit.path["plan"])
    if found is None or found.job is None:
        return sorry(visit, 404, "No such plan", _GONE)
    if not found.refusals:
        return start(visit, found.job.name, found.filed.id)
    if not visit.may(Permission.ACK):
        text = f"{visit.access.actor} may not agree to what a safety rail refuses. Nothing was changed."
        return sorry(visit, 403, "Not allowed", text)
    if visit.form.get("confirm", "").strip() != found.job.name:
        raise UsageError(f"the name that was typed is not {found.job.name!r}: nothing was run")
    with _one_by_one:
        return begun(visit, found.job.name) or _past_the_rails(visit, found, found.job)


def _past_the_rails(visit: Visit, found: Prospect, job: Job) -> Answer:
    """Agree, unless there is by now more than was looked at, or something else; and run."""
    fresh = visit.crew.plan(job.name, keep=True)
    if fresh.id is not None and _other(visit, found, job, fresh):
        return visit.go("plans", fresh.id, done="grown")
    agreed = visit.crew.ack(job.name, by=visit.access.actor)
    return start(visit, job.name, agreed.id)


def _other(visit: Visit, found: Prospect, job: Job, fresh: Plan) -> bool:
    """Tell whether what would be agreed to now is not what was looked at."""
    fingerprint = job.policy.fingerprint if job.policy else ""
    refused, seen = _kinds(fresh.refusals), _kinds(found.refusals)
    old = lapsed(found.filed, fingerprint, visit.crew.clock.now())
    return bool(old) or not refused or bool(refused - seen) or fresh.rows > grown(found.rows)


def _kinds(refusals: Iterable[str]) -> set[str]:
    """Return what is refused, whatever the figures have come to."""
    return {re.sub(r"\d[\d,.:TZ+-]*", "#", sentence) for sentence in refusals}


WAYS = (Way("GET", "/plans/{plan}", show), Way("POST", "/plans/{plan}/run", run, Permission.RUN))
