"""Course: the batches of a run over time, what held it back meanwhile, and about how long it still takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log1p
from typing import Any, TypeAlias

from nightcrew.books import Batch, RunRow
from nightcrew.rails import seen
from nightcrew.web.dashboard.views.strip import Bar

Entries: TypeAlias = Sequence[Mapping[str, Any]]
WIDTH, HEIGHT = 1440, 60
_BAR = 4
_LATELY = timedelta(minutes=1)  # that the rate is measured over
_LEAST = 3  # batches that tell a rate
_HELD = {"stop": ("bad", "waited"), "brake": ("warn", "was slowed down")}


@dataclass(frozen=True, slots=True)
class Held:
    """A time in which a gauge held the run back; in the drawing's units."""

    x: float
    width: float
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Course:
    """So many rows in each of the newest batches, where each ended, and when the run was held back."""

    bars: tuple[Bar, ...]
    held: tuple[Held, ...]
    number: int
    rows: int
    whole: bool
    since: datetime
    until: datetime


def course(batches: Sequence[Batch], entries: Entries, until: datetime, *, whole: bool) -> Course:
    """Draw batches, the oldest of which is given first, from its end on `until` then."""
    since, until = batches[0].at, max(until, batches[-1].at)
    length = max((until - since).total_seconds(), 0.001)

    def place(moment: datetime) -> float:
        return round((WIDTH - _BAR) * min(max((moment - since).total_seconds() / length, 0.0), 1.0), 1)

    rows = [max(0, int(batch.facts.get("rows") or 0)) for batch in batches]
    top = log1p(max(rows)) or 1.0
    heights = [round(3 + (HEIGHT - 3) * log1p(number) / top, 1) for number in rows]
    bars = tuple(
        Bar(int(place(batch.at)), round(HEIGHT - height, 1), height, "busy", f"{number:,} rows")
        for batch, number, height in zip(batches, rows, heights, strict=True)
    )
    held = tuple(
        Held(place(begun), round(place(ended) - place(begun) + _BAR, 1), kind, says)
        for begun, ended, kind, says in _spans(entries, until)
        if ended >= since
    )
    return Course(bars, held, len(rows), sum(rows), whole, since, until)


def left_of(row: RunRow, batches: Sequence[Batch], entries: Entries, now: datetime) -> timedelta | None:
    """Say about how long a run still takes, as fast as it goes; None where its size is unknown, or its speed."""
    if row.total is not None:
        passed = (now - row.moment).total_seconds() if row.moment else 0.0
        return _at(max(0, row.total - (row.done or 0)), (row.done or 0) / passed if passed > 0 else 0.0)
    admitted = next((entry["facts"] for entry in reversed(entries) if entry["kind"] == "admitted"), None)
    if admitted is None or len(batches) < _LEAST or "range" in batches[-1].facts:  # several keep count apart
        return None
    most = {table: rows for table, rows in (admitted.get("most") or {}).items() if rows is not None}
    size = {table: due for table, rows in most.items() if (due := seen(rows)) is not None}
    taken = batches[-1].facts.get("total") or {}
    lately = [batch for batch in batches if now - batch.at <= _LATELY] or batches[-_LEAST:]
    rows = sum(sum(batch.facts["counts"].values()) for batch in lately[1:])
    passed = (now - lately[0].at).total_seconds()
    if not size or passed <= 0:
        return None
    return _at(sum(max(0, due - taken.get(table, 0)) for table, due in size.items()), rows / passed)


def _at(number: int, rate: float) -> timedelta | None:
    return timedelta(seconds=number / rate) if rate > 0 and number / rate < 1e8 else None


def _spans(entries: Entries, until: datetime) -> Iterator[tuple[datetime, datetime, str, str]]:
    """Find the times in which a gauge held the run back: each ends with the next note, or is not over yet."""
    notes = [entry for entry in entries if entry["kind"] in ("throttled", "eased")]
    ends = [*(entry["at"] for entry in notes[1:]), until]
    for entry, end in zip(notes, ends, strict=False):
        facts = entry["facts"]
        if entry["kind"] == "throttled" and facts.get("level") in _HELD:
            kind, word = _HELD[facts["level"]]
            yield entry["at"], max(end, entry["at"]), kind, f"{word}: {facts.get('gauge')}: {facts.get('seen')}"
