"""Paper: templates become pages, and moments, numbers and states become words."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nightcrew.clock import instant
from nightcrew.duration import span, spell, when
from nightcrew.errors import MissingExtra
from nightcrew.web.dashboard.views.marks import mark, mark_of

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
except ImportError:
    raise MissingExtra("the dashboard needs Jinja2; run: pip install 'nightcrew[dashboard]'") from None

_TEMPLATES = Path(__file__).parent.parent / "templates"


def render(template: str, **facts: Any) -> str:
    """Return a page."""
    return _paper.get_template(template).render(**facts)


def figure(number: int, *, whole: bool = True) -> str:
    """Write a number with thin spaces between its thousands, and a plus behind it where that is not all."""
    return f"{number:,}".replace(",", "\u202f") + ("" if whole else "+")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{figure(number)} {one if number == 1 else many or one + 's'}"


def weighed(number: int) -> str:
    """Write so many bytes as a person reads them."""
    size, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"


def ago(moment: datetime, now: datetime) -> Markup:
    """Write a moment as seen from now, with the instant itself behind it."""
    return _time(moment, when(moment, now), "ago")


def stands(moment: datetime, shape: str = "full") -> Markup:
    """Write a moment itself: as a full date and time, as its `clock` time, or as a `day` and time."""
    return _time(moment, moment.astimezone(UTC).strftime(_SHAPES[shape]), shape)


def took(length: timedelta) -> str:
    """Write how long something took."""
    seconds = length.total_seconds()
    if seconds < 10:
        return f"{max(seconds, 0) * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return span(length)


def _visible(said: Any) -> Any:
    """Let no text turn around, or hide, what stands beside it: names and reasons are a stranger's."""
    return said.translate(_HIDDEN) if isinstance(said, str) else said


_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # marks that turn the direction of what follows
_CONTROLS = (*(code for code in range(0x20) if chr(code) not in "\t\n\r"), 0x7F)
_HIDDEN = dict.fromkeys((*_TURNING, *_CONTROLS), "\N{REPLACEMENT CHARACTER}")
_SHAPES = {"full": "%-d %b %Y, %H:%M:%S", "day": "%-d %b, %H:%M", "clock": "%H:%M"}


def _time(moment: datetime, words: str, shape: str) -> Markup:
    exact = moment.astimezone(UTC).strftime("%a %-d %b %Y, %H:%M:%S UTC")
    attributes = Markup('datetime="{}" title="{}" data-shape="{}"').format(instant(moment), exact, shape)
    return Markup("<time {}>{}</time>").format(attributes, words)


_paper = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
_paper.filters |= {"figure": figure, "ago": ago, "stands": stands, "took": took, "spell": spell, "weighed": weighed}
_paper.globals |= {"counted": counted, "mark": mark, "mark_of": mark_of}
