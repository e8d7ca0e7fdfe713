"""How a server of MySQL or MariaDB is, and what this role may do there."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.condition import Condition, State
from nightcrew.databases import mysql_catalog
from nightcrew.databases.dialect import Relation
from nightcrew.databases.names import quoted

_HERE = "SELECT DATABASE() AS name, CURRENT_USER() AS user, @@GLOBAL.read_only AS read_only"
_OPEN = """
SELECT TIMESTAMPDIFF(MICROSECOND, MIN(trx_started), NOW(6)) FROM information_schema.innodb_trx
 WHERE trx_mysql_thread_id <> CONNECTION_ID()
"""
_REFUSED = (1044, 1142, 1143, 1370)  # access to the database, the table, the column, a routine


def condition(connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
    """Read it, and let the server explain a statement of each kind for each table."""
    here = connection.execute(sa.text(_HERE)).one()
    why = "its read_only is on: it may be a replica" if here.read_only else None
    tables = {name: State(tuple(_denied(connection, relation))) for name, relation in relations.items()}
    return Condition(f"database {here.name}, as {here.user}", why, _open_for(connection), tables)


def _denied(connection: sa.Connection, relation: Relation) -> Iterator[str]:
    """Yield the kinds of statement that are refused; none is carried out, for each is only explained."""
    table = f"{quoted(relation.schema, '`')}.{quoted(relation.name, '`')}"
    column = quoted(mysql_catalog.columns(connection, relation)[0].name, "`")  # any: grants are of the table
    statements = {
        "SELECT": f"SELECT 1 FROM {table}",
        "UPDATE": f"UPDATE {table} SET {column} = {column}",
        "DELETE": f"DELETE FROM {table}",
    }
    for kind, statement in statements.items():
        try:
            connection.exec_driver_sql(f"EXPLAIN {statement} WHERE 1 = 0")
        except sa.exc.DBAPIError as error:
            if _code(error) in _REFUSED:
                yield kind


def _open_for(connection: sa.Connection) -> timedelta | None:
    """Return None for a role without PROCESS, which is not told."""
    try:
        microseconds = connection.execute(sa.text(_OPEN)).scalar_one()
    except sa.exc.DBAPIError:
        return None
    return timedelta(microseconds=int(microseconds or 0))


def _code(error: sa.exc.DBAPIError) -> Any:
    return error.orig.args[0] if error.orig is not None and error.orig.args else None
