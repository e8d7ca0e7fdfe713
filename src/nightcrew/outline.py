"""Outline: what one look at a database tells of each of its tables, and the shape of whoever looks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from nightcrew.database import Column


@dataclass(frozen=True, slots=True)
class Outline:
    """A table of the schema that is implied; `rows` is the database's own estimate, None where it keeps none."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    rows: int | None


class Sights(Protocol):
    """Looks at the tables of a database nobody has prepared; changes nothing, and counts nothing."""

    def outlines(self) -> Sequence[Outline]:
        """Read the tables of the schema that is implied, at most 5,000, by a few statements."""

    def unreadable(self, table: str, column: str, cut: datetime) -> str | None:
        """Say why a column cannot be read as a time, or not in two seconds; None where it can."""


def assembled(tables: Iterable[Any], columns: Iterable[Any], keys: Iterable[Any]) -> list[Outline]:
    """Put together what statements about all tables found: a row a table, a column, and a column of a primary key."""
    known, primary = defaultdict[str, list[Column]](list), defaultdict[str, list[str]](list)
    for row in columns:
        known[row.table].append(Column(row.name, row.kind or "untyped", bool(row.nullable)))
    for row in keys:
        primary[row.table].append(row.name)
    return [
        Outline(row.name, tuple(known[row.name]), tuple(primary[row.name]), None if row.rows is None else int(row.rows))
        for row in tables
    ]
