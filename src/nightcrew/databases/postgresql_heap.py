"""PostgreSQL's tables as the files they are: a sweep that takes a large share of one reads it in its own order.

Where an index is in another order than the file, each row of a stretch of it lies on another page. For the same reason
the planner reads through the whole table when much of it is asked for, and its word decides here too.
"""

import sqlalchemy as sa

from nightcrew.databases.dialect import Named
from nightcrew.databases.heap import Heap
from nightcrew.databases.times import raw

_FEWEST = 256  # pages: below two megabytes everything is in memory, and the two walks cost the same
# Rows to reckon with on a page at least: what was counted last may be a table just emptied, which has filled since. One
# that nobody has counted may have 226 on each, and what is taken at once is undone where it is eight times too much.
_USUAL_ROWS, _MANY_ROWS = 40.0, 100.0

# Not a table that others inherit from, for places repeat there; nor one whose rows a trigger or a rule may keep.
_HEAP = """
SELECT c.oid, pg_relation_size(c.oid) / CAST(current_setting('block_size') AS bigint) AS pages,
       CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages END AS per_page
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_am AS m ON m.oid = c.relam
 WHERE n.nspname = :schema AND c.relname = :name
   AND c.relkind = 'r' AND m.amname = 'heap' AND NOT c.relhassubclass AND NOT c.relhasrules
   AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
"""


# A snapshot tells of the oldest transaction under way and of the last that ended; who began since holds a lock.
_NUMBER = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
_ALONE = """
pg_snapshot_xmin(pg_current_snapshot()) = pg_current_xact_id()
AND pg_snapshot_xmax(pg_current_snapshot()) <= pg_current_xact_id()
AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'
                                           AND pid IS DISTINCT FROM pg_backend_pid())
"""
_WRITING = sa.select(sa.literal_column(_NUMBER, sa.BigInteger()), sa.literal_column(_ALONE, sa.Boolean()))


class _Place(sa.types.UserDefinedType[str]):
    """Where a row is stored."""

    cache_ok = True

    def get_col_spec(self, **_options: object) -> str:
        return "tid"


def heap(connection: sa.Connection, source: Named, schema: str, name: str) -> Heap | None:
    """Measure a table; None where it is too small, or has no pages of its own."""
    if (connection.dialect.server_version_info or ()) < (14,):
        return None  # it finds no range of places without reading the whole table
    row = connection.execute(sa.text(_HEAP), {"schema": schema, "name": name}).one_or_none()
    if row is None or row.pages < _FEWEST:
        return None
    place: sa.ColumnClause[str] = sa.column("ctid", _selectable=source)
    counted = row.per_page or 0.0
    usual, at_most = max(counted, _USUAL_ROWS), max(counted, _MANY_ROWS)
    return Heap(row.pages, _pages(row.oid), usual, at_most, place, _page, _at, _WRITING)


def _pages(oid: int) -> sa.ColumnElement[int]:
    return sa.literal_column(f"pg_relation_size({oid:d}) / CAST(current_setting('block_size') AS bigint)")


def _at(page: int) -> sa.ColumnElement[str]:
    # Bound: written out, each window would have statements of its own, and composing them takes longer than they do.
    return sa.cast(raw(f"({page:d},0)"), _Place())


def _page(place: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.split_part(sa.func.ltrim(sa.cast(place, sa.Text), "("), ",", 1), sa.BigInteger)
