"""Writer: a mail that a person is due → their letter, with the links by which they get no more of them."""

import re
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Any

from nightcrew.errors import UsageError
from nightcrew.letters.templates import DEFAULT, Templates
from nightcrew.mail import LONGEST_ADDRESS, SEGMENTS, Mail, mailbox
from nightcrew.mailer import Letter
from nightcrew.scheduled import Scheduled
from nightcrew.sequence import Person, Step
from nightcrew.suppression import compared
from nightcrew.unsubscribe import headers, link

_KNOWN = ("name", "address", "segment", "arm", "person", "unsubscribe_url", "preferences_url")
_LONGEST_NAME = 100
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_WORD = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\0-\x7f])+"
_BEYOND = re.compile(rf"{_WORD}(?:\.{_WORD})*@(?:[A-Za-z0-9.-]|[^\0-\x7f])+")
"""An address whose letters may be any, by RFC 6532: the parser takes none of those before its @."""


class Writer:
    """Writes letters; `keys` are those that links are signed with, the present one first.

    Links lead to a site without https in `development` alone.
    """

    def __init__(self, mail: Mail, keys: tuple[str, ...], *, development: bool) -> None:
        folders = [Path(mail.templates)] if mail.templates is not None else []
        self._mail = mail
        self._keys = keys
        self._development = development
        self._templates = Templates(*folders, DEFAULT)
        self._sender = mailbox("sender", mail.sender)
        self._reply_to = None if mail.reply_to is None else mailbox("reply_to", mail.reply_to)

    def letter(
        self, mail: Scheduled, step: Step, person: Person, arm: str | None, now: datetime, segment: str | None = None
    ) -> Letter:
        """Return the letter of a mail, written now.

        Raises ConfigurationError for templates that cannot be written, UsageError for an address that is none.
        """
        addressee, named = recipient(person), segment or self._mail.segment_of(person)
        url = link(self._mail.base_url, self._keys[0], person.id, mail.sequence)
        told = {
            "name": addressee.display_name,
            "address": addressee.addr_spec,
            "segment": named,
            "arm": arm or "",
            "person": person.id,
            "unsubscribe_url": url,
            "preferences_url": self._mail.preferences_url or "",
        }
        words = self._templates.render(step.mail, self._given(person) | told, segment=named, arm=arm)
        return Letter(
            key=mail.key,
            date=now,
            sender=self._sender,
            recipient=addressee,
            subject=words.subject,
            text=words.text,
            html=words.html,
            reply_to=self._reply_to,
            headers=headers(url, development=self._development),
        )

    def test(self, letter: Letter, address: str, token: str) -> Letter:
        """Return a letter that goes to somebody else, and is another one each time."""
        name = letter.recipient.display_name
        other = recipient(Person("", address, name))
        return replace(letter, key=f"test.{token}", recipient=other, subject=f"[Test] {letter.subject}")

    @property
    def segments(self) -> tuple[str, ...]:
        """Those that a mail may have words for."""
        return tuple(dict.fromkeys((*SEGMENTS, *self._mail.segments)))

    def faults(self) -> list[str]:
        """Say what is wrong with the templates of the steps."""
        mail = self._mail
        arms: dict[str, set[str]] = {}
        for sequence in mail.sequences:
            for step in sequence.steps:
                arms.setdefault(step.mail, set()).update(step.arms)
        known = {*_KNOWN, *mail.variables, *mail.people.facts}
        found = self._templates.check({name: (self.segments, some) for name, some in arms.items()}, known)
        taken = {*_KNOWN} & ({*mail.variables} | {*mail.people.facts})
        return [
            *found,
            *(f"{name} is what nightcrew tells templates itself: name the variable otherwise" for name in taken),
        ]

    def _given(self, person: Person) -> dict[str, Any]:
        return {**self._mail.variables, **person.facts}


def recipient(person: Person) -> Address:
    """Return whom a letter goes to; of a name, what may stand in one line. Raises UsageError for no address."""
    name = " ".join("".join(sign if sign.isprintable() else " " for sign in person.name).split())[:_LONGEST_NAME]
    address = person.address or ""
    if len(address) > LONGEST_ADDRESS:
        raise UsageError("what is kept as the address is too long to be one")
    if "=?" in address:  # which some mail programs would decode, and so show, or answer, another one
        raise UsageError("what is kept as the address is none")
    if _PLAIN.fullmatch(address) or (_BEYOND.fullmatch(address) and address.isprintable()):  # these need no parser
        username, _, domain = address.partition("@")
        return Address(name, username, domain)
    if address.isprintable() and address.count("@") == 1:
        with suppress(HeaderParseError, ValueError, LookupError, AttributeError):  # the parser trips over some texts
            found = Address(name, addr_spec=address)
            if compared(found.addr_spec) == compared(address):  # or there is a comment in it
                return found
    raise UsageError("what is kept as the address is none")
