"""Now, monotonic, sleep, jitter: the only time and the only chance."""

import random
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

_MARGIN = 0.1  # of a lease, which is not used: for what is under way when it runs out
_ALSO_ASLEEP: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def instant(moment: datetime) -> str:
    """Write an instant (aware) as ISO-8601 in UTC with milliseconds and a Z; one that no year in UTC has, as it is."""
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return moment.isoformat()


class Clock(Protocol):
    """Where a process takes its time and its chance from; the database has its own clock, and decides."""

    def now(self) -> datetime:
        """Return the process's wall clock in UTC; never used to decide whether a slot is due."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, and go on while the machine sleeps."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep for `seconds` or until `event` is set; return whether it was set."""

    def jitter(self, fraction: float) -> float:
        """Return a factor drawn from 1 - fraction to 1 + fraction."""

    def token(self) -> str:
        """Return a text that no other process and no other call will return."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the machine's wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds, also those that it slept, where its system counts them."""
        return time.monotonic() if _ALSO_ASLEEP is None else time.clock_gettime(_ALSO_ASLEEP)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep for `seconds` or until `event` is set; return whether it was set."""
        return event.wait(seconds)

    def jitter(self, fraction: float) -> float:
        """Return a factor drawn evenly from 1 - fraction to 1 + fraction."""
        return 1 + random.uniform(-fraction, fraction)  # noqa: S311 - spreads load, guards nothing

    def token(self) -> str:
        """Return a fresh random UUID in hex."""
        return uuid.uuid4().hex


class Lease:
    """How long a process may go on with what it has claimed without asking the database whether it still holds it.

    It counts from when the last renewal was asked for: an answer that comes late makes it no longer, and whoever was
    frozen meanwhile, or asks a database that is away, finds that it has run out.
    """

    def __init__(self, clock: Clock, seconds: float, asked_at: float) -> None:
        self._clock = clock
        self._trusted = (1 - _MARGIN) * seconds
        self.won_at = self._asked_at = asked_at

    def renewed(self, asked_at: float) -> None:
        """Hear that the database renewed it, as it was asked to at a monotonic instant."""
        self._asked_at = max(self._asked_at, asked_at)

    @property
    def fresh(self) -> bool:
        """Whether it began, or was renewed, so lately that it need not be renewed with the others."""
        return self._clock.monotonic() < self._asked_at + self._trusted / 6

    @property
    def over(self) -> bool:
        """Whether another process may hold it by now."""
        return self._clock.monotonic() >= self._asked_at + self._trusted


class Budget(NamedTuple):
    """How long work may go on: until a monotonic instant, called by `ending`, or until somebody asks it to stop.

    It ends with the `lease` under which the work is done, too.
    """

    clock: Clock
    until: float | None = None
    stop: threading.Event | None = None
    lease: Lease | None = None
    ending: str = "deadline reached"

    @classmethod
    def of(cls, clock: Clock, deadline: timedelta | None = None, stop: threading.Event | None = None) -> "Budget":
        """Return a budget that ends `deadline` from now."""
        return cls(clock, None if deadline is None else clock.monotonic() + deadline.total_seconds(), stop)

    def under(self, lease: Lease | None) -> "Budget":
        """Return the same budget for work that is done under a lease."""
        return Budget(self.clock, self.until, self.stop, lease, self.ending)

    def closing(self, seconds: float, ending: str) -> "Budget":
        """Return the same budget, ended `seconds` from now unless it ends before that."""
        until = self.clock.monotonic() + seconds
        return self if self.until is not None and self.until <= until else self._replace(until=until, ending=ending)

    @property
    def left(self) -> float | None:
        """Return the seconds that are left, below zero once they are over, or None where nothing bounds them."""
        return None if self.until is None else self.until - self.clock.monotonic()

    @property
    def stopping(self) -> str | None:
        """Return that somebody asked the work to stop, or that nobody knows whose it is by now, or None."""
        if self.stop is not None and self.stop.is_set():
            return "asked to stop"
        return "its lease ran out before it was renewed" if self.lease is not None and self.lease.over else None

    def rest(self, seconds: float) -> None:
        """Sleep, unless somebody asks the work to stop."""
        self.clock.wait(self.stop or threading.Event(), seconds)

    @property
    def spent(self) -> str | None:
        """Return why the work has to stop after what it is doing, or None."""
        if (reason := self.stopping) is not None:
            return reason
        return self.ending if self.left is not None and self.left <= 0 else None
