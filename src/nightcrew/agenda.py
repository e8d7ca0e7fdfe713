"""When each job is to be looked at again, so that one look at many jobs asks for few of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from threading import Lock

from nightcrew.bid import look_again
from nightcrew.books import Books, Standing
from nightcrew.clock import Clock
from nightcrew.job import Job

_FEW = 100  # so many jobs are looked at with every look: whatever somebody does to their rows is noticed at once
_PATIENCE = timedelta(minutes=1)  # between two looks at a job with a schedule of another version
_BEHIND = timedelta(seconds=0.5)  # until a job is looked at again that is behind: most runs are over by then
_BACKLOG = 300  # jobs that are asked for at a time of those that were found to be due and left
_WHOLE = 300.0  # seconds between two looks at all of more: for a schedule that another version has changed, say
_LONGEST_LEAD = 0.25  # seconds before an instant in which all that is due then has been looked at, at most
_READINGS = 5  # of the database's clock that are kept in mind: the one whose answer came at once tells most
_WOKEN = 0.001  # seconds that what is read of the clock may lag behind when a rest is over
_SLEW = 0.0005  # of a second that a clock which is being set right may lose in a second, against another


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
        self._left: list[str] = []
        self._readings: deque[tuple[datetime, float]] = deque(maxlen=_READINGS)
        self._whole_at = self._begun = self._lead = 0.0

    def look(
        self, jobs: Mapping[str, Job], *, sparing: bool, ahead: bool
    ) -> tuple[datetime, datetime, dict[str, Standing]]:
        """Read the database's clock, and the standings of these jobs, or `sparing` of those that may have to do.

        Also returns the moment that the look is for: now, or, `ahead` of it, when something will be due in an instant.
        """
        self._begun = self._clock.monotonic()
        coming = self._coming() if ahead else None
        asked = self._asked(jobs, coming) if sparing else None
        if asked is None:
            now, standings = self._books.standings(jobs)
            heard_at = self._clock.monotonic()
        else:
            now, heard_at, standings = self._books.stirring(asked)
        with self._lock:
            self._heard(now, heard_at)
            if asked is None and self._at.keys() <= jobs.keys():
                self._whole_at = heard_at + _WHOLE
        moment = now if coming is None else max(now, coming)
        return now, moment, {name: standing for name, standing in standings.items() if name in jobs}

    def until(self, moment: datetime) -> float:
        """Return the seconds to wait, after a look ahead, for its moment; and learn how long before to begin it."""
        with self._lock:
            took = self._clock.monotonic() - self._begun
            self._lead = min(max(2 * took, 0.9 * self._lead), _LONGEST_LEAD)
            return (moment - self._now()).total_seconds()

    def heed(self, job: Job, standing: Standing, now: datetime, *, ours: bool, soon: bool) -> None:
        """Look at a job again when it may have to do, or with the next look: `soon`, if its row has changed, say.

        Whose schedule in force is not `ours` is looked at from time to time, too: whether anybody has it still.
        """
        (self._others.discard if ours else self._others.add)(job.name)
        known = self._at.get(job.name)
        if soon and known is not None and known <= now and job.name in self._waiting:
            return
        at_rest = standing.run is None and standing.paused_at is None and standing.stopped_at is None
        if soon or known is None or known <= now or not at_rest or job.schedule.meaning != self._meanings[job.name]:
            self._meanings[job.name] = job.schedule.meaning
            self._note(job.name, now if soon else look_again(job, standing, now), now)

    def leave(self, jobs: Sequence[str]) -> None:
        """Look soon at jobs that have to do, and were left for want of hands; the first of them first."""
        with self._lock:
            self._left[:0] = jobs

    def claimed(self, job: Job, slot: datetime | None, now: datetime) -> None:
        """Look at a job again when the slot after this one is due, or in an instant where it is behind."""
        self._note(job.name, max(job.schedule.after(slot or now), now + _BEHIND), now)

    def quiet(self) -> float:
        """Return for how many seconds nothing need be looked at: until shortly before something is due."""
        with self._lock:
            if self._left:
                return 0.0
            first = self._first()
            if first is None or not self._readings:
                return float("inf")
            return max(0.0, (first - self._now()).total_seconds() - self._lead)

    def _first(self) -> datetime | None:
        """Return when something is due first, of what is not waited for by now."""
        while self._queue and self._at[self._queue[0][1]] != self._queue[0][0]:
            heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _coming(self) -> datetime | None:
        """Return when something is due first, if that is in an instant and nothing was left that is due by now."""
        with self._lock:
            first = self._first()
            if first is None or not self._readings or self._left:
                return None
            return first if first <= self._now() + timedelta(seconds=self._lead + _WOKEN) else None

    def _heard(self, now: datetime, at: float) -> None:
        """Note what the database's clock read before an answer came, at a monotonic instant; it may have been set."""
        latest = now + timedelta(seconds=at - self._begun)
        if self._readings and self._now(at) > latest:
            self._readings.clear()
        self._readings.append((now, at))

    def _asked(self, jobs: Mapping[str, Job], coming: datetime | None) -> list[str] | None:
        """Return which of the jobs are to be looked at now, for what is due by then; None for every one."""
        with self._lock:
            some, self._left = self._left[:_BACKLOG], self._left[_BACKLOG:]
            in_parts = self._readings and len(jobs) > _FEW and self._clock.monotonic() < self._whole_at
            if not in_parts or not jobs.keys() <= self._at.keys():
                self._left.clear()
                return None
            due = self._due(coming or self._now())
            self._waiting |= due
            # What waits for something else, a person perhaps, waits until those that were left are begun with.
            return sorted((due.union(some) if some else self._waiting).intersection(jobs))

    def _due(self, now: datetime) -> set[str]:
        """Take from the queue what was to be looked at by now."""
        due = set()
        while self._queue and self._queue[0][0] <= now:
            when, job = heappop(self._queue)
            if self._at[job] == when:
                due.add(job)
        return due

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

    def _now(self, at: float | None = None) -> datetime:
        """Return what the database's clock reads at least, by now or at a monotonic instant."""
        at = self._clock.monotonic() if at is None else at
        return max(read + timedelta(seconds=(1 - _SLEW) * (at - then)) for read, then in self._readings)
