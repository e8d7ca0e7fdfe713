"""Hours: the time of day in which a job may work, and what that means where clocks leap.

The bounds are wall times of a zone, and come as a schedule's fixed times do: one that a leap skips comes right after
the gap, and one that comes twice counts the first time. So hours that lie in a gap altogether are left out that day.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from nightcrew.errors import ScheduleError, misfit
from nightcrew.schedule import Cron, cron

_TEXT = re.compile(r"^([01]?\d|2[0-3]):([0-5]\d) ?[-\u2013] ?([01]?\d|2[0-3]):([0-5]\d)$")
_TICK = timedelta(microseconds=1)
_EXAMPLE = "write a text such as '22:00-06:00'"


@dataclass(frozen=True, slots=True)
class Hours:
    """From one wall time up to another, every day; over midnight where the second is the earlier one.

    Raises ScheduleError for a text that is none, and for hours that last the whole day.
    """

    text: str
    timezone: str = "UTC"
    _begin: Cron = field(init=False, repr=False, compare=False)
    _end: Cron = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if wrong := misfit(self.text, str, _EXAMPLE):
            raise ScheduleError(f"window {wrong}")
        if (found := _TEXT.match(self.text.strip())) is None:
            raise ScheduleError(f"window {self.text[:40]!r} is no time of day from one minute to another; {_EXAMPLE}")
        hour, minute, last_hour, last_minute = map(int, found.groups())
        if (hour, minute) == (last_hour, last_minute):
            raise ScheduleError(f"window {self.text!r} begins when it ends; {_EXAMPLE}, or leave it out for all day")
        object.__setattr__(self, "text", f"{hour:02}:{minute:02}-{last_hour:02}:{last_minute:02}")
        object.__setattr__(self, "_begin", cron(f"{minute} {hour} * * *", self.timezone))
        object.__setattr__(self, "_end", cron(f"{last_minute} {last_hour} * * *", self.timezone))

    def __str__(self) -> str:
        """Write them as they are given, with their zone."""
        return self.text if self.timezone == "UTC" else f"{self.text} ({self.timezone})"

    def opens(self, moment: datetime) -> datetime:
        """Return when work may begin: at a moment that lies in the hours, else with the first one that does."""
        while not self._open(moment):
            moment = self._begin.after(moment)
        return moment

    def closes(self, moment: datetime, early: timedelta = timedelta(0)) -> datetime | None:
        """Return when work has to end that is to begin now, or None where it may not begin.

        Hours that begin no more than `early` after the moment count as begun.
        """
        opened = self.opens(moment)
        if opened - moment > early:
            return None
        end = self._end.after(opened)
        while self._open(end):  # they end and begin again in one gap
            end = self._end.after(end)
        return end

    def shut(self, before: datetime) -> tuple[datetime, datetime]:
        """Return from when to when they last were over, having ended before a moment."""
        end = self._end.latest(before - _TICK) or before
        return end, self.opens(end)

    def _open(self, moment: datetime) -> bool:
        begun, ended = self._begin.latest(moment), self._end.latest(moment)
        if begun is None or ended is None:
            return False
        if begun == ended:  # both lie in one gap: what the clocks show after it decides
            begin, end = self.text.split("-")
            shown = f"{begun.astimezone(ZoneInfo(self.timezone)):%H:%M}"
            return begin <= shown < end if begin < end else not end <= shown < begin
        return begun > ended


def hours(given: str | Hours | None, timezone: str) -> Hours | None:
    """Return hours as they are, and those of a text in a time zone."""
    return Hours(given, timezone) if isinstance(given, str) else given
