"""Rows → a table within a statement: they travel as one JSON text, for hundreds of statements take their time."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from nightcrew.databases.dialect import Dialect

_MOST = 1_000  # rows that a statement is told one by one: no database takes parameters without end
_T = TypeVar("_T")


def parts(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Part rows into as many as one statement is told."""
    return (rows[start : start + _MOST] for start in range(0, len(rows), _MOST))


def listed(dialect: Dialect, columns: Mapping[str, type]) -> sa.Subquery:
    """Return the rows that a statement is `told`, of these columns, as a table that is there once."""
    select = sa.text(dialect.listed(columns))
    return select.columns(*(sa.column(name) for name in columns)).subquery("listed")


def told(dialect: Dialect, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what to execute such a statement with: texts, whole numbers, aware instants, or None by column."""
    written = lru_cache(maxsize=16)(dialect.bid_instant)  # the slots of one look are nearly all the same instant
    return {"rows": json.dumps(list(rows), default=written)}


def either(dialect: Dialect, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the predicate that a column is one of `these`; some databases use no index for a table within."""
    if dialect.deletes_by_value:
        return column.in_(sa.bindparam("rows", expanding=True))
    return column.in_(sa.select(listed(dialect, {"value": str}).c.value))


def these(dialect: Dialect, values: Collection[str]) -> dict[str, Any]:
    """Return what to execute such a statement with."""
    return {"rows": list(values)} if dialect.deletes_by_value else told(dialect, ({"value": one} for one in values))
