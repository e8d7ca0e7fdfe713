"""Partitions that end before a cut, and the rows in one that would stay all the same."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.times import Reading

COUNTED = 100_000  # rows: so many are counted within some ten milliseconds, of more there is an estimate


def before(connection: sa.Connection, reading: Reading, ends: Sequence[sa.ColumnElement[Any]]) -> list[int]:
    """Return the places of the ends (the first value behind a partition) that are not behind the cut, oldest first."""
    if not ends:
        return []
    each = [sa.select(sa.literal_column(str(place)).label("place"), end.label("end")) for place, end in enumerate(ends)]
    known = sa.union_all(*each).subquery("ends")
    asked = sa.select(known.c.place).where(known.c.end <= reading.cut).order_by(known.c.end)
    return list(connection.execute(asked).scalars())


def staying(reading: Reading) -> sa.ColumnElement[bool]:
    """Return the predicate of all rows that have not expired, in a form from which planners draw conclusions."""
    return sa.or_(sa.not_(reading.expired), reading.column.is_(None))
