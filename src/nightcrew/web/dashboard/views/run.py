"""Run: how one run stands, what its batches took, and what was said on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log1p
from typing import Any

from nightcrew.archives.kept import Kept
from nightcrew.books import Batch, RunRow, Standing
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.portrait import late
from nightcrew.report import one_line
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.views.marks import Mark, mark
from nightcrew.web.dashboard.views.strip import Bar

_MOST = 240  # batches that are drawn
_HEIGHT = 60.0
_LONGEST = 300  # letters of what an entry of the ledger says


@dataclass(frozen=True, slots=True)
class Remark:
    """What the ledger has of a run beside its batches."""

    at: datetime
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Course:
    """A run's batches: so many rows in each of the newest, and in all so far."""

    bars: tuple[Bar, ...]
    number: int
    rows: int
    whole: bool

    @property
    def width(self) -> int:
        """How wide the drawing is, in its own units."""
        return max(len(self.bars), 24) * 6


@dataclass(frozen=True, slots=True)
class Running:
    """One run; `cancelled` says that it is to end, and has not yet."""

    row: RunRow
    job: Job | None
    mark: Mark
    took: timedelta | None
    late: str
    counts: Mapping[str, int]
    course: Course | None
    remarks: Sequence[Remark]
    standing: Standing | None
    kept: Kept | None

    @property
    def cancelled(self) -> bool:
        """Whether it is to end, and has not yet."""
        standing = self.standing
        return self.row.state.open and standing is not None and standing.cancelled and standing.run == self.row.id


def running(crew: Crew, run: str) -> Running | None:
    """Read one run; None for one that nobody knows."""
    chronicle, now = crew.chronicle, crew.clock.now()
    row = chronicle.run(run)
    if row is None:
        return None
    job = crew.jobs.get(row.job)
    batches = chronicle.batches(run, _MOST)
    until = row.finished_at or (now if row.state is State.RUNNING else None)
    standing = crew.status(row.job)[0].standing if job and row.state.open else None
    return Running(
        row=row,
        job=job,
        mark=mark(row),
        took=until - row.moment if until and row.moment else None,
        late=late(row, job) if job else "",
        counts=row.counts or (_total(batches) if row.state.open else {}),
        course=_course(batches) if batches else None,
        remarks=[_remark(entry) for entry in chronicle.remarks(run)],
        standing=standing,
        kept=crew.archive_of(run) if crew.archive else None,
    )


def _total(batches: Sequence[Batch]) -> Mapping[str, int]:
    """Return what an open run has taken so far, as its newest batch has it: its own row says so when it ends."""
    total = batches[-1].facts.get("total") if batches else None
    return total if isinstance(total, dict) else {}


def _course(batches: Sequence[Batch]) -> Course:
    rows = [max(0, int(batch.facts.get("rows") or 0)) for batch in batches]
    top = log1p(max(rows)) or 1.0
    heights = [round(3 + (_HEIGHT - 3) * log1p(number) / top, 1) for number in rows]
    bars = tuple(
        Bar(6 * place, round(_HEIGHT - height, 1), height, "busy", f"{number:,} rows")
        for place, (number, height) in enumerate(zip(rows, heights, strict=True))
    )
    return Course(bars, len(rows), sum(rows), len(rows) < _MOST)


def _remark(entry: Mapping[str, Any]) -> Remark:
    facts = entry["facts"] if isinstance(entry["facts"], dict) else {}
    says = facts.get("sentence") or ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    said = one_line(str(says))
    return Remark(entry["at"], str(entry["kind"]).replace("_", " "), said[:_LONGEST] + "…" * (len(said) > _LONGEST))
