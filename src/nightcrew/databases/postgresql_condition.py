"""How a PostgreSQL server is, and what this role may do there."""

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa

from nightcrew.condition import Condition, State
from nightcrew.databases.dialect import Relation
from nightcrew.databases.names import quoted

_QUOTE = '"'
# Of a stranger's session nothing is told to a role that is no monitor.
_HERE = """
SELECT format('database %s, schema %s, as %s', current_database(), current_schema(), current_user) AS place,
       pg_is_in_recovery() AS replica,
       current_setting('default_transaction_read_only') = 'on' AS read_only,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type IS NULL AND pid <> pg_backend_pid()) AS hidden,
       (SELECT EXTRACT(epoch FROM clock_timestamp() - min(xact_start)) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND datname = current_database()) AS open_for
"""
_TABLE = """
SELECT ARRAY(SELECT kind FROM unnest(ARRAY['SELECT', 'UPDATE', 'DELETE']) AS kind
              WHERE NOT has_table_privilege(c.oid, kind)) AS denied,
       row_security_active(c.oid) AS hides,
       ARRAY(SELECT x.relname FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
              WHERE i.indrelid = c.oid AND NOT i.indisvalid) AS broken
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relname = :name
"""


def condition(connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
    """Read it in a statement, and one more for each table."""
    here = connection.execute(sa.text(_HERE)).one()
    why = "it is a replica" if here.replica else "its default_transaction_read_only is on" if here.read_only else None
    open_for = None if here.hidden else timedelta(seconds=float(here.open_for or 0))
    return Condition(
        here.place, why, open_for, {name: _state(connection, relation) for name, relation in relations.items()}
    )


def _state(connection: sa.Connection, relation: Relation) -> State:
    row = connection.execute(sa.text(_TABLE), {"schema": relation.schema, "name": relation.name}).one()
    schema = quoted(relation.schema, _QUOTE)
    anew = {name: f"REINDEX INDEX CONCURRENTLY {schema}.{quoted(name, _QUOTE)};" for name in row.broken}
    return State(tuple(row.denied), row.hides, anew)
