"""Looking: the verbs of a crew that tell how its jobs stand, what ran, and who did what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nightcrew.acts import Acts
from nightcrew.books import RunRow
from nightcrew.chronicle import Chronicle
from nightcrew.consent import Filed
from nightcrew.job import Job, coming
from nightcrew.outcome import State
from nightcrew.pausing import Pausing
from nightcrew.rivalry import in_force
from nightcrew.roll import JobStatus


class Looking(Pausing):
    """A crew that may be looked at."""

    def status(self, name: str | None = None) -> list[JobStatus]:
        """Return every job, or one, with its standing, last run and next slot, in the order they were registered."""
        asked = self._jobs if name is None else {name: self.job_named(name)}
        now, standings = self._registered(lambda: self._station.books.standings(asked), looking=True)
        latest = self._station.books.latest(name)
        return [
            JobStatus.of(in_force(own, standings[name]), standings[name], latest.get(name), now)
            for name, own in asked.items()
        ]

    def runs(self, job: str | None = None, *, failed: bool = False, limit: int = 20) -> list[RunRow]:
        """Return the newest runs first, of one job or all."""
        if job is not None:
            self.job_named(job)
        self._station.ready(self._jobs, looking=True)
        return self._station.books.runs(job, [State.FAILED, State.MISSED] if failed else (), limit)

    def entries(self, run: str) -> list[Mapping[str, Any]]:
        """Return the ledger's entries of one run, oldest first."""
        self._station.ready(self._jobs, looking=True)
        return self._station.books.entries(run)

    def reach(self) -> None:
        """Raise DatabaseError where the database is away, or lacks what nightcrew keeps there."""
        self._station.ready(self._jobs, looking=True)
        self._station.books.standings([])

    @property
    def chronicle(self) -> Chronicle:
        """The runs, as pages show them."""
        self._station.ready(self._jobs, looking=True)
        return self._station.chronicle

    @property
    def acts(self) -> Acts:
        """What people did by this crew, or another over the same database, and why."""
        self._station.ready(self._jobs, looking=True)
        return self._station.acts

    def shown(self, plan: str) -> Filed | None:
        """Return a plan that was kept, as it was shown; None for one that nobody knows any more."""
        self._station.ready(self._jobs, looking=True)
        return self._station.consents.plan(plan)

    def next(self, number: int = 10) -> list[tuple[datetime, Job]]:
        """Return the next slots of all jobs, earliest first, by the process's own clock: it needs no database."""
        return coming(self._jobs.values(), self.clock.now(), number)
