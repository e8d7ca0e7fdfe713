"""Pair: the two walks of a fast sweep, each through a range of its own, with a thread and a connection of its own.

Whoever comes to the end of a range gets half of what the other has before it, as long as that is worth its while. So
nobody need know beforehand where in a table the rows lie.
"""

from threading import Condition, Thread

from nightcrew.clock import Clock
from nightcrew.walk import Walk

_BREATH = 1.0  # seconds after which both are between two batches at once
_LONGEST_BREATH = 0.5  # seconds that one waits for the other's batch to end


class Pair:
    """Two walks at once; the second begins when the first has divided its range, as it did in a run gone on with."""

    def __init__(self, first: Walk, second: Walk, clock: Clock, *, divided: bool) -> None:
        self._first, self._second = first, second
        self._clock = clock
        self._turn = Condition()
        self._idle = None if divided else second
        self._resting: Walk | None = None
        self._breathed = clock.monotonic()
        self._over = False
        self._stopped: str | None = None
        self._errors: list[BaseException] = []
        self._thread = Thread(target=self._work, args=(second,), name="nightcrew-second-walk", daemon=True)

    def on(self) -> str | None:
        """Go on to the end of both ranges; return what stopped it before that, or None.

        What one of them raises stops the other after its batch, and is raised then.
        """
        if self._idle is None:
            self._thread.start()
        try:
            self._work(self._first)
        finally:
            if self._thread.ident is not None:
                self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self._stopped

    def _work(self, walk: Walk) -> None:
        """Go through one range after the other until there is none left."""
        try:
            going = True
            while going:
                stopped = walk.on(lambda: self._may_go_on(walk))
                going = stopped is None and self._got_another(walk)
                if stopped is not None:
                    self._end(stopped)
        except BaseException as error:  # noqa: BLE001 - raised once the other has ended, too
            self._errors.append(error)
            self._end(None)

    def _end(self, stopped: str | None) -> None:
        with self._turn:
            self._over, self._stopped = True, self._stopped or stopped
            self._turn.notify_all()

    def _may_go_on(self, walk: Walk) -> bool:
        """Look at the other between two batches: it may wait for a range, or have ended the work of both."""
        other = self._second if walk is self._first else self._first
        if self._idle is other and walk.divide(other):
            with self._turn:
                self._idle = None
                self._turn.notify_all()
            if self._thread.ident is None:
                self._thread.start()
        self._breathe(walk)
        return not self._over

    def _got_another(self, walk: Walk) -> bool:
        """Wait until the other has left half of its range to this one, or is at the end of it."""
        with self._turn:
            if self._idle is not None:
                self._over = True
            else:
                self._idle = walk
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._over or self._idle is not walk)
            return not self._over

    def _breathe(self, walk: Walk) -> None:
        """See to it that both are between two batches now and then, and renew their lease there.

        Whoever takes over or pauses waits for a moment in which no batch holds the claim: where locks that are shared
        queue for nobody, two walks might never leave one.
        """
        with self._turn:
            if self._idle is not None or self._clock.monotonic() - self._breathed < _BREATH:
                return
            if self._resting is None:
                self._resting = walk
                self._turn.wait_for(lambda: self._resting is not walk or self._idle is not None, _LONGEST_BREATH)
                self._resting = None if self._resting is walk else self._resting
                return
            walk.renew()
            self._resting, self._breathed = None, self._clock.monotonic()
            self._turn.notify_all()
