"""An event loop whose time is none of the world's: where nobody has anything to do, it goes on to when somebody has."""

import asyncio
import random
import selectors
from datetime import UTC, datetime, timedelta

_BEGUN = datetime(2024, 6, 15, 12, tzinfo=UTC)
_TURNS = 500_000  # of a loop: more than any play takes


class _Selector(selectors.DefaultSelector):
    """Never waits."""

    at = 0.0
    turns = 0

    def select(self, timeout=None):
        """Return what there is, and let the time pass that was to be waited."""
        self.turns += 1
        if self.turns > _TURNS:
            raise AssertionError("somebody goes round and round")
        found = super().select(0)
        if not found:
            if timeout is None:
                raise AssertionError("everybody waits, and for nothing")
            self.at += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0."""

    def __init__(self):
        self.chosen = _Selector()
        super().__init__(self.chosen)

    def time(self):
        """Return the seconds since it was made."""
        return self.chosen.at


class LoopClock:
    """The clock of a process that lives in a loop: its wall clock may be wrong, and its chance is from a seed."""

    def __init__(self, loop, seed, wrong=0.0):
        self._loop = loop
        self._random = random.Random(seed)
        self._begun = _BEGUN + timedelta(seconds=wrong)

    def now(self):
        """Return the wall clock."""
        return self._begun + timedelta(seconds=self._loop.time())

    def monotonic(self):
        """Return the seconds of the loop."""
        return self._loop.time()

    def wait(self, event, seconds):
        """Nobody in a loop sleeps so."""
        raise NotImplementedError

    def jitter(self, fraction):
        """Return a factor."""
        return 1 + self._random.uniform(-fraction, fraction)

    def token(self):
        """Return a text."""
        return f"{self._random.getrandbits(128):032x}"


def played(coroutine_of, *arguments):
    """Run a coroutine function in a loop of its own, which it is given first; return what that returns."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coroutine_of(loop, *arguments))
    finally:
        loop.chosen.turns = 0
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
