"""Heartbeat: renews every lease that a process holds, of claims and of ranges, until none is left."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from nightcrew.books import Books, Distance
from nightcrew.clock import Clock, Lease
from nightcrew.errors import DatabaseError
from nightcrew.ranges import Range, Ranges

_LONGEST_BEAT = 10.0  # seconds that closing waits for a renewal under way


class Heartbeat:
    """One thread that is there as long as anything is held; a claim may be held more than once."""

    def __init__(self, books: Books, ranges: Ranges, clock: Clock, lease: float) -> None:
        self._books = books
        self._ranges = ranges
        self._clock = clock
        self._lease = lease
        self._claims: dict[tuple[str, int], list[Lease]] = {}
        self._taken: dict[str, Range] = {}
        self._distances: dict[str, Distance] = {}
        self._lock = Lock()
        self._beating: Thread | None = None
        self._closing = Event()

    @property
    def held(self) -> list[str]:
        """The jobs that a claim is held of, by name."""
        with self._lock:
            return sorted({job for job, _ in self._claims})

    def hold(self, job: str, fence: int, lease: Lease) -> None:
        """Renew a claim's lease from now on, and let it know."""
        with self._lock:
            if self._beating is None:
                beating = Thread(target=self._beat, name="nightcrew-heartbeat", daemon=True)
                beating.start()
                self._beating = beating
            self._claims.setdefault((job, fence), []).append(lease)

    def release(self, job: str, fence: int, run: str, lease: Lease | None) -> None:
        """Stop renewing a claim's lease, unless it is held once more."""
        with self._lock:
            held = self._claims.get((job, fence), [])
            if lease in held:
                held.remove(lease)
            if not held:
                self._claims.pop((job, fence), None)
            self._distances.pop(run, None)

    def came(self, run: str, distance: Distance) -> None:
        """Let the ledger know how far a run has come when its lease is renewed next."""
        with self._lock:
            self._distances[run] = distance

    @contextmanager
    def keeping(self, taken: Range) -> Iterator[None]:
        """Renew the lease of a range inside the block, in which its run's claim is held."""
        with self._lock:
            self._taken[taken.owner] = taken
        try:
            yield
        finally:
            with self._lock:
                self._taken.pop(taken.owner, None)

    def close(self) -> None:
        """Renew nothing any more: the lease of what is still under way runs out, as if the process had ended."""
        with self._lock:
            self._claims.clear()
            self._taken.clear()
            beating = self._beating
            self._closing.set()
        if beating is not None:
            beating.join(_LONGEST_BEAT)

    def _beat(self) -> None:
        """Renew what is held until nothing is; what was lost is noticed by the next statement of whoever held it."""
        while True:
            self._clock.wait(self._closing, self._lease / 3)
            with self._lock:
                self._closing.clear()
                claims, taken = {key: list(leases) for key, leases in self._claims.items()}, list(self._taken.values())
                distances, self._distances = self._distances, {}
                if not claims:
                    self._beating = None
                    return
            old = [key for key, leases in claims.items() if not all(lease.fresh for lease in leases)]
            asked_at = self._clock.monotonic()
            try:
                for key in self._books.renew_all(old, self._lease) if old else ():
                    for lease in claims[key]:
                        lease.renewed(asked_at)
                if taken:
                    self._ranges.renew_all(taken, self._lease)
                if distances:
                    self._books.came(distances)
            except DatabaseError:
                continue  # the lease outlasts two beats; past that another crew rightly takes over
