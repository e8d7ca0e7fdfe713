"""PostgreSQL's range partitions: which of them lie before a cut, and how one is taken off and dropped.

A partition whose bounds lie before the cut can hold no row that stays: the database keeps others out, NULLs too. It is
taken off under a lock that keeps everybody from the whole table. So it is given up at once where somebody is in the
way, and never tried where other tables would have to be locked along.
"""

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.visitors import replacement_traverse

from nightcrew.database import Counted, Partition
from nightcrew.databases.dialect import Divided
from nightcrew.databases.names import quoted
from nightcrew.databases.partitions import COUNTED, before, staying
from nightcrew.databases.times import raw

# What refers to other tables is dropped under a lock on these, too; and triggers and subscribers hear of no drop.
_PARTITIONS = """
SELECT n.nspname AS schema, c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds, c.relkind AS kind,
       CAST(GREATEST(c.reltuples, pg_stat_get_live_tuples(c.oid), 0) AS bigint) AS rows,
       EXISTS (SELECT FROM pg_constraint AS k WHERE k.contype = 'f'
                  AND (k.conrelid IN (c.oid, r.oid) OR k.confrelid IN (c.oid, r.oid)))
       OR EXISTS (SELECT FROM pg_trigger AS t
                   WHERE t.tgrelid IN (c.oid, r.oid) AND NOT t.tgisinternal AND t.tgtype & 40 <> 0)
       OR EXISTS (SELECT FROM pg_publication_tables AS s
                   WHERE (s.schemaname, s.tablename) IN ((n.nspname, c.relname), (q.nspname, r.relname))) AS tied
  FROM pg_partitioned_table AS p JOIN pg_class AS r ON r.oid = p.partrelid
  JOIN pg_namespace AS q ON q.oid = r.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = p.partattrs[0]
  JOIN pg_inherits AS i ON i.inhparent = r.oid
  JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE q.nspname = :schema AND r.relname = :name AND p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = :column
"""
_END = re.compile(r" TO \('?([^'()]+)'?\)$")
_BRIEFLY = (
    "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '1s';"
    " SET LOCAL constraint_exclusion = on"  # the bounds tell that there is no row of some kind: none need be read
)


def partitions(connection: sa.Connection, divided: Divided, spoken: sa.types.TypeEngine[Any]) -> list[Partition]:
    """Return the partitions that hold nothing but what has expired, oldest first; one of all is left."""
    relation = divided.relation
    named = {"schema": relation.schema, "name": relation.name, "column": divided.column}
    rows = connection.execute(sa.text(_PARTITIONS), named).all()
    if any(row.tied for row in rows):
        return []
    ended = [(row, found[1]) for row in rows if (found := _END.search(row.bounds)) and found[1] != "MAXVALUE"]
    places = before(connection, divided.reading, [sa.cast(raw(end), spoken) for _, end in ended])
    gone = [row for row, _ in (ended[place] for place in places) if row.kind == "r"][: len(rows) - 1]
    return [Partition(row.name, row.rows, row.schema) for row in gone]


def drop(
    connection: sa.Connection,
    divided: Divided,
    spoken: sa.types.TypeEngine[Any],
    partition: Partition,
    allow: Callable[[int], None],
) -> Counted | None:
    """Lock table and partition, look whether any row would stay, count the others, and drop them with their file."""
    whole, part = (_named(one.schema, one.name) for one in (divided.relation, partition))
    connection.exec_driver_sql(_BRIEFLY)
    _run(connection, f"LOCK TABLE ONLY {whole}, ONLY {part} IN ACCESS EXCLUSIVE MODE")
    if partition.name not in {known.name for known in partitions(connection, divided, spoken)}:
        return None
    column: sa.ColumnClause[Any] = sa.column(sa.quoted_name(divided.column, quote=True))
    own = sa.table(
        sa.quoted_name(partition.name, quote=True), column, schema=sa.quoted_name(partition.schema, quote=True)
    )

    def here(element: Any, **_options: Any) -> Any:
        return column if element is divided.reading.column else None

    stays = replacement_traverse(staying(divided.reading), {}, here)
    one: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(own)
    if connection.execute(one.where(stays).limit(1)).first() is not None:
        return None
    exact = partition.rows <= COUNTED
    count = sa.select(sa.func.count()).select_from(own)
    rows = connection.execute(count).scalar_one() if exact else partition.rows
    allow(rows)
    _run(connection, f"ALTER TABLE {whole} DETACH PARTITION {part}")
    _run(connection, f"DROP TABLE {part}")
    return Counted(rows, exact)


def _named(schema: str, name: str) -> str:
    return ".".join(quoted(part, '"') for part in (schema, name))


def _run(connection: sa.Connection, statement: str) -> None:
    connection.execute(sa.text(statement.replace(":", r"\:")))
