"""Paper: templates become pages, and moments and numbers become words."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nightcrew.clock import instant
from nightcrew.demo.files import Origin

_ORIGINS = {
    Origin.UPLOAD: "sent",
    Origin.PASTE: "pasted text",
    Origin.PROJECT: "of a project",
    Origin.IMAGE: "drawn",
}
_STEPS = ((1, "s", 60), (60, "min", 60), (3600, "h", 48), (86400, "d", float("inf")))


def render(template: str, **facts: Any) -> str:
    """Return a page."""
    return _paper.get_template(template).render(**facts)


def figure(number: int) -> str:
    """Write a number with thin spaces between its thousands."""
    return f"{number:,}".replace(",", "\u202f")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{figure(number)} {one if number == 1 else many or one + 's'}"


def span(length: timedelta) -> str:
    """Write a length of time in its largest unit, rounded: “3 d”, “4 min”."""
    seconds = abs(length.total_seconds())
    counts = ((round(seconds / size), unit, limit) for size, unit, limit in _STEPS)
    return next(f"{figure(count)} {unit}" for count, unit, limit in counts if count < limit)


def length_of(length: timedelta) -> str:
    """Write a length of time in full: “31 days”, “1 day and 15 minutes”."""
    minutes = round(length.total_seconds() / 60)
    sizes = ((minutes // 1440, "day"), (minutes % 1440 // 60, "hour"), (minutes % 60, "minute"))
    parts = [counted(number, unit) for number, unit in sizes if number]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else "no time"


def ago(moment: datetime, now: datetime) -> Markup:
    """Write a moment as seen from now, with the instant itself behind it."""
    words = span(moment - now)
    if moment > now:
        words = "now" if words == "0 s" else f"in {words}"
    else:
        words = "just now" if now - moment < timedelta(seconds=5) else f"{words} ago"
    exact = moment.strftime("%a %d %b %Y, %H:%M UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(instant(moment), exact, words)


def stands(moment: datetime) -> Markup:
    """Write a moment as date and time."""
    return Markup('<time datetime="{}">{}</time>').format(instant(moment), moment.strftime("%d %b %Y, %H:%M UTC"))


def bytes_(size: int) -> str:
    """Write the size of a file."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} kB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MB"


def seal(csrf: str) -> Markup:
    """Write the hidden field that every form carries."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(csrf)


_paper = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_paper.filters |= {"figure": figure, "ago": ago, "stands": stands, "length_of": length_of, "bytes": bytes_}
_paper.globals |= {"counted": counted, "seal": seal, "origins": _ORIGINS}
