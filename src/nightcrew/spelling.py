"""Schedule → the lines by which a plain cron has the same slots, or why no such lines have."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product

from nightcrew.errors import ScheduleError
from nightcrew.pattern import LAST
from nightcrew.schedule import Cron, Every, Schedule, offsets

_DAY = 24 * 60  # minutes
_ALL_DAYS, _ALL_MONTHS, _ALL_WEEKDAYS = tuple(range(1, 32)), tuple(range(1, 13)), tuple(range(7))
_ALL_HOURS = tuple(range(24))
_EPOCH_WEEKDAY = 4  # 1970-01-01, from which intervals are counted, was a Thursday
_AHEAD = timedelta(days=2 * 366)  # in which two zones have to keep their distance to be taken for one


@dataclass(frozen=True, slots=True)
class Line:
    """Wall times of a zone in five plain fields: no names, no L, no #, and no day of the month beside one of the week.

    `fixed` are times of day, as cron(8) has it, and no wildcard: a “*” in the minute or the hour means one to it.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    timezone: str
    fixed: bool

    @property
    def expression(self) -> str:
        """The five fields: “*/10 * * * *”."""
        minutes = _listed(self.minutes) if self.fixed else _stepped(self.minutes, 60)
        hours = "*" if not self.fixed and self.hours == _ALL_HOURS else _listed(self.hours)
        days = "*" if self.days == _ALL_DAYS else _listed(self.days)
        months = "*" if self.months == _ALL_MONTHS else _listed(self.months)
        weekdays = "*" if self.weekdays == _ALL_WEEKDAYS else _listed(self.weekdays)
        return f"{minutes} {hours} {days} {months} {weekdays}"

    @property
    def daily(self) -> Iterator[str]:
        """The same times in expressions that each come once a day at most."""
        for hour, minute in product(self.hours, self.minutes):
            yield f"{minute} {hour} {self.expression.split(' ', 2)[2]}"

    def later(self, minutes: int) -> "Line":
        """Return the line of the same hours, so many minutes later."""
        return replace(self, minutes=tuple(minute + minutes for minute in self.minutes))

    @property
    def gap(self) -> timedelta:
        """The shortest time between two of its times on one day, or a day."""
        times = sorted(hour * 60 + minute for hour, minute in product(self.hours, self.minutes))
        return timedelta(minutes=min(b - a for a, b in zip(times, [*times[1:], times[0] + _DAY], strict=True)))


@dataclass(frozen=True, slots=True)
class _Times:
    """Minutes of the day on some days, before they are lines."""

    minutes: frozenset[int]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    fixed: bool

    @property
    def every_day(self) -> bool:
        return (self.days, self.months, self.weekdays) == (_ALL_DAYS, _ALL_MONTHS, _ALL_WEEKDAYS)

    def lines(self, timezone: str) -> Iterator[Line]:
        """Yield the lines: hours of the same minutes share one."""
        shared: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for hour in _ALL_HOURS:
            if minutes := tuple(m for m in range(60) if hour * 60 + m in self.minutes):
                shared[minutes].append(hour)
        for minutes, hours in shared.items():
            yield Line(minutes, tuple(hours), self.days, self.months, self.weekdays, timezone, self.fixed)


def zoned(schedule: Schedule, moment: datetime) -> tuple[Line, ...]:
    """Return the lines for a cron that knows time zones: in UTC for a wildcard, else in the schedule's own zone.

    Where clocks are set back, some crons leave out the second pass of an hour, which a wildcard counts.
    """
    found = lines(schedule, moment)
    if all(line.fixed for line in found):
        return found
    with suppress(ScheduleError):
        return lines(schedule, moment, "UTC")
    return found


def lines(schedule: Schedule, moment: datetime, zone: str | None = None) -> tuple[Line, ...]:
    """Return the lines that have exactly a schedule's slots, from a moment on: in a zone, or in the schedule's own.

    How clocks that leap are met is the other cron's own rule. Raises ScheduleError, with the reason, where no lines
    have these slots.
    """
    named = list(_of_cron(schedule) if isinstance(schedule, Cron) else [_of_interval(schedule)])
    if zone is not None and zone != schedule.timezone:
        named = [moved for times in named for moved in _moved(schedule, times, moment, zone)]
    return tuple(line for times in named for line in times.lines(zone or schedule.timezone))


def _of_cron(schedule: Cron) -> Iterator[_Times]:
    pattern = schedule.pattern
    weekdays = tuple(day for day in _ALL_WEEKDAYS if {(day, nth) for nth in range(1, 6)} <= pattern.weekdays)
    days = tuple(sorted(pattern.days - {LAST}))
    every_date, every_weekday = days == _ALL_DAYS, weekdays == _ALL_WEEKDAYS
    if LAST in pattern.days and not every_date:
        raise _unspeakable(schedule, "only some crons know the last day of a month, 'L'")
    if any(day not in weekdays for day, _ in pattern.weekdays):
        raise _unspeakable(schedule, "only some crons know the first or the last such weekday of a month, '#' and 'L'")
    if not (every_date or every_weekday or pattern.either):
        raise _unspeakable(schedule, "most crons run on such dates and on such weekdays, not on those that are both")
    at, months, fixed = frozenset(pattern.times), pattern.months, pattern.fixed
    if (every_date and every_weekday) or (pattern.either and (every_date or every_weekday)):
        yield _Times(at, _ALL_DAYS, months, _ALL_WEEKDAYS, fixed)
        return
    if not every_date:
        yield _Times(at, days, months, _ALL_WEEKDAYS, fixed)
    if not every_weekday:
        yield _Times(at, _ALL_DAYS, months, weekdays, fixed)


def _of_interval(schedule: Every) -> _Times:
    period, odd = divmod(schedule.period, timedelta(minutes=1))
    phase, odd_phase = divmod(schedule.phase, timedelta(minutes=1))
    if odd or odd_phase:
        raise _unspeakable(schedule, "a plain cron counts in whole minutes")
    if period == 7 * _DAY:
        weekday = (_EPOCH_WEEKDAY + phase // _DAY) % 7
        return _Times(frozenset({phase % _DAY}), _ALL_DAYS, _ALL_MONTHS, (weekday,), fixed=True)
    if _DAY % period:
        raise _unspeakable(schedule, "a plain cron begins to count anew with every day, which is no multiple of it")
    at = frozenset((phase + number * period) % _DAY for number in range(_DAY // period))
    return _Times(at, _ALL_DAYS, _ALL_MONTHS, _ALL_WEEKDAYS, fixed=not _hourly(at))


def _moved(schedule: Schedule, times: _Times, moment: datetime, zone: str) -> Iterator[_Times]:
    """Yield the same instants as another zone's clocks show them."""
    ours, theirs = offsets(schedule.timezone, moment, _AHEAD), offsets(zone, moment, _AHEAD)
    distances = {their - our for our, their in zip(ours, theirs, strict=True)}
    by, seconds = divmod(distances.pop(), timedelta(minutes=1))
    through = not times.fixed and times.every_day and _hourly(times.minutes)
    if seconds or any((other - timedelta(minutes=by)) % timedelta(hours=1) or not through for other in distances):
        raise _unspeakable(
            schedule, f"the clocks of {schedule.timezone} and of {zone}, the zone of that cron, differ by season"
        )
    if through:  # the same minutes of every hour, whatever it is called
        by %= 60
        yield _Times(frozenset((at + by) % _DAY for at in times.minutes), *_on(times), times.fixed)
        return
    shifted: dict[int, set[int]] = defaultdict(set)
    for at in times.minutes:
        day, minute = divmod(at + by, _DAY)
        shifted[day].add(minute)
    for day, minutes in sorted(shifted.items()):
        if day and (times.days, times.months) != (_ALL_DAYS, _ALL_MONTHS):
            raise _unspeakable(schedule, f"in {zone} it falls on the day before or after, which may be another month's")
        weekdays = tuple(sorted((weekday + day) % 7 for weekday in times.weekdays))
        yield _Times(frozenset(minutes), times.days, times.months, weekdays, times.fixed)


def _on(times: _Times) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return times.days, times.months, times.weekdays


def _hourly(minutes: Iterable[int]) -> bool:
    """Tell whether every hour has the same minutes."""
    at = set(minutes)
    return at == {(minute + 60) % _DAY for minute in at}


def _unspeakable(schedule: Schedule, why: str) -> ScheduleError:
    return ScheduleError(f"schedule {schedule.expression!r} cannot be written as lines of a plain cron: {why}")


def _stepped(values: tuple[int, ...], end: int) -> str:
    """Write “*/10” for what begins at 0 and goes evenly to the end, “*” for all."""
    step = end // len(values)
    if values != tuple(range(0, end, step)) or len(values) == 1:
        return _listed(values)
    return "*" if step == 1 else f"*/{step}"


def _listed(values: tuple[int, ...]) -> str:
    """Write numbers in order, three or more in a row as “9-17”."""
    parts, left = [], list(values)
    while left:
        length = next((n for n in range(1, len(left)) if left[n] != left[0] + n), len(left))
        run = 1 if length == 2 else length
        parts.append(f"{left[0]}-{left[run - 1]}" if run > 2 else str(left[0]))
        left = left[run:]
    return ",".join(parts)
