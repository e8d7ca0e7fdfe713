"""Tonight: the first screen."""

from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.views.tonight import tonight
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_LONGEST = 100  # letters of what is looked for, as those of a job's name


def show(visit: Visit) -> Answer:
    """Show how the night goes."""
    asked, begins = visit.request.query.get("q", "")[:_LONGEST].strip(), visit.request.query.get("after")
    return page(visit, "tonight.html", tonight=tonight(visit.crew, asked=asked, begins=begins))


WAYS = (Way("GET", "/", show),)
