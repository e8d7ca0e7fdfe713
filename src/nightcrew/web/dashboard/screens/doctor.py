"""Doctor: what is wrong, its cause, and the line to paste; the database is looked at when somebody asks for it."""

from nightcrew.checks.check import Severity
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_FIRST = (Severity.PROBLEM, Severity.WARNING)


def show(visit: Visit) -> Answer:
    """Show what can be told without asking the database: a page is not to count anybody's tables by being opened."""
    return _found(visit, static=True)


def examine(visit: Visit) -> Answer:
    """Make every check, and show what came of them; nothing is changed, so that there is nothing to come back to."""
    return _found(visit, static=False)


def _found(visit: Visit, *, static: bool) -> Answer:
    results = visit.crew.examine(static=static)
    found = [(result.check, finding) for result in results for finding in result.findings]
    found.sort(key=lambda pair: _FIRST.index(pair[1].severity))
    unable = [result for result in results if result.unable is not None]
    well = [result.check for result in results if not result.findings and result.unable is None]
    return page(visit, "doctor.html", found=found, unable=unable, well=well, static=static)


WAYS = (
    Way("GET", "/doctor", show),
    Way("POST", "/doctor", examine, Permission.PLAN),
)
