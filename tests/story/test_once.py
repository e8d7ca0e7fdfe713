"""Whoever calls, every slot runs once."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table

CALLER = Path(__file__).with_name("caller.py")
ROUNDS, MANY = 3, 10  # MANY in a campaign
JOBS = 30


def test_twelve_processes_racing_for_the_same_slots_run_each_exactly_once(database_url, request):
    """Ticker threads, HTTP calls and commands in twelve processes want the same ones, 300 in a campaign, at once."""
    rounds = MANY if request.config.getoption("--campaign") else ROUNDS
    crew = Nightcrew(database_url, settings=Settings())
    crew.migrate()
    with crew._station.link.engine.begin() as connection:
        connection.execute(sa.schema.CreateTable(sa.Table("effects", sa.MetaData(), sa.Column("run", sa.String(150)))))
    register_all(database_url, rounds)
    callers = [
        subprocess.Popen(
            [sys.executable, str(CALLER), database_url, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in ["ticker", "http", "cli"] * 4
    ]
    try:
        outcomes = Counter(play(callers, rounds))
    finally:
        for caller in callers:
            caller.stdin.close()
            caller.wait(timeout=30)
            caller.stdout.close()
    finish_all(database_url, rounds)
    with crew._station.link.engine.connect() as connection:
        effects = connection.execute(sa.text("SELECT run FROM effects")).scalars().all()
        states = Counter(connection.execute(sa.select(run_table.c.state)).scalars())
    crew.close()
    assert len(effects) == rounds * JOBS
    assert len(set(effects)) == rounds * JOBS
    assert states == {"done": rounds * JOBS}
    assert set(outcomes) <= {"succeeded", "already_done", "in_progress_elsewhere"}
    assert outcomes["already_done"] > 0, "nobody ever lost a race: the callers did not meet"


def register_all(url: str, rounds: int) -> None:
    """Register every round's jobs, and move their epochs back so that each has one slot due."""
    for crew in crews(url, rounds):
        crew.status()
        with crew._station.link.engine.begin() as connection:
            long_ago = sa.text("'2020-01-01 00:00:00.000000'")
            connection.execute(sa.update(job_table).values(epoch_at=long_ago, mark=today(connection)))
        crew.close()


def finish_all(url: str, rounds: int) -> None:
    """Go on with what a ticker handed over when it stopped, as whoever looks next does."""
    for crew in crews(url, rounds):
        crew.tick(trigger="cli")
        crew.close()


def crews(url: str, rounds: int) -> Iterator[Nightcrew]:
    """Return the crew of each round."""
    sys.path.insert(0, str(CALLER.parent))
    try:
        import caller
    finally:
        sys.path.pop(0)
    for number in range(rounds):
        yield caller.crew_of_round(url, number)


def today(connection: sa.Connection) -> sa.ColumnElement:
    """Return yesterday's slot as text, so that today's is the only one due and none before it counts as missed."""
    from datetime import UTC, datetime, timedelta

    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    return sa.literal_column(f"'{yesterday:%Y-%m-%d %H:%M:%S.000000}'")


def play(callers: list[subprocess.Popen], rounds: int) -> list[str]:
    """Start every round in all processes at once, and wait until all have finished it."""
    outcomes = []
    for caller in callers:
        assert caller.stdout.readline() == "ready\n"
    for number in range(rounds):
        for caller in callers:
            caller.stdin.write(f"{number}\n")
            caller.stdin.flush()
        for caller in callers:
            outcomes.extend(json.loads(caller.stdout.readline()))
    return outcomes
