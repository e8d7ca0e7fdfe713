"""The shape: what whoever starts a run may ask of the crew."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, Protocol, TypeAlias

from nightcrew.caller import Caller
from nightcrew.clock import Clock
from nightcrew.errors import UsageError, misfit
from nightcrew.fleet import Spread
from nightcrew.job import Job
from nightcrew.report import Report
from nightcrew.settings import Settings

_INSTANT = (datetime, "write an aware datetime, such as datetime(2026, 1, 31, 12, tzinfo=UTC)")
_SPAN = (timedelta, "write a timedelta, such as timedelta(seconds=50)")

Work: TypeAlias = Callable[[], Report]
"""A claim, ready to be carried out."""

Errand: TypeAlias = Callable[[str, datetime | None, Caller, bool], str]
"""Hands a job over to a worker, for a slot or right now, and returns how the worker knows it; raises BrokerError."""


class Choices(Protocol):
    """What a crew that sends mail does for whoever holds a link; each may be called as often as one likes."""

    @property
    def unsubscribe_keys(self) -> tuple[str, ...]:
        """The keys that links are signed with, and were before."""

    def opt_out(self, person: str, topic: str) -> None:
        """Send a person no more of a topic; raises DatabaseError where that cannot be kept."""

    def opt_in(self, person: str, topic: str) -> None:
        """Take that back; raises DatabaseError where that cannot be kept."""


class Watch(Protocol):
    """What a crew that tells of alarms does about them."""

    @property
    def channels(self) -> Sequence[str]:
        """What the channels are called by which people are told; without any there is nothing to look for."""

    def watch(self, stop: Event) -> None:
        """Look which alarms stand, and tell of them; whatever is in the way is told to the listeners."""

    def glance(self) -> None:
        """Watch in a thread, unless this process has within a minute."""


class Roster(Protocol):
    """A crew as its triggers see it.

    With `spread` it calls others to long runs, and with an `errand` it runs nothing itself that is asked for over HTTP.
    """

    spread: Spread | None
    errand: Errand | None

    @property
    def settings(self) -> Settings:
        """What the environment says: secrets, environment name, switches."""

    @property
    def clock(self) -> Clock:
        """The process's time and chance."""

    @property
    def mail(self) -> Choices | None:
        """What people chose who are sent mail; None where none is."""

    @property
    def alarms(self) -> Watch:
        """What is done about alarms."""

    @property
    def jobs(self) -> Mapping[str, Job]:
        """Every registered job by name."""

    def waiting(self) -> list[str]:
        """Return the jobs that `due` would claim something of now; nothing is claimed."""

    def due(
        self,
        *,
        trigger: str,
        only: str | None = None,
        start: bool = False,
        deadline: timedelta | None = None,
        stop: Event | None = None,
    ) -> list[Work]:
        """Claim every slot that is due now, or `only` a job's; `start` also the latest slot of jobs that run on start.

        Each piece of work runs one of them, and hands it over after the batch it is in once `stop` is set, or the
        `deadline` has passed.
        """

    def hand_out(self, *, start: bool, stop: Event, hands: int) -> Sequence[Callable[[], None]]:
        """Claim what so many hands can begin with soon; what is done may be settled and told of a moment later."""

    def rest(self, longest: float) -> float:
        """Return for how many seconds nothing becomes due as far as is known, so many at most."""

    def run(
        self,
        name: str,
        *,
        trigger: str,
        slot: datetime | None = None,
        now: bool = False,
        caller: Caller | str | None = None,
        deadline: timedelta | None = None,
    ) -> Report:
        """Run the job's slot (default: the latest due) unless somebody has; with `now` a run that belongs to no slot.

        It is bounded by `deadline`.
        """

    def join(
        self, job: str, run: str, *, trigger: str, called: int | None = None, deadline: timedelta | None = None
    ) -> Report | None:
        """Work at a run that is shared, `called` to one of its ranges perhaps; None where nobody holds it any more."""

    def slot_of(self, name: str, asked: datetime) -> datetime | None:
        """Return the slot that an instant falls into, by the database's clock; raises UsageError for one to come."""

    def adrift(self) -> list[tuple[str, str]]:
        """Return (job, run) of the runs under way that have a range which nobody works at."""

    def hand_over(self) -> None:
        """Ask every run of this process, whoever started it, to hand over after the batch it is in; for its end."""

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""


def check_wish(job: str, *, slot: datetime | None, now: bool, plan: str | None, deadline: timedelta | None) -> None:
    """Raise UsageError for what cannot be asked of a run of a job, whatever stands in its row."""
    if now and slot is not None:
        raise UsageError(f"job {job!r} can be run for a slot or right now, not both: drop one of the two")
    for argument, given, (kind, remedy) in (("slot", slot, _INSTANT), ("deadline", deadline, _SPAN)):
        if given is not None and (wrong := misfit(given, kind, remedy)):
            raise UsageError(f"{argument} of a run of job {job!r} {wrong}")
    if deadline is not None and deadline < timedelta(0):
        raise UsageError(f"deadline of a run of job {job!r} is negative ({deadline}); {_SPAN[1]}")
    if plan is not None and slot is not None:
        raise UsageError(f"plan {plan} is run by itself, and for no slot: drop one of the two")


def check_until(job: str, until: datetime | None) -> None:
    """Raise UsageError for what no pause of a job can last to; whether it is past, the database's clock knows."""
    if until is None:
        return
    if wrong := misfit(until, *_INSTANT):
        raise UsageError(f"until of a pause of job {job!r} {wrong}")
    if until.tzinfo is None:
        raise UsageError(f"until {until.isoformat()} has no time zone: write it in UTC, as in 2026-01-31T12:00:00Z")
    try:
        until.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"until {until.isoformat()} is no instant of UTC's calendar: name a time before") from None
