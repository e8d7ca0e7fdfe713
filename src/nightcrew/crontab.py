"""Cron expression, as crontab(5) defines it → Pattern; whatever it cannot mean is refused with the remedy."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from nightcrew.errors import ScheduleError, did_you_mean
from nightcrew.pattern import LAST, MONTHS, WEEKDAYS, Pattern

T = TypeVar("T")

LONGEST = 255  # characters: a job's row keeps the expression, to tell later which slots it had

_ORDER = "minute hour day-of-month month day-of-week"
_MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: the numbers and names it takes."""

    name: str
    low: int
    high: int
    top: int  # where “*” ends: of the days of the week, 7 is 0 again
    longer: str  # what to say instead of a step beyond the field
    names: tuple[str, ...] = ()

    def number(self, word: str) -> int:
        """Read a number or a name, or raise ValueError with the rest of a sentence."""
        if word.isdigit() and len(word) <= 4 and self.low <= int(word) <= self.high:
            return int(word)
        if word.upper() in self.names:
            return self.names.index(word.upper()) + self.low
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        near = f"; write {word[:3].upper()!r}" if word[:3].upper() in self.names else ""
        raise ValueError(f"takes {self.low}-{self.high}{names}, not {word[:20]!r}{near}")

    def word(self, number: int, like: str) -> str:
        """Write a number in the manner of another word of the field: as a name, or in digits."""
        return self.names[number - self.low] if like.isalpha() else str(number)


_FIELDS = (
    _Field("minute", 0, 59, 59, "counting starts again every hour; say every = '{} minutes'"),
    _Field("hour", 0, 23, 23, "counting starts again every day; say every = '{} hours'"),
    _Field("day-of-month", 1, 31, 31, "counting starts again every month; say every = '{} days'"),
    _Field("month", 1, 12, 12, "counting starts again every year; name one month",
           tuple(n[:3].upper() for n in MONTHS)),
    _Field("day-of-week", 0, 7, 6, "counting starts again every week; say every = '{} days'",
           tuple(n[:3].upper() for n in WEEKDAYS)),
)  # fmt: skip
_WORD = r"[0-9]+|[A-Za-z]+"
_ITEM = re.compile(rf"(?:\*|(?P<low>{_WORD})(?:-(?P<high>{_WORD}))?)(?:/(?P<step>[0-9]+))?")
_WHICH = re.compile(r"(?P<day>[0-9]+|[A-Za-z]{3})(?:#(?P<nth>[0-9]+)|L)", re.IGNORECASE | re.ASCII)

# What other crons take and this one refuses, each with its remedy; the first that matches speaks.
_FOREIGN = tuple(
    (re.compile(pattern, re.IGNORECASE | re.ASCII), remedy)
    for pattern, remedy in (
        (r"[ -~]*[^ -~]", "holds a character that is not plain ASCII; type the digits 0-9 and the letters A-Z"),
        (r"\?", "does not take '?'; write '*'"),
        (r"([0-9]+|L)W$", "does not take 'W', the nearest working day; name a day, or a weekday such as MON#1"),
        (r"H(\(|/|$)", "does not take 'H', a number chosen by hash; write a number, such as 17"),
        (r".*~", "does not take '~', a number chosen at random; write a number, such as 17"),
        (r"L-", "cannot count back from the last day; write 'L', or days such as 25-28"),
        (r".*-L$|L/", "takes 'L' only alone or in a list; write 'L' or '15,L'"),
        (r"$", "has an empty place in its list; take out a comma"),
    )
)


def read(text: str) -> Pattern:
    """Read an expression; one that can never fire is refused.

    >>> read("0 */12 * * *").times
    (0, 720)
    """
    parts = _split(text)
    minutes, hours, days, months = (_all(text, f, p, _values) for f, p in zip(_FIELDS[:4], parts[:4], strict=True))
    pattern = Pattern(
        minutes=minutes,
        hours=hours,
        days=days,
        months=tuple(sorted(months)),
        weekdays=_all(text, _FIELDS[4], parts[4], _weekdays),
        # Vixie's flag: “*/2” counts as a star too, and beside a star both day fields have to match.
        either=parts[2][0] != "*" and parts[4][0] != "*",
        # cron(8) calls a job with a star in its hour a wildcard; “0 */12” is not taken for one, as it names two
        # times of day as plainly as “0 0,12”, and a midnight that a zone leaps over would lose its run.
        fixed=parts[0][0] != "*" and (parts[1][0] != "*" or len(hours) < 24),
    )
    if not pattern.possible():
        raise ScheduleError(
            f"schedule {text!r} can never fire: no day of any year fits its day-of-month field {parts[2]!r} "
            f"with month {parts[3]!r} and day-of-week {parts[4]!r}; write 'L' for the last day of a month."
        )
    return pattern


def _split(text: str) -> list[str]:
    """Cut an expression into its five fields."""
    if not isinstance(text, str):
        raise ScheduleError(
            f"schedule {str(text)[:60]!r} is not the text of a cron expression; write like '0 3 * * *'."
        )
    if len(" ".join(text.split())) > LONGEST:
        raise ScheduleError(
            f"schedule {text[:60]!r}… is longer than {LONGEST} characters; write ranges and steps, such as 0-30 or */2."
        )
    expression = text.strip(" \t")
    if expression.lower() == "@reboot":
        raise ScheduleError(f"schedule {text!r} names no time; write a time and set on_start = true beside it.")
    if expression.startswith("@"):
        expression = _MACROS.get(expression.lower(), "")
        if not expression:
            raise ScheduleError(f"schedule {text!r} is not a known name{did_you_mean(text.strip(), _MACROS)}")
    if re.match(r"(CRON_)?TZ=", expression):
        raise ScheduleError(f"schedule {text!r} holds a time zone; write timezone = '…' beside the five fields.")
    parts = re.split(r"[ \t]+", expression)
    if len(parts) != 5 or not expression:
        seconds = "; leave out the seconds, or say every = '30 seconds'" if len(parts) in {6, 7} else ""
        if parts[0].lower() == "every":
            seconds = "; or say every = '5 minutes' in place of a schedule"
        count = len(parts) if expression else 0
        raise ScheduleError(f"schedule {text!r} has {count} fields; write five: {_ORDER}{seconds}.")
    return parts


def _all(text: str, field: _Field, part: str, read_item: Callable[[_Field, str], Iterable[T]]) -> frozenset[T]:
    """Read every item of one field's list."""
    try:
        return frozenset(value for item in part.split(",") for value in read_item(field, item))
    except ValueError as problem:
        raise ScheduleError(f"schedule {text!r}: the {field.name} field {problem}.") from None


def _values(field: _Field, item: str) -> Iterable[int]:
    """Read “*”, “5”, “1-5” or a step over one of them, or raise ValueError with the rest of a sentence."""
    for foreign, remedy in _FOREIGN:
        if foreign.match(item):
            raise ValueError(remedy)
    if field.name == "day-of-month" and item in {"L", "l"}:
        return (LAST,)
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"cannot read {item[:20]!r}; write values, lists like 1,15, ranges like 1-5, steps like */2")
    if match["low"] is None:
        return range(field.low, field.top + 1, _step(field, match))
    low = field.number(match["low"])
    high = field.number(match["high"]) if match["high"] else low
    if high < low:
        raise ValueError(f"has {item!r}, which runs backwards; write {_forward(field, match['low'], low, high)!r}")
    return range(low, high + 1, _step(field, match))


def _weekdays(field: _Field, item: str) -> Iterable[tuple[int, int]]:
    """Read the days of the week, each with which ones of the month: all, the n-th, or the last."""
    if item in {"L", "l"}:
        raise ValueError("has 'L' without a day; write '6L' for the last Saturday of the month")
    which = _WHICH.fullmatch(item)
    if which is None:
        return [(value % 7, nth) for value in _values(field, item) for nth in range(1, 6)]
    nth = int(which["nth"] or LAST)
    if which["nth"] and not 1 <= nth <= 5:
        raise ValueError(f"takes #1 to #5, as no month has a day of the week more often, not {item[:20]!r}")
    return [(field.number(which["day"]) % 7, nth)]


def _step(field: _Field, match: re.Match[str]) -> int:
    step = int(match["step"] or 1)
    if match["step"] and match["low"] and not match["high"]:
        span = f"{match['low']}-{field.word(field.top, match['low'])}/{step}"
        raise ValueError(f"has {match[0]!r}, which crons read in two ways; write {span!r} or {match['low']!r}")
    if step == 0:
        raise ValueError("has a step of 0; write a step of 1 or more")
    if step > field.high - field.low:
        raise ValueError(f"has a step of {step}, but {field.longer.format(step)}")
    return step


def _forward(field: _Field, like: str, low: int, high: int) -> str:
    """Write a backward range as the two forward ones that it stands for."""
    spans = (low, field.top), (field.low, high)
    return ",".join("-".join(field.word(end, like) for end in dict.fromkeys(span)) for span in spans)
