"""The catalog of a SQLite file, read: which tables there are, their columns and indexes, and who refers to them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any, TypeAlias

import sqlalchemy as sa

from nightcrew.database import Column, ForeignKey
from nightcrew.databases.below import below
from nightcrew.databases.dialect import Index, Relation
from nightcrew.errors import PolicyError

_RELATION = """
SELECT name, type FROM {schema}.sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(:name)
"""
_RELATIONS = "SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

_COLUMNS = """
SELECT t.value AS "table", c.name AS name, c.type AS kind, c."notnull" = 0 AS nullable, c.pk AS pk,
       c.hidden IN (2, 3) AS computed
  FROM json_each(:names) AS t JOIN pragma_table_xinfo(t.value, :schema) AS c ORDER BY t.key, c.cid
"""

_INDEXES = """
SELECT t.value AS "table", i.name AS name, c.name AS "column", i."unique" AS "unique"
  FROM json_each(:names) AS t JOIN pragma_index_list(t.value, :schema) AS i
  JOIN pragma_index_xinfo(i.name, :schema) AS c
 WHERE i.partial = 0 AND c.key = 1 ORDER BY t.key, i.seq, c.seqno
"""

_REFERENCES = """
SELECT m.name AS name, f.id AS id, f."from" AS child, f."table" AS parent_name, f."to" AS parent, f.on_delete AS rule
  FROM {schema}.sqlite_master AS m JOIN pragma_foreign_key_list(m.name, :schema) AS f
 WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq
"""

_COLLATIONS = ("BINARY", "NOCASE", "RTRIM")
_ASKED = 200  # columns whose collation one statement asks for
_End: TypeAlias = tuple[str, str]
"""A column of a table."""


def relation(connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
    """Look a table or view up in the file, or in an attached one."""
    if not _is_attached(connection, schema):
        return None
    statement = _in(connection, schema, _RELATION)
    row = connection.execute(sa.text(statement), {"name": name}).one_or_none()
    if row is None:
        return None
    return _relation(schema or "main", row.name, row.type)


def relations(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the names of the file's tables."""
    if not _is_attached(connection, schema):
        return []
    return list(connection.execute(sa.text(_in(connection, schema, _RELATIONS))).scalars())


def columns(connection: sa.Connection, relation: Relation) -> list[Column]:
    """Return the columns in the table's order."""
    rows = _columns(connection, relation.schema, [relation.name])[relation.name]
    return [Column(row.name, row.kind or "untyped", bool(row.nullable), bool(row.computed)) for row in rows]


def indexes(connection: sa.Connection, relation: Relation) -> list[Index]:
    """Return the whole indexes, up to the first expression in each, and the primary key."""
    columns = _columns(connection, relation.schema, [relation.name])
    return _indexes(connection, relation.schema, columns)[relation.name]


def references(connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
    """Return the foreign keys that are met on the way down from the tables."""
    keys = []
    for schema in dict.fromkeys(relation.schema for relation in relations):
        tops = [relation.name for relation in relations if relation.schema == schema]
        rows = connection.execute(sa.text(_in(connection, schema, _REFERENCES)), {"schema": schema}).all()
        found = [list(group) for _, group in groupby(rows, key=lambda row: (row.name, row.id))]
        links = ((_folded(pairs[0].parent_name), _folded(pairs[0].name), pairs) for pairs in found)
        met = below(map(_folded, tops), links)
        spelled = {_folded(name): name for name in (*tops, *(pairs[0].name for pairs in met))}
        columns = _columns(connection, schema, spelled.values())
        indexes, ends = _indexes(connection, schema, columns), list[tuple[_End, _End]]()
        for pairs in met:
            child, parent = pairs[0].name, spelled[_folded(pairs[0].parent_name)]
            keys.append(_foreign_key(schema, pairs, indexes[child], parent, columns[parent]))
            ends += _ends_of_texts(child, columns[child], parent, columns[parent], keys[-1])
        _demand_one_collation(connection, schema, ends)
    return keys


def _ends_of_texts(
    child: str, columns: Sequence[Any], parent: str, parent_columns: Sequence[Any], key: ForeignKey
) -> Iterator[tuple[_End, _End]]:
    """Return which column refers to which, but for numbers."""
    kinds, above = ({row.name: row.kind.upper() for row in rows} for rows in (columns, parent_columns))
    for own, other in zip(key.columns, key.parent_columns, strict=True):
        if other in above and not ("INT" in kinds[own] and "INT" in above[other]):
            yield (child, own), (parent, other)


def _demand_one_collation(connection: sa.Connection, schema: str, ends: Sequence[tuple[_End, _End]]) -> None:
    """Refuse a key of two collations: SQLite compares it as the parent's says, and what we look for as the child's.

    A delete's rule would take more than what was copied before, or what we remove would be another parent's.
    """
    named = list(dict.fromkeys(end for pair in ends for end in pair))
    ways = {
        end: way
        for start in range(0, len(named), _ASKED)
        for end, way in _collations(connection, schema, named[start : start + _ASKED])
    }
    for (child, own), (parent, other) in ends:
        if (way := ways[child, own]) != (above := ways[parent, other]):
            raise PolicyError(
                f"column {own!r} of table {child!r} compares texts as {way}, and {parent}.{other}, which it refers to,"
                f" as {above}: rows that hang on one would be taken for another's; declare it with COLLATE {above}, too"
            )


def _collations(connection: sa.Connection, schema: str, ends: Sequence[_End]) -> Iterator[tuple[_End, str]]:
    """Return how columns compare texts, which no catalog tells: by what they take for the same."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    asked = []
    for table, column in ends:
        held = f"SELECT {quote(column)} AS held FROM {quote(schema)}.{quote(table)} WHERE 0 UNION ALL SELECT 'a'"
        same = (f"(SELECT count(*) FROM ({held}) WHERE held = {text})" for text in ("'A'", "'a '"))
        asked.append(f"CASE 1 WHEN {' THEN 1 WHEN '.join(same)} THEN 2 ELSE 0 END")
    found = connection.exec_driver_sql(f"SELECT {', '.join(asked)}").one() if asked else ()
    return ((end, _COLLATIONS[number]) for end, number in zip(ends, found, strict=True))


def parents(connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
    """Return the foreign keys by which a table refers to others, and to itself."""
    rows = connection.execute(sa.text(_in(connection, relation.schema, _REFERENCES)), {"schema": relation.schema}).all()
    own = [row for row in rows if row.name == relation.name]
    named = {row.parent_name: _spelled(connection, relation.schema, row.parent_name) for row in own}
    columns = _columns(connection, relation.schema, [relation.name, *named.values()])
    indexes = _indexes(connection, relation.schema, columns)[relation.name]
    found = [list(group) for _, group in groupby(own, key=lambda row: row.id)]
    parents = [(pairs, named[pairs[0].parent_name]) for pairs in found]
    return [_foreign_key(relation.schema, pairs, indexes, parent, columns[parent]) for pairs, parent in parents]


def _spelled(connection: sa.Connection, schema: str, name: str) -> str:
    """Return a table's name as it was created; that of one that is not there as it is written."""
    row = connection.execute(sa.text(_in(connection, schema, _RELATION)), {"name": name}).one_or_none()
    return name if row is None else str(row.name)


def _is_attached(connection: sa.Connection, schema: str | None) -> bool:
    files = connection.execute(sa.text("SELECT name FROM pragma_database_list")).scalars().all()
    return schema is None or schema in files


def _in(connection: sa.Connection, schema: str | None, statement: str) -> str:
    return statement.format(schema=connection.dialect.identifier_preparer.quote_identifier(schema or "main"))


def _relation(schema: str, name: str, kind: str = "table") -> Relation:
    return Relation(schema, name, name if schema == "main" else f"{schema}.{name}", kind)


def _folded(name: str) -> bytes:
    """Return what SQLite compares names by: it takes the capitals of ASCII only for the same letters."""
    return name.encode().lower()


def _columns(connection: sa.Connection, schema: str, tables: Iterable[str]) -> dict[str, list[Any]]:
    """Return the columns of each table, in its order."""
    named: dict[str, list[Any]] = {name: [] for name in tables}
    for row in connection.execute(sa.text(_COLUMNS), {"schema": schema, "names": json.dumps(list(named))}):
        named[row.table].append(row)
    return named


def _indexes(connection: sa.Connection, schema: str, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Index]]:
    """Return the indexes of each table whose columns these are, its primary key the last."""
    named: dict[str, list[Index]] = {name: [] for name in columns}
    rows = connection.execute(sa.text(_INDEXES), {"schema": schema, "names": json.dumps(list(named))})
    for (table, name), group in groupby(rows, key=lambda row: (row.table, row.name)):
        parts = list(group)
        plain = tuple(takewhile(lambda column: column is not None, [part.column for part in parts]))
        unique = bool(parts[0].unique) and len(plain) == len(parts)
        named[table].append(Index(name, plain, primary=False, unique=unique))
    for table, indexes in named.items():
        indexes.append(Index("PRIMARY KEY", _primary_key(columns[table]), primary=True, unique=True))
    return named


def _primary_key(columns: Sequence[Any]) -> tuple[str, ...]:
    return tuple(row.name for row in sorted(columns, key=lambda row: row.pk) if row.pk)


def _foreign_key(
    schema: str, pairs: Sequence[Any], indexes: Sequence[Index], parent: str, parent_columns: Sequence[Any]
) -> ForeignKey:
    """Read a key, which may leave the columns out that it refers to: then it means the primary key.

    Names compare without case.
    """
    columns, names = tuple(pair.child for pair in pairs), {row.name.lower(): row.name for row in parent_columns}
    named = tuple(names.get(pair.parent.lower(), pair.parent) for pair in pairs if pair.parent is not None)
    return ForeignKey(
        _relation(schema, pairs[0].name).label,
        columns,
        _relation(schema, parent).label,
        named or _primary_key(parent_columns),
        pairs[0].rule,
        next((index.name for index in indexes if index.begins_with(columns)), None),
    )
