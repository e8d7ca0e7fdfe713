"""Page: a template, filled in for one visit, within the frame that all pages share."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from nightcrew.web.dashboard.paper import render
from nightcrew.web.dashboard.visit import Answer, Visit

STATIC = Path(__file__).parent.parent / "static"


def page(visit: Visit, template: str, status: int = 200, **facts: Any) -> Answer:
    """Return a page."""
    frame = {"visit": visit, "url": visit.url, "may": visit.may, "now": visit.crew.clock.now(), "stamp": stamp()}
    return Answer(status, render(template, **frame, **facts).encode())


def sorry(visit: Visit, status: int, title: str, text: str) -> Answer:
    """Return a page that says why there is no other."""
    return page(visit, "error.html", status, title=title, text=text)


@cache
def stamp() -> str:
    """Return what the addresses of style and script end with, so that a browser keeps them until they change."""
    files = sorted(path for path in STATIC.iterdir() if path.is_file())
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
