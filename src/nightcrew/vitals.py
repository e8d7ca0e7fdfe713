"""Vitals: how every job stands at a moment, in the words and figures that machines ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nightcrew.books import RunRow
from nightcrew.roll import JobStatus
from nightcrew.schedule import Schedule
from nightcrew.verdict import ABANDONED, Mood, abandoned, concerns, overdue, refused, verdict

_LATE = timedelta(minutes=1)  # past the slot, or the failsafe's time: a ticker needs less
_SHORTEST_RUN = timedelta(minutes=1)
_SHORTEST_STEP = timedelta(microseconds=1)


class Health(StrEnum):
    """How a job stands, as Healthchecks words it on its badges; the last of these is the worst."""

    PAUSED = "paused"
    UP = "up"
    LATE = "late"
    DOWN = "down"


_WORST = list(Health)
_HEALTH = {Mood.GOOD: Health.UP, Mood.WARN: Health.LATE, Mood.BAD: Health.DOWN}


@dataclass(frozen=True, slots=True)
class Vital:
    """One job: how it stands and why, and `ended`, its newest run that has come to an end.

    `interval` is the longer one of the two gaps between its slots around now; `longest` is how long a run of it may
    take, by how long the last one took.
    """

    status: JobStatus
    health: Health
    says: str
    ended: RunRow | None
    interval: timedelta
    longest: timedelta

    @property
    def name(self) -> str:
        """The job's name."""
        return self.status.job.name

    @property
    def took(self) -> timedelta | None:
        """How long the run took that ended last."""
        return _took(self.ended)

    @property
    def refused(self) -> bool:
        """Whether a safety rail stopped the run that ended last: a person has to look at it."""
        return self.ended is not None and refused(self.ended)


@dataclass(frozen=True, slots=True)
class Vitals:
    """Every job of a crew at a moment, and in one line whether all is well."""

    at: datetime
    health: Health
    sentence: str
    jobs: tuple[Vital, ...]


def vitals(
    found: Iterable[JobStatus], ended: Mapping[str, RunRow], missed: Mapping[str, RunRow], now: datetime
) -> Vitals:
    """Tell how jobs stand, of which these are the runs that ended last, and the slots that nobody ran."""
    found = list(found)
    told = {concern.job: concern for concern in concerns(found, missed, now)}
    jobs = []
    for each in found:
        concern, last = told.get(each.job.name), ended.get(each.job.name)
        says = concern.says if concern else ""
        health = _HEALTH[concern.mood] if concern else Health.UP
        if concern is None and (each.paused or not each.job.enabled):
            health = Health.PAUSED
        elif concern is None and overdue(each, now, _LATE):
            health, says = Health.LATE, "due, and nobody has begun"
        elif concern is None and abandoned(each, now, _LATE):
            health, says = Health.LATE, ABANDONED
        longest = max(2 * (_took(last) or timedelta(0)), _SHORTEST_RUN)
        jobs.append(Vital(each, health, says, last, interval(each.job.schedule, now), longest))
    overall = verdict(found, [job.name for job in jobs if job.health is Health.DOWN])
    worst = max([_HEALTH[overall.mood], *(job.health for job in jobs)], key=_WORST.index)
    return Vitals(now, worst, overall.sentence, tuple(jobs))


def interval(schedule: Schedule, now: datetime) -> timedelta:
    """Return the longer gap of that since the last slot's predecessor and that up to the next slot.

    A schedule of office hours has short gaps by day and a long one at night; by looking around now, a job that fails in
    the morning is not given until the next night.
    """
    following, last = schedule.after(now), schedule.latest(now)
    if last is None:
        return schedule.after(following) - following
    before = schedule.latest(last - _SHORTEST_STEP)
    return max(following - last, last - before if before else timedelta(0))


def _took(row: RunRow | None) -> timedelta | None:
    if row is None or row.finished_at is None or row.moment is None:
        return None
    return max(row.finished_at - row.moment, timedelta(0))
