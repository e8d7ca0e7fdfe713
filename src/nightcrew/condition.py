"""Condition: how a database is, and what may be done there, as far as it tells whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class State:
    """A table: the kinds of statement that this role may not make of it, and whether the database hides rows from it.

    `broken` are indexes that are there and not used, each with the statement that makes it anew.
    """

    denied: tuple[str, ...] = ()
    hides: bool = False
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """A database: its `place` in words, and why nothing can be written there, if that is so.

    `open_for` is how long the oldest transaction of somebody else has been open, None where this role may not know.
    `advice` are what is unwise about how it is set up, each with its remedy.
    """

    place: str
    read_only: str | None = None
    open_for: timedelta | None = None
    tables: Mapping[str, State] = field(default_factory=dict)
    advice: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """What a column of a table holds: whether the table has rows, and the ends of its values as text, if any."""

    some: bool
    oldest: str | None
    newest: str | None


class Conditions(Protocol):
    """The table and the places that a doctor looks at."""

    def read(self, tables: Sequence[str]) -> Condition:
        """Read how the database is, and some tables that are there."""

    def reach(self, table: str, column: str, seconds: float) -> Reach:
        """Read the ends of a column; raises DatabaseError where that takes longer."""
