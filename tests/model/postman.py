"""A process that waits to be asked for others, which let people sign up, and send what they are due, without end.

Usage: python -m tests.model.postman URL BOOK. Each letter that is taken is a line in the file BOOK. It has loaded all
code, so that each of them is at work as soon as it is forked. Somebody kills them, or freezes them for a while.
"""

import os
import random
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import sqlalchemy as sa
from tests.tray import KEY, NAME, SENT, application, mail

from nightcrew import Nightcrew, Settings
from nightcrew.mailer import Delivery, Fate
from nightcrew.sequence import Sequence, Step

STEPS = Sequence("welcome", (Step("welcome"), Step("day3")))
LEASE = 0.4


class Book:
    """A way out that writes down what it takes, a little after it was handed over and a little before it says so."""

    place, idempotent = "a book", False

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @contextmanager
    def connect(self):
        yield self

    def deliver(self, letter):
        chance = random.Random()
        time.sleep(chance.uniform(0, 0.004))
        if chance.random() < 0.05:
            return Delivery(Fate.DEFERRED, "451 not now")
        os.write(self._file, f"{letter.key} {letter.recipient.addr_spec}\n".encode())
        time.sleep(chance.uniform(0, 0.004))
        return SENT


def crew_of_postmen(url: str, book: str) -> Nightcrew:
    """Return a crew that sends two mails to whoever signs up, as fast as it can."""
    terms = {"per_person": 9, "connections": 2}
    settings = Settings(cloud_deploy=True, unsubscribe_key=KEY)
    return Nightcrew(url, settings=settings, mail=mail(Book(book), STEPS, **terms), lease=LEASE)


def sign_up(crew: Nightcrew, engine: sa.Engine, chance: random.Random) -> None:
    """Let somebody sign up, in one transaction with their enrolment; now and then it comes to nothing."""
    number = chance.randrange(10**9)
    with engine.connect() as connection:
        values = f"({number}, 'p{number}@example.com', 'Ada', '2024-01-01', 'free')"
        connection.exec_driver_sql(f"INSERT INTO people (id, email, name, verified_at, plan) VALUES {values}")
        crew.mail.enroll(connection, number, STEPS.name)
        if chance.random() < 0.9:
            connection.commit()


def work(url: str, book: str, trigger: str) -> None:
    """Sign up and send; by one trigger or the other."""
    crew, engine, chance = crew_of_postmen(url, book), application(url), random.Random()
    while True:
        if chance.random() < 0.05:  # so few that what waits after hundreds of kills is sent within minutes
            sign_up(crew, engine, chance)
        if trigger == "http":
            crew.run(NAME, now=True, trigger=trigger, deadline=timedelta(seconds=chance.uniform(0.05, 1)))
        else:
            crew.tick(trigger=trigger)


def main() -> None:
    """Fork one process for each line that is read, and say its number."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(*sys.argv[1:], line.strip())
        print(child, flush=True)


if __name__ == "__main__":
    main()
