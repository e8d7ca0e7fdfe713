"""Mails: who is sent what, written into the transactions that open and close accounts; all of it goes to a folder."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, select

from nightcrew.clock import Clock
from nightcrew.demo import verification
from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.schema import users
from nightcrew.letters.templates import DEFAULT, Templates
from nightcrew.letters.writer import recipient
from nightcrew.mail import Mail, People, mailbox
from nightcrew.mailer import Letter
from nightcrew.mailers.folder import Folder
from nightcrew.mailing import Mailing
from nightcrew.recipes import emails
from nightcrew.schedule import every
from nightcrew.scheduled import Scheduled
from nightcrew.sent import State
from nightcrew.sequence import Person as Addressee

CONNECTED = "EXISTS (SELECT 1 FROM mcp_servers WHERE mcp_servers.user_id = users.id)"
"""Who has connected a tool knows their way around, and is told no more."""
WELCOME = replace(emails.welcome(), goal=CONNECTED, preference="welcome_emails")
_PEOPLE = People("users", "email_verified_at", name="name", preferences="user_email_preferences.user_id")
_SENDER = "Tealight <hello@tealight.example>"
_NEWEST = 5  # people of the seeded year who are enrolled when it is made, so that somebody is due a mail
_SHOWN = 20  # people
_HERE = Path(__file__).parent / "letters"


def mail(base: str, folder: Path) -> Mail:
    """Return what the crew is told of mail: links lead to `base`, letters go to `folder`."""
    return Mail(
        _SENDER,
        _PEOPLE,
        (WELCOME,),
        folder.as_uri(),
        base,
        preferences_url=f"{base}/preferences",
        variables={"product": "Tealight", "app_url": f"{base}/chats"},
        schedule=every(timedelta(minutes=1)),
    )


class Standing(NamedTuple):
    """Whose mails they are, the first that is due first; `person` is None once the account has gone."""

    person: Person | None
    mails: tuple[Scheduled, ...]


@dataclass(frozen=True, slots=True)
class Mails:
    """What the app does about mail: `folder` is where all of it goes."""

    mailing: Mailing
    folder: Path
    clock: Clock
    words: Templates

    @classmethod
    def of(cls, mailing: Mailing, folder: Path, clock: Clock) -> "Mails":
        """Take the crew's mail, and the app's own words for the one letter that it sends itself."""
        return cls(mailing, folder, clock, Templates(_HERE, DEFAULT))

    def enroll(self, connection: Connection, person: Person) -> None:
        """Let somebody be due the welcome mails, in the transaction that opens their account."""
        self.mailing.enroll(connection, person.id, WELCOME.name)

    def cancel(self, connection: Connection, person: Person) -> None:
        """Let nothing more be sent to somebody, in the transaction that closes their account."""
        self.mailing.cancel(connection, person.id, reason="the account was deactivated")

    def enroll_newest(self, connection: Connection) -> None:
        """Enrol those who joined last, in the transaction of `connection`."""
        newest = select(users.c.id).where(users.c.deactivated_at.is_(None)).order_by(users.c.created_at.desc())
        for key in connection.execute(newest.limit(_NEWEST)).scalars().all():
            self.mailing.enroll(connection, key, WELCOME.name)

    def ask(self, person: Person) -> None:
        """Send somebody the link by which they confirm their address.

        Raises UsageError for an address that can get no mail, and MailerError where the folder cannot be written to.
        """
        to, now = recipient(Addressee(person.id, person.email, person.name)), self.clock.now()
        url = f"{self.mailing.mail.base_url}{verification.path(self.key, person, now)}"
        told = {"name": to.display_name, "address": to.addr_spec, "verify_url": url}
        words = self.words.render("verify", {**self.mailing.mail.variables, **told})
        letter = Letter(
            key=f"verify.{secrets.token_hex(8)}",
            date=now,
            sender=mailbox("sender", _SENDER),
            recipient=to,
            subject=words.subject,
            text=words.text,
            html=words.html,
        )
        with Folder(self.folder, self.clock).connect() as connection:
            connection.deliver(letter)

    def due(self) -> int:
        """Count the mails that are due by now; who was just enrolled is due the first of theirs."""
        return len(self.mailing.due(limit=1000)) + self.mailing.newly_enrolled()

    def standings(self, data: Data) -> list[Standing]:
        """Return who was enrolled last, and how each of their mails stands."""
        found: dict[str, list[Scheduled]] = {}
        for each in self.mailing.of_state(*State, limit=_SHOWN * len(WELCOME.steps)):
            found.setdefault(each.person, []).append(each)
        people = _people(data, found)
        return [
            Standing(people.get(key), tuple(sorted(theirs, key=lambda each: each.planned)))
            for key, theirs in found.items()
        ]

    @property
    def key(self) -> str:
        """What links to this site are signed with."""
        return self.mailing.unsubscribe_keys[0]


def _people(data: Data, keys: Iterable[str]) -> dict[str, Person]:
    columns = users.c.id, users.c.name, users.c.email
    with data.reading() as connection:
        rows = connection.execute(select(*columns).where(users.c.id.in_(list(keys)))).all()
    return {row.id: Person(row.id, row.name, row.email) for row in rows}


class Shown(NamedTuple):
    """How a mail's standing is shown, when that was or will be, and why."""

    kind: str
    glyph: str
    words: str
    moment: datetime | None
    why: str


def shown(now: datetime, mail: Scheduled) -> Shown:
    """Return how a mail stands, in the words that its page needs."""
    why = _WHY.get(mail.reason, mail.reason)
    if mail.state is State.WAITING:
        late = mail.due is not None and mail.due <= now
        return Shown("busy", "○", "due now", None, why) if late else Shown("quiet", "○", "due", mail.due, why)
    kind, glyph = _MARKS.get(mail.state, ("quiet", "⊘"))
    return Shown(kind, glyph, str(mail.state).replace("_", " "), mail.sent, why)


_WHY = {"goal": "a tool is connected", "preference welcome_emails": "they want none"}
_MARKS = {
    State.SENT: ("good", "✓"),
    State.SENDING: ("busy", "▸"),
    State.MAYBE_SENT: ("bad", "?"),
    State.FAILED: ("bad", "✗"),
}
