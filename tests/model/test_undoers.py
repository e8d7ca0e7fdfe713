"""Two processes that undo the same run at once: each row comes back by one of them, and both say what has come back."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.model.archivist import crew_that_archives
from tests.model.test_archive_kills import USERS, House

ROOT = Path(__file__).parents[2]


@pytest.fixture
def house(database_url, tmp_path):
    folder = tmp_path / "vault"
    folder.mkdir()
    crew = crew_that_archives(database_url, str(folder))
    crew.migrate()
    house = House(crew)
    house.command = [sys.executable, "-m", "tests.model.undoer", database_url, str(folder)]
    yield house
    crew.close()


def test_two_that_undo_the_same_run_at_once(house, figure):
    run = house.crew.run("reap", now=True).run
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with ExitStack() as stack:
        undoers = [stack.enter_context(subprocess.Popen([*house.command, run], **pipes)) for _ in range(2)]
        for undoer in undoers:
            assert undoer.stdout.readline() == "ready\n"
        for undoer in undoers:
            undoer.stdin.write("go\n")
            undoer.stdin.flush()
        told = [json.loads(undoer.communicate(timeout=120)[0]) for undoer in undoers]
    house.hold_to_account("two undos at once")
    with house.engine.connect() as connection:
        here = {
            name: Counter(connection.exec_driver_sql(f"SELECT id FROM {name}").scalars()) for name in ("users", "files")
        }
    assert here == {"users": Counter(range(USERS)), "files": Counter(range(2 * USERS))}
    for name, rows in (("users", USERS), ("files", 2 * USERS)):
        tables = [each["tables"][name] for each in told]
        assert sum(table["back"] for table in tables) == rows
        for table in tables:
            assert (table["back"] + table["before"], table["conflicts"]) == (rows, {})
    figure(f"rows put back by two at once on {house.engine.dialect.name}", [each["tables"]["files"] for each in told])
