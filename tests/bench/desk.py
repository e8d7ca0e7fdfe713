"""The desk's pages and what monitors ask: a thousand jobs, a million runs, beside as many jobs with five runs each."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.server import fresh_database
from tests.desk import Browser, letting_in

from nightcrew import Nightcrew, Settings
from nightcrew.schedule import every
from nightcrew.web.asgi import beside

JOBS = int(os.environ.get("NIGHTCREW_BENCH_DESK_JOBS", "1000"))
EACH = int(os.environ.get("NIGHTCREW_BENCH_DESK_RUNS", "1000"))
ROUNDS = 7
PAGES = {
    "Tonight": "/desk/",
    "Tonight, found": "/desk/?q=job-05",
    "Job": "/desk/jobs/job-0001",
    "Job, failed": "/desk/jobs/job-0001?only=trouble",
    "Run": "/desk/runs/job-0001.5",
    "Audit": "/desk/audit",
}
MONITORED = {"Metrics": "/metrics", "Status": "/status.json"}
_RUNS = """
INSERT INTO nightcrew_runs
    (id, job, slot, state, "trigger", attempt, fence, owner, moment, finished_at, deleted, counts)
SELECT name || '.' || n, name, at, CASE WHEN n %% 97 = 0 THEN 'failed' ELSE 'done' END, 'ticker',
    1, 1, 'w', at, at, 5, '{{}}'
FROM nightcrew_jobs, generate_series(1, {each}) n, LATERAL (SELECT now() - (n * 10 + 5) * interval '1 minute' AS at) a
"""


def measure() -> None:
    """Print how long each page takes, as a browser waits for it."""
    with _desk(5) as few, _desk(EACH) as many:
        print(f"desk: {JOBS:,} jobs, {JOBS * EACH:,} runs on PostgreSQL, median of {ROUNDS}, beside {5 * JOBS:,} runs")
        for name, path in (PAGES | MONITORED).items():
            short, long = (_median(browser, path) for browser in (few, many))
            print(f"  {name:<15} {1000 * long:7.0f} ms  (beside {1000 * short:5.0f} ms: {long / short:.1f} times)")


@contextmanager
def _desk(each: int) -> Iterator[Browser]:
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings())
        for number in range(JOBS):
            crew.expire(f"job-{number:04}", "notes", column="created_at", schedule=every("10 minutes"))
        crew.migrate()
        crew.status()
        link = crew._station.link
        with link.transaction() as connection:
            connection.exec_driver_sql(_RUNS.format(each=each))
            connection.exec_driver_sql("ANALYZE nightcrew_runs")
        yield Browser(beside(crew.monitoring(letting_in("all")), "/desk", crew.dashboard(letting_in("all"))))
        crew.close()


def _median(browser: Browser, path: str) -> float:
    browser.open(path)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        browser.open(path)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
