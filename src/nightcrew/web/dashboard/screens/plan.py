"""Plan: what a run would do, to be carried out by one button; past a rail only by whoever types the job's name."""

from nightcrew.errors import UsageError
from nightcrew.rails import grown
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page, sorry
from nightcrew.web.dashboard.screens.start import start
from nightcrew.web.dashboard.views.plan import Prospect, prospect
from nightcrew.web.dashboard.visit import Answer, Visit, Way

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
    return _past_the_rails(visit, found, found.job.name)


def _past_the_rails(visit: Visit, found: Prospect, name: str) -> Answer:
    """Agree, unless there is by now more than was looked at, and run."""
    fresh = visit.crew.plan(name, keep=True)
    if fresh.rows > grown(found.rows) and fresh.id is not None:
        return visit.go("plans", fresh.id, done="grown")
    agreed = visit.crew.ack(name, by=visit.access.actor)
    return start(visit, name, agreed.id)


WAYS = (Way("GET", "/plans/{plan}", show), Way("POST", "/plans/{plan}/run", run, Permission.RUN))
