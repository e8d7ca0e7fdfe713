"""Run: one run as it goes or ended, and its cancelling."""

from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page, sorry
from nightcrew.web.dashboard.views.run import running
from nightcrew.web.dashboard.visit import Answer, Visit, Way


def show(visit: Visit) -> Answer:
    """Show one run."""
    found = running(visit.crew, visit.path["run"])
    if found is None:
        return sorry(visit, 404, "No such run", "Nobody knows this run: it may have been removed with its history.")
    return page(visit, "run.html", found=found, busy=visit.request.query.get("done") == "busy")


def cancel(visit: Visit) -> Answer:
    """End a run for good after the batch it is in."""
    visit.crew.cancel(visit.path["run"], by=visit.access.actor, reason=visit.form.get("reason", "").strip())
    return visit.go("runs", visit.path["run"])


WAYS = (Way("GET", "/runs/{run}", show), Way("POST", "/runs/{run}/cancel", cancel, Permission.CANCEL))
