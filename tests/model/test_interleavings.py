"""An application at work on the very rows that are swept: what it saved stays, and all else that should go is gone.

Each interleaving is one transaction of the application against a sweep that is under way, with pauses drawn at random
between its statements and its end; its own answer says what must be found afterwards.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count

import sqlalchemy as sa
from tests.conftest import TYPES

from nightcrew import Nightcrew, Settings

FEW, MANY = 400, 12_000  # interleavings on each database: `make test`, `make campaign`
USERS, EMPTY = 120, 120  # in each round
ACTS = 20  # in each round, by each of the application's connections
CLIENTS = 3
LONGEST_PAUSE = 0.004  # seconds
LIVING = 0  # the user who never left
SCHEMA = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time}, held {number} NOT NULL, name {text})",
    "CREATE INDEX users_left ON users (left_at)",
    (
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number} NOT NULL, at {time} NOT NULL,"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    "CREATE INDEX chats_at ON chats (at)",
    (
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL, body {text},"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX messages_chat ON messages (chat_id)",
)
LONG_AGO = "2001-01-01 00:00:00"
ISOLATION = ("READ COMMITTED", "REPEATABLE READ")


class Application:
    """One connection's acts; `kept` are rows it saved, by kind, each only if its transaction was committed."""

    def __init__(self, crew: Nightcrew, seed: int, rows: list[tuple[str, int]], numbers: Iterator[int]) -> None:
        self.engine = crew._station.link.engine
        self.chance = random.Random(seed)
        self.rows = rows
        self.numbers = numbers
        self.kept: set[tuple[str, int]] = set()
        self.moved: set[int] = set()
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

    def change(self, number: int, values: str) -> bool:
        with self.transaction() as connection:
            hit = connection.exec_driver_sql(f"UPDATE users SET {values} WHERE id = {number}").rowcount
        return hit == 1

    def reactivate(self, number: int) -> None:
        if self.change(number, "left_at = NULL"):
            self.kept.add(("users", number))

    def hold(self, number: int) -> None:
        if self.change(number, "held = 1"):
            self.kept.add(("users", number))

    def rename(self, number: int) -> None:
        self.change(number, "name = 'somebody else'")

    def think_better_of_it(self, number: int) -> None:
        with self.transaction(commits=False) as connection:
            connection.exec_driver_sql(f"UPDATE users SET left_at = NULL WHERE id = {number}")

    def give_a_chat(self, number: int) -> None:
        with self.transaction() as connection:
            new = next(self.numbers)
            connection.exec_driver_sql(f"INSERT INTO chats VALUES ({new}, {number}, '{LONG_AGO}')")
            connection.exec_driver_sql(f"INSERT INTO messages VALUES ({new}, {new}, 'late')")

    def move_a_chat(self, number: int) -> None:
        chat = 2 * number
        with self.transaction() as connection:
            hit = connection.exec_driver_sql(f"UPDATE chats SET user_id = {LIVING} WHERE id = {chat}").rowcount
        if hit:
            self.moved.add(chat)

    def write_a_first_message(self, number: int) -> None:
        with self.transaction() as connection:
            connection.exec_driver_sql(f"INSERT INTO messages VALUES ({next(self.numbers)}, {number}, 'first')")
        self.kept.add(("chats", number))

    def write_and_take_back(self, number: int) -> None:
        with self.transaction() as connection:
            new = next(self.numbers)
            connection.exec_driver_sql(f"INSERT INTO messages VALUES ({new}, {number}, 'first')")
            self.pause()
            connection.exec_driver_sql(f"DELETE FROM messages WHERE id = {new}")


Act = Callable[[Application, int], None]
ACTS_ON: dict[str, list[Act]] = {
    "users": [
        Application.reactivate,
        Application.hold,
        Application.rename,
        Application.think_better_of_it,
        Application.give_a_chat,
        Application.move_a_chat,
    ],
    "chats": [Application.write_a_first_message, Application.write_and_take_back],
}


def test_nothing_is_lost_that_an_application_saved_and_nothing_else_is_kept(server_url, campaign, figure, request):
    crew = Nightcrew(server_url, settings=Settings())
    terms = {"every": "1 day", "max_fraction": 1}
    crew.expire("accounts", "users", column="left_at", older_than=timedelta(days=30), hold="held = 1", **terms)
    empty = {"older_than": timedelta(days=1), "unless_exists": ["messages.chat_id"]}
    crew.expire("chats", "chats", column="at", **empty, **terms)
    crew.migrate()
    kind = crew._station.link.engine.dialect.name
    with crew._station.link.transaction() as connection:
        for statement in SCHEMA:
            connection.exec_driver_sql(statement.format(**TYPES[kind]))
    acts: Counter[str] = Counter()
    saved = rows = 0
    seed = request.config.getoption("--seed") or 0
    while acts.total() < (MANY if campaign else FEW):
        played, kept = one_round(crew, seed)
        acts, saved, rows, seed = acts + played, saved + kept, rows + USERS + EMPTY - kept, seed + 1
    figure(
        f"interleavings on {kind}", f"{acts.total()} in {seed} rounds, {rows} rows gone and {saved} saved; {dict(acts)}"
    )
    crew.close()


def one_round(crew: Nightcrew, seed: int) -> tuple[Counter[str], int]:
    """Play one round and hold what is found against what the application knows; return its acts, and rows it saved."""
    fill(crew)
    chance = random.Random(seed)
    users = [("users", number) for number in chance.sample(range(1, USERS + 1), ACTS * CLIENTS // 2)]
    chats = [("chats", number) for number in chance.sample(range(10_000, 10_000 + EMPTY), ACTS * CLIENTS // 2)]
    drawn = chance.sample(users + chats, ACTS * CLIENTS)
    numbers = count(100_000)
    clients = [Application(crew, seed + n, drawn[n::CLIENTS], numbers) for n in range(CLIENTS)]
    over = threading.Event()
    threads = [threading.Thread(target=client.play, args=(over,)) for client in clients]
    sweeps = [threading.Thread(target=sweep, args=(crew, job, over)) for job in ("accounts", "chats")]
    for thread in (*threads, *sweeps):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in sweeps:
        thread.join()
    for client in clients:
        assert client.failure is None, client.failure
    for job in ("accounts", "chats"):
        report = crew.run(job, now=True)
        assert report.outcome.success, report
        assert not report.remaining, report
    hold_to_account(crew, clients, f"seed {seed}")
    return sum((client.acts for client in clients), Counter()), sum(len(client.kept) for client in clients)


def sweep(crew: Nightcrew, job: str, over: threading.Event) -> None:
    while not over.is_set():
        crew.run(job, now=True)


def fill(crew: Nightcrew) -> None:
    """A user who never left and has empty chats, and those who left, with two chats of two messages each."""
    users = [{"id": n, "left_at": LONG_AGO, "held": 0, "name": "x"} for n in range(1, USERS + 1)]
    users.append({"id": LIVING, "left_at": None, "held": 0, "name": "x"})
    chats = [{"id": 2 * n + k, "user_id": n, "at": LONG_AGO} for n in range(1, USERS + 1) for k in (0, 1)]
    messages = [{"id": 2 * chat["id"] + k, "chat_id": chat["id"], "body": "y"} for chat in chats for k in (0, 1)]
    chats += [{"id": n, "user_id": LIVING, "at": LONG_AGO} for n in range(10_000, 10_000 + EMPTY)]
    with crew._station.link.transaction() as connection:
        for name in ("messages", "chats", "users"):
            connection.exec_driver_sql(f"DELETE FROM {name}")
        for name, rows in (("users", users), ("chats", chats), ("messages", messages)):
            connection.execute(sa.insert(sa.table(name, *map(sa.column, rows[0]))), rows)


def hold_to_account(crew: Nightcrew, clients: list[Application], where: str) -> None:
    kept = set().union(*(client.kept for client in clients))
    moved = set().union(*(client.moved for client in clients))
    users = {number for kind, number in kept if kind == "users"}
    empty = {number for kind, number in kept if kind == "chats"}
    with crew._station.link.engine.connect() as connection:

        def found(question: str) -> set[int]:
            return set(connection.exec_driver_sql(question).scalars())

        assert found("SELECT id FROM users") == users | {LIVING}, where
        theirs = {2 * user + k for user in users for k in (0, 1)} | moved
        late = found("SELECT c.id FROM chats c JOIN users u ON u.id = c.user_id WHERE c.id >= 100000")
        assert found("SELECT id FROM chats") == theirs | empty | late, where
        assert found("SELECT id FROM messages WHERE id < 10000") == {2 * c + k for c in theirs for k in (0, 1)}, where
        assert found("SELECT chat_id FROM messages WHERE body = 'first'") == empty, where
        assert found("SELECT chat_id FROM messages WHERE body = 'late'") == late, where
