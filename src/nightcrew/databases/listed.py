"""Rows → a table within a statement: they travel as one JSON text, for hundreds of statements take their time."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from nightcrew.databases.dialect import Dialect

_MOST = 1_000  # rows that a statement is told one by one: no database takes parameters without end
_T = TypeVar("_T")


def parts(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Part rows into as many as one statement is told."""
    return (rows[start : start + _MOST] for start in range(0, len(rows), _MOST))


def listed(dialect: Dialect, columns: Mapping[str, type], rows: Sequence[Sequence[Any]]) -> sa.Subquery:
    """Return rows of these columns (texts, whole numbers, aware instants, or None) as a table that is there once."""
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    written = json.dumps(objects, default=dialect.bid_instant)
    select = sa.text(dialect.listed(columns)).bindparams(rows=written)
    return select.columns(*(sa.column(name) for name in columns)).subquery("listed")


def either(dialect: Dialect, column: sa.ColumnElement[str], values: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the predicate that a column is one of these; some databases use no index for a table within."""
    if dialect.deletes_by_value:
        return column.in_(values)
    return column.in_(sa.select(listed(dialect, {"value": str}, [[value] for value in values]).c.value))
