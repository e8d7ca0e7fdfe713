"""Four of Celery's workers sweep a large table over RabbitMQ, and two of them are killed: usage: fleet.py [ROWS]."""

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

from tests.conftest import fresh, opened, pytest_sessionfinish
from tests.story.shop import application, beating, broker, hire, queue, working
from tests.story.test_celery import at_work, rows
from tests.story.test_ranges import FRESH, fill, left

from nightcrew.triggers.celery import attach

WORKERS, RANGES = 4, 20
KILLED_AT = (0.25, 0.5)  # of the rows
LONGEST = 1800.0  # seconds
TAKEN = "SELECT deleted FROM nightcrew_runs WHERE job = 'sweep-tokens'"
STATE = "SELECT state FROM nightcrew_runs WHERE job = 'sweep-tokens'"


def main(expired: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(pytest_sessionfinish)
        url, database = broker("rabbitmq"), stack.enter_context(fresh("postgresql", folder))
        yard, crew = stack.enter_context(opened(database)), stack.enter_context(closing(hire(database)))
        crew.migrate()
        fill(yard, expired)
        yard.run("CREATE TABLE rung (run text)")
        name = stack.enter_context(queue(url))
        app = application(url, name)
        attach(crew, app, every=timedelta(seconds=1))
        stack.enter_context(beating(app, str(folder / "beat")))
        told = {"SHOP_NAP": "0", "SHOP_FAN_OUT": str(expired // RANGES)}
        workers = stack.enter_context(working(database, url, name, WORKERS, **told))
        say(f"{expired:,} rows have expired; {WORKERS} workers")
        begun = time.monotonic()
        app.send_task("nightcrew.sweep-tokens")
        for number, share in enumerate(KILLED_AT):
            wait(lambda share=share: sum(rows(yard, TAKEN)) > share * expired)
            os.kill(workers[number].pid, signal.SIGKILL)
            taken = sum(rows(yard, TAKEN))
            say(f"{time.monotonic() - begun:6.1f} s  {taken:9,} rows: killed one of {len(at_work(yard))}")
        wait(lambda: rows(yard, STATE) == ["done"])
        say(f"{time.monotonic() - begun:6.1f} s  the run is done")
        hold_against(crew, yard, expired)


def hold_against(crew, yard, expired: int) -> None:
    """Hold the run against its batches, and both against the table."""
    (run,) = crew.runs("sweep-tokens")
    facts = rows(yard, "SELECT facts FROM nightcrew_entries WHERE kind = 'batch'")
    batches = [fact for fact in facts if "tokens" in fact["counts"]]
    in_batches, gone = sum(fact["rows"] for fact in batches), expired + FRESH - left(yard)
    numbers = {fact.get("range") for fact in batches} - {None, 0}
    say(f"one run of {run.deleted:,} rows; {len(batches)} batches of {in_batches:,} rows in {len(numbers)} ranges")
    say(f"rows gone: {gone:,}; attempts: {run.attempt}; {run.reason}")
    if not (run.deleted == in_batches == gone == run.counts["tokens"] == expired):
        sys.exit("the accounts differ")


def wait(met) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + LONGEST
    while not met():
        if time.monotonic() > end:
            sys.exit("it did not come to be")
        time.sleep(0.1)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
