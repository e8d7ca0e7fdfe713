"""What owing costs: rows swept, the blob of each owed in the same transaction, against one bare DELETE."""

import os
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings
from nightcrew.stores.memory import Memory

STALE = int(os.environ.get("NIGHTCREW_BENCH_ROWS", "1000000"))
ROUNDS = 5
GOAL = 2.3


@dataclass(frozen=True)
class Shape:
    """A table whose rows go, and where their blobs are named: in its own rows, or in those that hang on them."""

    words: str
    table: str
    holder: str
    rows: int
    make: str
    fill: str


_TIMES = """now() - interval '2 hours' + (n - {rows}) * interval '1 second'
       + CASE WHEN n > {rows} THEN interval '1 day' ELSE interval '0' END"""
ALONE = Shape(
    "rows with a blob each",
    "uploads",
    "uploads",
    STALE,
    """
CREATE TABLE uploads (id bigint PRIMARY KEY, user_id bigint NOT NULL, ends_at timestamptz NOT NULL,
                      blob_key text NOT NULL, data text);
CREATE INDEX uploads_end ON uploads (ends_at);
CREATE INDEX uploads_user ON uploads (user_id)
""",
    f"""
INSERT INTO uploads SELECT n, (random() * 100000)::int, {_TIMES}, 'uploads/' || md5(n::text), repeat('x', 120)
  FROM generate_series(1, {{all}}) AS n
""",
)
BELOW = Shape(
    "chats with three sources each, a blob in each of those",
    "chats",
    "sources",
    STALE // 8,
    """
CREATE TABLE chats (id bigint PRIMARY KEY, ends_at timestamptz NOT NULL, title text);
CREATE INDEX chats_end ON chats (ends_at);
CREATE TABLE sources (id bigint PRIMARY KEY, chat_id bigint NOT NULL REFERENCES chats ON DELETE CASCADE,
                      blob_key text NOT NULL, name text);
CREATE INDEX sources_chat ON sources (chat_id);
CREATE INDEX sources_key ON sources (blob_key)
""",
    f"""
INSERT INTO chats SELECT n, {_TIMES}, repeat('x', 80) FROM generate_series(1, {{all}}) AS n;
INSERT INTO sources SELECT n, (n + 2) / 3, 'uploads/' || md5(n::text), repeat('x', 60)
  FROM generate_series(1, 3 * {{all}}) AS n
""",
)


def measure() -> dict[str, Any]:
    """Return the ratios of both shapes."""
    return {shape.holder: _measured(shape) for shape in (ALONE, BELOW)}


def _measured(shape: Shape) -> float:
    found: dict[str, list[float]] = {"bare": [], "owing": []}
    with fresh_database() as url:
        crew = Nightcrew(url, settings=Settings(), blobs={"uploads": Memory()})
        terms = {"older_than": timedelta(hours=1), "pace": "fast", "max_fraction": 1}
        blobs = [{"store": "uploads", "table": shape.holder, "column": "blob_key"}]
        crew.expire("clean", shape.table, column="ends_at", every="1 hour", blobs=blobs, **terms)
        crew.migrate()
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        for number in range(ROUNDS):
            for way in ("bare", "owing") if number % 2 else ("owing", "bare"):
                refill(engine, shape)
                found[way].append(bare(engine, shape) if way == "bare" else _owing(crew, engine, shape))
        crew.close()
        engine.dispose()
    alone, owing = (statistics.median(found[way]) for way in ("bare", "owing"))
    print(
        f"delete {shape.rows:,} {shape.words}: bare {alone:.2f} s, swept and owed {owing:.2f} s"
        f" ({shape.rows / owing:,.0f} rows/s); ratio {owing / alone:.2f}, goal at most {GOAL}"
    )
    print("  rounds:", ", ".join(f"{two / one:.2f}" for one, two in zip(found["bare"], found["owing"], strict=True)))
    return owing / alone


def refill(engine: sa.Engine, shape: Shape) -> None:
    """Make the tables anew, a tenth of whose rows stay."""
    numbers = {"rows": shape.rows, "all": shape.rows + shape.rows // 10}
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {shape.holder}, {shape.table} CASCADE")
        connection.exec_driver_sql("TRUNCATE nightcrew_owed")
        connection.exec_driver_sql(shape.make)
        connection.exec_driver_sql(shape.fill.format(**numbers))
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


def bare(engine: sa.Engine, shape: Shape) -> float:
    """Return how many seconds one statement takes."""
    with engine.connect() as connection:
        begun = time.perf_counter()
        gone = connection.exec_driver_sql(
            f"DELETE FROM {shape.table} WHERE ends_at < now() - interval '1 hour'"
        ).rowcount
        took = time.perf_counter() - begun
    assert gone == shape.rows
    return took


def _owing(crew: Nightcrew, engine: sa.Engine, shape: Shape) -> float:
    begun = time.perf_counter()
    report = crew.run("clean", now=True)
    took = time.perf_counter() - begun
    assert report.deleted == shape.rows, report.message
    with engine.connect() as connection:
        owed = connection.exec_driver_sql("SELECT sum(size) FROM nightcrew_owed").scalar_one()
    assert owed == shape.rows * (1 if shape is ALONE else 3)
    return took
