"""Kept: what the archive has of a run, as the database tells it: no frame is read for that, and no other table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

LOOKED_AT = 5_000
"""Frames of which the rows are counted, of all that one look is about."""


@dataclass(slots=True)
class Shelved:
    """Rows of a table in the frames of a run: `archived` in all, of which so many are `back`, or in the way of it."""

    archived: int = 0
    back: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """The frames of a run: how many, of how many bytes, and how many of them are sealed, put back, or kept no more.

    They were written from `since` to `last`. All of them can be put back `until` then, none after `over_at` (UTC).
    `whole` says that the rows of all of them were counted. `place` is where the list goes on behind this run.
    """

    run: str
    job: str
    store: str
    frames: int
    size: int
    sealed: int
    restored: int
    over: int
    since: datetime
    last: datetime
    until: datetime
    over_at: datetime
    place: int
    tables: Mapping[str, Shelved] = field(default_factory=dict)
    whole: bool = True

    @property
    def rows(self) -> int:
        """How many rows were archived."""
        return sum(table.archived for table in self.tables.values())

    @property
    def left(self) -> int:
        """How many rows something stood in the way of when the rest was put back."""
        return sum(table.left for table in self.tables.values())

    @property
    def gone(self) -> bool:
        """Whether the time of all its frames is over."""
        return self.over == self.frames
