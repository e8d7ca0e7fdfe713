"""Rows → a table within a statement: they travel as one JSON text, for hundreds of statements take their time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
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
    objects = [dict(zip(columns, map(_written(dialect), row), strict=True)) for row in rows]
    select = sa.text(dialect.listed(columns)).bindparams(rows=json.dumps(objects))
    return select.columns(*(sa.column(name) for name in columns)).subquery("listed")


def _written(dialect: Dialect) -> Any:
    return lambda value: dialect.bid_instant(value) if isinstance(value, datetime) else value
