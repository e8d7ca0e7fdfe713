"""Audit: who did what, and why."""

from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_PAGE = 50


def show(visit: Visit) -> Answer:
    """Show what people did, the newest first, to one job or all."""
    asked = visit.request.query
    job, before = asked.get("job", "")[:150] or None, asked.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    acts = visit.crew.acts.newest(job=job, before=number, limit=_PAGE + 1)
    after = acts[_PAGE - 1].number if len(acts) > _PAGE else None
    return page(visit, "audit.html", acts=acts[:_PAGE], job=job, later=number is not None, after=after)


WAYS = (Way("GET", "/audit", show),)
