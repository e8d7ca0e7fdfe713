"""A world, built in a real database; and what is left standing there."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from tests.model.world import HALF, LINK, Key, Reference, Scene, Schema

Picture = Mapping[int, Mapping[int, Mapping[str, object]]]
"""Every row as it stands, by table, number and column."""

MOST_TABLES = 5
_TYPES = {"id": "{number}", "code": "VARCHAR(20)", "room": "{number}", "nr": "{number}"}
_UNBOUND = {
    "sqlite": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
    "postgresql": ("SET session_replication_role = replica", "SET session_replication_role = DEFAULT"),
    "mysql": ("SET SESSION foreign_key_checks = 0", "SET SESSION foreign_key_checks = 1"),
}


def build(yard, schema: Schema) -> None:
    """Make a schema's tables in place of whatever the yard holds."""
    cascade = " CASCADE" * (yard.kind == "postgresql")
    with _unbound(yard) as connection:
        for name in ["listed", *(f"t{number}" for number in range(MOST_TABLES))]:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}{cascade}")
        for statement in _statements(schema, yard.kind):
            connection.exec_driver_sql(statement.format(**yard.types))


def fill(yard, schema: Schema, scene: Scene) -> None:
    """Put a scene's rows in place of all others; only when all are there are foreign keys looked at again."""
    with _unbound(yard) as connection:
        _replace(connection, "listed", [{"row_id": number} for number in sorted(scene.listed)])
        for table in schema.tables:
            _replace(connection, f"t{table}", [_values(schema, scene, table, n) for n in range(len(scene.rows[table]))])


def photograph(yard, schema: Schema) -> Picture:
    """Return every row of every table; of a time only whether it is there, for not each passes through the driver."""
    picture = {}
    with yard.link.transaction(writes=False) as connection:
        for table in schema.tables:
            names = ["id", "kind", "note", *(c for key in schema.down(table) for c in schema.columns(key))]
            timed = ", due IS NOT NULL AS timed" * (table == schema.root)
            rows = connection.execute(sa.text(f"SELECT {', '.join(names)}{timed} FROM t{table}")).mappings()
            picture[table] = {row["id"]: dict(row) for row in rows}
    return picture


@contextmanager
def _unbound(yard) -> Iterator[sa.Connection]:
    """Open a transaction in which no foreign key is looked at."""
    off, on = _UNBOUND[yard.kind]
    with yard.link.engine.connect() as connection:
        connection.exec_driver_sql(off)
        yard.link.dialect.begin(connection, writes=True, repeatable=True)
        yield connection
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(on)


def _statements(schema: Schema, kind: str) -> Iterator[str]:
    yield "CREATE TABLE listed (row_id {number})"
    for table in schema.tables:
        yield f"CREATE TABLE t{table} ({', '.join(_parts(schema, table, inline=kind == 'sqlite'))})"
    if schema.walked:
        yield f"CREATE INDEX due_{schema.root} ON t{schema.root} (due)"
    for key in schema.references:
        if key.indexed:
            yield f"CREATE INDEX {key.name}_index ON t{key.child} ({', '.join(schema.columns(key))})"
        if kind != "sqlite" and key.rule != LINK:
            yield f"ALTER TABLE t{key.child} ADD {_clause(schema, key)}"


def _parts(schema: Schema, table: int, *, inline: bool) -> Iterator[str]:
    own = schema.keys[table].columns
    yield "id {number} NOT NULL"
    yield from (f"{name} {_TYPES[name]} NOT NULL" for name in own if name != "id")
    yield "kind {number}"
    yield "note {text}"
    if table == schema.root:
        yield f"due {schema.writing.type} {'NULL' if schema.nullable else 'NOT NULL'}"
    for key in schema.down(table):
        types = [_TYPES[name] for name in schema.keys[key.parent].columns]
        yield from (f"{name} {kind}" for name, kind in zip(schema.columns(key), types, strict=True))
    if own:
        yield f"PRIMARY KEY ({', '.join(own)})"
    if inline:
        yield from (_clause(schema, key) for key in schema.down(table) if key.rule != LINK)


def _clause(schema: Schema, key: Reference) -> str:
    parents = schema.keys[key.parent].columns
    return (
        f"CONSTRAINT {key.name} FOREIGN KEY ({', '.join(schema.columns(key))})"
        f" REFERENCES t{key.parent} ({', '.join(parents)}) ON DELETE {key.rule}"
    )


def _values(schema: Schema, scene: Scene, table: int, number: int) -> dict[str, object]:
    row, own = scene.rows[table][number], schema.keys[table]
    values: dict[str, object] = {"id": number, "kind": row.kind, "note": f"t{table}/{number}"}
    values |= zip(own.columns, own.values(number), strict=True)
    if table == schema.root:
        values["due"] = schema.writing.written(row.time, scene.cut)
    for key in schema.down(table):
        values |= zip(schema.columns(key), _referring(schema.keys[key.parent], row.parents[key.name]), strict=True)
    return values


def _referring(parent: Key, number: int | str | None) -> tuple[object, ...]:
    if number == HALF:
        return (0, *(None for _ in parent.columns[1:]))
    return parent.values(number) if isinstance(number, int) else tuple(None for _ in parent.columns)


def _replace(connection: sa.Connection, table: str, rows: Iterable[Mapping[str, object]]) -> None:
    connection.exec_driver_sql(f"DELETE FROM {table}")
    if rows := list(rows):
        connection.execute(sa.insert(sa.table(table, *(sa.column(name) for name in rows[0]))), rows)
