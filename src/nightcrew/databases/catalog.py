"""Names → a Catalog, from the live one; and a table's name → what SQLAlchemy composes statements with."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Catalog, ForeignKey, Table
from nightcrew.databases.dialect import Dialect, Relation
from nightcrew.databases.names import analyze, create_index
from nightcrew.databases.tables import OURS
from nightcrew.errors import PolicyError, did_you_mean

_LARGE = 10_000  # rows that are read in a millisecond or two
_TOGETHER = 40  # tables that are looked at in one statement


def read(connection: sa.Connection, dialect: Dialect, names: Iterable[str]) -> Catalog:
    """Read some tables, and the foreign keys of whatever hangs on them."""
    relations, refusals = {}, {}
    for name in names:
        try:
            relations[name] = _relation(connection, dialect, name)
        except PolicyError as refusal:
            refusals[name] = str(refusal)
    tables = {relation.label: _table(connection, dialect, relation) for relation in set(relations.values())}
    references: dict[str, list[ForeignKey]] = defaultdict(list)
    for key in dialect.references(connection, list(dict.fromkeys(relations.values()))):
        references[key.parent].append(key)
    slow = [key.table for keys in references.values() for key in keys if not key.indexed]
    slow = list(dict.fromkeys((*tables, *slow)))
    along = dict.fromkeys((*tables, *(key.table for keys in references.values() for key in keys)))
    unanalysed = dialect.unanalysed(connection, list(along))
    return Catalog(
        tables | {name: tables[relation.label] for name, relation in relations.items()},
        {parent: tuple(keys) for parent, keys in references.items()},
        refusals,
        lambda table, columns: create_index(dialect, *split(table), columns),
        frozenset(_large(connection, slow)),
        dialect.one_writer,
        dialect.returning,
        {table: analyze(dialect, *split(table)) for table in unanalysed},
    )


def _large(connection: sa.Connection, names: Sequence[str]) -> Iterator[str]:
    """Name the tables of more rows than the least that is large, of which no more are looked at."""
    for start in range(0, len(names), _TOGETHER):
        asked = names[start : start + _TOGETHER]
        one: sa.Select[Any] = sa.select(sa.literal_column("1")).limit(1).offset(_LARGE)
        answers = connection.execute(sa.select(*(sa.exists(one.select_from(source(name, ()))) for name in asked))).one()
        yield from (name for name, large in zip(asked, answers, strict=True) if large)


def _relation(connection: sa.Connection, dialect: Dialect, name: str) -> Relation:
    """Look a table up; raises PolicyError for a name that is not there, or is something other than a table."""
    schema, bare = split(name)
    relation = dialect.relation(connection, schema, bare)
    if relation is None:
        raise PolicyError(f"table {name!r} is not in the database{_nearest(connection, dialect, name)}")
    if relation.kind != "table":
        raise PolicyError(f"{name!r} is a {relation.kind}, not a table: name the table whose rows shall leave")
    return relation


def describe(connection: sa.Connection, dialect: Dialect, name: str) -> Table:
    """Return a table by the name that the catalog gave it."""
    return _table(connection, dialect, _relation(connection, dialect, name))


def _table(connection: sa.Connection, dialect: Dialect, relation: Relation) -> Table:
    indexes = [index for index in dialect.indexes(connection, relation) if index.columns]
    return Table(
        name=relation.label,
        columns={column.name: column for column in dialect.columns(connection, relation)},
        primary_key=next((index.columns for index in indexes if index.primary), ()),
        indexes={index.columns: index.name for index in indexes},
        unique=tuple(index.columns for index in indexes if index.unique),
    )


def split(name: str) -> tuple[str | None, str]:
    """Take a table's name apart: the schema, where one is given, and the rest."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def source(name: str, columns: Iterable[str]) -> sa.TableClause:
    """Return a table to compose statements with; every name of it is quoted, whatever it holds."""
    schema, bare = split(name)
    return sa.table(
        sa.quoted_name(bare, quote=True),
        *(sa.column(sa.quoted_name(column, quote=True)) for column in dict.fromkeys(columns)),
        schema=sa.quoted_name(schema, quote=True) if schema else None,
    )


def _nearest(connection: sa.Connection, dialect: Dialect, name: str) -> str:
    schema, bare = split(name)
    ours = bare.casefold().startswith(OURS)
    known = [one for one in dialect.relations(connection, schema) if ours or not one.startswith(OURS)]
    alike = [one for one in known if one.casefold() == bare.casefold()]
    return did_you_mean(alike[0] if alike else bare, known)
