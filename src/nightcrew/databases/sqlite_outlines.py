"""The tables of a SQLite file at one look, by three statements however many there are."""

from dataclasses import replace

import sqlalchemy as sa

from nightcrew.outline import Outline, assembled

_TABLES = """
SELECT name, NULL AS rows FROM main.sqlite_master
 WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
 ORDER BY name LIMIT :most
"""
# What ANALYZE has left, where anybody has run it: the first number is that of the rows.
_ROWS = "SELECT tbl, max(CAST(stat AS INTEGER)) FROM main.sqlite_stat1 GROUP BY tbl"
_ANALYSED = "SELECT count(*) FROM main.sqlite_master WHERE name = 'sqlite_stat1'"
_COLUMNS = """
SELECT m.name AS "table", c.name AS name, c.type AS kind, c."notnull" = 0 AS nullable, c.pk AS pk
  FROM main.sqlite_master AS m JOIN pragma_table_xinfo(m.name, 'main') AS c
 WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY m.name, c.cid
"""


def outlines(connection: sa.Connection, most: int) -> list[Outline]:
    """Read the tables of the file."""
    tables = connection.execute(sa.text(_TABLES), {"most": most}).all()
    columns = connection.execute(sa.text(_COLUMNS)).all()
    keys = sorted((row for row in columns if row.pk), key=lambda row: (row.table, row.pk))
    analysed = connection.execute(sa.text(_ANALYSED)).scalar_one()
    rows = {row[0]: row[1] for row in connection.execute(sa.text(_ROWS))} if analysed else {}
    return [replace(each, rows=rows.get(each.name)) for each in assembled(tables, columns, keys)]
