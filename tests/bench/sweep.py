"""What a sweep costs: a million expired rows in bounded, fenced, accounted batches, against one bare DELETE."""

import os
import resource
import statistics
import time
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings

STALE = int(os.environ.get("NIGHTCREW_BENCH_ROWS", "1000000"))
FRESH = STALE // 10
ROUNDS = 9

_MAKE = """
CREATE TABLE sessions (id bigint PRIMARY KEY, user_id bigint NOT NULL, ends_at timestamptz NOT NULL, data text);
CREATE INDEX sessions_end ON sessions (ends_at);
CREATE INDEX sessions_user ON sessions (user_id)
"""
_FILL = """
INSERT INTO sessions
SELECT n, (random() * 100000)::int, now() - interval '2 hours' + (n - {stale}) * interval '1 second'
       + CASE WHEN n > {stale} THEN interval '1 day' ELSE interval '0' END, repeat('x', 150)
  FROM generate_series(1, {stale} + {fresh}) AS n
"""


def measure() -> dict[str, Any]:
    """Return seconds of both and their ratio, the rows a second, and how much the process grew meanwhile."""
    found: dict[str, list[float]] = {"bare": [], "swept": []}
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings())
        old = timedelta(hours=1)
        terms = {"older_than": old, "pace": "fast", "max_fraction": 1}
        crew.expire("clean-sessions", "sessions", column="ends_at", every="1 hour", **terms)
        crew.migrate()
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        grown = 0
        for number in range(ROUNDS):
            for way in ("bare", "swept") if number % 2 else ("swept", "bare"):
                _refill(engine)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                found[way].append(_bare(engine) if way == "bare" else _swept(crew))
                if number:  # the first round also loads code
                    grown = max(grown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        crew.close()
        engine.dispose()
    bare, swept = (statistics.median(found[way]) for way in ("bare", "swept"))
    print(
        f"delete {STALE:,} of {STALE + FRESH:,} rows: bare {bare:.2f} s, swept {swept:.2f} s"
        f" ({STALE / swept:,.0f} rows/s); ratio {swept / bare:.2f}, memory grew {grown / 1024:.1f} MB"
    )
    print("  rounds:", ", ".join(f"{two / one:.2f}" for one, two in zip(found["bare"], found["swept"], strict=True)))
    return {"bare_s": bare, "swept_s": swept, "ratio": swept / bare, "grown_kb": grown}


def _refill(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS sessions")
        connection.exec_driver_sql(_MAKE)
        connection.exec_driver_sql(_FILL.format(stale=STALE, fresh=FRESH))
        connection.exec_driver_sql("VACUUM ANALYZE sessions")
        connection.exec_driver_sql("CHECKPOINT")


def _bare(engine: sa.Engine) -> float:
    with engine.connect() as connection:
        begun = time.perf_counter()
        deleted = connection.exec_driver_sql("DELETE FROM sessions WHERE ends_at < now() - interval '1 hour'").rowcount
        took = time.perf_counter() - begun
    assert deleted == STALE
    return took


def _swept(crew: Nightcrew) -> float:
    begun = time.perf_counter()
    report = crew.run("clean-sessions", trigger="cli", now=True)
    took = time.perf_counter() - begun
    assert report.deleted == STALE, report
    return took
