"""Plan: what a run would do, as it was shown to somebody, and what it would be refused for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightcrew.consent import LASTS, Filed
from nightcrew.job import Job
from nightcrew.web.dashboard.crew import Crew

_STATEMENT = re.compile(r"[ :]+(?=CREATE INDEX|ANALYZE )")


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one table; the job's own is the `first`."""

    table: str
    rows: int
    how: str
    index: str | None
    first: bool
    last: int | None
    span: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, and the statement that would help."""

    says: str
    statement: str | None


@dataclass(frozen=True, slots=True)
class Prospect:
    """A plan that was kept; `valid` says whether it can still be run."""

    filed: Filed
    job: Job | None
    exact: bool
    rows: int
    steps: Sequence[Step]
    refusals: Sequence[str]
    warnings: Sequence[Warned]
    held: Sequence[str]
    until: datetime
    valid: bool


def prospect(crew: Crew, plan: str) -> Prospect | None:
    """Read a plan that was kept; None for one that nobody knows any more."""
    filed = crew.shown(plan)
    if filed is None:
        return None
    said, job, until = filed.shown or {}, crew.jobs.get(filed.job), filed.moment + LASTS
    steps = [_step(step, said) for step in said.get("steps", ())]
    return Prospect(
        filed=filed,
        job=job,
        exact=bool(said.get("exact", True)),
        rows=int(said.get("rows", sum(number or 0 for number in filed.counts.values()))),
        steps=sorted(steps, key=lambda step: not step.first),
        refusals=tuple(said.get("refusals", ())),
        warnings=tuple(_warned(sentence) for sentence in said.get("warnings", ())),
        held=tuple(said.get("held", ())),
        until=until,
        valid=job is not None and job.enabled and filed.run is None and crew.clock.now() < until,
    )


def _step(step: Mapping[str, Any], said: Mapping[str, Any]) -> Step:
    last = ((said.get("forecast") or {}).get("last") or {}).get("counts")
    oldest, newest = step.get("oldest"), step.get("newest")
    return Step(
        table=str(step["table"]),
        rows=int(step["rows"]),
        how=str(step["how"]),
        index=step.get("index") or ("none" if step.get("createIndex") else None),
        first=step.get("form") is not None,
        last=int(last.get(step["table"], 0)) if isinstance(last, dict) else None,
        span=f"{oldest} to {newest}" if oldest is not None and newest is not None else None,
        note=step.get("owed") or step.get("note"),
    )


def _warned(sentence: str) -> Warned:
    """Put a statement apart, so that it can be copied."""
    words, *statement = _STATEMENT.split(sentence, maxsplit=1)
    return Warned(words, statement[0] if statement else None)
