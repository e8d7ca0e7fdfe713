"""Roll: the jobs of a crew by name, and how an application's code puts them there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar, Unpack

from nightcrew.bid import is_paused, waits
from nightcrew.books import RunRow, Standing
from nightcrew.errors import ConfigurationError, UnknownJob, did_you_mean, misfit
from nightcrew.hours import Hours
from nightcrew.job import Job, concerning
from nightcrew.policy import Policy
from nightcrew.schedule import Schedule
from nightcrew.terms import Terms, check_decorator, column_name, name_of, schedule_of, table_name, window_of

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as a person asks for it: its standing, its last run, and when it is due next (None: paused, disabled).

    `opens` is when its window does, of a job that waits for it now.
    """

    job: Job
    standing: Standing
    last: RunRow | None
    next_slot: datetime | None
    paused: bool
    opens: datetime | None = None

    @classmethod
    def of(cls, job: Job, standing: Standing, last: RunRow | None, now: datetime) -> "JobStatus":
        """Return how a job stands at a moment."""
        paused = is_paused(standing, now)
        next_slot = None if paused or not job.enabled else job.schedule.after(now)
        opens = job.window.opens(now) if job.window and next_slot and waits(job, standing, now) else None
        return cls(job, standing, last, next_slot, paused, opens)


class Roll:
    """Jobs by name; `timezone` is the zone of cron schedules given as text."""

    def __init__(self, timezone: str = "UTC") -> None:
        self.timezone = timezone
        self._jobs: dict[str, Job] = {}
        self._routes: dict[str, str] = {}

    @property
    def jobs(self) -> Mapping[str, Job]:
        """Every registered job by name."""
        return MappingProxyType(self._jobs)

    def add(self, job: Job) -> Job:
        """Register a job; raises ConfigurationError when its name or path is taken."""
        if wrong := misfit(job, Job, "write Job(…), a recipe, crew.expire(…) or @crew.job(…)"):
            raise ConfigurationError(f"what is to be registered as a job {wrong}")
        if job.name in self._jobs:
            raise ConfigurationError(f"job {job.name!r} is registered twice: give one of them another name")
        routes = [route for route in (job.route, job.path) if route]
        for route in routes:
            if (other := self._routes.get(route)) is not None:
                raise ConfigurationError(f"path {route!r} of job {job.name!r} already belongs to job {other!r}")
        self._jobs[job.name] = job
        self._routes.update(dict.fromkeys(routes, job.name))
        return job

    def expire(
        self,
        name: str,
        table: object,
        *,
        column: object,
        schedule: str | Schedule | None = None,
        every: str | timedelta | None = None,
        **terms: Unpack[Terms],
    ) -> Job:
        """Register a job that removes the rows of a table whose time has come; Policy and Job explain the terms.

        `table` and `column` are names, or a SQLAlchemy model, Table or column.
        """
        with concerning(name):
            timezone = terms.pop("timezone", None) or self.timezone
            when = schedule_of(name, schedule, every, timezone)
            window = window_of(terms.pop("window", None), when, timezone)
            rule = Policy(table_name(table), column_name(column))
            return self.add(Job(name, when, policy=rule, window=window).but(**terms))

    def job(
        self,
        schedule: str | Schedule | None = None,
        *,
        every: str | timedelta | None = None,
        timezone: str | None = None,
        name: str | None = None,
        window: str | Hours | None = None,
        **of_job: Any,
    ) -> Callable[[_F], _F]:
        """Register the decorated function (def or async def) as a job; its name is the function's in kebab case."""
        check_decorator(schedule, every)

        def register(function: _F) -> _F:
            called = name or name_of(function)
            with concerning(called):
                when = schedule_of(called, schedule, every, timezone or self.timezone)
                within = window_of(window, when, timezone or self.timezone)
                self.add(Job(called, when, function=function, window=within).but(**of_job))
            return function

        return register

    def job_named(self, name: str) -> Job:
        """Return a job; raises UnknownJob naming the nearest right name."""
        try:
            return self._jobs[name]
        except KeyError:
            raise UnknownJob(f"no job is called {name[:120]!r}{did_you_mean(name[:120], self._jobs)}") from None
