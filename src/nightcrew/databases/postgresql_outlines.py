"""PostgreSQL's tables at one look, by three statements however many there are."""

import sqlalchemy as sa

from nightcrew.outline import Outline, assembled

# A partition is its parent's affair, and so are its rows; -1 stands for a table that nobody has analysed.
_TABLES = """
SELECT c.oid AS oid, c.relname AS name,
       CASE WHEN c.relkind = 'p' THEN (SELECT sum(greatest(p.reltuples, 0)) FROM pg_partition_tree(c.oid) AS t
                                         JOIN pg_class AS p ON p.oid = t.relid WHERE t.isleaf)
            WHEN c.reltuples < 0 OR (c.reltuples = 0 AND c.relpages = 0) THEN NULL ELSE c.reltuples END AS rows
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND pg_table_is_visible(c.oid)
 ORDER BY c.relname LIMIT :most
"""
_COLUMNS = """
SELECT c.relname AS "table", a.attname AS name, NOT a.attnotnull AS nullable,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
            ELSE format_type(a.atttypid, a.atttypmod) END AS kind
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE a.attrelid = ANY(CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_KEYS = """
SELECT c.relname AS "table", a.attname AS name
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
 CROSS JOIN unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (attnum, place)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indisprimary AND i.indrelid = ANY(CAST(:oids AS oid[])) AND k.place <= i.indnkeyatts
 ORDER BY i.indrelid, k.place
"""


def outlines(connection: sa.Connection, most: int) -> list[Outline]:
    """Read the tables that are found without a schema."""
    tables = connection.execute(sa.text(_TABLES), {"most": most}).all()
    which = {"oids": [row.oid for row in tables]}
    columns, keys = (connection.execute(sa.text(question), which).all() for question in (_COLUMNS, _KEYS))
    return assembled(tables, columns, keys)
