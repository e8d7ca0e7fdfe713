"""Settler: runs that are done are settled a moment later, together with others."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TypeAlias

from nightcrew.books import Books, Finished, Settled
from nightcrew.claim import Claim
from nightcrew.clock import Clock
from nightcrew.errors import DatabaseError

Settle: TypeAlias = Callable[[], Settled | None]
"""Settles a run, or says how it was; None when a newer fence exists."""

Then: TypeAlias = Callable[[Settle | None], object]
"""Goes on with a run that was settled as is said, or (None) settles it alone."""

_MOMENT = 0.02  # seconds: once none has ended for as long, those that have are settled; their leases are renewed
_MOMENTS = 10  # of them at most, for whoever is still at work comes first: it takes the processor's time from others
_AWAY = 0.5  # seconds between two tries while the database is away
_NEW = 1.0  # seconds in which a claim need not be asked about again: somebody may have paused its job meanwhile
_DONE = Settled()  # as nearly every run is
_KNOWN = 10.0  # seconds in which the database is taken for the one that it was


@dataclass(slots=True, eq=False)
class _Ended:
    """A run that is done: what is to be said of it, and what comes `then`."""

    claim: Claim
    said: Finished
    then: Then

    @property
    def overdue(self) -> bool:
        """Whether somebody else may go on with it by now."""
        return self.claim.lease is None or self.claim.lease.over


class Settler:
    """A thread that is there as long as there is something to settle, in one transaction for all of it."""

    def __init__(self, books: Books, clock: Clock, lost: Callable[[BaseException], object]) -> None:
        self._books = books
        self._clock = clock
        self._lost = lost
        self._lock = Lock()
        self._ended: list[_Ended] = []
        self._thread: Thread | None = None
        self._closing = Event()
        self._known_until = self._look_at = float("-inf")

    def trusts(self, claim: Claim, now: float) -> bool:
        """Whether work may begin without a look at the place, and at the claim, of a function and won a moment ago."""
        new = claim.lease is not None and now - claim.lease.won_at < _NEW and not claim.resumed
        if not new or claim.job.policy is not None:
            return False
        with self._lock:
            if self._look_at <= now < self._known_until:  # one looks again in good time, and no other waits for that
                self._look_at = self._known_until
                return False
        return now < self._known_until

    def settle(self, claim: Claim, said: Finished, then: Then, looked_at: float | None) -> None:
        """Settle a run that is done, with others or, where that fails, alone; and go on with `then`.

        While the database is away, it is tried again for as long as the claim's lease holds: nobody need do it twice.
        If it looked at the place, at a monotonic instant, that was the one it had been.
        """
        with self._lock:
            if looked_at is not None:
                self._known_until = max(self._known_until, looked_at + _KNOWN)
                self._look_at = self._known_until - _KNOWN / 2
            self._ended.append(_Ended(claim, said, then))
            if self._thread is not None:
                return
            thread = Thread(target=self._work, name="nightcrew-settler", daemon=True)
            with suppress(RuntimeError, MemoryError):  # the process has as many threads as it may
                thread.start()
                self._thread = thread
                return
        self._settle()

    def close(self) -> None:
        """Return once everything is settled; a database that is away is asked no more than once."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._closing.set()
            thread.join()
            self._closing.clear()

    def _work(self) -> None:
        away = False
        while True:
            self._gather(away=away)
            with self._lock:
                if not self._ended:
                    self._thread = None
                    return
            away = self._settle(patient=not self._closing.is_set())

    def _gather(self, *, away: bool) -> None:
        """Wait for more to end; or for the database, if that was away, but not for either while we are closing."""
        if away:
            self._clock.wait(self._closing, _AWAY)
            return
        seen = 0
        for _ in range(_MOMENTS):
            self._clock.wait(self._closing, _MOMENT)
            with self._lock:
                before, seen = seen, len(self._ended)
            if seen == before:
                return

    def _settle(self, *, patient: bool = False) -> bool:
        """Settle what has ended by now; return whether some of it waits for the database, for who is `patient`."""
        with self._lock:
            ended, self._ended = self._ended, []
        done: set[tuple[str, int]] | None = None
        waiting: list[_Ended] = []
        try:
            done = self._books.settle_done([one.said for one in ended])
        except Exception as error:  # noqa: BLE001 - one that no database takes must not keep others from being settled
            if patient and isinstance(error, DatabaseError) and error.away:
                overdue = [one for one in ended if one.overdue]
                waiting, ended = [one for one in ended if one not in overdue], overdue
                with self._lock:
                    self._ended[:0] = waiting
        for one in ended:
            try:
                one.then(None if done is None else _settled if one.said[:2] in done else _superseded)
            except BaseException as error:  # noqa: BLE001 - whatever one runs into, the next is not to blame
                self._lost(error)
        return bool(waiting)


def _settled() -> Settled:
    return _DONE


def _superseded() -> None:
    return None
