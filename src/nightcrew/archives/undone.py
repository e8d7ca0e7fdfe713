"""Undone: what an undo of a run would do, or has done, table by table."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nightcrew.clock import instant


@dataclass(slots=True)
class Tally:
    """What becomes of a table's rows: put `back` now or `before`, there as they were (`same`), or in conflict."""

    archived: int = 0
    back: int = 0
    same: int = 0
    before: int = 0
    conflicts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        counts = {"archived": self.archived, "back": self.back, "same": self.same, "before": self.before}
        return counts | {"conflicts": dict(self.conflicts), "named": list(self.named)}


@dataclass(frozen=True, slots=True)
class Undo:
    """What an undo of a run would do, or has `done`, by table; the run's rows are in so many frames.

    What is not `exact` was looked at for a part of the rows only; `unseen` were not. It can be asked for `until` (UTC).
    """

    run: str
    job: str
    tables: Mapping[str, Tally]
    frames: int
    until: datetime
    done: bool = False
    unseen: int = 0
    keys: Mapping[str, set[str]] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def back(self) -> int:
        """How many rows are put back in all."""
        return sum(tally.back for tally in self.tables.values())

    @property
    def conflicts(self) -> int:
        """How many rows are not."""
        return sum(tally.conflicts.total() for tally in self.tables.values())

    @property
    def exact(self) -> bool:
        """Whether every row was looked at."""
        return self.unseen == 0

    @property
    def seen(self) -> int:
        """How many rows were looked at, of those that have not been put back before."""
        return sum(tally.archived - tally.before for tally in self.tables.values()) - self.unseen

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; instants are ISO-8601 in UTC."""
        return {
            "run": self.run,
            "job": self.job,
            "done": self.done,
            "frames": self.frames,
            "until": instant(self.until),
            "tables": {name: tally.json() for name, tally in self.tables.items()},
            "unseen": self.unseen,
            "blobsGone": dict(self.gone),
            "stopped": self.stopped,
        }
