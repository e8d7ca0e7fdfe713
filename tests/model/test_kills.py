"""A sweep that is killed at any moment: what is gone and what the ledger says is gone are the same rows, always."""

import random
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa
from tests.conftest import TYPES
from tests.model.mower import crew_that_mows

from nightcrew import Nightcrew, Outcome
from nightcrew.databases.tables import entries, runs

MOWER = Path(__file__).with_name("mower.py")
FEW, MANY = 5, 200  # kills on each database: `make test`, `make campaign`
USERS = 12_000  # at a time, each with a chat
LONGEST = 1.2  # seconds that a process works before it is killed
LONG_AGO = "2001-01-01 00:00:00"
SCHEMA = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})",
    "CREATE INDEX users_left ON users (left_at)",
    (
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number} NOT NULL,"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
)


class Field:
    """The tables, and how many rows were ever put into them."""

    def __init__(self, crew: Nightcrew) -> None:
        self.crew = crew
        self.engine = crew._station.link.engine
        self.sown = 0
        with crew._station.link.transaction() as connection:
            for statement in SCHEMA:
                connection.exec_driver_sql(statement.format(**TYPES[self.engine.dialect.name]))

    def sow(self) -> None:
        numbers = range(self.sown, self.sown + USERS)
        with self.crew._station.link.transaction() as connection:
            for name, rows in (
                ("users", [{"id": n, "left_at": LONG_AGO} for n in numbers]),
                ("chats", [{"id": n, "user_id": n} for n in numbers]),
            ):
                connection.execute(sa.insert(sa.table(name, *map(sa.column, rows[0]))), rows)
        self.sown += USERS

    def left(self, table: str) -> int:
        with self.engine.connect() as connection:
            return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()

    def told(self) -> dict[str, int]:
        """Return what the batches in the ledger say they took, by table."""
        with self.engine.connect() as connection:
            facts = connection.execute(sa.select(entries.c.facts).where(entries.c.kind == "batch")).scalars()
            counts = [fact["counts"] for fact in facts]
        return {table: sum(count.get(table, 0) for count in counts) for table in ("users", "chats")}

    def hold_to_account(self, where: str) -> None:
        gone = {table: self.sown - self.left(table) for table in ("users", "chats")}
        assert self.told() == gone, where


def test_whenever_a_sweep_is_killed_the_ledger_says_what_is_gone(database_url, campaign, figure, request):
    crew = crew_that_mows(database_url)
    crew.migrate()
    field = Field(crew)
    seed = request.config.getoption("--seed") or 0
    chance = random.Random(seed)
    partly = 0
    kills = MANY if campaign else FEW
    for kill in range(kills):
        if field.left("users") < USERS // 2:
            field.sow()
        with subprocess.Popen([sys.executable, str(MOWER), database_url], stdout=subprocess.PIPE, text=True) as process:
            if chance.random() < 0.8:  # else it may die before it has begun
                assert process.stdout is not None
                assert process.stdout.readline() == "at work\n"
            time.sleep(chance.uniform(0, LONGEST))
            process.kill()
        partly += 0 < field.left("users") < USERS
        field.hold_to_account(f"kill {kill} of seed {seed}")
    finish(crew, field)
    field.hold_to_account("the end")
    assert field.left("users") == field.left("chats") == 0
    hold_runs_to_account(field)
    figure(f"kills on {field.engine.dialect.name}", f"{kills}, {partly} of them within a sweep; {field.sown} rows gone")
    crew.close()


def finish(crew: Nightcrew, field: Field) -> None:
    """Let the lease of the last that was killed run out, and end its run, with what is left or without."""
    until = time.monotonic() + 20
    while crew.run("mow", now=True).outcome not in {Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO}:
        assert time.monotonic() < until, "the dead process's lease is not taken over"
        time.sleep(0.1)


def hold_runs_to_account(field: Field) -> None:
    """Each run that ended counts what its batches took, whoever took them."""
    with field.engine.connect() as connection:
        told = dict.fromkeys(connection.execute(sa.select(runs.c.id)).scalars(), 0)
        for run, facts in connection.execute(
            sa.select(entries.c.run, entries.c.facts).where(entries.c.kind == "batch")
        ):
            told[run] += facts["rows"]
        ended = connection.execute(sa.select(runs.c.id, runs.c.deleted).where(runs.c.state == "done")).all()
    assert ended
    for run, deleted in ended:
        assert deleted == told[run]
