"""Pausing: the verbs of a crew by which a person keeps jobs from running, or ends a run."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from nightcrew import ending
from nightcrew.acts import Act
from nightcrew.books import RunRow
from nightcrew.clock import instant
from nightcrew.erasing import Erasing
from nightcrew.errors import RowLost, UsageError
from nightcrew.trigger import check_until

_R = TypeVar("_R")


class Pausing(Erasing):
    """A crew whose jobs can be paused, one by one or all at once, and whose runs can be cancelled."""

    def pause(self, name: str, *, by: str, reason: str, until: datetime | None = None) -> None:
        """Keep every trigger from running a job, until it is resumed or `until` (aware) has passed."""
        job = self.job_named(name)
        check_until(name, until)
        now, _ = self._registered(lambda: self._station.books.standings([name]))
        if until is not None and until <= now:
            raise UsageError(f"until {instant(until)} is past: name a time that is still to come")
        self._station.acts.keep(Act(by, "pause", job.name, reason=reason))
        self._station.books.pause(job.name, by, reason, until)
        self.tell("paused", job=name, label=job.label, by=by, reason=reason)

    def resume(self, name: str, *, by: str = "unknown", reason: str | None = None) -> None:
        """Let triggers run a job again; the slots of the pause end as skipped, with its reason."""
        job = self.job_named(name)
        self._station.ready(self._jobs)
        self._station.acts.keep(Act(by, "resume", job.name, reason=reason))
        for _ in range(5):
            now, found = self._registered(lambda: self._station.books.standings([name]))
            if found[name].paused_at is None or self._station.claims.end_pause(job, found[name], now, waits=True):
                break
        self.tell("resumed", job=name, label=job.label)

    def cancel(self, run: str, *, by: str, reason: str = "") -> RunRow:
        """End an open run for good after the batch it is in, wherever it is; return it as it stands.

        What it has done stays done, its slot is over, and nobody goes on with it. A function hears of it by
        `run.should_stop`. Raises UsageError for a run that nobody knows, or that is over.
        """
        self._station.ready(self._jobs, looking=True)
        row = self._station.books.run(run)
        if row is None:
            raise UsageError(f"there is no run {run[:150]!r}: 'nightcrew runs' lists them")
        job = self._jobs.get(row.job)
        if row.state.open:
            self._station.acts.keep(Act(by, "cancel", row.job, row.id, reason=reason or None))
        row = ending.cancel(self._station.books, job, row, by, reason)
        whose = {"job": row.job, "label": job.label if job else row.job, "run": run}
        self.tell("cancelled", **whose, by=by, reason=reason or "no reason given")
        return row

    def stop_all(self, *, by: str, reason: str) -> None:
        """Stop every sweep after the batch it is in, and keep every trigger from starting another."""
        self._station.ready(self._jobs, looking=True)
        self._station.consents.stop(by, reason)  # before all else: whoever stops everything has a reason to
        self._station.acts.keep(Act(by, "stop all", reason=reason))
        self.tell("stopped", by=by, reason=reason)

    def resume_all(self, *, by: str = "unknown", reason: str | None = None) -> None:
        """End a stop of all; the slots that it kept from running end as skipped, with its reason."""
        now, standings = self._registered(lambda: self._station.books.standings(self._jobs), looking=True)
        self._station.acts.keep(Act(by, "resume all", reason=reason))
        for name, job in self._jobs.items():
            if standings[name].stopped_at is not None:
                self._station.claims.end_stop(job, standings[name], now)
        self._station.consents.release()
        self.tell("released")

    def _registered(self, act: Callable[[], _R], *, looking: bool = False) -> _R:
        """Do what needs the row of every job; one that somebody has deleted under us is made anew, and told of."""
        self._station.ready(self._jobs, looking=looking)
        try:
            return act()
        except RowLost as lost:
            self.tell("row_lost", jobs=", ".join(lost.jobs))
            self._station.forget(lost.jobs)
        self._station.ready(self._jobs, looking=looking)
        return act()
