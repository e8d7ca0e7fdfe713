"""A mailer that keeps what it is handed, and does with it what a test says; and a crew that sends by it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.clock import Clock
from nightcrew.databases.tables import enrolments as enrolments_table
from nightcrew.databases.tables import mails as mails_table
from nightcrew.mail import Mail, People
from nightcrew.mailer import Delivery, Fate, Letter
from nightcrew.sequence import DAY, Sequence, Step

NAME = "process-scheduled-emails"
KEY = "a key for links of tests"
SENT = Delivery(Fate.SENT)
PEOPLE = (
    "CREATE TABLE people (id {number} PRIMARY KEY, email VARCHAR(300), name {text}, verified_at {time}, zone {text},"
    " plan {text}, score {number})"
)
PREFERENCES = "CREATE TABLE preferences (person {number} PRIMARY KEY, tips {number})"
WELCOME = Sequence("welcome", (Step("welcome"), Step("day3", 3 * DAY), Step("day7", 7 * DAY)))


class Tray:
    """A way out that ends here: `fate` says of each letter what becomes of it, or raises."""

    place = "a tray"

    def __init__(self, fate: Callable[[Letter], Delivery] = lambda letter: SENT, *, idempotent: bool = False) -> None:
        self.idempotent = idempotent
        self.letters: list[Letter] = []
        self.fate = fate
        self.open = self.most = 0
        self._lock = Lock()

    @contextmanager
    def connect(self) -> Iterator["Tray"]:
        """Count the connections that are open."""
        self.open += 1
        self.most = max(self.most, self.open)
        yield self
        self.open -= 1

    def deliver(self, letter: Letter) -> Delivery:
        """Keep a letter that is taken."""
        delivery = self.fate(letter)
        with self._lock:
            if delivery.fate in (Fate.SENT, Fate.MAYBE_SENT):
                self.letters.append(letter)
        return delivery

    @property
    def addresses(self) -> list[str]:
        """To whom they went."""
        return sorted(letter.recipient.addr_spec for letter in self.letters)


def mail(tray: object, *sequences: Sequence, **terms: object) -> Mail:
    """Return what a crew is told of mail."""
    columns = {"name": "name", "zone": "zone", "facts": ("plan",), "preferences": "preferences.person"}
    people = terms.pop("people", None) or People("people", "verified_at", **columns)
    said = {"variables": {"product": "Acme", "app_url": "https://app.example.com"}, **terms}
    return Mail("Acme <hello@acme.example>", people, sequences or (WELCOME,), tray, "https://app.example.com", **said)


def crew_of(url: str, tray: object, *sequences: Sequence, clock: Clock | None = None, **terms: object) -> Nightcrew:
    """Return a crew that sends mail."""
    settings = Settings(cloud_deploy=True, unsubscribe_key=KEY)
    return Nightcrew(url, settings=settings, mail=mail(tray, *sequences, **terms), clock=clock)


def application(url: str) -> sa.Engine:
    """Return an engine of the application's own."""
    parsed = sa.make_url(url)
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    return sa.create_engine(parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername)))


def people(*numbers: int, **terms: object) -> list[dict[str, object]]:
    """Return rows of people."""
    said = {"name": "Ada", "verified_at": DAY, "zone": None, "plan": "free", "score": 0} | terms
    return [{"id": number, "email": f"p{number}@example.com"} | said for number in numbers]


def enroll(crew, engine, *numbers, sequence="welcome", since=None):
    with engine.begin() as connection:
        for number in numbers:
            crew.mail.enroll(connection, number, sequence, since=since)


def send(crew):
    return crew.run(NAME, now=True)


def states(crew, step="welcome"):
    return {state: number for (_, name, state), number in crew.mail.counts().items() if name == step}


def shift(yard, by):
    """Let time pass: what was planned, due or sent was so earlier."""
    table = mails_table
    with yard.link.transaction() as connection:
        for row in connection.execute(sa.select(table)).all():
            moved = {
                name: getattr(row, name) and getattr(row, name) - by for name in ("planned_at", "due_at", "sent_at")
            }
            connection.execute(sa.update(table).where(table.c.id == row.id).values(**moved))
        for row in connection.execute(sa.select(enrolments_table)).all():
            earlier = sa.update(enrolments_table).where(enrolments_table.c.id == row.id)
            connection.execute(earlier.values(since=row.since - by))
