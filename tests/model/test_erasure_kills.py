"""Whoever is killed while a person is erased: the next one ends it, and meanwhile it is known whom it was about."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import TYPES
from tests.model.eraser import KEY, STORES, WAYS, crew_that_erases, people

from nightcrew.databases.parcels import SEPARATOR
from nightcrew.erased import subject_of
from nightcrew.erasures.vault import Vault
from nightcrew.outcome import Outcome
from nightcrew.stores.disk import Disk

ERASER = Path(__file__).with_name("eraser.py")
FEW, MANY = 12, 120  # kills on each database: `make test`, `make campaign`
PEOPLE = 12  # at a time
LONGEST = {"hand": 0.5, "job": 1.2}  # seconds that one works before it is killed; a job waits for a lease
MARK = "zephyrine"
LEFT = "2001-01-01 00:00:00"
SCHEMA = (
    "CREATE TABLE users (id {number} PRIMARY KEY, email VARCHAR(100), left_at {time})",
    (
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number} NOT NULL,"
        " FOREIGN KEY (user_id) REFERENCES users (id))"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    (
        "CREATE TABLE files (id {number} PRIMARY KEY, chat_id {number} NOT NULL, blob_key VARCHAR(100),"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX files_chat ON files (chat_id)",
    "CREATE INDEX files_key ON files (blob_key)",
    "CREATE TABLE visits (id {number} PRIMARY KEY, user_id {number}, page VARCHAR(100))",
    "CREATE INDEX visits_user ON visits (user_id)",
)


class Town:
    """The rows, the folders, and how many people there ever were."""

    def __init__(self, crew, folder):
        self.crew, self.folder, self.moved_in = crew, folder, 0
        self.vault = Vault(Disk(f"{folder}/vault"))
        self.kind, self.quote = crew._station.link.engine.dialect.name, crew._station.link.dialect.quote
        with crew._station.link.transaction() as connection:
            for statement in SCHEMA:
                connection.exec_driver_sql(statement.format(**TYPES[self.kind]))

    def move_in(self):
        numbers = range(self.moved_in, self.moved_in + PEOPLE)
        rows = {
            "users": [{"id": n, "email": f"{MARK}{n}", "left_at": LEFT} for n in numbers],
            "chats": [{"id": 10 * n + i, "user_id": n} for n in numbers for i in range(4)],
            "files": [
                {"id": 100 * n + i, "chat_id": 10 * n + i % 4, "blob_key": f"{MARK}/{n}/{i}"}
                for n in numbers
                for i in range(12)
            ],
            "visits": [{"id": 10 * n + i, "user_id": n, "page": MARK} for n in numbers for i in range(5)],
        }
        for row in rows["files"]:
            self.put("uploads", row["blob_key"])
        for n in numbers:
            for key in (*(f"users/{n}/{MARK}{i}" for i in range(5)), f"mail/{MARK}{n}"):
                self.put("exports", key)
        with self.crew._station.link.transaction() as connection:
            for name, some in rows.items():
                connection.execute(sa.insert(sa.table(name, *map(sa.column, some[0]))), some)
        self.moved_in += PEOPLE

    def put(self, store, key):
        path = self.folder / store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def texts(self, statement):
        with self.crew._station.link.transaction(writes=False) as connection:
            rows = connection.exec_driver_sql(statement).scalars()
            return {key for row in rows for key in str(row).split(SEPARATOR)}

    def blobs(self, store):
        root = self.folder / store
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def hold_to_account(self, where):
        known = f"SELECT blob_key FROM files UNION ALL SELECT {self.quote}key{self.quote} FROM nightcrew_owed"
        blobs = self.blobs("uploads")
        assert not blobs - self.texts(known), f"{where}: blobs that nobody knows"
        announced = {one.subject for one in self.vault.announced()}
        touched = {n for n in range(self.moved_in) if self.rows_of(n) != 22}
        unknown = [n for n in touched if subject_of(KEY, "users", [str(n)]) not in announced]
        assert not unknown, f"{where}: people who are half gone, and nobody outside of the database knows"

    def rows_of(self, n):
        with self.crew._station.link.transaction(writes=False) as connection:
            counts = (
                f"SELECT COUNT(*) FROM users WHERE id = {n}",
                f"SELECT COUNT(*) FROM chats WHERE user_id = {n}",
                f"SELECT COUNT(*) FROM files WHERE id BETWEEN {100 * n} AND {100 * n + 11}",
                f"SELECT COUNT(*) FROM visits WHERE user_id = {n}",
            )
            return sum(connection.exec_driver_sql(count).scalar_one() for count in counts)

    def dump(self):
        with self.crew._station.link.transaction(writes=False) as connection:
            names = sa.inspect(connection).get_table_names()
            rows = [str(connection.execute(sa.text(f"SELECT * FROM {name}")).all()) for name in names]
        kept = [str(one) for one in (*self.vault.announced(), *self.vault.receipts())]
        return "\n".join([*rows, *kept, *(key for store in STORES for key in self.blobs(store))])


def by_hand(crew):
    for person in people(crew):
        assert crew.erase(person, by="the last").state == "complete"


def by_job(crew):
    """Wait until the lease of whoever was killed has run out, and let the job take the rest.

    A run that has lost five processes is closed as failed, and the next one goes on.
    """
    until, fine = time.monotonic() + 30, (Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO, Outcome.IN_PROGRESS_ELSEWHERE)
    while people(crew):
        report = crew.run("erase", now=True)
        assert report.outcome in fine or "attempts used up" in report.message, report.message
        assert time.monotonic() < until, report.message
        time.sleep(0.05)


FINISH = {"hand": by_hand, "job": by_job}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_is_killed_while_a_person_is_erased(way, database_url, tmp_path, campaign, figure, request):
    for name in (*STORES, "vault"):
        (tmp_path / name).mkdir()
    crew = crew_that_erases(database_url, str(tmp_path))
    crew.migrate()
    town, seed = Town(crew, tmp_path), request.config.getoption("--seed") or 0
    chance, midway = random.Random(seed), 0
    command = [sys.executable, str(ERASER), database_url, str(tmp_path), way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as zygote:
        for kill in range(MANY if campaign else FEW):
            if len(people(crew)) < PEOPLE // 2:
                town.move_in()
            zygote.stdin.write("go\n")
            child = int(zygote.stdout.readline())
            time.sleep(chance.uniform(0.05, LONGEST[way]))
            os.kill(child, signal.SIGKILL)
            assert zygote.stdout.readline() == "dead\n"
            midway += bool(crew._station.erasures.under_way("erase", 10))
            town.hold_to_account(f"kill {kill} of seed {seed}")
        zygote.stdin.close()
    FINISH[way](crew)
    assert MARK not in town.dump()
    assert town.blobs("uploads") == town.blobs("exports") == set()
    receipts = list(crew.receipts())
    assert {said["subject"] for said in receipts} == {subject_of(KEY, "users", [str(n)]) for n in range(town.moved_in)}
    assert {said["result"] for said in receipts} == {"complete"}
    assert crew.verify() == []
    figure(
        f"kills while people are erased by {way} on {town.kind}", f"{kill + 1}, {midway} midway; {town.moved_in} people"
    )
    crew.close()
