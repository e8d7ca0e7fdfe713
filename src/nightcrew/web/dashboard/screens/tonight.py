"""Tonight: the first screen; and the stop of every job at once."""

from nightcrew.errors import UsageError
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.views.tonight import tonight
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_LONGEST = 100  # letters of what is looked for, as those of a job's name
_NOTICES = {
    "stopped": "Every job is stopped: what ran ends after the batch it is in, and no trigger starts another.",
    "resumed": "Jobs run again when they are due; those that are paused one by one stay paused.",
}


def show(visit: Visit) -> Answer:
    """Show how the night goes."""
    query = visit.request.query
    asked, notice = query.get("q", "")[:_LONGEST].strip(), _NOTICES.get(query.get("done", ""))
    found = tonight(visit.crew, asked=asked, begins=query.get("after"))
    return page(visit, "tonight.html", tonight=found, notice=notice)


def stop(visit: Visit) -> Answer:
    """Stop every job."""
    reason = visit.form.get("reason", "").strip()
    if not reason:
        raise UsageError("a stop of every job needs a reason, for whoever finds them stopped: go back, and say why")
    visit.crew.stop_all(by=visit.access.actor, reason=reason)
    return visit.go(done="stopped")


def resume(visit: Visit) -> Answer:
    """End the stop."""
    visit.crew.resume_all(by=visit.access.actor, reason=visit.form.get("reason", "").strip() or None)
    return visit.go(done="resumed")


WAYS = (
    Way("GET", "/", show),
    Way("POST", "/stop-all", stop, Permission.PAUSE),
    Way("POST", "/resume-all", resume, Permission.PAUSE),
)
