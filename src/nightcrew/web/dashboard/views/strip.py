"""Strip: the newest runs of a job as bars, the last on the right, as high as it removed much, or took long."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log1p

from nightcrew.books import RunRow
from nightcrew.duration import when
from nightcrew.web.dashboard.views.marks import mark

LENGTH = 30
_STEP, _LOWEST, _HIGHEST = 6, 5.0, 22.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One run."""

    x: int
    y: float
    height: float
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The bars, and all of them in one sentence."""

    bars: tuple[Bar, ...]
    says: str

    @property
    def width(self) -> int:
        """How wide the drawing is, in its own units."""
        return LENGTH * _STEP

    @property
    def height(self) -> float:
        """How high it is."""
        return _HIGHEST


def strip(rows: Sequence[RunRow], now: datetime) -> Strip:
    """Draw runs, which are given the newest first."""
    sizes = [_size(row) for row in rows]
    top = log1p(max(sizes, default=0.0)) or 1.0
    bars = []
    for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        height = round(_LOWEST + (_HIGHEST - _LOWEST) * log1p(size) / top, 1)
        x = (LENGTH - 1 - place) * _STEP
        bars.append(Bar(x, round(_HIGHEST - height, 1), height, mark(row).kind, _says(row, now)))
    return Strip(tuple(reversed(bars)), summary(rows))


def summary(rows: Sequence[RunRow]) -> str:
    """Say how runs ended: “29 done, 1 failed”."""
    words = Counter(mark(row).word for row in rows)
    return ", ".join(f"{number} {word}" for word, number in words.most_common()) or "no runs yet"


def _says(row: RunRow, now: datetime) -> str:
    rows = f", {row.deleted:,} rows" if row.deleted else ""
    return f"{mark(row).word} {when(row.slot or row.moment, now)}{rows}"


def _size(row: RunRow) -> float:
    """Return what makes a bar high: rows, or for what removes none the seconds that it took."""
    if row.deleted:
        return float(row.deleted)
    if row.finished_at is None or row.moment is None:
        return 0.0
    return max(0.0, (row.finished_at - row.moment).total_seconds())
