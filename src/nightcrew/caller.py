"""Caller: who asks for a run from outside, what they say of it, and whether their schedule is the job's."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from nightcrew.books import Remark
from nightcrew.clock import instant
from nightcrew.errors import ScheduleError
from nightcrew.job import Job
from nightcrew.schedule import Schedule, cron
from nightcrew.spelling import lines

DRIFT = "drift"
"""The kind of the remark that a caller's schedule is not the job's."""

_COMPARED = 24  # slots of two schedules that are written in different ways


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the `name` that the run keeps, and what they say of themselves.

    By its `key` a call for a run that belongs to no slot is known again, so that its repeat starts no second one.
    `schedule` is the cron expression that the caller goes by. `source` is what of the call named the slot, where that
    is not the caller's own wish, but the time at which the caller's schedule was due.
    """

    name: str | None = None
    key: str | None = None
    schedule: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, given: "Caller | str | None") -> "Caller":
        """Return a caller, of whom there may be no more than a name."""
        return given if isinstance(given, Caller) else cls(given)

    @property
    def token(self) -> str | None:
        """The key as part of a run's id."""
        return None if self.key is None else sha256(self.key.encode()).hexdigest()[:24]


def drift(job: Job, caller: Caller, slot: datetime | None, now: datetime) -> tuple[Remark, ...]:
    """Return the remark that a caller goes by another schedule than the job, as far as they say by which, or none."""
    ours = job.schedule.expression + (f" ({job.schedule.timezone})" if job.schedule.timezone != "UTC" else "")
    if caller.schedule is not None and not agrees(job.schedule, caller.schedule, now):
        said = f"the caller goes by the schedule {caller.schedule!r}, the job by {ours!r}"
        return (Remark(DRIFT, said, {"theirs": caller.schedule, "ours": ours}),)
    if caller.source is not None and slot is not None and job.schedule.latest(slot) != slot:
        said = f"{caller.source} says {instant(slot)}, which is no slot of the job's schedule {ours!r}"
        return (Remark(DRIFT, said, {"theirs": instant(slot), "ours": ours}),)
    return ()


def agrees(ours: Schedule, theirs: str, now: datetime, zone: str | None = None) -> bool:
    """Tell whether an expression means a schedule, or a part of it that an exporter makes, at least for now.

    It is one of a `zone`, or, where the caller does not say of which, of UTC or the schedule's own.
    """
    for timezone in dict.fromkeys(("UTC", ours.timezone) if zone is None else (zone,)):
        try:
            read = cron(theirs, timezone)
        except ScheduleError:
            return False
        if read.meaning == ours.meaning or _coming(read, now) == _coming(ours, now):
            return True
    return theirs in _exported(ours, now, ("UTC", ours.timezone) if zone is None else (zone,))


def _exported(ours: Schedule, now: datetime, zones: Iterable[str]) -> set[str]:
    """Return the lines of which an exporter may have made several for one schedule."""
    found: set[str] = set()
    for timezone in zones:
        with suppress(ScheduleError):
            for line in lines(ours, now, timezone):
                found |= {line.expression, *line.daily}
    return found


def _coming(schedule: Schedule, moment: datetime) -> list[datetime]:
    slots = [moment]
    for _ in range(_COMPARED):
        slots.append(schedule.after(slots[-1]))
    return slots[1:]
