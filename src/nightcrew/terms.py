"""Terms: what an application's code may say of a retention job, and of the time at which any job is due."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypedDict

from nightcrew.errors import ConfigurationError, PolicyError, misfit
from nightcrew.hours import Hours, hours
from nightcrew.job import CatchUp, Overlap, Primary
from nightcrew.owing import Owing, Trace
from nightcrew.policy import Action, Value
from nightcrew.schedule import Cron, Schedule, cron, every
from nightcrew.throttle import Pace


class Terms(TypedDict, total=False):
    """What may be said of a retention job beyond its table, column and schedule: the fields of Policy and Job."""

    older_than: timedelta | None
    where: str | None
    hold: str | None
    unless_exists: Iterable[str]
    unless_active_stream: str | None
    erase: bool
    links: Iterable[str]
    allow_unindexed: bool
    max_rows: int | None
    max_fraction: float
    blobs: Iterable[Owing | Mapping[str, str]]
    traces: Iterable[Trace | Mapping[str, str]]
    keep: Mapping[str, str]
    archive: timedelta | None
    blobs_after: timedelta | None
    action: str | Action
    set: Mapping[str, Value]
    keep_latest: int | None
    per: Iterable[str]
    timezone: str | None
    label: str
    path: str | None
    on_start: bool
    catch_up: str | CatchUp
    overlap: str | Overlap
    pause_after: int
    primary: str | Primary
    failsafe_after: timedelta | None
    enabled: bool
    owner: str | None
    runbook: str | None
    pace: str | Pace
    throttle: Iterable[object]
    window: str | Hours | None
    fan_out: int | None


_ABOVE = "write @crew.job('0 3 * * *') or @crew.job(every='10 minutes') above a function"


def check_decorator(schedule: object, period: object) -> None:
    """Raise ConfigurationError for what @crew.job cannot be told, before it is put to use."""
    if callable(schedule):
        raise ConfigurationError(f"@crew.job is not told when {_called(schedule)} is due; {_ABOVE}")
    if schedule is None and period is None:
        raise ConfigurationError(f"@crew.job is told neither a schedule nor every; {_ABOVE}")
    if schedule is not None and period is not None:
        raise ConfigurationError(
            f"@crew.job is told a schedule, {schedule!r}, and every, {period!r}; drop one of the two, and write a name"
            " as name='…'"
        )


def name_of(function: object) -> str:
    """Return the name of a job that is a function: the function's, in kebab case."""
    if wrong := misfit(function, Callable, "put it above a function, def or async def"):  # type: ignore[arg-type]
        raise ConfigurationError(f"what @crew.job decorates {wrong}")
    called = getattr(function, "__name__", "").strip("_")
    if not called.isidentifier():
        raise ConfigurationError(f"{_called(function)} has no name that a job could have; add name='…' to @crew.job(…)")
    return called.replace("_", "-").lower()


def _called(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


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


def table_name(table: object) -> str:
    """Return the name of a table given as text, SQLAlchemy Table or mapped class."""
    described = getattr(table, "__table__", table)
    if isinstance(described, str):
        return described
    name, schema = getattr(described, "name", None), getattr(described, "schema", None)
    if not isinstance(name, str):
        raise PolicyError(f"table {table!r} is neither a name nor a SQLAlchemy table or model")
    return f"{schema}.{name}" if schema else name


def column_name(column: object) -> str:
    """Return the name of a column given as text or SQLAlchemy column, whose attribute may be called otherwise."""
    if isinstance(column, str):
        return column
    name = getattr(getattr(column, "expression", column), "name", None)
    if not isinstance(name, str):
        raise PolicyError(f"column {column!r} is neither a name nor a SQLAlchemy column")
    return name
