"""Vault: what can still be put back, run by run; and what an undo of one would do, or has done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nightcrew.archives.kept import Kept
from nightcrew.archives.undo import REASONS
from nightcrew.archives.undone import Undo
from nightcrew.books import RunRow
from nightcrew.job import Job
from nightcrew.policy import Action
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.views.marks import Mark

PAGE = 25


@dataclass(frozen=True, slots=True)
class Vault:
    """A page of what is kept; `archiving` are the jobs that archive, and for how long, `bare` those that do not."""

    store: str | None
    archives: Sequence[Kept]
    later: bool
    after: int | None
    archiving: Mapping[str, timedelta]
    bare: Sequence[str]
    doubts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Undone:
    """An undo that was carried out: by whom, how many rows came back, and how many did not."""

    at: datetime
    by: str
    rows: int
    left: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Archived:
    """What is kept of one run; `kept` is None where all of it was cleared away."""

    run: str
    name: str
    row: RunRow | None
    job: Job | None
    kept: Kept | None
    before: Sequence[Undone]
    paused: bool

    @property
    def open(self) -> bool:
        """Whether there is anything left that an undo may put back, as far as the database tells."""
        kept = self.kept
        return kept is not None and not kept.gone and (kept.restored < kept.frames or kept.left > 0)

    @property
    def under_way(self) -> bool:
        """Whether the run itself is not over yet, so that nothing of it can be put back."""
        return self.row is not None and self.row.state.open


@dataclass(frozen=True, slots=True)
class Reason:
    """Why so many rows of a table are left where they are, and some of these by their keys."""

    table: str
    rows: int
    says: str


def vault(crew: Crew, before: int | None = None) -> Vault:
    """Read a page of what is kept."""
    found = crew.archived(before=before, limit=PAGE + 1)
    removing = {name: job.policy for name, job in crew.jobs.items() if job.policy and job.enabled}
    deleting = {name: policy.archive for name, policy in removing.items() if policy.action is Action.DELETE}
    return Vault(
        store=crew.archive,
        archives=found[:PAGE],
        later=before is not None,
        after=found[PAGE - 1].place if len(found) > PAGE else None,
        archiving={name: kept for name, kept in deleting.items() if kept is not None},
        bare=[name for name, kept in deleting.items() if kept is None],
        doubts=crew.archive_doubts(),
    )


def archived(crew: Crew, run: str) -> Archived | None:
    """Read what is kept of one run; None for one that neither the archive nor the ledger knows."""
    kept, row = crew.archive_of(run), crew.chronicle.run(run)
    if kept is None and row is None:
        return None
    name = kept.job if kept else row.job if row else ""
    told = [entry for entry in crew.chronicle.remarks(run) if entry["kind"] == "undone"] if row else []
    job = crew.jobs.get(name)
    paused = job is not None and crew.status(name)[0].paused
    return Archived(run, name, row, job, kept, [_undone(entry) for entry in reversed(told)], paused)


def shelf_mark(kept: Kept) -> Mark:
    """Say how it stands with what is kept of a run."""
    if kept.restored == kept.frames:
        return Mark("part", "◐", "put back in part") if kept.left else Mark("good", "✓", "put back")
    if kept.gone:
        return Mark("quiet", "∅", "time over")
    if kept.restored:
        return Mark("part", "◐", "put back in part")
    return Mark("kept", "▣", "kept")


def reasons(found: Undo) -> list[Reason]:
    """Say why rows do not come back, table by table."""
    return [
        Reason(table, rows, REASONS[reason])
        for table, tally in found.tables.items()
        for reason, rows in tally.conflicts.items()
    ]


def _undone(entry: Mapping[str, Any]) -> Undone:
    facts = entry["facts"]
    return Undone(entry["at"], str(facts.get("by")), int(facts["rows"]), int(facts["left"]), bool(facts.get("stopped")))
