"""How long a plan takes over tables that all hang on the one that is swept: in a process, and as a command."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database
from tests.bench.web import web_job, web_of_tables

from nightcrew import plan
from nightcrew.clock import SystemClock
from nightcrew.databases.connect import Link
from nightcrew.databases.rows import Rows

ROUNDS = 5
APART = 2000
SHAPES = {  # shape: tables on one parent or each on one before, and tables beside them that nothing leads to
    "200 on one parent": (200, True, 0),
    "200 in a tree": (200, False, 0),
    f"200 on one parent, {APART} apart": (200, True, APART),
    "1000 on one parent": (1000, True, 0),
}
_NUMBERS = {"number": "INTEGER", "time": "TIMESTAMP"}
_CONFIGURATION = """
[nightcrew]
database = "{url}"

[jobs.clean]
schedule = "0 0 * * *"
table = "users"
column = "made_at"
older_than = "1 day"
"""


def measure() -> dict[str, Any]:
    """Return the median seconds of a plan, by shape and database: in this process, and as `nightcrew plan`."""
    found = {}
    for shape, (number, star, apart) in SHAPES.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            urls = [stack.enter_context(fresh_database(kind)) for kind in ("postgresql", "mysql")]
            for url in (*urls, f"sqlite:///{folder}/plan.db"):
                link = Link(url, SystemClock())
                _fill(link, number, star=star, apart=apart)
                inside = _median(lambda link=link, number=number: _in_process(link, number))
                command = _median(lambda url=url, folder=folder: _as_command(url, folder))
                name = link.engine.dialect.name
                link.close()
                print(f"plan over {shape} ({name}): {inside:.2f} s, as a command {command:.2f} s")
                found[f"{shape}, {name}"] = {"in_process_s": inside, "command_s": command}
    return found


def _fill(link: Link, number: int, *, star: bool, apart: int) -> None:
    """Make the tables, with a few rows in each: nothing is to be counted where nothing is to leave."""
    statements = [statement.format(**_NUMBERS) for statement in web_of_tables(number, star=star)]
    statements += [f"INSERT INTO users VALUES ({row}, '2020-01-01 00:00:00')" for row in range(100)]
    statements += [f"INSERT INTO t{index} VALUES (1, 1), (2, 2)" for index in range(number)]
    statements += [f"CREATE TABLE apart{index} (id INTEGER PRIMARY KEY)" for index in range(apart)]
    with link.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def _median(once: Callable[[], None]) -> float:
    once()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        once()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _in_process(link: Link, number: int) -> None:
    drawn = plan.draw_up(web_job(), datetime.now(UTC), Rows(link))
    assert len(drawn.steps) == number + 1


def _as_command(url: str, folder: Path) -> None:
    """Run it as it is installed: with its modules compiled, whatever this process is told."""
    configuration = folder / "nightcrew.toml"
    configuration.write_text(_CONFIGURATION.format(url=url.replace("+psycopg", "").replace("+pymysql", "")))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    words = [sys.executable, "-m", "nightcrew", "--config", str(configuration), "plan", "clean"]
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
