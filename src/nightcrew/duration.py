"""Duration: “30 days” ↔ timedelta; and how far away a moment is, for a person."""

import re
from datetime import datetime, timedelta

from nightcrew.errors import DurationError

_UNITS = {
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "µs": timedelta(microseconds=1),
}
_WORDS = {
    "second": ("s", "sec", "secs", "second", "seconds"),
    "minute": ("m", "min", "mins", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("d", "day", "days"),
    "week": ("w", "wk", "wks", "week", "weeks"),
}
_LENGTHS = {word: timedelta(**{f"{unit}s": 1}) for unit, words in _WORDS.items() for word in words}
_CALENDAR = {
    "mo": "month", "mos": "month", "mon": "month", "mth": "month", "mths": "month", "month": "month", "months": "month",
    "y": "year", "yr": "year", "yrs": "year", "year": "year", "years": "year",
}  # fmt: skip
_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_EXAMPLES = "write it like '30 days', '15 minutes' or '1h30m'"
_PART = re.compile(r"([0-9]+)[ \t]*([A-Za-z]+)[ \t]*")
_LONGEST = timedelta(days=36_525)  # a hundred years: more is a slip of the keyboard, not a retention rule


def parse(text: str) -> timedelta:
    """Read a span of time in weeks, days, hours, minutes and seconds.

    >>> parse("1 hour 30 minutes") == parse("1h30m") == timedelta(minutes=90)
    True
    """
    if not isinstance(text, str):
        raise DurationError(f"duration {text!r} is not text; {_EXAMPLES}.")
    shown = repr(text if len(text) <= 60 else f"{text[:60]}…")
    try:
        return _total(text.strip(" \t"))
    except ValueError as problem:
        raise DurationError(f"duration {shown} {problem}.") from None


def spell(delta: timedelta) -> str:
    """Write a span of time in words that `parse` reads back, wherever it has no fraction of a second.

    >>> spell(timedelta(minutes=90))
    '1 hour 30 minutes'
    """
    if delta < timedelta(0):
        return f"minus {spell(-delta)}"
    words = []
    for unit, length in _UNITS.items():
        count, delta = divmod(delta, length)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 and len(unit) > 2 else ''}")
    return " ".join(words) or "0 seconds"


def about(delta: timedelta) -> str:
    """Write a span of time in words for a person: to the second, and to the minute from an hour on."""
    unit = _UNITS["minute" if delta >= _UNITS["hour"] else "second"]
    return spell(delta // unit * unit)


def _total(text: str) -> timedelta:
    """Add up the parts, or raise ValueError with the end of a sentence that starts with the text."""
    parts: dict[timedelta, int] = {}
    position = 0
    while part := _PART.match(text, position):
        number, word = part.groups()
        length = _length(word, number)
        if length in parts:
            raise ValueError(f"names {word!r} or its like twice; name every unit once")
        if len(number) > 12:
            raise ValueError(f"is longer than 100 years; {_EXAMPLES}")
        parts[length] = int(number)
        position = part.end()
    if not parts or position < len(text):
        raise ValueError(_unreadable(text[position:], whole=position == 0))
    # As whole seconds, because timedelta itself overflows on what is only absurd.
    seconds = sum(count * (length // _UNITS["second"]) for length, count in parts.items())
    if seconds > _LONGEST // _UNITS["second"]:
        raise ValueError(f"is longer than 100 years; {_EXAMPLES}")
    if not seconds:
        raise ValueError(f"is no time at all; {_EXAMPLES}")
    return timedelta(seconds=seconds)


def _length(word: str, number: str) -> timedelta:
    calendar = "month" if word == "M" else _CALENDAR.get(word.lower())
    if calendar:  # a capital M too: read as minutes, “6M” would delete half a year of rows after six minutes
        days = (30 if calendar == "month" else 365) * (int(number) if len(number) < 5 else 1)
        minutes = f", or '{number[:20]} minutes' if minutes were meant" if word == "M" else ""
        raise ValueError(f"counts in {calendar}s, which differ in length; say '{days} days'{minutes}")
    if word.lower() not in _LENGTHS:
        raise ValueError(f"has no unit {word[:20]!r}; use seconds, minutes, hours, days or weeks")
    return _LENGTHS[word.lower()]


def _unreadable(rest: str, *, whole: bool) -> str:
    if not rest:
        return f"is empty; {_EXAMPLES}"
    if rest.startswith("-"):
        return f"is negative; {_EXAMPLES}"
    if rest.isascii() and rest.isdigit():
        return f"has no unit after {rest[:20]!r}; {_EXAMPLES}"
    if re.match(r"[0-9]*[.,][0-9]", rest):
        return "has a fraction; use whole numbers and a smaller unit, such as '90 minutes'"
    if whole:
        return f"is no length of time; {_EXAMPLES}"
    return f"has {rest[:20]!r} where a number with its unit belongs; {_EXAMPLES}"


def when(moment: datetime | None, now: datetime) -> str:
    """Say how far away a moment is: “3 min ago”, “just now”, “in 7 min”."""
    if moment is None:
        return "-"
    words, coming = span(abs(moment - now)), moment > now
    if words == "0 s":
        return "now" if coming else "just now"
    return f"in {words}" if coming else f"{words} ago"


def span(length: timedelta) -> str:
    """Say a length of time in its two largest units, and drop the second when it is nothing."""
    seconds = round(length.total_seconds())
    for index, (unit, size) in enumerate(_SPANS):
        if seconds >= size:
            rest = seconds % size // _SPANS[index + 1][1] if size > 60 and seconds < 10 * size else 0
            return f"{seconds // size} {unit}" + (f" {rest} {_SPANS[index + 1][0]}" if rest else "")
    return "0 s"
