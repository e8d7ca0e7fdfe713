"""Schedule → the Slots that are due; cron, intervals, time zones, the DST rule.

A Slot is an instant in UTC. A cron expression names wall times, and where a zone's clocks leap, nightcrew follows the
rule of Debian's cron(8), made exact:

- a wall time that does not exist runs once, at the first instant after the gap; several in one gap are one run;
- a wall time that comes twice runs the first time only;
- an expression whose minute or hour starts with “*” follows the time that really passes: nothing runs for the gap,
  and both passes of a repeated hour count. An hour step with a fixed minute (“0 */12 * * *”) is not such a wildcard
  here: it names times of day, and follows the first two rules.

cron(8) takes a leap of three hours or more for a corrected clock; here a zone that skips a whole day is a gap too.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from hashlib import sha256
from importlib import resources
from itertools import islice, pairwise
from typing import TypeAlias
from zoneinfo import ZoneInfo

from nightcrew import duration
from nightcrew.crontab import read
from nightcrew.errors import ScheduleError, did_you_mean, misfit
from nightcrew.pattern import Pattern

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY, _SECOND, _TICK = timedelta(days=1), timedelta(seconds=1), timedelta(microseconds=1)
_LONGEST = timedelta(days=36_525)
_FIRST_YEAR, _LAST_YEAR = 2, 9998  # slots keep off the ends of datetime, so that no zone's offset leads out of it


@dataclass(frozen=True, slots=True)
class Cron:
    """Slots at the wall times of a cron expression in a time zone."""

    expression: str
    timezone: str = "UTC"
    pattern: Pattern = field(init=False, repr=False, compare=False)
    meaning: str = field(init=False, repr=False, compare=False)
    """A fingerprint that is the same for every way to write this schedule, and no other."""

    def __post_init__(self) -> None:
        if wrong := misfit(self.expression, str, "write a text such as '0 3 * * *'"):
            raise ScheduleError(f"schedule {wrong}.")
        object.__setattr__(self, "pattern", read(self.expression))
        object.__setattr__(self, "expression", " ".join(self.expression.split()))
        try:
            zone(self.timezone)
        except ScheduleError as problem:
            raise ScheduleError(f"schedule {self.expression!r}: {problem}") from None
        pattern = self.pattern
        named = [sorted(part) for part in (pattern.minutes, pattern.hours, pattern.days, pattern.months)]
        fingerprint = _digest(self.timezone, named, sorted(pattern.weekdays), pattern.either, pattern.fixed)
        object.__setattr__(self, "meaning", fingerprint)

    def after(self, moment: datetime) -> datetime:
        """Return the first slot later than a moment."""
        moment = _utc(moment)
        for year in range(max(moment.year, _FIRST_YEAR), _LAST_YEAR + 1):
            for stretch in _stretches(self.timezone, year):
                if stretch.end > moment and (slot := stretch.first(self.pattern, moment)):
                    return slot
        raise ScheduleError(f"schedule {self.expression!r} has no slot after {moment}; slots end with {_LAST_YEAR}.")

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last slot that is not later than a moment, or None before the first."""
        moment = _utc(moment)
        for year in range(min(moment.year, _LAST_YEAR), _FIRST_YEAR - 1, -1):
            for stretch in reversed(_stretches(self.timezone, year)):
                if stretch.start <= moment and (slot := stretch.last(self.pattern, moment)):
                    return slot
        return None

    def between(self, after: datetime, until: datetime, limit: int | None = None) -> Iterator[datetime]:
        """Return the slots later than one moment and not later than another, oldest first."""
        return _between(self, after, until, limit)

    def leapt(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the slots within two moments that stand for wall times that the zone's clocks leap over."""
        for year in range(_utc(after).year, _utc(until).year + 1):
            for stretch in _stretches(self.timezone, year):
                start, wall = stretch.start, stretch.start + stretch.offset
                if after < start <= until and self.latest(start) == start and self.pattern.first(wall) != wall:
                    yield start

    def describe(self) -> str:
        """Say it in plain English: “at 00:00 and 12:00 every day”."""
        return self.pattern.describe() + (f" ({self.timezone})" if self.timezone != "UTC" else "")


@dataclass(frozen=True, slots=True)
class Every:
    """Slots at whole multiples of a period since 1970 in UTC, shifted by a phase."""

    period: timedelta
    phase: timedelta = timedelta(0)
    meaning: str = field(init=False, repr=False, compare=False)
    """A fingerprint that is the same for every way to write this schedule, and no other."""
    _first: datetime = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for length in (self.period, self.phase):
            if wrong := misfit(length, timedelta, "write a text such as '10 minutes', or timedelta(minutes=10)"):
                raise ScheduleError(f"a length of time of a schedule {wrong}.")
        if not _SECOND <= self.period <= _LONGEST:
            raise ScheduleError(f"schedule {self.expression!r} is out of range; take a second to 100 years.")
        if not timedelta(0) <= self.phase < self.period:
            raise ScheduleError(f"schedule {self.expression!r} has a phase out of range; take less than the period.")
        object.__setattr__(self, "meaning", _digest("every", self.period, self.phase))
        object.__setattr__(self, "_first", _EPOCH + self.phase)

    @property
    def expression(self) -> str:
        """Return the schedule as it is written: “every 10 minutes”."""
        shift = f", shifted by {duration.spell(self.phase)}" if self.phase else ""
        return f"every {duration.spell(self.period)}{shift}"

    @property
    def timezone(self) -> str:
        """Return the zone of every interval, which knows no DST."""
        return "UTC"

    def after(self, moment: datetime) -> datetime:
        """Return the first slot later than a moment."""
        if moment.tzinfo is not UTC:
            moment = _utc(moment)
        try:
            return moment + (self.period - (moment - self._first) % self.period)
        except OverflowError:
            raise self._no_slot(moment) from None

    def latest(self, moment: datetime) -> datetime:
        """Return the last slot that is not later than a moment."""
        if moment.tzinfo is not UTC:
            moment = _utc(moment)
        try:
            return moment - (moment - self._first) % self.period
        except OverflowError:
            raise self._no_slot(moment) from None

    def between(self, after: datetime, until: datetime, limit: int | None = None) -> Iterator[datetime]:
        """Return the slots later than one moment and not later than another, oldest first."""
        return _between(self, after, until, limit)

    def describe(self) -> str:
        """Say it in plain English: “every 10 minutes”."""
        words = self.expression.split(" ")
        return f"every {words[2]}" if words[1] == "1" and len(words) == 3 else self.expression

    def _no_slot(self, moment: datetime) -> ScheduleError:
        return ScheduleError(f"schedule {self.expression!r} has no slot beside {moment}; the calendar ends.")


def _digest(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()


Schedule: TypeAlias = Cron | Every


@lru_cache(maxsize=1024)
def written(expression: str, timezone: str) -> Schedule:
    """Return the schedule whose `expression` and `timezone` these are; raises ScheduleError for neither kind."""
    if not expression.startswith("every "):
        return cron(expression, timezone)
    period, _, phase = expression.removeprefix("every ").partition(", shifted by ")
    return every(period, duration.parse(phase) if phase else timedelta(0))


def cron(expression: str, timezone: str = "UTC") -> Cron:
    """Return the schedule of a crontab(5) expression in a time zone.

    >>> cron("30 2 * * *", "Europe/Paris").after(datetime(2026, 3, 28, 12, tzinfo=UTC)).isoformat()
    '2026-03-29T01:00:00+00:00'
    """
    return Cron(expression, timezone)


def every(period: timedelta | str, phase: timedelta = timedelta(0)) -> Every:
    """Return the schedule of an interval.

    >>> every("10 minutes").after(datetime(2026, 3, 28, 12, 5, tzinfo=UTC)).isoformat()
    '2026-03-28T12:10:00+00:00'
    """
    return Every(duration.parse(period) if isinstance(period, str) else period, phase)


def offsets(timezone: str, moment: datetime, ahead: timedelta) -> list[timedelta]:
    """Return how far a zone's clocks are before UTC at a moment, and every day from then on."""
    clocks = ZoneInfo(timezone)
    return [_offset(clocks, _utc(moment) + number * _DAY) for number in range(ahead // _DAY)]


def zone(name: str) -> str:
    """Return the name of a time zone if tzdata lists it."""
    if isinstance(name, str) and name in _zones():
        return name
    shown = str(name)[:60]
    cities = {known.rpartition("/")[2].lower(): known for known in sorted(_zones(), reverse=True)}
    # An abbreviation such as PST is near to nothing but another one, which is another zone.
    near = did_you_mean(cities.get(shown.lower(), shown), _zones()) if len(shown) > 4 else ""
    near = near or "; write a name such as 'Europe/Paris' or 'UTC'."
    raise ScheduleError(f"there is no time zone {shown!r}{near}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a zone's clocks run evenly.

    Fixed wall times from `shown` on are this stretch's to run: so each belongs to one stretch exactly, those that the
    clocks leapt over go to its start, and those that they had shown before do not come again.
    """

    start: datetime
    end: datetime
    offset: timedelta
    shown: datetime  # the wall time that the zone's clocks had come to before the start

    def first(self, pattern: Pattern, moment: datetime) -> datetime | None:
        """Return the first slot in this stretch later than a moment."""
        floor = self._floor(pattern)
        if moment >= self.start:
            floor = max(floor, moment + self.offset + _TICK)
        wall = pattern.first(floor)
        return max(self.start, wall - self.offset) if wall and wall < self.end + self.offset else None

    def last(self, pattern: Pattern, moment: datetime) -> datetime | None:
        """Return the last slot in this stretch that is not later than a moment."""
        wall = pattern.last(min(moment, self.end - _TICK) + self.offset)
        return max(self.start, wall - self.offset) if wall and wall >= self._floor(pattern) else None

    def _floor(self, pattern: Pattern) -> datetime:
        return self.shown if pattern.fixed else self.start + self.offset


@lru_cache(maxsize=512)
def _stretches(timezone: str, year: int) -> tuple[Stretch, ...]:
    """Return the stretches of one year in UTC, cut at its ends."""
    begin, end, clocks = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC), ZoneInfo(timezone)
    # A leap back on New Year's Eve may still be repeating wall times in January, hence two days more.
    days = [begin + number * _DAY for number in range(-2, (end - begin).days + 1)]
    leaps = {
        _leap(clocks, day) for day, following in pairwise(days) if _offset(clocks, day) != _offset(clocks, following)
    }
    stretches, shown = [], days[0]
    for start, stop in pairwise([*sorted({begin, *leaps} - {end}), end]):
        shown = max(shown, start + _offset(clocks, start - _TICK))
        if start >= begin:
            stretches.append(Stretch(start, stop, _offset(clocks, start), shown))
    return tuple(stretches)


def _leap(clocks: ZoneInfo, day: datetime) -> datetime:
    """Return when, to the second, a zone's offset changes in the 24 hours after `day`; no zone does so twice."""
    before = _offset(clocks, day)
    changed = bisect_left(range(86_400), x=True, key=lambda second: _offset(clocks, day + second * _SECOND) != before)
    return day + changed * _SECOND


def _offset(clocks: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(clocks).replace(tzinfo=UTC) - instant


def _between(schedule: Schedule, after: datetime, until: datetime, limit: int | None) -> Iterator[datetime]:
    slot, last = _utc(after), schedule.latest(until)

    def walk() -> Iterator[datetime]:
        nonlocal slot
        while last is not None and slot < last:
            slot = schedule.after(slot)
            yield slot

    return islice(walk(), limit)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise ScheduleError(f"moment {moment} has no time zone; give it one, such as tzinfo=UTC.")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ScheduleError(
            f"moment {moment} lies outside the calendar in UTC; take one in the years 2-9998."
        ) from None


@cache
def _zones() -> frozenset[str]:
    """Return the names in tzdata's own list; what else lies in a machine's zone folder differs by machine."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())
