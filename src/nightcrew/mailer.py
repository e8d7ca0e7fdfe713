"""The shape of a way out for mail: letters are handed over one by one, and each has a fate."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address
from enum import StrEnum
from typing import Protocol

KNOWN = timedelta(hours=23)
"""For how long a mailer that is idempotent knows a key for certain: Resend does for 24 hours."""


class Fate(StrEnum):
    """What became of a letter that was handed over."""

    SENT = "sent"
    """Whoever delivers it has said that they will."""
    MAYBE_SENT = "maybe_sent"
    """It was handed over whole, and nobody knows whether it was taken: it must not be handed over once more unasked."""
    UNANSWERED = "unanswered"
    """Nobody knows either; but whoever delivers it knows its key, so that it may be once more, for as long as KNOWN."""
    DEFERRED = "deferred"
    """It was not taken this time, and may be another time."""
    REFUSED = "refused"
    """It will never be taken as it is."""
    BOUNCED = "bounced"
    """Nor will any other that goes to this address: it is none."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail, ready to leave.

    `key` is the same however often it is tried, of at most 100 letters, digits, `-`, `_`, `.`, `:` and `/`; `date` is
    aware, and the same too. Both texts are whole, and `html` may be None; `headers` are those beside the usual ones,
    such as List-Unsubscribe.
    """

    key: str
    date: datetime
    sender: Address
    recipient: Address
    subject: str
    text: str
    html: str | None
    reply_to: Address | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a letter, and why in one line without secrets, such as what a server answered."""

    fate: Fate
    reason: str = ""


class Connection(Protocol):
    """A way out that is open; one thread uses it."""

    def deliver(self, letter: Letter) -> Delivery:
        """Hand a letter over.

        Raises MailerError where no letter could leave now, and this one certainly has not.
        """


class Mailer(Protocol):
    """Whoever delivers letters; `place` says where they go, without secrets.

    With one that is `idempotent`, a letter that was handed over again under the same key is delivered once, unless
    that is longer than KNOWN ago.
    """

    place: str
    idempotent: bool

    def connect(self) -> AbstractContextManager[Connection]:
        """Open a connection, to be used for many letters; what it needs anew after a fault it opens itself.

        Raises MailerError where none can be had.
        """
