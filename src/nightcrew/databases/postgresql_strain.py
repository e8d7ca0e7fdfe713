"""PostgreSQL's figures of its work and of who waits, and how they are judged."""

import math
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from nightcrew.databases.scale import Scale

# Who waits is read from the locks, which every role may see; of strangers' sessions only a monitor sees more. The
# sessions of ours are known by their name. Whoever waits for an advisory lock wanted to wait.
_STRAIN = """
WITH ours AS (
    SELECT array_agg(pid) AS pids FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = current_setting('application_name')
), waiting AS MATERIALIZED (
    SELECT l.pid, min({since}) AS since FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE NOT l.granted AND l.locktype <> 'advisory' AND a.datname = current_database() GROUP BY l.pid
)
SELECT (SELECT count(*) FROM waiting AS w, ours
         WHERE NOT w.pid = ANY (ours.pids) AND pg_blocking_pids(w.pid) && ours.pids) AS blocked,
       (SELECT COALESCE(EXTRACT(epoch FROM clock_timestamp() - min(since)), 0) FROM waiting) AS queue,
       (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend')
           / GREATEST(CAST(current_setting('max_parallel_workers') AS float8), 8) AS active,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') / 1e6 END AS log,
       (SELECT count(*) FROM pg_stat_replication WHERE state IS NULL) AS hidden,
       (SELECT COALESCE(EXTRACT(epoch FROM max(replay_lag)), 0) FROM pg_stat_replication
         WHERE state IN ('streaming', 'catchup')) AS lag
"""
SCALES: Sequence[Scale] = (
    Scale("blocked", "{value:.0f} sessions wait for a batch of ours", 1, 3),
    Scale("queue", "somebody waits for a lock since {value:.1f} s", 0.2, 1.0),
    Scale("active", "the sessions at work are {value:.1f} times the server's workers", 1.5, 3.0),
    Scale("lag", "a replica is {value:.1f} s behind", 1.0, 5.0),
    Scale("log", "{value:.0f} MB of WAL a second", 8, math.inf, per_second=True),
)


def figures(connection: sa.Connection) -> Mapping[str, float | None]:
    """Read the locks, the sessions, the WAL and the replicas in one statement."""
    since = "l.waitstart" if (connection.dialect.server_version_info or ()) >= (14,) else "a.query_start"
    row = connection.execute(sa.text(_STRAIN.format(since=since))).one()._asdict()
    if row.pop("hidden"):
        row["lag"] = None
    return {name: None if figure is None else float(figure) for name, figure in row.items()}
