"""Whoever is killed anywhere between a row, its copy, its debt and its blob: nothing is lost, left, or doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from tests.model.chain import crew_of_the_chain
from tests.model.test_archive_kills import finish as put_everything_back
from tests.model.test_owed_kills import KNOWN, USERS
from tests.model.test_owed_kills import House as Rows

from nightcrew import Nightcrew, Outcome
from nightcrew.databases.tables import frames, owed
from nightcrew.outbox import NAME

ROOT = Path(__file__).parents[2]
FEW, MANY = 6, 100  # kills on each of three databases: `make test`, `make campaign`
LONGEST = 1.2  # seconds that a process works before it is killed
SCHEMA = (*Rows.schema, "CREATE TABLE gone (id {number} PRIMARY KEY)")
NAMING = {"users": "avatar", "files": "blob_key"}


class House(Rows):
    """The rows and their blobs, how many users there ever were, and which rows cannot be put back any more."""

    schema = SCHEMA

    def __init__(self, crew: Nightcrew, uploads: Path) -> None:
        super().__init__(crew, uploads)
        self.over = {name: Counter[int]() for name in NAMING}

    def runs(self) -> list[str]:
        with self.crew._station.link.transaction(writes=False) as connection:
            return list(connection.execute(sa.select(frames.c.run).distinct()).scalars())

    def archived(self, run: str) -> tuple[dict[str, Counter[int]], set[str]]:
        """Return the rows of a run that can still be put back, by table, and the blobs that these name."""
        rows, keys, archive = {name: Counter[int]() for name in NAMING}, set[str](), self.crew._station.archive
        for manifest in archive.manifests.of(run):
            for copy in archive.read(manifest).copies if sum(manifest.open.values()) else ():
                left = range(copy.size) if manifest.restored_at is None else manifest.left.get(copy.table, ())
                (naming,) = copy.of([NAMING[copy.table]])
                rows[copy.table].update(int(copy.values[place][0]) for place in left)
                keys.update(copy.values[place][naming] for place in left)
        return rows, keys

    def wrong(self) -> str | None:
        """Say what is not as it should be."""
        where, kept = {name: Counter(rows) for name, rows in self.over.items()}, set[str]()
        with self.crew._station.link.transaction(writes=False) as connection:
            for name, rows in where.items():
                rows.update(connection.exec_driver_sql(f"SELECT id FROM {name}").scalars())
            where["files"].update(connection.exec_driver_sql("SELECT id FROM gone").scalars())
        for run in self.runs():
            rows, keys = self.archived(run)
            where, kept = {name: where[name] + rows[name] for name in where}, kept | keys
        for name, rows in where.items():
            everyone = range(self.sown * (1 if name == "users" else 2))
            if astray := {number: rows[number] for number in {*rows, *everyone} if rows[number] != 1}:
                return f"{name} that are not in one place, and in how many they are: {astray}"
        known, blobs = self.texts(KNOWN), self.blobs()
        owed = self.texts(self.owed)
        if bare := known - blobs:
            return f"rows without their blobs: {sorted(bare)[:20]}"
        if bare := kept - blobs:
            return f"rows that would come back without their blobs: {sorted(bare)[:20]}"
        if left := blobs - known - owed:
            return f"blobs that nobody knows: {sorted(left)[:20]}"
        return None

    def hold_to_account(self, where: str) -> None:
        """Look; what was under way when its process died may still commit, or be rolled back, while this reads."""
        for _ in range(20):
            if (wrong := self.wrong()) is None:
                return
            time.sleep(0.1)
        raise AssertionError(f"{where}: {wrong}")

    def let_time_pass(self, chance: random.Random) -> None:
        """Let some run that has ended be too old to be undone, and what it owes be due; and what others claimed."""
        ended = [run for run in self.runs() if not self.crew._station.books.run(run).state.open]
        run = chance.choice(ended) if ended else None
        rows = self.archived(run)[0] if run else {}
        with self.crew._station.link.transaction() as connection:
            earlier = owed.c.since
            connection.execute(sa.update(owed).values(due_at=earlier).where(owed.c.run.is_(None)))
            if run is not None:
                connection.execute(sa.update(frames).values(until=frames.c.at).where(frames.c.run == run))
                connection.execute(sa.update(owed).values(due_at=earlier).where(owed.c.run == run))
        for name, counted in rows.items():
            self.over[name] += counted


def test_whoever_is_killed_anywhere_from_a_row_to_its_blob(database_url, tmp_path, campaign, figure, request):
    uploads, vault = tmp_path / "uploads", tmp_path / "vault"
    for folder in (uploads, vault):
        folder.mkdir()
    crew = crew_of_the_chain(database_url, str(uploads), str(vault))
    crew.migrate()
    house, seed = House(crew, uploads), request.config.getoption("--seed") or 0
    chance, owing, back = random.Random(seed), 0, Counter[bool]()
    command = [sys.executable, "-m", "tests.model.chain", database_url, str(uploads), str(vault)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=ROOT, text=True, bufsize=1) as zygote:
        for kill in range(MANY if campaign else FEW):
            if len(house.texts(KNOWN)) < USERS:
                house.sow()
            zygote.stdin.write("go\n")
            child = int(zygote.stdout.readline())
            time.sleep(chance.uniform(0.05, LONGEST))
            os.kill(child, signal.SIGKILL)
            assert zygote.stdout.readline() == "dead\n"
            house.hold_to_account(f"kill {kill} of seed {seed}")
            owing += bool(house.texts(house.owed))
            if chance.random() < 0.5:
                house.let_time_pass(chance)
        zygote.stdin.close()
    put_everything_back(house)
    house.hold_to_account("all is put back")
    with house.engine.connect() as connection:
        back.update(row.restored_at is not None for row in connection.execute(sa.select(frames)))
    settle(crew, house)
    assert house.blobs() == house.texts(KNOWN)
    figure(
        f"kills from row to blob on {house.engine.dialect.name}",
        f"{kill + 1}, {owing} with debts; {house.sown} users, {house.over['users'].total()} gone for good,"
        f" {back.total()} frames left, {back[True]} of them put back",
    )
    crew.close()


def settle(crew: Nightcrew, house: House) -> None:
    """Let whatever is owed be due, and settle it."""
    until = time.monotonic() + 300
    while house.texts(house.owed):
        with crew._station.link.transaction() as connection:
            connection.execute(sa.update(owed).values(due_at=owed.c.since))
        done = crew.run(NAME, now=True, deadline=timedelta(seconds=10))
        assert done.outcome is not Outcome.FAILED, done.message
        assert time.monotonic() < until, "what is owed is not settled"
        time.sleep(0.05)
