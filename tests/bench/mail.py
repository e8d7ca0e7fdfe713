"""What people are due is sent to a server of SMTP, beside `smtplib.send_message` over one connection to it."""

import asyncio
import multiprocessing
import os
import resource
import smtplib
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from functools import partial
from typing import Any

import sqlalchemy as sa
from aiosmtpd.smtp import SMTP
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings
from nightcrew.mail import Mail, People
from nightcrew.mailer import Delivery, Fate, Letter
from nightcrew.sequence import Sequence, Step

MAILS = int(os.environ.get("NIGHTCREW_BENCH_MAILS", "2000"))
MANY = int(os.environ.get("NIGHTCREW_BENCH_DUE", "100000"))
ROUNDS = 3
NAME = "process-scheduled-emails"
ONE = Sequence("welcome", (Step("welcome"),))
PAUSES = (0.0, 0.005)  # seconds a server takes to keep a letter: none, and a disk's


class _Sink:
    """Takes every letter, after a while, and offers PIPELINING, as servers do."""

    def __init__(self, pause: float) -> None:
        self._pause = pause

    async def handle_EHLO(self, _server, session, _envelope, hostname, responses):  # noqa: N802 - so the server calls it
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_DATA(self, _server, _session, _envelope):  # noqa: N802 - so the server calls it
        if self._pause:
            await asyncio.sleep(self._pause)
        return "250 2.0.0 Ok"


async def _listen(pause: float, pipe: Any) -> None:
    sink = partial(SMTP, _Sink(pause), enable_SMTPUTF8=True)
    listening = await asyncio.get_running_loop().create_server(sink, "127.0.0.1", 0)
    pipe.send(listening.sockets[0].getsockname()[1])
    await asyncio.to_thread(pipe.recv)
    listening.close()


def _serve(pause: float, pipe: Any) -> None:
    asyncio.run(_listen(pause, pipe))


@contextmanager
def server(pause: float) -> Iterator[int]:
    """Let a server run in a process of its own, and return its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(pause, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("enough")
        process.join()


def built(place: int) -> EmailMessage:
    """Return a message of the size of ours, made as anybody makes one."""
    message = EmailMessage()
    message["From"], message["To"] = "Acme <hello@acme.example>", f"Ada <p{place}@example.com>"
    message["Subject"] = "Welcome to Acme"
    message.set_content("Hello Ada,\n\n" + "welcome to Acme. " * 40)
    page = f"<html><body><p>Hello Ada,</p><p>{'welcome to Acme. ' * 100}</p></body></html>"
    message.add_alternative(page, "html")
    return message


def looped(port: int, number: int) -> float:
    """Return how many messages a second leave in a loop that makes each and sends it, as applications have it."""
    begun = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as connection:
        for place in range(number):
            connection.send_message(built(place))
    return number / (time.perf_counter() - begun)


def bare(port: int, number: int) -> float:
    """Return how many messages a second leave by send_message alone; they are made before."""
    messages = [built(place) for place in range(number)]
    begun = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as connection:
        for message in messages:
            connection.send_message(message)
    return number / (time.perf_counter() - begun)


@contextmanager
def due(url: str, mailer: Any, number: int) -> Iterator[Nightcrew]:
    """Make a crew, and so many people whose welcome is due."""
    people = People("people", "verified_at", name="name")
    said = {"product": "Acme", "app_url": "https://app.example.com"}
    mail = Mail("Acme <hello@acme.example>", people, (ONE,), mailer, "https://app.example.com", variables=said)
    crew = Nightcrew(
        url, settings=Settings(cloud_deploy=True, unsubscribe_key="a key that is for measuring"), mail=mail
    )
    crew.migrate()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        columns = "id integer PRIMARY KEY, email text, name text, verified_at timestamptz"
        connection.exec_driver_sql(f"CREATE TABLE people ({columns})")
        rows = f"SELECT n, 'p' || n || '@example.com', 'Ada', now() FROM generate_series(1, {number}) AS n"
        connection.exec_driver_sql(f"INSERT INTO people {rows}")
        enrolled = "SELECT 'welcome', CAST(n AS text), now() - interval '1 minute', ''"
        connection.exec_driver_sql(
            f"INSERT INTO nightcrew_enrolments (sequence, person, since, steps) {enrolled}"
            f" FROM generate_series(1, {number}) AS n"
        )
    engine.dispose()
    while crew._station.enrolments.plan(ONE, 1_000):  # which is the work of an hour before
        pass
    yield crew
    crew.close()


def ours(port: int, number: int) -> float:
    """Return how many mails a second a run of the job sends, from the claim to the ledger."""
    with fresh_database() as url, due(url, f"smtp://127.0.0.1:{port}?starttls=off", number) as crew:
        begun = time.perf_counter()
        report = crew.run(NAME, now=True)
        took = time.perf_counter() - begun
    assert report.message == f"Sent {number:,} mails.", report
    return number / took


def measure() -> dict[str, Any]:
    """Return the rates side by side, by what the server takes for a letter, and what memory a long run takes."""
    found: dict[str, Any] = {}
    for pause in PAUSES:
        ways = {"nightcrew": ours, "loop": looped, "bare": bare}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with server(pause) as port:
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    rates[name].append(way(port, MAILS))
        told = {name: statistics.median(some) for name, some in rates.items()}
        ratios = {
            name: statistics.median(a / b for a, b in zip(rates["nightcrew"], some, strict=True))
            for name, some in rates.items()
        }
        found[f"{pause * 1000:g} ms"] = told | {"ratio": ratios["loop"], "ratio_bare": ratios["bare"]}
        print(
            f"a server that takes {pause * 1000:g} ms for a letter: nightcrew {told['nightcrew']:,.0f} mails/s; a loop"
            f" of smtplib.send_message {told['loop']:,.0f} ({ratios['loop']:.2f}x), of messages made before"
            f" {told['bare']:,.0f} ({ratios['bare']:.2f}x)"
        )
    found["memory"] = memory()
    return found


class _Tray:
    """A way out that ends here, and notes the most memory that was in use."""

    place, idempotent = "a tray", False

    def __init__(self) -> None:
        self.taken = 0
        self.sizes: dict[int, float] = {}

    @contextmanager
    def connect(self) -> Iterator["_Tray"]:
        """Be the connection."""
        yield self

    def deliver(self, letter: Letter) -> Delivery:
        """Take it."""
        self.taken += 1
        if self.taken in (MANY // 10, MANY):
            self.sizes[self.taken] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Delivery(Fate.SENT)


def memory() -> dict[str, float]:
    """Return the most memory after a tenth of many mails, and after all."""
    sink = _Tray()
    with fresh_database() as url, due(url, sink, MANY) as crew:
        begun = time.perf_counter()
        crew.run(NAME, now=True)
        took = time.perf_counter() - begun
    first, last = sink.sizes[MANY // 10], sink.sizes[MANY]
    print(f"{MANY:,} mails due: {first:,.0f} MB after a tenth, {last:,.0f} after all; {MANY / took:,.0f} mails/s")
    return {"tenth": first, "all": last}
