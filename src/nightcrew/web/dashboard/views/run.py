"""Run: how one run stands, how far it is, what its batches took, what held it back, and what was said on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nightcrew.archives.kept import Kept
from nightcrew.books import Batch, RunRow, Standing
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.portrait import late
from nightcrew.report import one_line
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.views.course import Course, Entries, course, left_of
from nightcrew.web.dashboard.views.marks import Mark, mark

_MOST = 240  # batches that are drawn
_LONGEST = 300  # letters of what an entry of the ledger says


@dataclass(frozen=True, slots=True)
class Remark:
    """What the ledger has of a run beside its batches."""

    at: datetime
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Running:
    """One run; about so much is still `left` for it, as fast as it goes, and gauges have `held` it back for so long."""

    row: RunRow
    job: Job | None
    mark: Mark
    took: timedelta | None
    late: str
    counts: Mapping[str, int]
    course: Course | None
    left: timedelta | None
    held: Mapping[str, timedelta]
    remarks: Sequence[Remark]
    standing: Standing | None
    kept: Kept | None

    @property
    def cancelled(self) -> bool:
        """Whether it is to end, and has not yet."""
        standing = self.standing
        return self.row.state.open and standing is not None and standing.cancelled and standing.run == self.row.id

    @property
    def waited(self) -> timedelta:
        """How long gauges have held it back in all."""
        return sum(self.held.values(), timedelta(0))


def running(crew: Crew, run: str) -> Running | None:
    """Read one run; None for one that nobody knows."""
    chronicle, now = crew.chronicle, crew.clock.now()
    row = chronicle.run(run)
    if row is None:
        return None
    job, entries = crew.jobs.get(row.job), chronicle.remarks(run)
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
        course=course(batches, entries, until or batches[-1].at, whole=len(batches) < _MOST) if batches else None,
        left=left_of(row, batches, entries, now) if row.state is State.RUNNING else None,
        held=_held(entries),
        remarks=[_remark(entry) for entry in entries],
        standing=standing,
        kept=crew.archive_of(run) if crew.archive else None,
    )


def _total(batches: Sequence[Batch]) -> Mapping[str, int]:
    """Return what an open run has taken so far, as its newest batch has it: its own row says so when it ends."""
    total = batches[-1].facts.get("total") if batches else None
    return total if isinstance(total, dict) else {}


def _held(entries: Entries) -> Mapping[str, timedelta]:
    """Add up by gauge how long a run was held back, the one that did so longest first."""
    seconds: Counter[str] = Counter()
    for entry in entries:
        if entry["kind"] == "waited":
            seconds.update(entry["facts"].get("by") or {})
    return {gauge: timedelta(seconds=held) for gauge, held in seconds.most_common()}


def _remark(entry: Mapping[str, Any]) -> Remark:
    facts = entry["facts"] if isinstance(entry["facts"], dict) else {}
    says = facts.get("sentence") or _spoken({name: fact for name, fact in facts.items() if name != "label"})
    said = one_line(str(says))
    return Remark(entry["at"], str(entry["kind"]).replace("_", " "), said[:_LONGEST] + "…" * (len(said) > _LONGEST))


def _spoken(facts: Mapping[str, Any]) -> str:
    """Write facts, and those within them, one after the other."""
    told = {name: _spoken(fact) if isinstance(fact, dict) else fact for name, fact in facts.items()}
    return ", ".join(f"{name} {fact}" for name, fact in told.items() if fact not in (None, ""))
