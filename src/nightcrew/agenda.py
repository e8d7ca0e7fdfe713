"""When each job is to be looked at again, so that one look at many jobs asks for few of them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush
from threading import Lock

from nightcrew.bid import look_again
from nightcrew.books import Books, Standing
from nightcrew.clock import Clock
from nightcrew.job import Job

_FEW = 100  # so many jobs are looked at with every look: whatever somebody does to their rows is noticed at once
_PATIENCE = timedelta(minutes=1)  # between two looks at a job with a schedule of another version
_WHOLE = 300.0  # seconds between two looks at all of more: for a schedule that another version has changed, say


class Agenda:
    """What is to be looked at when by the database's clock, which it keeps in mind from one look to the next."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._lock = Lock()
        self._at: dict[str, datetime] = {}
        self._meanings: dict[str, str] = {}
        self._queue: list[tuple[datetime, str]] = []
        self._waiting: set[str] = set()
        self._others: set[str] = set()
        self._seen: tuple[datetime, float] | None = None
        self._whole_at = 0.0

    def look(self, jobs: Mapping[str, Job], *, sparing: bool) -> tuple[datetime, dict[str, Standing]]:
        """Read the database's clock, and the standings of these jobs, or `sparing` of those that may have to do."""
        asked = self._asked(jobs) if sparing else None
        now, standings = self._books.standings(jobs) if asked is None else self._books.stirring(asked)
        with self._lock:
            self._seen = now, self._clock.monotonic()
            if asked is None and self._at.keys() <= jobs.keys():
                self._whole_at = self._seen[1] + _WHOLE
        return now, {name: standing for name, standing in standings.items() if name in jobs}

    def heed(self, job: Job, standing: Standing, now: datetime, *, ours: bool, changed: bool) -> None:
        """Look at a job again when it may have to do, or with the next look if its row was `changed` by us.

        Whose schedule in force is not `ours` is looked at from time to time, too: whether anybody has it still.
        """
        (self._others.discard if ours else self._others.add)(job.name)
        known = self._at.get(job.name)
        at_rest = standing.run is None and standing.paused_at is None and standing.stopped_at is None
        if changed or known is None or known <= now or not at_rest or job.schedule.meaning != self._meanings[job.name]:
            self._meanings[job.name] = job.schedule.meaning
            self._note(job.name, now if changed else look_again(job, standing, now), now)

    def claimed(self, job: Job, slot: datetime | None, now: datetime) -> None:
        """Look at a job again when the slot after this one is due."""
        self._note(job.name, job.schedule.after(slot or now), now)

    def quiet(self) -> float:
        """Return for how many seconds nothing becomes due."""
        with self._lock:
            while self._queue and self._at[self._queue[0][1]] != self._queue[0][0]:
                heappop(self._queue)
            if self._seen is None or not self._queue:
                return float("inf")
            return max(0.0, (self._queue[0][0] - self._now(self._seen)).total_seconds())

    def _asked(self, jobs: Mapping[str, Job]) -> list[str] | None:
        """Return which of the jobs are to be looked at now; None for every one."""
        with self._lock:
            if self._seen is None or len(jobs) <= _FEW or self._clock.monotonic() >= self._whole_at:
                return None
            if not jobs.keys() <= self._at.keys():
                return None
            now = self._now(self._seen)
            while self._queue and self._queue[0][0] <= now:
                when, job = heappop(self._queue)
                if self._at[job] == when:
                    self._waiting.add(job)
            return sorted(self._waiting.intersection(jobs))

    def _note(self, job: str, when: datetime, now: datetime) -> None:
        if job in self._others:
            when = min(when, now + _PATIENCE)
        with self._lock:
            if when <= now:
                self._waiting.add(job)
            elif self._at.get(job) != when or job in self._waiting:
                self._waiting.discard(job)
                heappush(self._queue, (when, job))
            self._at[job] = when

    def _now(self, seen: tuple[datetime, float]) -> datetime:
        moment, at = seen
        return moment + timedelta(seconds=self._clock.monotonic() - at)
