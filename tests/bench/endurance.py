"""What a long sweep costs beside time: memory, WAL, and whether its last batches are as quick as its first.

A transaction that was opened before the sweep stays open: nothing that is deleted can be cleaned away meanwhile.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

ROWS = int(os.environ.get("NIGHTCREW_BENCH_ROWS", "5000000"))
SHARES = {"in the order of the file": 1.0, "in the order of the index": 0.2}
_CONFIGURATION = """
[nightcrew]
database = "{url}"

[jobs.clean]
every = "1 day"
table = "sessions"
column = "ends_at"
older_than = "1 hour"
pace = "fast"
max_fraction = 1
"""
_MAKE = """
DROP TABLE IF EXISTS sessions;
CREATE TABLE sessions (id bigint PRIMARY KEY, user_id bigint NOT NULL, ends_at timestamptz NOT NULL, data text);
CREATE INDEX sessions_end ON sessions (ends_at);
INSERT INTO sessions
SELECT n, n % 1000, now() + CASE WHEN n > {stale} THEN interval '1 day' ELSE interval '-1 day' END
                          + (n - {stale}) * interval '1 millisecond', repeat('x', 100)
  FROM generate_series(1, {rows}) AS n;
"""
_BATCHES = """
SELECT CAST(facts AS json) ->> 'rows', EXTRACT(epoch FROM at - lag(at) OVER (ORDER BY id))
  FROM nightcrew_entries WHERE kind = 'batch' AND run = (SELECT max(run) FROM nightcrew_entries) ORDER BY id
"""


def measure() -> dict[str, Any]:
    """Return memory in MB, bytes of WAL a row beside a bare DELETE's, and the last batches' time to the first's."""
    found = {}
    for way, share in SHARES.items():
        with fresh_database() as url, tempfile.TemporaryDirectory() as folder:
            engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
            alone = engine.execution_options(isolation_level="AUTOCOMMIT")
            stale = int(ROWS * share)
            _fill(alone, stale)
            bare = _wal(alone, lambda alone=alone: _bare(alone)) / stale
            _fill(alone, stale)
            Path(folder, "nightcrew.toml").write_text(_CONFIGURATION.format(url=url))
            _command(folder, "migrate")
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as old:
                old.exec_driver_sql("SELECT 1 FROM sessions LIMIT 1")
                ours = _wal(alone, lambda folder=folder: _command(folder, "run", "clean")) / stale
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            last, batches = _last_to_first(alone)
            assert _left(alone) == ROWS - stale
            engine.dispose()
        print(
            f"{stale:,} of {ROWS:,} rows {way}: {memory:.0f} MB of memory; WAL a row {ours:.0f} bytes,"
            f" bare {bare:.0f}; an old snapshot held, the last of {batches} batches took"
            f" {last:.2f} of the first ones' time a row"
        )
        found[way] = {"memory_mb": memory, "wal": ours, "wal_bare": bare, "last_to_first": last}
    return found


def _fill(engine: sa.Engine, stale: int) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(_MAKE.format(rows=ROWS, stale=stale).replace("%", "%%"))
        connection.exec_driver_sql("VACUUM ANALYZE sessions")
        connection.exec_driver_sql("CHECKPOINT")


def _bare(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM sessions WHERE ends_at < now() - interval '1 hour'")


def _wal(engine: sa.Engine, go: Any) -> float:
    with engine.connect() as connection:
        before = connection.exec_driver_sql("SELECT pg_current_wal_insert_lsn()").scalar_one()
        go()
        written = "SELECT pg_current_wal_insert_lsn() - CAST(%s AS pg_lsn)"
        return float(connection.exec_driver_sql(written, (before,)).scalar_one())


def _command(folder: str, *words: str) -> None:
    command = [str(Path(sys.executable).with_name("nightcrew")), *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _last_to_first(engine: sa.Engine) -> tuple[float, int]:
    """Compare the seconds a row of the last quarter of the full batches to those of the first quarter."""
    with engine.connect() as connection:
        seen = [(int(rows), float(s)) for rows, s in connection.exec_driver_sql(_BATCHES) if s is not None]
    full = [(rows, seconds) for rows, seconds in seen if rows > max(rows for rows, _ in seen) / 4]
    quarter = max(1, len(full) // 4)
    first, last = (sum(s for _, s in part) / sum(r for r, _ in part) for part in (full[:quarter], full[-quarter:]))
    return last / first, len(seen) + 1


def _left(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one())
