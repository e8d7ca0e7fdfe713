"""Mail: whom mail goes to and comes from, by which way, and the sequences that people are due."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nightcrew.errors import ConfigurationError, did_you_mean, misfit
from nightcrew.mailer import Mailer
from nightcrew.policy import Policy
from nightcrew.schedule import Schedule, every
from nightcrew.sequence import Person, Sequence, named

GENERAL = "general"
"""The segment of whoever belongs to no other."""
SEGMENTS = (GENERAL, "developer", "security_focused", "enterprise")
"""Those that the mails which come with nightcrew have words for."""
UNCERTAIN = ("ask", "resend")
LONGEST_ADDRESS = 254
"""Characters of an address, by RFC 5321 (4.5.3.1.3), less the angle brackets."""
LEASE = timedelta(minutes=15)
"""How long a mail that was claimed is kept from others: longer than any server takes for a few of them."""
_SEGMENT = re.compile(r"^[a-z0-9][a-z0-9_-]{0,59}$")
_DOMAIN = re.compile(r"^(?:[\w-]{1,63}\.)+[\w-]{1,63}$")


@dataclass(frozen=True, slots=True)
class People:
    """The application's table of people, and which of its columns say what.

    `key` is the column that `enroll` is told values of, `address` that of the e-mail address, and `verified` one that
    is neither NULL nor false once that address is known to be theirs; True where all are. `zone` has names such as
    "Europe/Paris". `facts` are further columns that templates use. `preferences` is the column of another table that
    refers to the key ("user_email_preferences.user_id"), beside which that one has the preferences.
    """

    table: str
    verified: str | bool
    key: str = "id"
    address: str = "email"
    name: str | None = None
    zone: str | None = None
    segment: str | None = None
    facts: tuple[str, ...] = ()
    preferences: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", tuple(self.facts))
        for column in self.columns:
            Policy(self.table, column)
        if self.verified is False:
            raise ConfigurationError("verified is false, so that nobody would get mail: name the column that says it")
        if self.preferences is not None and not re.fullmatch(r"[^.]+(\.[^.]+){1,2}", self.preferences):
            raise ConfigurationError(f"preferences is {self.preferences!r}; write 'user_email_preferences.user_id'")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the table that is read."""
        verified = self.verified if isinstance(self.verified, str) else None
        all_of_them = (self.key, self.address, verified, self.name, self.zone, self.segment, *self.facts)
        return tuple(dict.fromkeys(column for column in all_of_them if column is not None))


@dataclass(frozen=True, slots=True)
class ScheduledEmails:
    """A table in which the application schedules mails itself, each for a `sequence` of ours and one of its steps.

    A row is one mail: to a `person`, of a `step`, `due` then; `sent` and `cancelled` are NULL or false until it has
    left, or will not. What is due is taken over, and told how it ended: `sent`, with the time in `sent_at`, or
    `cancelled`.
    """

    table: str = "scheduled_emails"
    sequence: str = "welcome"
    person: str = "user_id"
    step: str = "email_type"
    due: str = "scheduled_for"
    sent: str = "sent"
    sent_at: str | None = "sent_at"
    cancelled: str = "cancelled"

    def __post_init__(self) -> None:
        for column in self.columns:
            Policy(self.table, column)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read or written."""
        columns = self.person, self.step, self.due, self.sent, self.sent_at, self.cancelled
        return tuple(column for column in columns if column is not None)


@dataclass(frozen=True, slots=True)
class Mail:
    """What a crew has to know to send mail.

    `sender` and `reply_to` are addresses, as in "Acme <hello@acme.example>". `mailer` is a URL as docs/mail.md shows,
    what returns one, or a Mailer of one's own; `secret` is its password or key. `templates` is a folder, in which what
    is not there is looked for among the mails that come with nightcrew, and `variables` are what all of them may use.
    Links lead to `base_url`, and one to `preferences_url` where people say what they want. `segments` are the domains
    of addresses by which people are told apart, the first that fits. A person gets at most `per_person` mails in 24
    hours, and all together `per_day`. `connections` are the most that are open at once. Of a mail that has perhaps been
    sent, a person is asked unless `uncertain` is "resend". `scheduled_emails` is a table in which the application
    schedules mails by itself.

    Raises ConfigurationError for what cannot be.
    """

    sender: str
    people: People
    sequences: tuple[Sequence, ...]
    mailer: str | Callable[[], str] | Mailer
    base_url: str
    secret: str | Callable[[], str] | None = field(default=None, repr=False)
    reply_to: str | None = None
    preferences_url: str | None = None
    templates: str | Path | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    segments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    per_person: int = 1
    per_day: int | None = None
    connections: int = 4
    uncertain: str = "ask"
    scheduled_emails: ScheduledEmails | None = None
    schedule: Schedule = field(default_factory=lambda: every("1 hour"))

    def __post_init__(self) -> None:
        mailbox("sender", self.sender)
        if self.reply_to is not None:
            mailbox("reply_to", self.reply_to)
        object.__setattr__(self, "sequences", tuple(self.sequences))
        named(self.sequences)
        for key, least in (("per_person", 1), ("connections", 1)):
            _at_least(key, getattr(self, key), least)
        if self.per_day is not None:
            _at_least("per_day", self.per_day, 1)
        if self.uncertain not in UNCERTAIN:
            raise ConfigurationError(f"uncertain is {self.uncertain!r}{did_you_mean(str(self.uncertain), UNCERTAIN)}")
        _check_base(self.base_url)
        self._check_segments()
        if self.scheduled_emails is not None and self.scheduled_emails.sequence not in self.by_name:
            near = did_you_mean(self.scheduled_emails.sequence, self.by_name)
            raise ConfigurationError(
                f"scheduled_emails are of sequence {self.scheduled_emails.sequence!r}, which is none{near}"
            )
        for one in self.sequences:
            if one.preference is not None and self.people.preferences is None:
                raise ConfigurationError(
                    f"sequence {one.name!r} has the preference {one.preference!r}, and nobody says which table that is"
                    " in: set preferences of people, as in 'user_email_preferences.user_id'"
                )

    def _check_segments(self) -> None:
        for name, domains in self.segments.items():
            if not _SEGMENT.match(name):
                raise ConfigurationError(f"segment {name[:60]!r} is no name: use small letters, digits, - and _")
            for domain in domains:
                if not _DOMAIN.match(domain):
                    raise ConfigurationError(f"segment {name!r}: {domain[:80]!r} is no domain such as 'acme.example'")

    @property
    def by_name(self) -> Mapping[str, Sequence]:
        """The sequences by name."""
        return named(self.sequences)

    def segment_of(self, person: Person) -> str:
        """Return the segment that the application says, else the first that has the domain of the address."""
        if person.segment and _SEGMENT.match(person.segment):
            return person.segment
        domain = (person.address or "").rpartition("@")[2].casefold()
        for name, domains in self.segments.items():
            if any(domain == one.casefold() or domain.endswith(f".{one.casefold()}") for one in domains):
                return name
        return GENERAL


def mailbox(key: str, text: str) -> Address:
    """Return an address of a person's or of a firm's, with the name before it; raises ConfigurationError for none."""
    wrong = misfit(text, str, "write 'Acme <hello@acme.example>'")
    if wrong:
        raise ConfigurationError(f"{key} {wrong}")
    name, address = parseaddr(text)
    if "@" in address and not any(sign in text for sign in "\r\n\0"):
        with suppress(HeaderParseError, ValueError, LookupError, AttributeError):  # the parser trips over some texts
            return Address(name, addr_spec=address)
    raise ConfigurationError(f"{key} is {text[:120]!r}, which is no address: 'Acme <hello@acme.example>'")


def _check_base(url: str) -> None:
    parts = urlsplit(url if isinstance(url, str) else "")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(f"base_url is {url!r}; write where the application is: 'https://app.acme.example'")


def _at_least(key: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{key} is {value!r}; write a whole number from {least} on")
