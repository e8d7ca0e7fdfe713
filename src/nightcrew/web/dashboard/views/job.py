"""Job: what is said of one job, when it is due, what starts it, what it did, and what it failed of."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nightcrew.books import RunRow
from nightcrew.chronicle import PAGE, Place, Starter
from nightcrew.errors import UnknownJob
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.portrait import facts
from nightcrew.roll import JobStatus
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.views.marks import NEVER, Mark, standing_of
from nightcrew.web.dashboard.views.strip import LENGTH, Strip, strip
from nightcrew.web.dashboard.views.tonight import Coming, coming

TROUBLE = (State.FAILED, State.MISSED)
_SLOTS = 5
_NUMBER = re.compile(r"\d[\d,.:TZ-]*")


@dataclass(frozen=True, slots=True)
class Group:
    """Failures that say the same but for their numbers; `run` is the newest of them."""

    says: str
    number: int
    last: datetime | None
    run: str


@dataclass(frozen=True, slots=True)
class Portrait:
    """One job; of one whose code was removed there is a history, and nothing else."""

    name: str
    job: Job | None
    status: JobStatus | None
    stands: Mark
    coming: Coming
    facts: dict[str, str]
    slots: Sequence[datetime]
    starters: Sequence[Starter]
    groups: Sequence[Group]
    strip: Strip
    rows: Sequence[RunRow]
    trouble: bool
    later: bool
    after: Place | None


def portrait(crew: Crew, name: str, *, trouble: bool = False, before: Place | None = None) -> Portrait:
    """Read one job, with a page of its runs, only those that failed or were missed where that is asked for.

    Raises UnknownJob for a name that neither the crew has nor a run.
    """
    chronicle, now, job = crew.chronicle, crew.clock.now(), crew.jobs.get(name)
    rows = chronicle.page(name, TROUBLE if trouble else (), before)
    if job is None and not chronicle.page(name):
        crew.job_named(name)
        raise UnknownJob(f"no job is called {name[:120]!r}")
    status = crew.status(name)[0] if job else None
    due = coming(status) if status else Coming(None, "gone")
    said = facts(job, "") if job else {}
    return Portrait(
        name=name,
        job=job,
        status=status,
        stands=standing_of(status) if status else NEVER,
        coming=due,
        facts={key: fact for key, fact in said.items() if key not in ("does", "when")},
        slots=_slots(status, now) if status else (),
        starters=chronicle.starters(name),
        groups=grouped(chronicle.failures(name)),
        strip=strip(chronicle.strips([name], LENGTH).get(name, ()), now),
        rows=rows[:PAGE],
        trouble=trouble,
        later=before is not None,
        after=_place(rows[PAGE - 1]) if len(rows) > PAGE else None,
    )


def grouped(rows: Sequence[RunRow]) -> list[Group]:
    """Put failures together that say the same but for their numbers, those that came most often first."""
    alike: dict[str, list[RunRow]] = defaultdict(list)
    for row in rows:
        alike[_NUMBER.sub("#", cause(row))].append(row)
    groups = [Group(cause(same[0]), len(same), same[0].moment, same[0].id) for same in alike.values()]
    return sorted(groups, key=lambda group: -group.number)


def cause(row: RunRow) -> str:
    """Return what a run says, without what its mark and its job's name say already."""
    said = row.reason or ""
    return said.removeprefix(f"Job {row.job} ").removeprefix("failed: ").removeprefix("was refused: ")


def _slots(status: JobStatus, now: datetime) -> list[datetime]:
    slots, slot = list[datetime](), now
    for _ in range(_SLOTS if status.next_slot else 0):
        slot = status.job.schedule.after(slot)
        slots.append(slot)
    return slots


def _place(row: RunRow) -> Place | None:
    return Place(row.moment, row.id) if row.moment else None
