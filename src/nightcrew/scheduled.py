"""Scheduled: a mail that a person is due, and the shape of the table that keeps them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from nightcrew.clock import instant
from nightcrew.mail import People, ScheduledEmails
from nightcrew.sent import State
from nightcrew.sequence import End, Person, Sequence, Wait


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A mail of a step that a person is due, as its row has it; instants are in UTC.

    `key` is what it is known by to whoever delivers it, however often it is tried. `planned` is when it was due
    at first, `due` when it is looked at next, and so many `attempts` at it have failed. `sent` is when it was handed
    over, for the first time of those that may have been it.
    """

    id: int
    key: str
    sequence: str
    step: str
    person: str
    planned: datetime
    due: datetime | None
    state: State
    attempts: int = 0
    reason: str = ""
    arm: str | None = None
    address: str | None = None
    sent: datetime | None = None

    @property
    def perhaps(self) -> bool:
        """Whether it waits though it was handed over before, and nobody knows what came of that."""
        return self.state is State.WAITING and self.sent is not None

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; instants are ISO-8601 in UTC."""
        facts = {"id": self.id, "sequence": self.sequence, "step": self.step, "person": self.person}
        facts |= {"state": str(self.state), "attempts": self.attempts, "reason": self.reason, "arm": self.arm}
        times = {"planned": self.planned, "due": self.due, "sent": self.sent}
        return facts | {name: moment and instant(moment) for name, moment in times.items()}


def key_of(sequence: str, step: str, person: str, planned: datetime) -> str:
    """Return the key of a mail that is planned."""
    told = "\0".join((sequence, step, person, instant(planned)))
    return f"{sequence[:30]}.{step[:30]}.{sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Going:
    """A mail that may be handed over: to this address, in this arm."""

    mail: Scheduled
    address: str
    arm: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """What came of a mail that was handed over: its state, why, and for how long it waits if it is tried again."""

    mail: Scheduled
    state: State
    reason: str = ""
    wait: timedelta | None = None
    counts: bool = True
    """Whether it was an attempt: not where the way out was closed to all."""
    perhaps: bool = False
    """Whether it may have been sent all the same, though it waits."""


class Mails(Protocol):
    """The table of the mails that people are due."""

    def now(self) -> datetime:
        """Return the database's moment."""

    def claim(self, sequences: Collection[str], most: int, token: str) -> Several[Scheduled]:
        """Take some mails that are due, the oldest first; nobody else is given them for as long as a LEASE."""

    def recent(self, people: Collection[str], token: str) -> Mapping[str, Several[datetime]]:
        """Return when mails left to people within the last day, the oldest first, with those in others' hands."""

    def decide(self, verdicts: Iterable[tuple[Scheduled, Wait | End]], token: str) -> None:
        """Write down what becomes of mails that do not leave now."""

    def address(self, going: Iterable[Going], token: str) -> None:
        """Write down where mails would go, of those that are claimed."""

    def silent(self, ids: Collection[int]) -> Mapping[int, str]:
        """Return why nothing may be sent, by the IDs of the mails whose person or address is suppressed."""

    def turn(self, closed: Several[Closed], going: Collection[int], token: str) -> Collection[int]:
        """Write down what came of mails, and that others are about to be handed over, in one transaction.

        Return the IDs of those that may be: not those that were cancelled, or are suppressed, by now.
        """

    def give_back(self, mails: Iterable[Scheduled], token: str) -> None:
        """Let mails that were claimed, and not handed over, be as they were."""

    def abandoned(self, known: timedelta | None) -> tuple[int, int]:
        """Find mails whose sender died while they were handed over.

        Those that were no longer than `known` ago wait (None: all do, as if nobody had begun with them), and the others
        are perhaps sent; return how many of each there are.
        """

    def left(self, within: timedelta) -> int:
        """Count the mails that left within so long, those under way included."""

    def listed(self, states: Collection[State], most: int, *, due: bool = False) -> list[Scheduled]:
        """Return mails of some states, the newest first; or those that are `due` by now, the oldest first."""

    def counts(self) -> Mapping[tuple[str, str, State], int]:
        """Count mails by sequence, step and state."""

    def waiting(self) -> tuple[int, datetime | None]:
        """Count the mails that are due by now, and return since when the oldest is."""

    def retry(self, states: Collection[State], ids: Collection[int] | None = None) -> int:
        """Let mails of these states, some or all, be tried again from now on; return how many that are.

        Not those of whoever's sequence has ended.
        """


Reader = Callable[[Collection[str]], Mapping[str, Person]]
"""Reads people by their IDs as they are now; who is not among the answers is none."""


class Directory(Protocol):
    """The application's tables, as far as they tell of people."""

    def reader(self, people: People, sequences: Iterable[Sequence]) -> Reader:
        """Return what reads people; raises PolicyError for a table or column that is not there."""


class Adopted(Protocol):
    """The table in which an application schedules mails by itself.

    Each raises PolicyError for a table or column that is not there.
    """

    def take(self, table: ScheduledEmails, steps: Collection[str], most: int) -> int:
        """Take some that are due over, of steps that there are, and return how many."""

    def gone(self, table: ScheduledEmails, some: Several[Scheduled]) -> Collection[int]:
        """Return the IDs of those mails that were taken over and are sent, cancelled or deleted there by now."""

    def tell(self, table: ScheduledEmails, most: int) -> int:
        """Write down there how some have ended, and return of how many."""

    def unknown(self, table: ScheduledEmails, steps: Collection[str]) -> int:
        """Count those of steps that there are not, which nobody takes over."""
