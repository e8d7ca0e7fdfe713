"""Check-in: what a monitor outside is told of a run, and the shape of a monitor."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

from nightcrew.errors import ConfigurationError
from nightcrew.ping import Ping, checked
from nightcrew.schedule import Schedule

_RUNS = uuid5(NAMESPACE_URL, "nightcrew:run")


class Stage(StrEnum):
    """Where a run stands."""

    BEGUN = "begun"
    WELL = "well"
    BADLY = "badly"


@dataclass(frozen=True, slots=True)
class CheckIn:
    """A run that began, or ended well or badly; `counted` are its rows, `took` how long it has been at work."""

    stage: Stage
    job: str
    run: str
    message: str = ""
    counted: int = 0
    took: timedelta | None = None
    schedule: Schedule | None = None

    @property
    def id(self) -> UUID:
        """The run's UUID: the same in every process, so that whoever ends a run ends what another has begun."""
        return uuid5(_RUNS, self.run)


class Monitor(Protocol):
    """A service that expects to hear of runs, and raises an alarm where it does not."""

    @property
    def name(self) -> str:
        """What it is called where its failures are told."""

    @property
    def secret(self) -> str:
        """What must be said nowhere."""

    def ping(self, checkin: CheckIn) -> Ping:
        """Return the request that tells of a run."""


class Later:
    """A monitor that is made when there is first something to tell, of what only then has to be known."""

    def __init__(self, name: str, make: Callable[[], Monitor]) -> None:
        self.name = name
        self._make = make

    @cached_property
    def made(self) -> Monitor:
        """The monitor; raises ConfigurationError where it cannot be made."""
        return self._make()

    @property
    def secret(self) -> str:
        """What must be said nowhere."""
        return self.made.secret

    def ping(self, checkin: CheckIn) -> Ping:
        """Return the request that tells of a run."""
        return self.made.ping(checkin)


def slug(job: str, longest: int) -> str:
    """Return the name of a job as a service takes it: as it is, or cut and still one of its own."""
    if len(job) <= longest:
        return job
    return f"{job[: longest - 9].rstrip('-')}-{sha256(job.encode()).hexdigest()[:8]}"


def base(url: str) -> str:
    """Return the address of a service without a slash at its end.

    Raises ConfigurationError for what is none, and for one to which the secret would go for all to read.
    """
    return checked(url, "a monitor", "https://hc-ping.com", query=False).rstrip("/")


def required(name: str, value: str) -> str:
    """Return a key as it can stand in a URL; raises ConfigurationError, which does not show it."""
    if not value or not all("!" <= sign <= "~" and sign not in "/?#%" for sign in value):
        raise ConfigurationError(f"{name} is empty, or has signs that no such key has (it is not shown); paste it anew")
    return value
