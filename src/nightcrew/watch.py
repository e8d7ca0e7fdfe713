"""Watch: reads gauges beside the sweeps that ask for them, each in a thread of its own."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TypeAlias

from nightcrew.clock import Clock
from nightcrew.gauge import LONGEST, PERIOD, Gauge, Source, unreadable, worst
from nightcrew.job import Job

Look: TypeAlias = Callable[[], Gauge]


class Watch:
    """The gauges of one process; `sources` says which ones a job's sweep heeds."""

    def __init__(self, clock: Clock, sources: Callable[[Job], Iterable[Source]]) -> None:
        self._clock = clock
        self._sources = sources
        self._posts: dict[Source, _Post] = {}
        self._lock = Lock()

    @contextmanager
    def over(self, job: Job) -> Iterator[Look]:
        """Read the job's gauges as long as the block lasts; what it is given returns the worst of them at once."""
        with self._lock:
            posts = [self._posts.setdefault(source, _Post(source, self._clock)) for source in self._sources(job)]
        for post in posts:
            post.join()
        try:
            for post in posts:
                post.await_first()
            yield lambda: worst(post.gauge for post in posts)
        finally:
            for post in posts:
                post.leave()


class _Post:
    """One source: its newest reading, and the thread that reads it while somebody is there."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = Lock()
        self._there = 0
        self._nobody, self._read = Event(), Event()
        self._thread: Thread | None = None
        self._gauge: Gauge | None = None
        self._at = 0.0

    @property
    def gauge(self) -> Gauge:
        """The newest reading; one that is overdue counts as one that failed."""
        with self._lock:
            gauge, age = self._gauge, self._clock.monotonic() - self._at
        if age > PERIOD + LONGEST or (gauge is None and not self._source.patient):
            return unreadable(self._source.name, f"no answer for {age:.1f} s")
        return gauge or Gauge(self._source.name, seen="not read yet")

    def join(self) -> None:
        """Begin to read, unless somebody has."""
        with self._lock:
            self._there += 1
            self._nobody.clear()
            if self._thread is None:
                self._gauge, self._at = None, self._clock.monotonic()
                self._read.clear()
                self._thread = Thread(target=self._look, name="nightcrew-gauge", daemon=True)
                self._thread.start()

    def await_first(self) -> None:
        """Wait until there is a reading, but not for long."""
        if not self._source.patient:
            self._clock.wait(self._read, LONGEST)

    def leave(self) -> None:
        """Stop reading once nobody is left."""
        with self._lock:
            self._there -= 1
            if not self._there:
                self._nobody.set()

    def _look(self) -> None:
        if self._source.patient:
            self._clock.wait(self._nobody, PERIOD)  # most sweeps are over by then
        while not self._gone():
            gauge = self._reading()
            with self._lock:
                self._gauge, self._at = gauge, self._clock.monotonic()
            self._read.set()
            self._clock.wait(self._nobody, PERIOD)

    def _gone(self) -> bool:
        with self._lock:
            if not self._there:
                self._thread = None
            return not self._there

    def _reading(self) -> Gauge:
        try:
            return self._source.read()
        except Exception as error:  # noqa: BLE001 - whatever a look trips over, nobody knows that all is well
            return unreadable(self._source.name, str(error) or type(error).__name__)
