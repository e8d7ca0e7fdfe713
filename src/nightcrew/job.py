"""Job: a name, a Schedule, and a Policy or a function."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from nightcrew import duration
from nightcrew.backoff import FIRST, LONGEST, MOST_ATTEMPTS
from nightcrew.errors import ConfigurationError, DatabaseError, PolicyError, did_you_mean, misfit
from nightcrew.gauge import Hook, hooks
from nightcrew.hours import Hours, hours
from nightcrew.policy import Policy
from nightcrew.respite import USUAL
from nightcrew.schedule import Cron, Every, Schedule
from nightcrew.throttle import Pace, pace

_W = TypeVar("_W", bound=StrEnum)
_NAME = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*$")
_PATH = re.compile(r"^(?:/[A-Za-z0-9._~-]+)+$")
_FAILSAFE_AFTER = timedelta(minutes=2)
_MOST_FAILURES = 1_000
ROUTES = "/api/internal/jobs"
"""Below which every job answers over HTTP."""
LONGEST_NAME = 100  # a run's id adds the slot to it and must fit an indexed column of every database


@contextmanager
def concerning(job: str) -> Iterator[None]:
    """Let a ConfigurationError of the block say which job it is about, unless it does."""
    try:
        yield
    except ConfigurationError as error:
        if f"job {job!r}" not in str(error) and error.args:
            error.args = (f"job {job!r}: {error}",)
        raise


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job is written: in which file, and on which lines it and its keys begin."""

    file: str
    line: int
    keys: Mapping[str, int]

    def at(self, key: str | None) -> str:
        """Return the place of a key, or of the job: “nightcrew.toml:12”."""
        return f"{self.file}:{self.keys.get(key or '', self.line)}"


class CatchUp(StrEnum):
    """What becomes of the slots that passed while nobody was there to run them."""

    LATEST = "latest"
    """The latest is run, however late; those before it end as missed."""
    ALL = "all"
    """Each is run, the oldest first, a hundred at most: for work that is about its slot's own time."""
    NONE = "none"
    """They end as missed: the next slot that comes is run, and nothing before it."""


class Primary(StrEnum):
    """Who is to run a job's slots."""

    ANYONE = "anyone"
    """Whoever comes first."""
    EXTERNAL = "external"
    """A caller from outside; the in-process scheduler waits, and covers a slot that nobody came for."""


class Overlap(StrEnum):
    """What becomes of the slots that fall due while the run before is still at work."""

    BUFFER = "buffer"
    """The latest of them is run right after."""
    SKIP = "skip"
    """They end as skipped, and the next slot that comes is run as usual."""


@dataclass(frozen=True, slots=True)
class Job:
    """A named maintenance duty: when it is due, and what it does.

    Exactly one of `policy` (rows that expire) and `function` (called with the run) is given. `path` is one more HTTP
    route beside `/api/internal/jobs/NAME`. `on_start` also runs the latest slot when a ticker starts, if nobody has run
    it yet; `catch_up` ("latest", "all", "none") is what becomes of slots that passed while nobody was there. `primary`
    ("anyone", "external") is who is to run its slots; where that is a caller from outside, a ticker covers a slot
    `failsafe_after` (2 minutes) past it. `overlap` ("buffer", "skip") is what becomes of slots that fall due while the
    run before is at work. After `pause_after` failures in a row (0: never) nightcrew pauses the job by itself, for a
    while. `label` heads its log lines; it defaults to the name in words. `pace` ("gentle", "steady", "fast") is how
    much of the database's time a policy's sweep may take, and `throttle` names what may hold it back, as
    docs/throttle.md says. `window` is the time of day in which it may work; given as a text ("22:00-06:00") it is read
    in the zone of the schedule. A function that fails is called again until it has had so many `attempts`, first after
    `backoff` (“30 seconds”) and then after twice as long each time. A policy's run of more rows than `fan_out` is
    shared among the workers of a Celery application. `disabled` says why it is not
    `enabled`, in the words that end a sentence. `origin` is where it is written, if that is a file.

    Raises ConfigurationError for a name or path that cannot be one.
    """

    name: str
    schedule: Schedule
    policy: Policy | None = None
    function: Callable[..., Any] | None = None
    label: str = ""
    path: str | None = None
    on_start: bool = False
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.BUFFER
    pause_after: int = USUAL
    primary: Primary = Primary.ANYONE
    failsafe_after: timedelta | None = None
    enabled: bool = True
    disabled: str = "in the configuration"
    owner: str | None = None
    runbook: str | None = None
    pace: Pace = Pace.STEADY
    throttle: tuple[Hook, ...] = ()
    window: Hours | None = None
    attempts: int = 1
    backoff: timedelta | None = None
    fan_out: int | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if wrong := misfit(self.name, str, "write a text such as 'cleanup-pkce'"):
            raise ConfigurationError(f"job name {wrong}")
        for key, (kinds, remedy) in _KINDS.items():
            if wrong := misfit(getattr(self, key), kinds, remedy):
                raise ConfigurationError(f"{key} of job {self.name!r} {wrong}")
        if not _NAME.match(self.name) or len(self.name) > LONGEST_NAME:
            raise ConfigurationError(
                f"job name {self.name!r}: use small letters, digits and single hyphens, as in 'cleanup-pkce',"
                f" at most {LONGEST_NAME} characters"
            )
        if self.path is not None and not _PATH.match(self.path):
            raise ConfigurationError(
                f"path {self.path!r} of job {self.name!r} is no plain URL path such as '/api/cleanup'"
            )
        if (self.policy is None) == (self.function is None):
            raise ConfigurationError(f"job {self.name!r} needs either a policy or a function, not both and not neither")
        object.__setattr__(self, "pace", pace(self.pace))
        object.__setattr__(self, "catch_up", catching_up(self.catch_up))
        object.__setattr__(self, "overlap", overlapping(self.overlap))
        if self.overlap is Overlap.SKIP and self.catch_up is CatchUp.ALL:
            raise ConfigurationError(
                f"job {self.name!r} is to run each slot that passed (catch_up = 'all') and none that falls due while it"
                " is at work (overlap = 'skip'): drop one of the two"
            )
        object.__setattr__(self, "primary", primary(self.primary))
        object.__setattr__(self, "failsafe_after", self._failsafe())
        if not 0 <= self.pause_after <= _MOST_FAILURES:
            raise ConfigurationError(
                f"pause_after {self.pause_after} of job {self.name!r} is out of range; write a number of failures from"
                f" 1 to {_MOST_FAILURES:,}, or 0 for never"
            )
        object.__setattr__(self, "throttle", hooks(self.throttle))
        object.__setattr__(self, "window", hours(self.window, self.schedule.timezone))
        if self.policy is None and (self.throttle or self.pace is not Pace.STEADY):
            raise ConfigurationError(
                f"job {self.name!r} is a function: pace and throttle steer the batches of a policy"
            )
        object.__setattr__(self, "backoff", self._backoff())
        self._check_fan_out()
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("-", " ").capitalize())

    def _check_fan_out(self) -> None:
        if self.fan_out is None:
            return
        if isinstance(self.fan_out, bool) or self.fan_out < 1:
            raise ConfigurationError(f"fan_out of job {self.name!r} is {self.fan_out}; write a number of rows: 500_000")
        if self.policy is None:
            raise ConfigurationError(f"job {self.name!r} is a function: fan_out cuts the rows of a policy")
        if self.pace is Pace.GENTLE:
            raise ConfigurationError(
                f"fan_out of job {self.name!r} asks for many workers, and pace 'gentle' for the load of less than one;"
                " remove one of the two"
            )

    def _failsafe(self) -> timedelta | None:
        """Return how long a ticker leaves a slot to a caller from outside, if that is who runs the job."""
        if self.failsafe_after is None:
            return _FAILSAFE_AFTER if self.primary is Primary.EXTERNAL else None
        if self.primary is not Primary.EXTERNAL:
            raise ConfigurationError(
                f"failsafe_after of job {self.name!r} goes with primary 'external'; write that too, or remove it"
            )
        if self.failsafe_after <= timedelta(0):
            raise ConfigurationError(f"failsafe_after of job {self.name!r} leaves a caller no time; write '2 minutes'")
        return self.failsafe_after

    def _backoff(self) -> timedelta | None:
        """Return how long a function waits after its first failure, if it is then called again."""
        if self.policy is not None and (self.attempts != 1 or self.backoff is not None):
            raise ConfigurationError(
                f"job {self.name!r} is a policy: attempts and backoff are for functions, for a sweep tries each batch"
                " again by itself; remove them"
            )
        if isinstance(self.attempts, bool) or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ConfigurationError(
                f"attempts of job {self.name!r} is {self.attempts}; write a number from 1 to {MOST_ATTEMPTS}"
            )
        if self.attempts == 1:
            if self.backoff is not None:
                raise ConfigurationError(
                    f"backoff of job {self.name!r} goes with attempts; write attempts=3, or remove it"
                )
            return None
        first = _span(FIRST if self.backoff is None else self.backoff)
        if not timedelta(0) < first <= LONGEST:
            raise ConfigurationError(f"backoff of job {self.name!r} is not within an hour; write '30 seconds'")
        return first

    def but(self, **changes: Any) -> "Job":
        """Return the same job with some of its own or its policy's fields changed, as a recipe's caller asks.

        Raises ConfigurationError for a field that neither has, or a value that it cannot have.
        """
        with concerning(changes.get("name", self.name)):
            return self._but(changes)

    def _but(self, changes: dict[str, Any]) -> "Job":
        rule = {key: changes.pop(key) for key in list(changes) if key in _POLICY_FIELDS}
        unknown = next((key for key in changes if key not in _JOB_FIELDS), None)
        if unknown is not None:
            near = did_you_mean(unknown, _JOB_FIELDS | _POLICY_FIELDS)
            raise ConfigurationError(f"job {self.name!r} has no field {unknown!r}{near}")
        if rule and self.policy is None:
            raise ConfigurationError(f"job {self.name!r} has no policy, so {next(iter(rule))!r} means nothing to it")
        policy = replace(self.policy, **rule) if self.policy is not None else None
        return replace(self, **{"policy": policy, **changes})

    @contextmanager
    def to_blame(self) -> Iterator[None]:
        """Let an error of the block that the policy is to blame for, its own SQL too, be a PolicyError with its place.

        Any other error passes as it is.
        """
        try:
            yield
        except PolicyError as error:
            raise self._placed(str(error), error.key) from error
        except DatabaseError as error:
            own = self.policy.sql if self.policy is not None else {}
            if not (error.of_statement and own):
                raise
            named = " or ".join(f"{key} {text!r}" for key, text in own.items())
            raise self._placed(f"{named} cannot be used: {error}; correct the SQL", next(iter(own))) from error

    def _placed(self, sentence: str, key: str | None) -> PolicyError:
        place = f"{self.origin.at(key)}: job {self.name!r}: " if self.origin else ""
        return PolicyError(place + sentence, key=key)

    def opens(self, slot: datetime) -> datetime:
        """Return when a slot may be run: when it is due, or when the job's window opens next."""
        return self.window.opens(slot) if self.window else slot

    @property
    def route(self) -> str:
        """The HTTP path every job answers on."""
        return f"{ROUTES}/{self.name}"


def catching_up(name: str) -> CatchUp:
    """Return what this word says of slots that passed; raises ConfigurationError for none."""
    return _named(CatchUp, "catch_up", name)


def primary(name: str) -> Primary:
    """Return whom this word names; raises ConfigurationError for nobody."""
    return _named(Primary, "primary", name)


def _named(words: type[_W], key: str, name: str) -> _W:
    known = [str(each) for each in words]
    if name in known:
        return words(name)
    raise ConfigurationError(f"there is no {key} {str(name)[:40]!r}{did_you_mean(str(name), known)}")


def _span(given: str | timedelta) -> timedelta:
    return duration.parse(given) if isinstance(given, str) else given


def overlapping(name: str) -> Overlap:
    """Return what this word says of slots that fall due during a run; raises ConfigurationError for none."""
    words = [str(each) for each in Overlap]
    if name in words:
        return Overlap(name)
    raise ConfigurationError(f"there is no overlap {str(name)[:40]!r}{did_you_mean(str(name), words)}")


def coming(jobs: Iterable[Job], moment: datetime, number: int) -> list[tuple[datetime, Job]]:
    """Return so many slots of all enabled jobs after a moment, earliest first."""
    slots: list[tuple[datetime, Job]] = []
    for job in jobs:
        slot = moment
        for _ in range(number if job.enabled else 0):
            slot = job.schedule.after(slot)
            slots.append((slot, job))
    return sorted(slots, key=lambda pair: (pair[0], pair[1].name))[:number]


_TEXT = ((str, type(None)), "write a text")
_SWITCH = (bool, "write True or False")
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "schedule": ((Cron, Every), "write cron('0 3 * * *') or every('10 minutes')"),
    "policy": ((Policy, type(None)), "write Policy('users', 'deactivated_at')"),
    "function": ((Callable, type(None)), "name a function"),  # type: ignore[dict-item]
    "label": (str, "write a text"),
    "path": ((str, type(None)), "write a URL path such as '/api/cleanup'"),
    "on_start": _SWITCH,
    "pause_after": (int, "write a number of failures such as 5, or 0 for never"),
    "enabled": _SWITCH,
    "failsafe_after": ((timedelta, type(None)), "write timedelta(minutes=2)"),
    "attempts": (int, "write a number such as 3"),
    "backoff": ((str, timedelta, type(None)), "write a text such as '30 seconds'"),
    "window": ((str, Hours, type(None)), "write a text such as '22:00-06:00'"),
    "fan_out": ((int, type(None)), "write a number of rows: 500_000"),
    "disabled": (str, "write a text"),
    "owner": _TEXT,
    "runbook": _TEXT,
}
_JOB_FIELDS = {field.name for field in fields(Job)}
_POLICY_FIELDS = {field.name for field in fields(Policy)}
