"""The catalog of MySQL and MariaDB, read: which tables there are, their columns and indexes, and who refers to them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Column, ForeignKey
from nightcrew.databases.below import below
from nightcrew.databases.dialect import Index, Relation
from nightcrew.databases.names import quoted
from nightcrew.errors import PolicyError, SafetyStop


def _named(column: str) -> str:
    """Select a name; small where the server (on macOS) keeps capitals, but heeds them nowhere and not in its keys."""
    return f"IF(@@lower_case_table_names = 2, LOWER({column}), {column})"


# information_schema is read by constant names wherever it can be: anything else opens every table of the server.
_RELATION = f"""
SELECT {_named("t.table_schema")} AS `schema`, {_named("t.table_name")} AS name, t.table_type AS kind,
       t.engine AS engine,
       (SELECT e.transactions FROM information_schema.engines AS e WHERE e.engine = t.engine) AS transactions
  FROM information_schema.tables AS t WHERE t.table_schema = :schema AND t.table_name = :name
"""
_RELATIONS = """
SELECT table_name FROM information_schema.tables WHERE table_schema = :schema AND table_type = 'BASE TABLE'
"""

_SIZE = "SELECT data_length FROM information_schema.tables WHERE table_schema = :schema AND table_name = :name"

_COLUMNS = """
SELECT column_name AS name, column_type AS kind, is_nullable = 'YES' AS nullable,
       extra LIKE '%VIRTUAL GENERATED%' OR extra LIKE '%STORED GENERATED%' AS computed
  FROM information_schema.columns WHERE table_schema = :schema AND table_name = :name ORDER BY ordinal_position
"""

_INDEXES = f"""
SELECT {_named("table_name")} AS `table`, index_name AS name, IF(sub_part IS NULL, column_name, NULL) AS `column`,
       non_unique = 0 AS `unique`
  FROM information_schema.statistics
 WHERE table_schema = :schema AND table_name IN :names AND index_type = 'BTREE'
 ORDER BY table_name, index_name, seq_in_index
"""

# Who refers to tables of this database, from others too.
_RULES = f"""
SELECT {_named("constraint_schema")} AS `schema`, {_named("table_name")} AS name, constraint_name AS `constraint`,
       {_named("unique_constraint_schema")} AS parent_schema, {_named("referenced_table_name")} AS parent_name,
       delete_rule AS rule
  FROM information_schema.referential_constraints WHERE unique_constraint_schema = :schema
 ORDER BY constraint_schema <> unique_constraint_schema, constraint_schema, table_name, constraint_name
"""
_PAIRS = f"""
SELECT {_named("table_name")} AS name, constraint_name AS `constraint`, column_name AS child,
       referenced_column_name AS parent
  FROM information_schema.key_column_usage
 WHERE table_schema = :schema AND table_name IN :names AND referenced_column_name IS NOT NULL
 ORDER BY ordinal_position
"""

_PARENTS = f"""
SELECT {_named("k.table_schema")} AS `schema`, {_named("k.table_name")} AS name, k.constraint_name AS `constraint`,
       {_named("k.referenced_table_schema")} AS parent_schema, {_named("k.referenced_table_name")} AS parent_name,
       k.column_name AS child, k.referenced_column_name AS parent, r.delete_rule AS rule
  FROM information_schema.key_column_usage AS k JOIN information_schema.referential_constraints AS r
    ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
   AND r.table_name = k.table_name
 WHERE k.table_schema = :schema AND k.table_name = :name AND k.referenced_column_name IS NOT NULL
 ORDER BY k.constraint_name, k.ordinal_position
"""


def relation(connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
    """Look a table or view up in the URL's database, or in `schema`."""
    own = connection.engine.url.database
    row = connection.execute(sa.text(_RELATION), {"schema": schema or own, "name": name}).one_or_none()
    if row is None:
        return None
    found = _relation(own, row.schema, row.name, "table" if row.kind == "BASE TABLE" else row.kind.lower())
    if row.kind == "BASE TABLE" and row.transactions != "YES":
        raise PolicyError(
            f"table {found.label!r} is kept by the engine {row.engine}, which can neither lock a row nor undo a"
            f" batch: ALTER TABLE {quoted(row.schema, '`')}.{quoted(row.name, '`')} ENGINE = InnoDB"
        )
    return found


def relations(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the names of the schema's tables."""
    own = connection.engine.url.database
    return list(connection.execute(sa.text(_RELATIONS), {"schema": schema or own}).scalars())


def size(connection: sa.Connection, schema: str, name: str) -> int:
    """Return how many bytes a table's rows take without its other indexes, as the engine estimates them."""
    own = connection.engine.url.database
    return int(connection.execute(sa.text(_SIZE), {"schema": schema or own, "name": name}).scalar() or 0)


def columns(connection: sa.Connection, relation: Relation) -> list[Column]:
    """Return the columns in the table's order."""
    rows = connection.execute(sa.text(_COLUMNS), _the(relation))
    return [Column(row.name, row.kind, bool(row.nullable), bool(row.computed)) for row in rows]


def indexes(connection: sa.Connection, relation: Relation) -> list[Index]:
    """Return the b-tree indexes, up to the first expression or prefix in each."""
    return _indexes(connection, relation.schema, [relation.name])[relation.name]


def references(connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
    """Return the foreign keys that are met on the way down from the tables, through other databases too."""
    tops = [(relation.schema, relation.name) for relation in relations]
    ahead, looked_through = {relation.schema for relation in relations}, set[str]()
    rules: list[Any] = []
    met: list[Any] = []
    while ahead:
        for schema in sorted(ahead):
            rules += _rules(connection, schema)
        met = below(tops, (((row.parent_schema, row.parent_name), (row.schema, row.name), row) for row in rules))
        looked_through |= ahead
        ahead = {row.schema for row in met} - looked_through
    children: dict[str, list[str]] = defaultdict(list)
    for row in met:
        children[row.schema].append(row.name)
    pairs = {schema: _pairs(connection, schema, names) for schema, names in children.items()}
    indexes = {schema: _indexes(connection, schema, names) for schema, names in children.items()}
    own = connection.engine.url.database
    return [
        _foreign_key(own, row, pairs[row.schema][row.name, row.constraint], indexes[row.schema][row.name])
        for row in met
    ]


def parents(connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
    """Return the foreign keys by which a table refers to others, and to itself."""
    rows = connection.execute(sa.text(_PARENTS), _the(relation)).all()
    own = connection.engine.url.database
    indexes = _indexes(connection, relation.schema, [relation.name])[relation.name]
    found = [list(group) for _, group in groupby(rows, key=lambda row: row.constraint)]
    return [_foreign_key(own, pairs[0], pairs, indexes) for pairs in found]


def _the(relation: Relation) -> dict[str, str]:
    return {"schema": relation.schema, "name": relation.name}


def _relation(own: str | None, schema: str, name: str, kind: str = "table") -> Relation:
    return Relation(schema, name, name if schema == own else f"{schema}.{name}", kind)


def _rules(connection: sa.Connection, schema: str) -> Sequence[Any]:
    """Read who refers to tables of a database; raises SafetyStop where the server keeps that from our role.

    It shows nothing, and says nothing, to who has rights to single tables only. One that must be there is our own.
    """
    rules = connection.execute(sa.text(_RULES), {"schema": schema}).all()
    ours = any(row.parent_name == "nightcrew_runs" for row in rules)
    if not ours and connection.execute(sa.text(_RELATION), {"schema": schema, "name": "nightcrew_entries"}).first():
        raise SafetyStop(
            f"the foreign keys of database {schema!r} are hidden from this role, so that nobody knows what goes along"
            f" with a row: GRANT REFERENCES ON `{schema}`.* to it"
        )
    return rules


def _pairs(connection: sa.Connection, schema: str, names: Iterable[str]) -> Mapping[tuple[str, str], list[Any]]:
    """Return the pairs of columns, child's and parent's, of each key of some tables: by table and constraint."""
    pairs = defaultdict(list)
    for pair in _of_tables(connection, _PAIRS, schema, names):
        pairs[pair.name, pair.constraint].append(pair)
    return pairs


def _indexes(connection: sa.Connection, schema: str, names: Iterable[str]) -> Mapping[str, list[Index]]:
    """Return the b-tree indexes of some tables, up to the first expression or prefix in each."""
    found = defaultdict(list)
    rows = _of_tables(connection, _INDEXES, schema, names)
    for (table, name), group in groupby(rows, key=lambda row: (row.table, row.name)):
        parts = list(group)
        ordered = tuple(takewhile(lambda column: column is not None, [part.column for part in parts]))
        unique = bool(parts[0].unique) and len(ordered) == len(parts)
        found[table].append(Index(name, ordered, name == "PRIMARY", unique))
    return found


def _of_tables(connection: sa.Connection, question: str, schema: str, names: Iterable[str]) -> sa.CursorResult[Any]:
    asked = sa.text(question).bindparams(sa.bindparam("names", expanding=True))
    return connection.execute(asked, {"schema": schema, "names": sorted(set(names))})


def _foreign_key(own: str | None, row: Any, pairs: Sequence[Any], indexes: Sequence[Index]) -> ForeignKey:
    """InnoDB keeps an index for each; one that were kept from our role would go by the constraint's name."""
    child, parent = _relation(own, row.schema, row.name), _relation(own, row.parent_schema, row.parent_name)
    columns, parents = tuple(pair.child for pair in pairs), tuple(pair.parent for pair in pairs)
    index = next((index.name for index in indexes if index.begins_with(columns)), row.constraint)
    return ForeignKey(child.label, columns, parent.label, parents, row.rule, index)
