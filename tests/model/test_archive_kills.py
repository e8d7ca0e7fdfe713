"""Whoever is killed while rows leave or come back: each is in its table or in a frame, and never in both."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa
from tests.conftest import TYPES
from tests.model.archivist import crew_that_archives

from nightcrew import Nightcrew
from nightcrew.databases.tables import frames
from nightcrew.errors import UsageError

ARCHIVIST = Path(__file__).with_name("archivist.py")
FEW, MANY = 8, 100  # kills on each database: `make test`, `make campaign`
USERS = 1_500
LONGEST = 1.2  # seconds that a process works before it is killed
LONG_AGO = "2001-01-01 00:00:00"
SCHEMA = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time}, name VARCHAR(100))",
    "CREATE INDEX users_left ON users (left_at)",
    (
        "CREATE TABLE files (id {number} PRIMARY KEY, user_id {number} NOT NULL, above {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id), FOREIGN KEY (above) REFERENCES files (id) ON DELETE SET NULL)"
    ),
    "CREATE INDEX files_user ON files (user_id)",
    "CREATE INDEX files_above ON files (above)",
    "CREATE TABLE gone (id {number} PRIMARY KEY)",
)


class House:
    """The rows, and the archive that some of them are in."""

    def __init__(self, crew: Nightcrew) -> None:
        self.crew = crew
        self.engine = crew._station.link.engine
        with crew._station.link.transaction() as connection:
            for statement in SCHEMA:
                connection.exec_driver_sql(statement.format(**TYPES[self.engine.dialect.name]))
            users = [{"id": number, "left_at": LONG_AGO, "name": f"n{number}"} for number in range(USERS)]
            files = [{"id": number, "user_id": number // 2, "above": None} for number in range(2 * USERS)]
            for name, rows in (("users", users), ("files", files)):
                connection.execute(sa.insert(sa.table(name, *map(sa.column, rows[0]))), rows)

    def whereabouts(self) -> dict[str, Counter[int]]:
        """Return in how many places each row is: its table, what was deleted for good, frames that hold it."""
        found = {name: Counter[int]() for name in ("users", "files")}
        with self.crew._station.link.transaction(writes=False) as connection:
            for name, rows in found.items():
                rows.update(connection.exec_driver_sql(f"SELECT id FROM {name}").scalars())
            found["files"].update(connection.exec_driver_sql("SELECT id FROM gone").scalars())
            runs = connection.execute(sa.select(frames.c.run).distinct()).scalars().all()
        archive = self.crew._station.archive
        for manifest in (each for run in runs for each in archive.manifests.of(run)):
            for copy in archive.read(manifest).copies if sum(manifest.open.values()) else ():
                open_ones = range(len(copy.rows)) if manifest.restored_at is None else manifest.left.get(copy.table, ())
                rows = copy.values
                found[copy.table].update(int(rows[place][0]) for place in open_ones)
        return found

    def hold_to_account(self, where: str) -> None:
        """Compare; what was under way when its process died may still commit, or be rolled back, while this reads."""
        expected = {"users": Counter(range(USERS)), "files": Counter(range(2 * USERS))}
        for _ in range(20):
            if (found := self.whereabouts()) == expected:
                return
            time.sleep(0.1)
        wrong = {
            name: {number: rows[number] for number in {**rows, **expected[name]} if rows[number] != 1}
            for name, rows in found.items()
        }
        raise AssertionError(f"{where}: rows that are not in one place, and in how many they are: {wrong}")


def test_whoever_is_killed_between_a_row_and_its_copy(database_url, tmp_path, campaign, figure, request):
    folder = tmp_path / "vault"
    folder.mkdir()
    crew = crew_that_archives(database_url, str(folder))
    crew.migrate()
    house, seed = House(crew), request.config.getoption("--seed") or 0
    chance, restored = random.Random(seed), 0
    command = [sys.executable, str(ARCHIVIST), database_url, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as zygote:
        for kill in range(MANY if campaign else FEW):
            zygote.stdin.write("go\n")
            child = int(zygote.stdout.readline())
            time.sleep(chance.uniform(0.05, LONGEST))
            os.kill(child, signal.SIGKILL)
            assert zygote.stdout.readline() == "dead\n"
            house.hold_to_account(f"kill {kill} of seed {seed}")
        zygote.stdin.close()
    finish(house)
    with house.engine.connect() as connection:
        restored = sum(row.restored_at is not None for row in connection.execute(sa.select(frames)))
        number = len(connection.execute(sa.select(frames.c.id)).all())
        tables = ("users", "files", "gone")
        here = sum(len(connection.exec_driver_sql(f"SELECT id FROM {name}").all()) for name in tables)
    assert here == 3 * USERS
    figure(
        f"kills between row and copy on {house.engine.dialect.name}", f"{kill + 1}; {number} frames, {restored} back"
    )
    crew.close()


def finish(house: House) -> None:
    """Let the lease of the last that was killed run out, and put everything back."""
    until = time.monotonic() + 20
    with house.engine.connect() as connection:
        runs = connection.execute(sa.select(frames.c.run).distinct()).scalars().all()
    for run in runs:
        while True:
            try:
                found = house.crew.undo(run, restore=True)
                assert found.conflicts == 0, found.json()
                break
            except UsageError as error:
                if "is under way" not in str(error):
                    break
                assert time.monotonic() < until, "the dead process's run is not ended"
                house.crew.cancel(run, by="test")
                time.sleep(0.05)
