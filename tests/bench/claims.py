"""What it costs to claim all slots of a tick: in one statement, against one claim for each."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.databases.tables import jobs as job_table

JOBS = 200
ROUNDS = 7


def measure() -> dict[str, Any]:
    """Return statements and seconds a tick with 200 due jobs takes, claimed at once and one by one."""
    found = {"at once": [], "one by one": []}
    statements = {}
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings())
        for number in range(JOBS):
            crew.add(Job(f"job-{number}", every("1 day"), function=lambda run: 0))
        crew.migrate()
        crew.status()
        for _ in range(ROUNDS):
            for way, times in found.items():
                _make_due(crew)
                with _counting(crew) as counted:
                    begun = time.perf_counter()
                    _claim(crew, way)
                    times.append(time.perf_counter() - begun)
                statements[way] = len(counted)
        crew.close()
    once, singly = (statistics.median(found[way]) for way in ("at once", "one by one"))
    print(
        f"claim {JOBS} due slots: at once {once * 1e3:.1f} ms with {statements['at once']} UPDATE, one by one"
        f" {singly * 1e3:.0f} ms with {statements['one by one']}; ratio {singly / once:.0f}x"
    )
    return {"at_once_s": once, "one_by_one_s": singly, "ratio": singly / once, "updates": statements["at once"]}


def _claim(crew: Nightcrew, way: str) -> None:
    if way == "at once":
        claims = crew._station.claims.due(crew.jobs.values(), "cli")
    else:
        claims = [claim for job in crew.jobs.values() for claim in crew._station.claims.due([job], "cli")]
    assert len(claims) == JOBS
    for claim in claims:
        crew._station.claims.release(claim)


def _make_due(crew: Nightcrew) -> None:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    idle = {"run": None, "owner": None, "lease_until": None, "attempt": 0, "mark": day - timedelta(days=1)}
    with crew._station.link.transaction() as connection:
        connection.execute(sa.text("DELETE FROM nightcrew_runs"))
        connection.execute(sa.update(job_table).values(epoch_at=day - timedelta(days=1), **idle))


@contextmanager
def _counting(crew: Nightcrew) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "UPDATE nightcrew_jobs" in statement:
            seen.append(statement)

    sa.event.listen(crew._station.link.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(crew._station.link.engine, "before_cursor_execute", note)
