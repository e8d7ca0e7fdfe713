"""Forecast: what the runs of a job so far tell of the next one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightcrew.books import Batch, Books, RunRow
from nightcrew.clock import instant
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.throttle import Pace, Throttle

_TIMES, _FEW = 2, 100  # so many times as much is a large change, unless it is of so few rows
_LONG = 1.0  # seconds of a run that tell how it would go on
_PART = 10  # or this part of the rows that are due
_BATCHES = 3  # batches are the least that tell a rate
_LOOKED_AT = 100  # runs, and batches of one, that are looked at, the newest


@dataclass(frozen=True, slots=True)
class Change:
    """A table of which far more rows, or far fewer, are due `now` than a run took `then`."""

    table: str
    now: int
    then: int


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a run went, its rests counted in: rows of all tables, and batches, a second."""

    run: RunRow
    rows: float
    batches: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The `last` run that came to its end, None before the first, and what is far from what it took.

    Of all tables together so many rows are `due`. The `rate` is that of a run at this `pace` that was long enough to go
    by, None where there is none. A batch lasts no more than `longest` seconds, batches take no more than the `share` of
    the time, and the first takes about `first` rows of all tables.
    """

    last: RunRow | None
    changes: tuple[Change, ...]
    due: int
    pace: Pace
    rate: Rate | None
    longest: float
    share: float
    first: int

    @property
    def seconds(self) -> float | None:
        """About how long a run would take; None where nobody knows."""
        return None if self.rate is None else self.due / self.rate.rows

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; figures that are no more than about right have two digits."""
        rate = self.rate
        return {
            "lastRun": self.last and _run(self.last),
            "changes": [{"table": one.table, "now": one.now, "then": one.then} for one in self.changes],
            "pace": str(self.pace),
            "seconds": None if self.seconds is None else rounded(self.seconds),
            "goingBy": rate and rate.run.id,
            "rowsPerSecond": rate and rounded(rate.rows),
            "batchesPerSecond": rate and rounded(rate.batches),
            "batchSeconds": self.longest,
            "shareOfTime": self.share,
        }


def foresee(job: Job, due: Mapping[str, int], dropped: int, throttle: Throttle, books: Books) -> Forecast:
    """Hold the rows that are due, by table, against what the books tell of the runs so far.

    So many of them go with whole partitions, which takes no time to speak of.
    """
    runs = books.runs(job.name, [State.DONE, State.FAILED], _LOOKED_AT)
    # A run that failed may have taken rows all the same, and passed by one that would not go.
    last = next((run for run in runs if run.state is State.DONE or run.deleted), None)
    rows = sum(due.values()) - dropped
    by = _example(rows, runs)
    rate = _rate(by, books.batches(by.id, _LOOKED_AT), job.pace, rows) if by and rows else None
    tempo = throttle.tempo
    return Forecast(last, _changes(due, last), rows, job.pace, rate, tempo.target, tempo.duty, throttle.size)


def _changes(due: Mapping[str, int], last: RunRow | None) -> tuple[Change, ...]:
    if last is None:
        return ()
    changes = (Change(table, due.get(table, 0), last.counts.get(table, 0)) for table in {**due, **last.counts})
    return tuple(change for change in changes if _large(change))


def _example(rows: int, runs: Sequence[RunRow]) -> RunRow | None:
    """Return the run to go by: the newest that took a part of so many rows, else the one that took most."""
    took = [(sum(run.counts.values()), run) for run in runs if run.deleted]
    part = (run for number, run in took if number * _PART >= rows)
    return next(part, max(took, key=lambda one: one[0])[1] if took else None)


def _rate(run: RunRow, batches: Sequence[Batch], pace: Pace, due: int) -> Rate | None:
    """Say how fast a run went, from the end of its first batch to that of its last; None where that tells too little.

    A partition tells nothing of rows, and what lies between two processes nothing of either.
    """
    swept = [batch for batch in batches if batch.facts.get("pace") == pace]
    swept = [batch for batch in swept if batch.facts["fence"] == swept[-1].facts["fence"]]
    rows = sum(sum(batch.facts["counts"].values()) for batch in swept[1:])
    seconds = (swept[-1].at - swept[0].at).total_seconds() if swept else 0.0
    if len(swept) < _BATCHES or min(rows, seconds) <= 0 or (seconds < _LONG and rows * _PART < due):
        return None
    return Rate(run, rows / seconds, (len(swept) - 1) / seconds)


def rounded(figure: float) -> float:
    """Round to two digits; what has more of them before the point stays whole."""
    two = float(f"{figure:.2g}")
    return int(two) if two >= 10 else two


def _large(change: Change) -> bool:
    fewer, more = sorted((change.now, change.then))
    return more > _TIMES * fewer and more - fewer > _FEW


def _run(run: RunRow) -> dict[str, Any]:
    started = None if run.moment is None else instant(run.moment)
    return {"runId": run.id, "startedAt": started, "rows": run.deleted, "counts": dict(run.counts)}
