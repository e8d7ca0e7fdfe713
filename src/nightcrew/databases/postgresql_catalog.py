"""PostgreSQL's catalog, read: which tables there are, their columns and indexes, and who refers to them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Column, ForeignKey
from nightcrew.databases.below import below
from nightcrew.databases.dialect import Index, Relation
from nightcrew.databases.names import quoted

_KIND = """CASE WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhparent = c.oid)
            THEN 'i' ELSE c.relkind END"""
_RELATION = f"""
SELECT n.nspname AS schema, c.relname AS name, pg_table_is_visible(c.oid) AS visible, {_KIND} AS kind
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND (n.nspname = :schema OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
"""
# A table that others inherit from shows their rows as its own, though its key and the keys that refer to it do not.
_KINDS = {
    "i": "table that others inherit from",
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}

_RELATIONS = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND (n.nspname = :schema OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
"""

_THE_TABLE = """(SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE n.nspname = :schema AND c.relname = :name)"""

# A domain is what it is made of, through as many domains as it takes: the type at the bottom says whether it is a time.
_COLUMNS = f"""
SELECT a.attname AS name, NOT (a.attnotnull OR base.demanded) AS nullable, format_type(base.oid, base.modifier) AS kind,
       a.attgenerated <> '' AS computed
  FROM pg_attribute AS a CROSS JOIN LATERAL (
       WITH RECURSIVE made AS (
           SELECT t.oid, a.atttypmod AS modifier, t.typnotnull AS demanded, t.typtype, t.typbasetype, t.typtypmod
             FROM pg_type AS t WHERE t.oid = a.atttypid
            UNION ALL
           SELECT t.oid, made.typtypmod, made.demanded OR t.typnotnull, t.typtype, t.typbasetype, t.typtypmod
             FROM made JOIN pg_type AS t ON t.oid = made.typbasetype WHERE made.typtype = 'd'
       ) SELECT * FROM made WHERE typtype <> 'd') AS base
 WHERE a.attrelid = {_THE_TABLE} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

# An index of another method has no order; an invalid one is not kept up, a partial one has not every row.
_PLAIN = "i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'"
_INDEXES = f"""
SELECT c.relname AS name, i.indisprimary AS primary, i.indisunique AS unique, ARRAY(
           SELECT a.attname FROM unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (attnum, place)
             LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
            WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
 WHERE i.indrelid = {_THE_TABLE} AND {_PLAIN}
"""

# Who refers to whom, in the whole database: the catalog has no index by which the way down could be followed.
# Each partition repeats its parent's key: only the topmost that points at this very table counts.
_LINKS = """
SELECT k.oid, k.conrelid AS child, k.confrelid AS parent,
       k.confrelid = ANY(CAST(CAST(:tops AS text[]) AS regclass[])) AS top
  FROM pg_constraint AS k
 WHERE k.contype = 'f'
   AND NOT EXISTS (SELECT FROM pg_constraint AS p WHERE p.oid = k.conparentid AND p.confrelid = k.confrelid)
"""
_REFERENCES = f"""
SELECT n.nspname AS schema, c.relname AS name, pg_table_is_visible(c.oid) AS visible, {_KIND} AS kind,
       o.nspname AS parent_schema, r.relname AS parent_name, pg_table_is_visible(r.oid) AS parent_visible,
       k.confdeltype AS rule,
       ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
               JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, place)
               JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.place) AS parents,
       (SELECT x.relname FROM pg_index AS i
                  JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS m ON m.oid = x.relam
                WHERE i.indrelid = k.conrelid AND {_PLAIN}
                  AND i.indnkeyatts >= cardinality(k.conkey)
                  AND (CAST(i.indkey AS int2[]))[0 : cardinality(k.conkey) - 1] @> k.conkey
                ORDER BY i.indnkeyatts, x.relname LIMIT 1) AS index
  FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_class AS r ON r.oid = k.confrelid JOIN pg_namespace AS o ON o.oid = r.relnamespace
 WHERE k.oid = ANY(CAST(:keys AS oid[]))
 ORDER BY n.nspname, c.relname, k.conname
"""
_OWN = f"""
SELECT k.oid FROM pg_constraint AS k
 WHERE k.contype = 'f' AND k.conrelid = {_THE_TABLE}
   AND NOT EXISTS (SELECT FROM pg_constraint AS p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
"""
_RULES = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

# What a role may not read of a table, or not all of, it is told no figures about either. The size is looked at first.
_UNANALYSED = """
SELECT t.label FROM unnest(CAST(:labels AS text[]), CAST(:names AS text[])) AS t (label, name)
  JOIN pg_class AS c ON c.oid = to_regclass(t.name) JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE CASE WHEN c.relkind = 'r' AND NOT c.relrowsecurity AND pg_relation_size(c.oid) > 1000000
                 AND has_table_privilege(c.oid, 'SELECT')
            THEN NOT EXISTS (SELECT FROM pg_stats AS s WHERE s.schemaname = n.nspname AND s.tablename = c.relname) END
"""

_DIVIDED = f"SELECT c.relkind = 'p' OR c.relhassubclass FROM pg_class AS c WHERE c.oid = {_THE_TABLE}"


def relation(connection: sa.Connection, schema: str | None, name: str) -> Relation | None:
    """Look a table or view up along the search path, or in `schema`."""
    row = connection.execute(sa.text(_RELATION), {"schema": schema, "name": name}).one_or_none()
    return None if row is None else _relation(row)


def relations(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the names of the schema's tables."""
    return list(connection.execute(sa.text(_RELATIONS), {"schema": schema}).scalars())


def columns(connection: sa.Connection, relation: Relation) -> list[Column]:
    """Return the columns in the table's order."""
    rows = connection.execute(sa.text(_COLUMNS), _the(relation))
    return [Column(row.name, row.kind, row.nullable, row.computed) for row in rows]


def indexes(connection: sa.Connection, relation: Relation) -> list[Index]:
    """Return the valid, whole b-tree indexes, up to the first expression in each."""
    rows = connection.execute(sa.text(_INDEXES), _the(relation)).all()
    return [_index(row) for row in rows]


def references(connection: sa.Connection, relations: Sequence[Relation]) -> list[ForeignKey]:
    """Return the foreign keys that are met on the way down from the tables."""
    tops = [".".join(quoted(part, '"') for part in (relation.schema, relation.name)) for relation in relations]
    links = connection.execute(sa.text(_LINKS), {"tops": tops}).all()
    met = below({link.parent for link in links if link.top}, ((link.parent, link.child, link.oid) for link in links))
    rows = connection.execute(sa.text(_REFERENCES), {"keys": met}).all() if met else []
    return [_foreign_key(row) for row in rows]


def parents(connection: sa.Connection, relation: Relation) -> list[ForeignKey]:
    """Return the foreign keys by which a table refers to others, and to itself."""
    own = connection.execute(sa.text(_OWN), _the(relation)).scalars().all()
    rows = connection.execute(sa.text(_REFERENCES), {"keys": own}).all() if own else []
    return [_foreign_key(row) for row in rows]


def unanalysed(connection: sa.Connection, labels: Sequence[str]) -> list[str]:
    """Name those of some tables that are more than a megabyte of which no figures are kept."""
    names = [".".join(quoted(part, '"') for part in label.split(".")) for label in labels]
    return list(connection.execute(sa.text(_UNANALYSED), {"labels": list(labels), "names": names}).scalars())


def divided(connection: sa.Connection, relation: Relation) -> bool:
    """Tell whether a table has partitions, or others that inherit from it: places repeat in these."""
    return bool(connection.execute(sa.text(_DIVIDED), _the(relation)).scalar_one())


def label(schema: str, name: str, visible: bool) -> str:  # noqa: FBT001 - as the catalog says it
    """Return the name by which statements find a table: with its schema, where that is not on the search path."""
    return name if visible else f"{schema}.{name}"


def _the(relation: Relation) -> dict[str, str]:
    return {"schema": relation.schema, "name": relation.name}


def _relation(row: Any) -> Relation:
    return Relation(row.schema, row.name, label(row.schema, row.name, row.visible), _KINDS[row.kind])


def _index(row: Any) -> Index:
    whole = None not in row.columns
    columns = row.columns if whole else row.columns[: row.columns.index(None)]
    return Index(row.name, tuple(columns), row.primary, row.unique and whole)


def _foreign_key(row: Any) -> ForeignKey:
    child, parent = _relation(row), label(row.parent_schema, row.parent_name, row.parent_visible)
    columns, parents = tuple(row.columns), tuple(row.parents)
    return ForeignKey(child.label, columns, parent, parents, _RULES[row.rule], row.index, child.kind)
