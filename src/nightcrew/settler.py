"""Settler: runs that are done are settled a moment later, together with others."""

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import TypeAlias

from nightcrew.books import Books, RunRow, Settled
from nightcrew.claim import Claim
from nightcrew.clock import Clock

Settle: TypeAlias = Callable[[], Settled | None]
"""Settles a run, or says how it was; None when a newer fence exists."""

_MOMENT = 0.02  # seconds: once none has ended for as long, those that have are settled; their leases are renewed
_MOMENTS = 10  # of them at most, for whoever is still at work comes first: it takes the processor's time from others
_NEW = 1.0  # seconds in which a claim need not be asked about again: somebody may have paused its job meanwhile
_KNOWN = 10.0  # seconds in which the database is taken for the one that it was


class Settler:
    """A thread that is there as long as there is something to settle, in one transaction for all of it."""

    def __init__(self, books: Books, clock: Clock, lost: Callable[[BaseException], object]) -> None:
        self._books = books
        self._clock = clock
        self._lost = lost
        self._lock = Lock()
        self._ended: list[tuple[int, RunRow, Callable[[Settle], object], Settle]] = []
        self._thread: Thread | None = None
        self._known_until = float("-inf")

    def trusts(self, claim: Claim) -> bool:
        """Whether work may begin without a look at the place, and at the claim, of a function and won a moment ago."""
        new = claim.lease is not None and claim.lease.age < _NEW and not claim.resumed
        return new and claim.job.policy is None and self._clock.monotonic() < self._known_until

    def settle(
        self, fence: int, row: RunRow, then: Callable[[Settle], object], alone: Settle, looked_at: float | None
    ) -> None:
        """Settle a run that is done, with others or, where that fails, `alone`; and go on with `then`.

        If it looked at the place, at a monotonic instant, that was the one it had been.
        """
        with self._lock:
            if looked_at is not None:
                self._known_until = max(self._known_until, looked_at + _KNOWN)
            self._ended.append((fence, row, then, alone))
            if self._thread is not None:
                return
            thread = Thread(target=self._work, name="nightcrew-settler", daemon=True)
            with suppress(RuntimeError, MemoryError):  # the process has as many threads as it may
                thread.start()
                self._thread = thread
                return
        self._settle()

    def close(self) -> None:
        """Return once everything is settled."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            self._gather()
            with self._lock:
                if not self._ended:
                    self._thread = None
                    return
            self._settle()

    def _gather(self) -> None:
        seen = 0
        for _ in range(_MOMENTS):
            self._clock.wait(Event(), _MOMENT)
            with self._lock:
                before, seen = seen, len(self._ended)
            if seen == before:
                return

    def _settle(self) -> None:
        """Settle what has ended by now."""
        with self._lock:
            ended, self._ended = self._ended, []
        done = self._done([(fence, row) for fence, row, _, _ in ended])
        for fence, row, then, alone in ended:
            try:
                then(alone if done is None else Settled if (row.job, fence) in done else _superseded)
            except BaseException as error:  # noqa: BLE001 - whatever one runs into, the next is not to blame
                self._lost(error)

    def _done(self, ended: list[tuple[int, RunRow]]) -> set[tuple[str, int]] | None:
        try:
            return self._books.settle_done(ended)
        except Exception:  # noqa: BLE001 - one that no database takes must not keep the others from being settled
            return None


def _superseded() -> None:
    return None
