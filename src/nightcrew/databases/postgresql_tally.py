"""What a transaction has done to tables so far, by PostgreSQL's own count of it: the rows of cascades are in it.

The counts stay with the session, and nobody else's are among them. They only grow: what is undone counts on.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.dialect import Tally
from nightcrew.databases.names import quoted

# Rows of a partition count for the table that it is a part of; what is no part of any is in no tree.
_TALLY = """
SELECT t.name, CAST(current_setting('track_counts') AS boolean) AS kept,
       CASE current_setting('track_counts') WHEN 'on' THEN
            set_config('statement_timeout', :longest, true) || set_config('lock_timeout', :longest_wait, true) END,
       sum(pg_stat_get_xact_tuples_deleted(p.oid)) AS removed, sum(pg_stat_get_xact_tuples_updated(p.oid)) AS changed
  FROM unnest(CAST(:names AS text[]), CAST(:spelled AS text[])) AS t (name, spelled),
       LATERAL (SELECT CAST(CAST(t.spelled AS regclass) AS oid) AS oid
                 UNION SELECT CAST(relid AS oid) FROM pg_partition_tree(CAST(t.spelled AS regclass))) AS p
 GROUP BY t.name
"""


def tally(connection: sa.Connection, tables: Iterable[str], longest: str, longest_wait: str) -> Tally | None:
    """Read the counts of some tables, and bound what follows and its locks; None where the server keeps no counts."""
    names = list(tables)
    bounds = {"longest": longest, "longest_wait": longest_wait}
    answer = {"names": names, "spelled": [_spelled(name) for name in names], **bounds}
    rows: list[Any] = list(connection.execute(sa.text(_TALLY), answer))
    if not all(row.kept for row in rows):
        return None
    removed = {row.name: int(row.removed) for row in rows}
    return Tally(removed, sum(removed.values()) + sum(int(row.changed) for row in rows))


def _spelled(name: str) -> str:
    return ".".join(quoted(part, '"') for part in name.split("."))
