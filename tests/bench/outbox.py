"""What owing costs: rows swept, the blob of each owed in the same transaction, against one bare DELETE."""

import os
import statistics
import time
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings
from nightcrew.stores.memory import Memory

STALE = int(os.environ.get("NIGHTCREW_BENCH_ROWS", "1000000"))
FRESH = STALE // 10
ROUNDS = 5
GOAL = 2.3

_MAKE = """
CREATE TABLE uploads (id bigint PRIMARY KEY, user_id bigint NOT NULL, ends_at timestamptz NOT NULL,
                      blob_key text NOT NULL, data text);
CREATE INDEX uploads_end ON uploads (ends_at);
CREATE INDEX uploads_user ON uploads (user_id)
"""
_FILL = """
INSERT INTO uploads
SELECT n, (random() * 100000)::int, now() - interval '2 hours' + (n - {stale}) * interval '1 second'
       + CASE WHEN n > {stale} THEN interval '1 day' ELSE interval '0' END, 'uploads/' || md5(n::text), repeat('x', 120)
  FROM generate_series(1, {stale} + {fresh}) AS n
"""


def measure() -> dict[str, Any]:
    """Return seconds of both and their ratio."""
    found: dict[str, list[float]] = {"bare": [], "owing": []}
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings(), blobs={"uploads": Memory()})
        terms = {"older_than": timedelta(hours=1), "pace": "fast", "max_fraction": 1}
        blobs = [{"store": "uploads", "table": "uploads", "column": "blob_key"}]
        crew.expire("clean-uploads", "uploads", column="ends_at", every="1 hour", blobs=blobs, **terms)
        crew.migrate()
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        for number in range(ROUNDS):
            for way in ("bare", "owing") if number % 2 else ("owing", "bare"):
                _refill(engine)
                found[way].append(_bare(engine) if way == "bare" else _owing(crew, engine))
        crew.close()
        engine.dispose()
    bare, owing = (statistics.median(found[way]) for way in ("bare", "owing"))
    print(
        f"delete {STALE:,} of {STALE + FRESH:,} rows, each with a blob: bare {bare:.2f} s, swept and owed {owing:.2f} s"
        f" ({STALE / owing:,.0f} rows/s); ratio {owing / bare:.2f}, goal at most {GOAL}"
    )
    print("  rounds:", ", ".join(f"{two / one:.2f}" for one, two in zip(found["bare"], found["owing"], strict=True)))
    return {"bare_s": bare, "owing_s": owing, "ratio": owing / bare}


def _refill(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS uploads")
        connection.exec_driver_sql("TRUNCATE nightcrew_owed")
        connection.exec_driver_sql(_MAKE)
        connection.exec_driver_sql(_FILL.format(stale=STALE, fresh=FRESH))
        connection.exec_driver_sql("VACUUM ANALYZE uploads")
        connection.exec_driver_sql("CHECKPOINT")


def _bare(engine: sa.Engine) -> float:
    with engine.connect() as connection:
        begun = time.perf_counter()
        deleted = connection.exec_driver_sql("DELETE FROM uploads WHERE ends_at < now() - interval '1 hour'").rowcount
        took = time.perf_counter() - begun
    assert deleted == STALE
    return took


def _owing(crew: Nightcrew, engine: sa.Engine) -> float:
    begun = time.perf_counter()
    report = crew.run("clean-uploads", now=True)
    took = time.perf_counter() - begun
    assert report.deleted == STALE, report.message
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT sum(size) FROM nightcrew_owed").scalar_one() == STALE
    return took
