"""Suppression: to whom nothing is sent, and the shape of the table that keeps it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from unicodedata import normalize

from nightcrew.clock import instant

EVERYTHING = ""
"""The topic of whoever wants no mail at all; any other is a sequence's name."""
UNSUBSCRIBED, BOUNCED, BY_HAND = "unsubscribed", "bounced", "by hand"
LONGEST = 320
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def compared(address: str) -> str:
    """Return an address as it is compared with others, of at most 320 characters: however it is spelled, it is one.

    Capitals tell no addresses apart in practice, whatever the standard says, nor do quotes that nothing needs, or how
    an accent or a domain beyond ASCII is written. Where that takes two for one, nothing is sent that might be unwanted.
    """
    local, _, domain = address.strip().rpartition("@")
    if quoted := _QUOTED.fullmatch(local):
        local = re.sub(r"\\(.)", r"\1", quoted[1])
    with suppress(UnicodeError):  # a domain that is none is compared as it stands
        domain = domain.encode("idna").decode("ascii")
    return normalize("NFC", normalize("NFC", f"{local}@{domain.rstrip('.')}").casefold())[:LONGEST]


@dataclass(frozen=True, slots=True)
class Subject:
    """An address, or a person by their ID: exactly one of the two."""

    address: str | None = None
    person: str | None = None

    @property
    def text(self) -> str:
        """Both in one, as it is kept."""
        return f"p:{self.person}" if self.address is None else f"a:{compared(self.address)}"

    @classmethod
    def read(cls, text: str) -> "Subject":
        """Read what `text` wrote."""
        return cls(person=text[2:]) if text.startswith("p:") else cls(address=text[2:])


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why nothing of a topic is sent to a subject, since when (UTC), and who said so."""

    subject: Subject
    topic: str
    reason: str
    by: str
    since: datetime

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; instants are ISO-8601 in UTC."""
        whose = {"address": self.subject.address, "person": self.subject.person, "topic": self.topic or None}
        return whose | {"reason": self.reason, "by": self.by, "since": instant(self.since)}


class Suppressions(Protocol):
    """The table of whom nothing is sent to."""

    def add(self, subject: Subject, topic: str, reason: str, by: str) -> None:
        """Send nothing of a topic to a subject from now on; what was said before stays as it is."""

    def remove(self, subject: Subject, topic: str, reason: str | None = None) -> bool:
        """Forget a suppression, where it is for that `reason` if one is given; return whether there was one."""

    def of(self, subject: Subject) -> Mapping[str, str]:
        """Return the reasons by topic."""

    def listed(self, most: int) -> list[Suppression]:
        """Return some, the newest first."""
