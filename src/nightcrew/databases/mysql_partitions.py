"""MySQL's and MariaDB's range partitions: which of them lie before a cut, and how one is dropped.

Dropping one commits by itself. So the table is locked beforehand, and looked at again under that lock: NULLs and zero
dates, which never expire, lie in the first partition whatever its bounds.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Counted, Partition
from nightcrew.databases.dialect import Divided, Relation
from nightcrew.databases.names import quoted
from nightcrew.databases.partitions import COUNTED, before, staying
from nightcrew.databases.times import raw

_FEW = 10_000  # rows that are read while the table is locked, where no index finds those that stay

# A delete has triggers that a drop has not.
_PARTITIONS = """
SELECT p.partition_name AS name, p.partition_method AS method, p.partition_expression AS expression,
       p.partition_description AS end, p.table_rows AS `rows`
  FROM information_schema.partitions AS p
 WHERE p.table_schema = :schema AND p.table_name = :name AND p.partition_method IN ('RANGE', 'RANGE COLUMNS')
   AND p.subpartition_name IS NULL
   AND NOT EXISTS (SELECT 1 FROM information_schema.triggers AS t WHERE t.event_object_schema = :schema
                      AND t.event_object_table = :name AND t.event_manipulation = 'DELETE')
 ORDER BY p.partition_ordinal_position
"""
_DIVIDED = """
SELECT count(*) FROM information_schema.partitions
 WHERE table_schema = :schema AND table_name = :name AND partition_name IS NOT NULL
"""
_EXPRESSION = re.compile(r"^(?:(\w+)\()?[`\"]?([^`\"()]+)[`\"]?\)?$")
_ENDS: Mapping[str, Callable[[Any], Any]] = {
    "": lambda end: end,
    "to_days": sa.func.from_days,
    "year": lambda end: sa.func.makedate(end, 1),
    "unix_timestamp": sa.func.from_unixtime,
}
"""By the function that a table is divided by: the first time behind a partition."""


def divided(connection: sa.Connection, relation: Relation) -> bool:
    """Tell whether a table has partitions, of whatever kind."""
    where = {"schema": relation.schema, "name": relation.name}
    return bool(connection.execute(sa.text(_DIVIDED), where).scalar_one())


def partitions(connection: sa.Connection, divided: Divided) -> list[Partition]:
    """Return the partitions that hold nothing but what has expired, oldest first; one of all is left."""
    relation, reading = divided.relation, divided.reading
    rows = connection.execute(sa.text(_PARTITIONS), {"schema": relation.schema, "name": relation.name}).all()
    if not rows or (made := _EXPRESSION.match(rows[0].expression)) is None:
        return []
    function = (made[1] or "").lower()
    if made[2].lower() != divided.column.lower() or function not in _ENDS:
        return []
    ended = [row for row in rows if row.end != "MAXVALUE"]
    ends = [_ENDS[function](raw(int(row.end))) if function else reading.at(row.end.strip("'")) for row in ended]
    gone = [ended[place] for place in before(connection, reading, ends)][: len(rows) - 1]
    if not divided.leads and rows[0].rows > _FEW:  # what never expires lies there, and would be looked for too long
        gone = [row for row in gone if row is not rows[0]]
    return [Partition(row.name, row.rows, relation.schema) for row in gone]


def drop(
    connection: sa.Connection, divided: Divided, partition: Partition, allow: Callable[[int], None]
) -> Counted | None:
    """Lock the table, look whether any row of the partition would stay, count the others, and drop them."""
    with _locked(connection, _named(divided.relation.schema, divided.relation.name)) as whole:
        if partition.name not in {known.name for known in partitions(connection, divided)}:
            return None
        part, table = quoted(partition.name, "`"), divided.reading.column.table
        assert table is not None  # noqa: S101 - a time is a column of the table
        one: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(table).with_hint(table, f"PARTITION ({part})")
        )
        if connection.execute(one.where(staying(divided.reading)).limit(1)).first() is not None:
            return None
        exact = partition.rows <= COUNTED
        count = sa.select(sa.func.count()).select_from(table).with_hint(table, f"PARTITION ({part})")
        rows = connection.execute(count).scalar_one() if exact else partition.rows
        allow(rows)
        _run(connection, f"ALTER TABLE {whole} DROP PARTITION {part}")
    return Counted(rows, exact)


@contextmanager
def _locked(connection: sa.Connection, table: str) -> Iterator[str]:
    """Keep everybody from a table, which commits what was done before; an error where that takes a second."""
    connection.exec_driver_sql("SET SESSION lock_wait_timeout = 1")
    try:
        _run(connection, f"LOCK TABLES {table} WRITE")
        yield table
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("UNLOCK TABLES")
            connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")


def _named(schema: str, name: str) -> str:
    return ".".join(quoted(part, "`") for part in (schema, name))


def _run(connection: sa.Connection, statement: str) -> None:
    connection.execute(sa.text(statement.replace(":", r"\:")))
