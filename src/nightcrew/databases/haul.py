"""Haul: what came of one window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Haul:
    """Rows removed, whether the window was looked through, the last time seen, rows that hung on.

    `kept` rows were locked and judged, and a trigger would not let them go. A window is `clean` when as many rows left
    as it was found to hold. Of the rows `seen`, some may stay. They are `alike` when one time is all that the walk
    knows of them; `past` is the last key, where they were taken by key, and `page` the last that was read, where they
    were taken by page. Of a row that is `begun` a slice of what hangs on it went, and the row is still there. They are
    `cut` where more were locked than fit into a batch.
    """

    removed: int
    through: bool
    last: str | None = None
    hanging: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    clean: bool = False
    seen: int = 0
    alike: bool = False
    past: Sequence[Any] | None = None
    page: int | None = None
    begun: bool = False
    cut: bool = False
    load: int = 0
