"""Channel: the shape of a way by which people are told of alarms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from functools import cached_property
from typing import Protocol

from nightcrew.alarm import Notice
from nightcrew.clock import Clock
from nightcrew.errors import ChannelError
from nightcrew.mailer import Mailer
from nightcrew.ping import Ping, answered


@dataclass(frozen=True, slots=True)
class Means:
    """What a channel may use of the crew; `post` gives its mailer and sender, or raises ConfigurationError."""

    clock: Clock
    post: Callable[[], tuple[Mailer, Address]]


class Channel(Protocol):
    """A way by which people are told of alarms; no two of a crew have one name."""

    @property
    def name(self) -> str:
        """What it is called where it is told whom an alarm has reached."""

    @property
    def secrets(self) -> Sequence[str]:
        """What must be said nowhere; raises ConfigurationError where it cannot be used."""

    def tell(self, notice: Notice, means: Means) -> None:
        """Tell people, within 15 seconds; raises ChannelError, or ConfigurationError, with a reason without secrets."""


class Later:
    """A channel that is made when there is first something to tell, of what only then has to be known."""

    def __init__(self, name: str, make: Callable[[], Channel]) -> None:
        self.name = name
        self._make = make

    @cached_property
    def made(self) -> Channel:
        """The channel; raises ConfigurationError where it cannot be made."""
        return self._make()

    @property
    def secrets(self) -> Sequence[str]:
        """What must be said nowhere."""
        return self.made.secrets

    def tell(self, notice: Notice, means: Means) -> None:
        """Tell people."""
        self.made.tell(notice, means)


def send(ping: Ping) -> None:
    """Make a request; raises ChannelError where it is not answered, or not with yes."""
    wrong, _ = answered(ping)
    if wrong is not None:
        raise ChannelError(wrong)
