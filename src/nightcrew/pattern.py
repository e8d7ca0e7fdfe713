"""Pattern: the minutes, hours and days a cron expression names, as wall times of no zone."""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import product

MONTHS = ("January", "February", "March", "April", "May", "June",
          "July", "August", "September", "October", "November", "December")  # fmt: skip
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
LAST = -1  # the last day of a month, or the last such weekday of it
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_LENGTHS = {2: (28, 29), 4: (30,), 6: (30,), 9: (30,), 11: (30,)}


@dataclass(frozen=True, slots=True)
class Pattern:
    """Wall times; one is carried as if it were UTC, and schedule.py knows which instant it means."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]  # LAST is the last day of the month
    months: tuple[int, ...]
    weekdays: frozenset[tuple[int, int]]  # (weekday with Sunday = 0, which one of the month or LAST)
    either: bool  # one matching day field is enough
    fixed: bool  # runs at particular times, as cron(8) puts it, and not by a wildcard
    times: tuple[int, ...] = field(init=False)  # minutes of the day, in order
    shapes: dict[tuple[int, int], tuple[int, ...]] = field(init=False)  # what monthrange says of a month → its days

    def __post_init__(self) -> None:
        times = sorted(hour * 60 + minute for hour, minute in product(self.hours, self.minutes))
        object.__setattr__(self, "times", tuple(times))
        shapes = {shape: tuple(self._days(*shape)) for shape in product(range(7), range(28, 32))}
        object.__setattr__(self, "shapes", shapes)

    def first(self, wall: datetime) -> datetime | None:
        """Return the first named wall time at or after `wall`, or None where the calendar ends."""
        wall += timedelta(minutes=1, microseconds=-1)
        index = bisect_left(self.times, wall.hour * 60 + wall.minute) if self._names(wall) else len(self.times)
        if index < len(self.times):
            return _at(wall, self.times[index])
        day = self._nearest(wall, 1)
        return _at(day, self.times[0]) if day else None

    def last(self, wall: datetime) -> datetime | None:
        """Return the last named wall time at or before `wall`, or None where the calendar starts."""
        index = bisect_right(self.times, wall.hour * 60 + wall.minute) if self._names(wall) else 0
        if index:
            return _at(wall, self.times[index - 1])
        day = self._nearest(wall, -1)
        return _at(day, self.times[-1]) if day else None

    def possible(self) -> bool:
        """Return whether any year has such a day; over the years a month starts on every weekday."""
        return any(self.shapes[start, n] for m in self.months for n in _LENGTHS.get(m, (31,)) for start in range(7))

    def describe(self) -> str:
        """Say it in plain English.

        >>> from nightcrew.crontab import read
        >>> read("0 0 1 * MON").describe()
        'at 00:00 on day 1 of every month and every Monday'
        """
        return " ".join(part for part in (self._say_times(), self._say_days()) if part)

    def _days(self, start: int, length: int) -> Iterator[int]:
        """Yield the days of a month of some length that starts on a weekday (Monday = 0, as calendar counts)."""
        for day in range(1, length + 1):
            weekday, which = (start + day) % 7, (day + 6) // 7
            by_date = day in self.days or (day == length and LAST in self.days)
            by_week = (weekday, which) in self.weekdays or (day + 7 > length and (weekday, LAST) in self.weekdays)
            if (by_date or by_week) if self.either else (by_date and by_week):
                yield day

    def _names(self, day: date) -> bool:
        return day.month in self.months and day.day in self.shapes[monthrange(day.year, day.month)]

    def _nearest(self, day: date, step: int) -> date | None:
        """Return the first named day after (step 1) or before (step -1) a day."""
        for year in range(day.year, 10_000 if step > 0 else 0, step):
            for month in self.months[::step]:
                distance = (year - day.year or month - day.month) * step
                for number in self.shapes[monthrange(year, month)][::step] if distance >= 0 else ():
                    if distance or (number - day.day) * step > 0:
                        return date(year, month, number)
        return None

    def _say_times(self) -> str:
        if len(self.times) <= 6:
            return "at " + _series(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in self.times)
        step = 60 // len(self.minutes)
        if self.minutes == set(range(0, 60, step)) and len(self.minutes) > 1:
            when, of = (f"every {step} minutes" if step > 1 else "every minute"), ""
        else:
            plural = "s" if len(self.minutes) > 1 else ""
            when, of = f"at minute{plural} {_series(_runs(self.minutes))}", " of every hour"
        plural = "s" if len(self.hours) > 1 else ""
        return when + (of if len(self.hours) == 24 else f" in hour{plural} {_series(_runs(self.hours))}")

    def _say_days(self) -> str:
        every_date, every_weekday = len(self.days - {LAST}) == 31, len({w for w in self.weekdays if w[1] > 0}) == 35
        months = _series(MONTHS[month - 1] for month in self.months) if len(self.months) < 12 else ""
        dates = f"on {_series(_say_dates(self.days))} of {months or 'every month'}"
        weekdays = _series(_say_weekdays(self.weekdays, months if self.either or every_date else ""))
        if (every_date and every_weekday) or (self.either and (every_date or every_weekday)):
            return " ".join(["every day"] * (len(self.times) <= 6) + [f"in {months}"] * bool(months))
        if every_date or every_weekday:
            return weekdays if every_date else dates
        return f"{dates} and {weekdays}" if self.either else f"{weekdays} that falls {dates}"


def _at(day: date, minutes: int) -> datetime:
    return datetime.combine(day, time(*divmod(minutes, 60)), UTC)


def _say_dates(days: frozenset[int]) -> Iterator[str]:
    numbers = days - {LAST}
    if numbers:
        yield f"day{'s' if len(numbers) > 1 else ''} " + _series(_runs(numbers))
    if LAST in days:
        yield "the last day"


def _say_weekdays(weekdays: frozenset[tuple[int, int]], months: str) -> Iterator[str]:
    every = [name for number, name in enumerate(WEEKDAYS) if {(number, nth) for nth in range(1, 6)} <= weekdays]
    if every:
        yield f"every {_series(every)}" + (f" in {months}" if months else "")
    for number, nth in sorted(weekdays):
        if WEEKDAYS[number] not in every:
            yield f"on the {_ORDINALS[nth]} {WEEKDAYS[number]} of {months or 'every month'}"


def _runs(numbers: Iterable[int]) -> Iterator[str]:
    """Yield numbers in order, three or more in a row as “9-17”."""
    left = sorted(numbers)
    while left:
        length = next((n for n in range(1, len(left)) if left[n] != left[0] + n), len(left))
        if length > 2:
            yield f"{left[0]}-{left[length - 1]}"
        else:
            yield from map(str, left[:length])
        left = left[length:]


def _series(words: Iterable[str]) -> str:
    """Join words as “a, b and c”."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
