"""The tables of a MySQL or MariaDB database at one look, by three statements however many there are."""

import sqlalchemy as sa

from nightcrew.outline import Outline, assembled

_TABLES = """
SELECT table_name AS name, table_rows AS `rows` FROM information_schema.tables
 WHERE table_schema = :schema AND table_type = 'BASE TABLE' ORDER BY table_name LIMIT :most
"""
_COLUMNS = """
SELECT table_name AS `table`, column_name AS name, column_type AS kind, is_nullable = 'YES' AS nullable
  FROM information_schema.columns WHERE table_schema = :schema ORDER BY table_name, ordinal_position
"""
_KEYS = """
SELECT table_name AS `table`, column_name AS name FROM information_schema.statistics
 WHERE table_schema = :schema AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index
"""


def outlines(connection: sa.Connection, most: int) -> list[Outline]:
    """Read the tables of the URL's database that this role may see."""
    which = {"schema": connection.engine.url.database}
    tables = connection.execute(sa.text(_TABLES), {**which, "most": most}).all()
    columns, keys = (connection.execute(sa.text(question), which).all() for question in (_COLUMNS, _KEYS))
    return assembled(tables, columns, keys)
