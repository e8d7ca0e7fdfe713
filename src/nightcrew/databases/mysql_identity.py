"""What tells a MySQL or MariaDB server from a copy of it, and what it shares with the replicas that may replace it."""

import re

import sqlalchemy as sa

from nightcrew.consent import Identity

_VARIABLES = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN
    ('server_uuid', 'server_uid', 'hostname', 'server_id', 'gtid_domain_id', 'gtid_executed', 'gtid_slave_pos',
     'group_replication_group_name', 'wsrep_cluster_name')
"""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def identity(connection: sa.Connection) -> Identity:
    """Return the marks of the server, each with the schema: a copy may stand beside the original."""
    found = {str(name): str(value or "") for name, value in connection.exec_driver_sql(_VARIABLES)}
    cluster = _cluster(connection) or found.get("group_replication_group_name")
    schema = connection.engine.url.database
    own, known_as = [f"cluster {cluster}"] if cluster else [], []
    if uuid := found.get("server_uuid"):
        own.append(f"server {uuid}")
        known_as = [f"server {other}" for other in _UUID.findall(found.get("gtid_executed", ""))]
    else:
        # MariaDB names no server by itself: by its network card and port, by its host, and in its replicas' positions.
        own += [f"server {found[name]}" for name in ("server_uid", "hostname") if found.get(name)]
        known_as = [f"source {position}" for position in re.findall(r"\d+-\d+(?=-)", found.get("gtid_slave_pos", ""))]
    seen = [*own, *known_as]
    if not uuid:
        own.append(f"source {found.get('gtid_domain_id')}-{found.get('server_id')}")
    return Identity(
        tuple(f"{mark}, database {schema}" for mark in own), tuple(f"{mark}, database {schema}" for mark in seen)
    )


def _cluster(connection: sa.Connection) -> str | None:
    row = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_state_uuid'").first()
    return row[1] if row else None
