"""Terms: what an application's code may say of a retention job, and of the time at which any job is due."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TypedDict

from nightcrew.errors import ConfigurationError
from nightcrew.hours import Hours, hours
from nightcrew.policy import Action, Value
from nightcrew.schedule import Cron, Schedule, cron, every
from nightcrew.throttle import Pace


class Terms(TypedDict, total=False):
    """What may be said of a retention job beyond its table, column and schedule: the fields of Policy and Job."""

    older_than: timedelta | None
    where: str | None
    hold: str | None
    unless_exists: Iterable[str]
    erase: bool
    links: Iterable[str]
    allow_unindexed: bool
    max_rows: int | None
    max_fraction: float
    action: str | Action
    set: Mapping[str, Value]
    keep_latest: int | None
    per: Iterable[str]
    timezone: str | None
    label: str
    path: str | None
    on_start: bool
    enabled: bool
    owner: str | None
    runbook: str | None
    pace: str | Pace
    throttle: Iterable[object]
    window: str | Hours | None


def schedule_of(job: str, schedule: str | Schedule | None, period: str | timedelta | None, timezone: str) -> Schedule:
    """Return when a job is due, which is said by its schedule or by a period; a text is read in the time zone."""
    if (schedule is None) == (period is None):
        raise ConfigurationError(f"job {job!r} needs either a schedule or every, not both and not neither")
    if period is not None:
        return every(period)
    return cron(schedule, timezone) if isinstance(schedule, str) else schedule  # type: ignore[return-value]


def window_of(given: str | Hours | None, schedule: Schedule, timezone: str) -> Hours | None:
    """Return the time of day in which a job may work, in the zone of its schedule where that has one."""
    return hours(given, schedule.timezone if isinstance(schedule, Cron) else timezone)
