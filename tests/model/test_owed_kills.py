"""Whoever is killed on the way from a row to its blob: no row is without its blob, no blob without a row or a debt."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa
from tests.conftest import TYPES
from tests.model.reaper import crew_that_reaps

from nightcrew import Nightcrew, Outcome
from nightcrew.databases.parcels import SEPARATOR
from nightcrew.databases.tables import owed
from nightcrew.outbox import NAME

REAPER = Path(__file__).with_name("reaper.py")
FEW, MANY = 10, 100  # kills on each database: `make test`, `make campaign`
USERS = 600  # at a time, each with two files
LONGEST = 0.6  # seconds that a process works before it is killed
LONG_AGO = "2001-01-01 00:00:00"
SCHEMA = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time}, avatar VARCHAR(100))",
    "CREATE INDEX users_left ON users (left_at)",
    "CREATE INDEX users_avatar ON users (avatar)",
    (
        "CREATE TABLE files (id {number} PRIMARY KEY, user_id {number} NOT NULL, blob_key VARCHAR(100),"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX files_user ON files (user_id)",
    "CREATE INDEX files_key ON files (blob_key)",
)
KNOWN = "SELECT avatar FROM users UNION ALL SELECT blob_key FROM files"


class House:
    """The rows, the folder with their blobs, and how many users there ever were."""

    schema = SCHEMA

    def __init__(self, crew: Nightcrew, folder: Path) -> None:
        self.crew, self.folder, self.sown = crew, folder, 0
        self.engine = crew._station.link.engine
        named = crew._station.link.dialect.quote
        self.owed = f"SELECT {named}key{named} FROM nightcrew_owed"
        with crew._station.link.transaction() as connection:
            for statement in self.schema:
                connection.exec_driver_sql(statement.format(**TYPES[self.engine.dialect.name]))

    def sow(self) -> None:
        """Write the blobs first, then the rows; every third user has the picture of the one before."""
        numbers = range(self.sown, self.sown + USERS)
        files = [
            {"id": 2 * n + i, "user_id": n, "blob_key": f"files/{n % 50}/{2 * n + i}"} for n in numbers for i in (0, 1)
        ]
        users = [{"id": n, "left_at": LONG_AGO, "avatar": f"faces/{n - (n % 3 == 1)}"} for n in numbers]
        for key in {row["blob_key"] for row in files} | {row["avatar"] for row in users}:
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with self.crew._station.link.transaction() as connection:
            for name, rows in (("users", users), ("files", files)):
                connection.execute(sa.insert(sa.table(name, *map(sa.column, rows[0]))), rows)
        self.sown += USERS

    def texts(self, statement: str) -> set[str]:
        with self.crew._station.link.transaction(writes=False) as connection:
            rows = connection.exec_driver_sql(statement).scalars()
            return {key for row in rows for key in row.split(SEPARATOR)}

    def blobs(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def hold_to_account(self, where: str) -> None:
        """Compare; what was under way when its process died may still commit, so that one statement reads all."""
        blobs = self.blobs()
        assert not self.texts(KNOWN) - blobs, f"{where}: rows without their blobs"
        assert not blobs - self.texts(f"{KNOWN} UNION ALL {self.owed}"), f"{where}: blobs that nobody knows"

    def hasten(self) -> None:
        """Let be due again what the dead had claimed, rather than wait for it."""
        with self.crew._station.link.transaction() as connection:
            connection.execute(sa.update(owed).values(due_at=owed.c.since))


def test_whoever_is_killed_between_a_row_and_its_blob(database_url, tmp_path, campaign, figure, request):
    folder = tmp_path / "uploads"
    folder.mkdir()
    crew = crew_that_reaps(database_url, str(folder))
    crew.migrate()
    house, seed = House(crew, folder), request.config.getoption("--seed") or 0
    chance, midway = random.Random(seed), 0
    command = [sys.executable, str(REAPER), database_url, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as zygote:
        for kill in range(MANY if campaign else FEW):
            if len(house.texts(KNOWN)) < USERS:
                house.sow()
            zygote.stdin.write("go\n")
            child = int(zygote.stdout.readline())
            time.sleep(chance.uniform(0.05, LONGEST))
            os.kill(child, signal.SIGKILL)
            assert zygote.stdout.readline() == "dead\n"
            midway += bool(house.texts(house.owed))
            house.hold_to_account(f"kill {kill} of seed {seed}")
            if chance.random() < 0.5:
                house.hasten()
        zygote.stdin.close()
    finish(crew, house)
    assert house.blobs() == set()
    figure(
        f"kills between row and blob on {house.engine.dialect.name}",
        f"{kill + 1}, {midway} with debts; {house.sown} users",
    )
    crew.close()


def finish(crew: Nightcrew, house: House) -> None:
    """Let the leases of the last that was killed run out, and do what is left."""
    until = time.monotonic() + 20
    for job in ("reap", NAME):
        house.hasten()
        while crew.run(job, now=True).outcome not in {Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO}:
            assert time.monotonic() < until, "the dead process's lease is not taken over"
            time.sleep(0.05)
