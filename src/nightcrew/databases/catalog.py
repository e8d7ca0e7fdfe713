"""A name → a Table, from the live catalog; and a Table → what SQLAlchemy composes statements with."""

from collections.abc import Iterable

import sqlalchemy as sa

from nightcrew.database import Table
from nightcrew.databases.dialect import Dialect, Relation
from nightcrew.databases.tables import OURS
from nightcrew.errors import PolicyError, did_you_mean


def table(connection: sa.Connection, dialect: Dialect, name: str) -> Table:
    """Read a table: its columns, keys and indexes, and the foreign keys that point at it.

    Raises PolicyError for a name that is not there, or is something other than a table.
    """
    schema, bare = split(name)
    relation = dialect.relation(connection, schema, bare)
    if relation is None:
        raise PolicyError(f"table {name!r} is not in the database{_nearest(connection, dialect, name)}")
    if relation.kind != "table":
        raise PolicyError(f"{name!r} is a {relation.kind}, not a table: name the table whose rows shall leave")
    indexes = [index for index in dialect.indexes(connection, relation) if index.columns]
    return Table(
        name=_plain(relation),
        columns={column.name: column for column in dialect.columns(connection, relation)},
        primary_key=next((index.columns for index in indexes if index.primary), ()),
        indexes=tuple(index.columns for index in indexes),
        children=tuple(dialect.references(connection, relation)),
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


def _plain(relation: Relation) -> str:
    """Refuse a dot within a name, which would read as a schema."""
    if "." in relation.name or "." in relation.schema:
        raise PolicyError(f"the name of table {relation.name!r} in {relation.schema!r} has a dot in it: rename it")
    return relation.label


def _nearest(connection: sa.Connection, dialect: Dialect, name: str) -> str:
    schema, bare = split(name)
    ours = bare.casefold().startswith(OURS)
    known = [one for one in dialect.relations(connection, schema) if ours or not one.startswith(OURS)]
    alike = [one for one in known if one.casefold() == bare.casefold()]
    return did_you_mean(alike[0] if alike else bare, known)
