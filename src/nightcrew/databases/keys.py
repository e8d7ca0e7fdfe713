"""A key's columns → the rows they find again."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.dialect import Address


def by_key(columns: Sequence[sa.ColumnElement[Any]]) -> Address | None:
    """Address rows by the values of `columns`; None without any."""
    if not columns:
        return None

    def among(rows: Sequence[Sequence[Any]]) -> sa.ColumnElement[bool]:
        if len(columns) == 1:
            return columns[0].in_([row[0] for row in rows])
        return sa.tuple_(*columns).in_([tuple(row) for row in rows])

    return Address(tuple(columns), among)
