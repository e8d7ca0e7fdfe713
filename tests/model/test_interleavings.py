"""An application at work on the very rows that are swept: what it saved stays, and all else that should go is gone.

Each interleaving is one transaction of the application against a sweep that is under way, with pauses drawn at random
between its statements and its end; its own answer says what must be found afterwards. What the sweep does differs by
the manner: its pace, and which tables' rows may be held.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import pytest
import sqlalchemy as sa
from tests.conftest import TYPES

from nightcrew import Nightcrew, Settings
from nightcrew.database import Form
from nightcrew.databases import forms, rows
from nightcrew.throttle import Size
from nightcrew.walk import SIZES

FEW, MANY = 120, 3_000  # interleavings on each database in each manner: `make test`, `make campaign`
USERS, EMPTY = 240, 120  # in each round
ACTS = 20  # in each round, by each of the application's connections
CLIENTS = 3
LONGEST_PAUSE = 0.004  # seconds
# From so many pages, or bytes, on a table may be swept in the order it is kept in: every other round, any.
LARGE = ("nightcrew.databases.postgresql_heap._FEWEST", "nightcrew.databases.mysql._SMALL")
LIVING = 0  # the user who never left
SCHEMA = (
    (
        "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time}, held {number} NOT NULL DEFAULT 0, name {text})"
        "{sparse}"
    ),
    "CREATE INDEX users_left ON users (left_at)",
    (
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number} NOT NULL, at {time} NOT NULL,"
        " held {number} NOT NULL DEFAULT 0,"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    "CREATE INDEX chats_at ON chats (at)",
    (
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL, body {text}, at {time},"
        " held {number} NOT NULL DEFAULT 0,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX messages_chat ON messages (chat_id)",
)
LONG_AGO = datetime(2001, 1, 1)  # noqa: DTZ001 - written as it is, to be read as UTC
SPARSE = {"postgresql": " WITH (fillfactor = 10)", "mysql": ""}  # about a batch of users on a page
ANALYZE = {"postgresql": "ANALYZE users, chats", "mysql": "ANALYZE TABLE users, chats"}
ISOLATION = ("READ COMMITTED", "REPEATABLE READ")
SMALL = Size(40, 80, 0.035, least=40)  # rows of a batch: about ten users with what hangs on them


@dataclass(frozen=True, slots=True)
class Manner:
    """How rows are swept, and of which tables rows that are held stay, with what they hang on."""

    pace: str
    holds: tuple[str, ...]


MANNERS = {
    "steady": Manner("steady", ("users", "chats", "messages")),
    "in two ranges": Manner("fast", ("users", "chats", "messages")),
    "trusted": Manner("fast", ("users",)),  # locked, and gone before anybody looks what hangs on them
    "at once": Manner("fast", ()),  # not even locked beforehand, on PostgreSQL
}


class Application:
    """One connection's acts; `kept` are rows it saved, by kind, each only if its transaction was committed."""

    def __init__(
        self, crew: Nightcrew, holds: tuple[str, ...], seed: int, rows: list[tuple[str, int]], numbers: Iterator[int]
    ) -> None:
        self.engine = crew._station.link.engine
        self.holds = holds
        self.chance = random.Random(seed)
        self.rows = rows
        self.numbers = numbers
        self.kept: set[tuple[str, int]] = set()
        self.moved: set[int] = set()
        self.hung: set[int] = set()  # chats that got a message that keeps them
        self.acts: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def play(self, over: threading.Event) -> None:
        try:
            for kind, number in self.rows:
                if over.is_set():
                    return
                act = self.chance.choice(ACTS_ON[kind])
                with suppress(sa.exc.DBAPIError):  # it lost the race: nothing of it is to be found
                    act(self, number)
                self.acts[act.__name__] += 1
        except BaseException as failure:
            self.failure = failure

    @contextmanager
    def transaction(self, *, commits: bool = True) -> Iterator[sa.Connection]:
        level = self.chance.choice(ISOLATION)
        with self.engine.connect().execution_options(isolation_level=level) as connection:
            if self.chance.random() < 0.3:
                connection.exec_driver_sql("SELECT count(*) FROM users")  # a snapshot older than what follows
                self.pause()
            yield connection
            self.pause()
            connection.commit() if commits else connection.rollback()

    def pause(self) -> None:
        if self.chance.random() < 0.7:
            time.sleep(self.chance.uniform(0, LONGEST_PAUSE))

    def change(self, table: str, number: int, values: str, *, commits: bool = True) -> bool:
        with self.transaction(commits=commits) as connection:
            hit = connection.exec_driver_sql(f"UPDATE {table} SET {values} WHERE id = {number}").rowcount
        return hit == 1 and commits

    def hold(self, table: str, number: int, saved: tuple[str, int]) -> None:
        """Hold a row, or think better of it."""
        held = self.change(table, number, "held = 1", commits=self.chance.random() < 0.7)
        if held and table in self.holds:
            self.kept.add(saved)

    def reactivate(self, number: int) -> None:
        if self.change("users", number, "left_at = NULL"):
            self.kept.add(("users", number))

    def hold_the_user(self, number: int) -> None:
        self.hold("users", number, ("users", number))

    def hold_a_chat(self, number: int) -> None:
        self.hold("chats", 2 * number, ("users", number))

    def hold_a_message(self, number: int) -> None:
        self.hold("messages", 4 * number, ("users", number))

    def hold_an_empty_chat(self, number: int) -> None:
        self.hold("chats", number, ("chats", number))

    def write_a_held_message(self, number: int) -> None:
        chat, new = 2 * number, next(self.numbers)
        with self.transaction() as connection:
            values = f"({new}, {chat}, 'held', 1)"
            connection.exec_driver_sql(f"INSERT INTO messages (id, chat_id, body, held) VALUES {values}")
        if "messages" in self.holds:
            self.kept.add(("users", number))
            self.hung.add(chat)

    def rename(self, number: int) -> None:
        self.change("users", number, "name = 'somebody else'")

    def think_better_of_it(self, number: int) -> None:
        self.change("users", number, "left_at = NULL", commits=False)

    def give_a_chat(self, number: int) -> None:
        with self.transaction() as connection:
            new = next(self.numbers)
            connection.exec_driver_sql(f"INSERT INTO chats (id, user_id, at) VALUES ({new}, {number}, '{LONG_AGO}')")
            connection.exec_driver_sql(f"INSERT INTO messages (id, chat_id, body) VALUES ({new}, {new}, 'late')")

    def move_a_chat(self, number: int) -> None:
        if self.change("chats", 2 * number, f"user_id = {LIVING}"):
            self.moved.add(2 * number)

    def write_a_first_message(self, number: int) -> None:
        with self.transaction() as connection:
            self.write(connection, number)
        self.kept.add(("chats", number))
        self.hung.add(number)

    def write_and_take_back(self, number: int) -> None:
        with self.transaction() as connection:
            new = self.write(connection, number)
            self.pause()
            connection.exec_driver_sql(f"DELETE FROM messages WHERE id = {new}")

    def write(self, connection: sa.Connection, number: int) -> int:
        new = next(self.numbers)
        connection.exec_driver_sql(f"INSERT INTO messages (id, chat_id, body) VALUES ({new}, {number}, 'first')")
        return new


Act = Callable[[Application, int], None]
ACTS_ON: dict[str, list[Act]] = {
    "users": [
        Application.reactivate,
        Application.hold_the_user,
        Application.hold_a_chat,
        Application.hold_a_message,
        Application.write_a_held_message,
        Application.rename,
        Application.think_better_of_it,
        Application.give_a_chat,
        Application.move_a_chat,
    ],
    "chats": [Application.write_a_first_message, Application.write_and_take_back, Application.hold_an_empty_chat],
}


@contextmanager
def hired(url: str, manner: Manner) -> Iterator[Nightcrew]:
    """Hire a crew for users and empty chats; messages go with these alone, but may be held themselves."""
    crew = Nightcrew(url, settings=Settings())
    terms = {"older_than": timedelta(days=30), "every": "1 day", "max_fraction": 1, "pace": manner.pace}
    holds = {table: {"hold": "held = 1"} for table in manner.holds}
    crew.expire("users", "users", column="left_at", **terms, **holds.get("users", {}))
    chats = {"unless_exists": ["messages.chat_id"], **holds.get("chats", {})}
    crew.expire("chats", "chats", column="at", **terms, **chats)
    crew.expire("messages", "messages", column="at", **terms, **holds.get("messages", {}))
    crew.migrate()
    with closing(crew):
        yield crew


@pytest.mark.parametrize("manner", MANNERS)
def test_nothing_is_lost_that_an_application_saved_and_nothing_else_is_kept(
    server_url, manner, campaign, figure, request, monkeypatch
):
    monkeypatch.setitem(SIZES, Form.LOCKED, SMALL)
    monkeypatch.setattr("nightcrew.walk._WORTH", 1)
    monkeypatch.setattr("nightcrew.throttle._FIRST_RETRY", 0.01)
    monkeypatch.setattr("nightcrew.sweep._PAUSES", (0.01,) * 5)
    acts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    saved = gone = 0
    seed = first = request.config.getoption("--seed") or 0
    with hired(server_url, MANNERS[manner]) as crew:
        kind = crew._station.link.engine.dialect.name
        with crew._station.link.transaction() as connection:
            for statement in SCHEMA:
                connection.exec_driver_sql(statement.format(**TYPES[kind], sparse=SPARSE[kind]))
        count_batches(seen, monkeypatch)
        while acts.total() < (MANY if campaign else FEW):
            large = seed % 2 == 0
            for threshold in LARGE:
                monkeypatch.setattr(threshold, 1 if large else 1_000_000)
            played, kept = one_round(crew, MANNERS[manner].holds, seed, seen)
            acts, saved, gone, seed = acts + played, saved + kept, gone + USERS + EMPTY - kept, seed + 1
    played = f"{acts.total()} in {seed - first} rounds, {gone} rows gone and {saved} saved; {dict(seen)}; {dict(acts)}"
    figure(f"interleavings on {kind}, {manner}", played)
    # PostgreSQL tells afterwards what went; where something of that might be held, it has to be looked at before.
    tallies = crew._station.link.dialect.tallies
    assert bool(seen["in two ranges"]) == (MANNERS[manner].pace == "fast")
    assert bool(seen["trusted"]) == (tallies and manner in {"trusted", "at once"})
    assert bool(seen["at once"]) == (tallies and manner == "at once")


def count_batches(seen: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the batches, those of which nobody looked beforehand what hangs on them, and those not even locked."""
    for name, way in {"empty": "batches", "_unweighed": "trusted", "_whole": "at once"}.items():
        monkeypatch.setattr(forms, name, counted(getattr(forms, name), way, seen))
    monkeypatch.setattr(rows, "empty", forms.empty)


def counted(take: Callable[..., forms.Haul | None], way: str, seen: Counter[str]) -> Callable[..., forms.Haul | None]:
    def counting(*arguments: object, **how: object) -> forms.Haul | None:
        haul = take(*arguments, **how)
        seen[way] += bool(haul and haul.removed)
        return haul

    return counting


def one_round(crew: Nightcrew, holds: tuple[str, ...], seed: int, seen: Counter[str]) -> tuple[Counter[str], int]:
    """Play one round and hold what is found against what the application knows; return its acts, and rows it saved."""
    fill(crew)
    chance = random.Random(seed)
    users = [("users", number) for number in chance.sample(range(1, USERS + 1), ACTS * CLIENTS // 2)]
    chats = [("chats", number) for number in chance.sample(range(10_000, 10_000 + EMPTY), ACTS * CLIENTS // 2)]
    drawn = chance.sample(users + chats, ACTS * CLIENTS)
    numbers = count(100_000)
    clients = [Application(crew, holds, seed + n, drawn[n::CLIENTS], numbers) for n in range(CLIENTS)]
    over, gone = threading.Event(), Counter[str]()
    threads = [threading.Thread(target=client.play, args=(over,)) for client in clients]
    sweeps = [threading.Thread(target=sweep, args=(crew, job, over, seen, gone)) for job in ("users", "chats")]
    before = seen["batches"]
    for thread in sweeps:
        thread.start()
    while seen["batches"] == before and sweeps[0].is_alive():
        time.sleep(0.001)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in sweeps:
        thread.join()
    for client in clients:
        assert client.failure is None, client.failure
    for job in ("users", "chats"):
        report = crew.run(job, now=True)
        assert report.outcome.success, report
        assert not report.remaining, report
        gone[job] += report.deleted
    hold_to_account(crew, clients, gone, f"seed {seed}")
    return sum((client.acts for client in clients), Counter()), sum(len(client.kept) for client in clients)


def sweep(crew: Nightcrew, job: str, over: threading.Event, seen: Counter[str], gone: Counter[str]) -> None:
    while not over.is_set():
        report = crew.run(job, now=True)
        ranges = {entry["facts"].get("range") for entry in crew.entries(report.run) if entry["kind"] == "batch"}
        seen["in two ranges"] += {1, 2} <= ranges
        gone[job] += report.deleted


def fill(crew: Nightcrew) -> None:
    """A user who never left and has empty chats, and those who left, with two chats of two messages each."""
    ago = [str(LONG_AGO + timedelta(seconds=7919 * n % USERS)) for n in range(1, USERS + 1)]
    users = [{"id": n, "left_at": time} for n, time in enumerate(ago, 1)] + [{"id": LIVING, "left_at": None}]
    chats = [{"id": 2 * n + k, "user_id": n, "at": time} for n, time in enumerate(ago, 1) for k in (0, 1)]
    messages = [{"id": 2 * chat["id"] + k, "chat_id": chat["id"], "body": "y"} for chat in chats for k in (0, 1)]
    chats += [{"id": 10_000 + n, "user_id": LIVING, "at": ago[n]} for n in range(EMPTY)]
    with crew._station.link.transaction() as connection:
        for name in ("messages", "chats", "users"):
            connection.exec_driver_sql(f"DELETE FROM {name}")
        for name, rows in (("users", users), ("chats", chats), ("messages", messages)):
            connection.execute(sa.insert(sa.table(name, *map(sa.column, rows[0]))), rows)
        connection.exec_driver_sql(ANALYZE[crew._station.link.engine.dialect.name])


def hold_to_account(crew: Nightcrew, clients: list[Application], gone: Counter[str], where: str) -> None:
    kept = set().union(*(client.kept for client in clients))
    moved = set().union(*(client.moved for client in clients))
    hung = set().union(*(client.hung for client in clients))
    users = {number for kind, number in kept if kind == "users"}
    empty = {number for kind, number in kept if kind == "chats"}
    assert gone == {"users": USERS - len(users), "chats": EMPTY - len(empty)}, where
    with crew._station.link.engine.connect() as connection:

        def found(question: str) -> set[int]:
            return set(connection.exec_driver_sql(question).scalars())

        assert found("SELECT id FROM users") == users | {LIVING}, where
        theirs = {2 * user + k for user in users for k in (0, 1)} | moved
        late = found("SELECT c.id FROM chats c JOIN users u ON u.id = c.user_id WHERE c.id >= 100000")
        assert found("SELECT id FROM chats") == theirs | empty | late, where
        assert found("SELECT id FROM messages WHERE id < 10000") == {2 * c + k for c in theirs for k in (0, 1)}, where
        assert found("SELECT chat_id FROM messages WHERE body IN ('first', 'held')") == hung, where
        assert found("SELECT chat_id FROM messages WHERE body = 'late'") == late, where
