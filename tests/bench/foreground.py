"""What an application feels of a sweep on the table it uses: how long its answers take, with none and beside two."""

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings

ROWS = int(os.environ.get("NIGHTCREW_BENCH_ROWS", "1500000"))  # more than goes while the load lasts
SECONDS, ROUNDS = 5, 5
SHARE = 0.4  # of what the database can do
_MAKE = """
CREATE TABLE sessions (id bigint PRIMARY KEY, user_id bigint NOT NULL, ends_at timestamptz NOT NULL, data text);
CREATE INDEX sessions_end ON sessions (ends_at);
INSERT INTO sessions
SELECT n, n % 1000, now() + CASE WHEN n > {rows} THEN interval '1 day' ELSE interval '-1 day' END
                          + (n - {rows}) * interval '0.01 second', repeat('x', 150)
  FROM generate_series(1, {rows} + 10000) AS n
"""
_RUTHLESS = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ends_at < now() LIMIT 50000)"


def measure() -> dict[str, Any]:
    """Return p50, p99 and p99.9 in milliseconds of a steady load with no sweep, a gentle and an unthrottled one."""
    found: dict[str, list[list[float]]] = {"no sweep": [], "gentle sweep": [], "unthrottled": []}
    taken = {"gentle sweep": 0, "unthrottled": 0}
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings())
        terms = {"older_than": timedelta(hours=1), "pace": "gentle", "max_fraction": 1}
        crew.expire("clean-sessions", "sessions", column="ends_at", every="1 hour", **terms)
        crew.migrate()
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        _refill(engine)
        rate = SHARE * len(_load(engine, 0)) / SECONDS
        for _ in range(ROUNDS):
            for way, runs in found.items():
                _refill(engine)
                stop = threading.Event()
                sweeps: dict[str, Callable[[], None]] = {
                    "gentle sweep": lambda stop=stop: _gently(crew, stop),
                    "unthrottled": lambda stop=stop: _ruthlessly(engine, stop),
                }
                beside = threading.Thread(target=sweeps.get(way, lambda: None))
                beside.start()
                runs.append(_load(engine, rate))
                stop.set()
                beside.join()
                if way in taken:
                    taken[way] += _gone(engine)
        crew.close()
        engine.dispose()
    print(f"a load of {rate:,.0f} transactions a second, {SHARE:.0%} of what the database can do, on the swept table:")
    answer = {}
    for way, runs in found.items():
        cuts = {cut: statistics.median(_percentile(times, cut) for times in runs) for cut in (50, 99, 99.9)}
        swept = f"   {taken[way] / SECONDS / ROUNDS:,.0f} rows/s swept" if way in taken else ""
        print(f"  {way:13} p50 {cuts[50]:6.2f} ms   p99 {cuts[99]:6.2f} ms   p99.9 {cuts[99.9]:6.2f} ms{swept}")
        answer[way] = cuts
    return answer


def _refill(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS sessions")
        connection.exec_driver_sql(_MAKE.format(rows=ROWS).replace("%", "%%"))
        connection.exec_driver_sql("VACUUM ANALYZE sessions")
        connection.exec_driver_sql("CHECKPOINT")


def _load(engine: sa.Engine, rate: float) -> list[float]:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.bench.load", url, str(rate), str(SECONDS)]
    return [float(ms) for ms in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)]


def _gently(crew: Nightcrew, stop: threading.Event) -> None:
    crew.run("clean-sessions", now=True, stop=stop)


def _ruthlessly(engine: sa.Engine, stop: threading.Event) -> None:
    with engine.connect() as connection:
        while not stop.is_set() and connection.exec_driver_sql(_RUTHLESS).rowcount:
            pass


def _gone(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return ROWS + 10_000 - int(connection.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one())


def _percentile(times: list[float], cut: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * cut / 100))]
