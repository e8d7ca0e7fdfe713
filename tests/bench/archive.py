"""What an archive costs: rows swept and copied to a folder, against one bare DELETE; and put back, against COPY."""

import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.bench.outbox import ALONE, BELOW, ROUNDS, Shape, bare, refill
from tests.bench.server import fresh_database

from nightcrew import Nightcrew, Settings

GOAL, FASTEST, SHARE = 5.0, 50_000, 0.5


def measure() -> dict[str, Any]:
    """Return the ratios of both shapes."""
    return {shape.holder: _measured(shape) for shape in (ALONE, BELOW)}


def _measured(shape: Shape) -> dict[str, float]:
    found: dict[str, list[float]] = {"bare": [], "archived": [], "copied": [], "back": []}
    with fresh_database() as url, tempfile.TemporaryDirectory() as folder:
        crew = Nightcrew(
            url, settings=Settings(archive_key="ab" * 32), blobs={"vault": Path(folder).as_uri()}, archive="vault"
        )
        terms = {"older_than": timedelta(hours=1), "pace": "fast", "max_fraction": 1, "archive": timedelta(days=1)}
        crew.expire("clean", shape.table, column="ends_at", every="1 hour", **terms)
        crew.migrate()
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        for number in range(ROUNDS):
            for way in ("bare", "archived") if number % 2 else ("archived", "bare"):
                refill(engine, shape)
                if way == "bare":
                    found["copied"].append(_copied(engine, shape))
                    found["bare"].append(bare(engine, shape))
                else:
                    took, back = _archived(crew, shape)
                    found["archived"].append(took)
                    found["back"].append(back)
        crew.close()
        engine.dispose()
    took = {way: statistics.median(rounds) for way, rounds in found.items()}
    rows = shape.rows if shape is ALONE else 4 * shape.rows
    ratio, share = took["archived"] / took["bare"], took["copied"] / took["back"]
    print(
        f"delete {shape.rows:,} {shape.words}: bare {took['bare']:.2f} s, swept and archived {took['archived']:.2f} s"
        f" ({rows / took['archived']:,.0f} rows/s); ratio {ratio:.2f}, goal at most {GOAL}"
    )
    print(
        f"put {rows:,} rows back: COPY {took['copied']:.2f} s, undo {took['back']:.2f} s"
        f" ({rows / took['back']:,.0f} rows/s, goal {FASTEST:,} or {SHARE} of COPY's pace); {share:.2f} of its pace"
    )
    rounds = zip(found["bare"], found["archived"], strict=True)
    print("  rounds:", ", ".join(f"{two / one:.2f}" for one, two in rounds))
    return {"archived": ratio, "back": rows / took["back"], "share": share}


def _archived(crew: Nightcrew, shape: Shape) -> tuple[float, float]:
    begun = time.perf_counter()
    report = crew.run("clean", now=True)
    swept = time.perf_counter()
    assert report.deleted == shape.rows, report.message
    found = crew.undo(report.run, restore=True)
    back = time.perf_counter()
    assert (found.back, found.conflicts) == (shape.rows * (1 if shape is ALONE else 4), 0)
    return swept - begun, back - swept


def _copied(engine: sa.Engine, shape: Shape) -> float:
    """Copy the same rows into tables with the same keys and indexes; they are dropped again."""
    stale = f"SELECT * FROM {shape.table} WHERE ends_at < now() - interval '1 hour'"
    below = f"SELECT s.* FROM {shape.holder} AS s JOIN ({stale}) AS c ON s.chat_id = c.id"
    took = 0.0
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        for name, rows in {shape.table: stale, **({} if shape is ALONE else {shape.holder: below})}.items():
            connection.exec_driver_sql(f"CREATE TABLE again_{name} (LIKE {name} INCLUDING ALL)")
            if name != shape.table:
                connection.exec_driver_sql(
                    f"ALTER TABLE again_{name} ADD FOREIGN KEY (chat_id) REFERENCES again_{shape.table}"
                )
            with driver.cursor() as cursor, cursor.copy(f"COPY ({rows}) TO STDOUT") as copy:
                data = list(copy)
            begun = time.perf_counter()
            with driver.cursor() as cursor, cursor.copy(f"COPY again_{name} FROM STDIN") as copy:
                for part in data:
                    copy.write(part)
            took += time.perf_counter() - begun
        names = [shape.table] if shape is ALONE else [shape.holder, shape.table]
        connection.exec_driver_sql(f"DROP TABLE {', '.join(f'again_{name}' for name in names)}")
    return took
