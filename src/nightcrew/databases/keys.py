"""A key's columns → the rows they find again, and the order they are in."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.dialect import Address


def by_key(
    columns: Sequence[sa.ColumnElement[Any]], selected: Sequence[sa.ColumnElement[Any]] | None = None
) -> Address | None:
    """Address rows by the values of `columns`, which come back exactly when `selected`; None without any."""
    if not columns:
        return None

    def among(rows: Sequence[Sequence[Any]]) -> sa.ColumnElement[bool]:
        if len(columns) == 1:
            return columns[0].in_([row[0] for row in rows])
        return sa.tuple_(*columns).in_([tuple(row) for row in rows])

    return Address(
        tuple(selected or columns),
        among,
        order=tuple(columns),
        after=lambda row: after(columns, row),
        upto=lambda row: sa.not_(after(columns, row)) if len(columns) > 1 else columns[0] <= row[0],
    )


def after(columns: Sequence[sa.ColumnElement[Any]], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Compose the test for what comes after a row, in the order of these columns."""
    pairs = list(zip(columns, values, strict=True))
    ways = [
        sa.and_(*(column == value for column, value in pairs[:place]), pairs[place][0] > pairs[place][1])
        for place in range(len(pairs))
    ]
    return sa.or_(*ways)


def written(row: Sequence[Any]) -> list[Any]:
    """Write a key as JSON values."""
    return [_written(value) for value in row]


def read(row: Sequence[Any]) -> tuple[Any, ...]:
    """Read what was written."""
    return tuple(_read(value) for value in row)


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    return value if isinstance(value, int | float | str) else str(value)


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return bytes.fromhex(value["hex"]) if "hex" in value else Decimal(value["decimal"])
