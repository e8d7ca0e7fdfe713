"""Forecast: what the runs of a job so far tell of the next one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightcrew.books import RunRow
from nightcrew.clock import instant

_TIMES, _FEW = 2, 100  # so many times as much is a large change, unless it is of so few rows


@dataclass(frozen=True, slots=True)
class Change:
    """A table of which far more rows, or far fewer, are due `now` than a run took `then`."""

    table: str
    now: int
    then: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The `last` run that came to its end, None before the first, and what is far from what it took."""

    last: RunRow | None = None
    changes: tuple[Change, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        changes = [{"table": change.table, "now": change.now, "then": change.then} for change in self.changes]
        return {"lastRun": self.last and _run(self.last), "changes": changes}


def compare(due: Mapping[str, int], runs: Sequence[RunRow]) -> Forecast:
    """Hold the rows that are due, by table, against the newest of these runs (newest first) that took what it could.

    A run that failed may have taken rows all the same, and passed by one that would not go.
    """
    last = next((run for run in runs if run.error is None or run.deleted), None)
    if last is None:
        return Forecast()
    changes = (Change(table, due.get(table, 0), last.counts.get(table, 0)) for table in {**due, **last.counts})
    return Forecast(last, tuple(change for change in changes if _large(change)))


def _large(change: Change) -> bool:
    fewer, more = sorted((change.now, change.then))
    return more > _TIMES * fewer and more - fewer > _FEW


def _run(run: RunRow) -> dict[str, Any]:
    started = None if run.moment is None else instant(run.moment)
    return {"runId": run.id, "startedAt": started, "rows": run.deleted, "counts": dict(run.counts)}
