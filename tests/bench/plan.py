"""How long a plan takes over 200 tables that all hang on the one that is swept, on every database."""

import tempfile
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database
from tests.bench.web import web_job, web_of_tables

from nightcrew import plan
from nightcrew.clock import SystemClock
from nightcrew.databases.connect import Link
from nightcrew.databases.rows import Rows

TABLES = 200
_NUMBERS = {"number": "INTEGER", "time": "TIMESTAMP"}


def measure() -> dict[str, Any]:
    """Return the seconds of the best of three plans, by shape: all on one parent, or a tree."""
    found = {}
    for shape in ("star", "tree"):
        with (
            fresh_database() as postgresql,
            fresh_database("mysql") as mysql,
            tempfile.TemporaryDirectory() as folder,
        ):
            for url in (postgresql, mysql, f"sqlite:///{folder}/plan.db"):
                link = Link(url, SystemClock())
                with link.transaction() as connection:
                    for statement in web_of_tables(TABLES, star=shape == "star"):
                        connection.execute(sa.text(statement.format(**_NUMBERS)))
                found[f"{shape}, {link.engine.dialect.name}"] = min(_once(link) for _ in range(3))
                link.close()
    for name, seconds in found.items():
        print(f"plan over {TABLES} tables ({name}): {seconds:.2f} s")
    return found


def _once(link: Link) -> float:
    begun = time.perf_counter()
    drawn = plan.draw_up(web_job(), datetime.now(UTC), Rows(link))
    assert len(drawn.steps) == TABLES + 1
    return time.perf_counter() - begun
