"""A thread inside the application that looks for due slots once a second, and gives them to its hands."""

import os
import sys
from threading import Event, Thread

from nightcrew.clock import instant
from nightcrew.errors import NightcrewError
from nightcrew.trigger import Roster
from nightcrew.triggers.hands import Hands
from nightcrew.triggers.lookout import Lookout

PERIOD = 1.0  # seconds between two looks: one small statement when nothing is due
# Seconds to wait for the batches in hand; past that the leases hand the runs over by themselves. An orchestrator often
# kills a process 30 s after it was asked to end, and the application has an end of its own to make.
_PATIENCE = 20.0
_BUSY, _BREATH = 0.05, 0.002  # the same while no hand is free, and at least
_STEP = 0.005  # seconds that what waits is left to the hands at work, before one more is put to it
_STEPS = 8  # within which these will be through with it, at the pace of the last: one more would be in their way
_SLOWEST = 30.0  # seconds between two looks while the database is away


class Ticker:
    """The in-process trigger: on unless the environment is `test`, with one line saying so either way."""

    def __init__(self, roster: Roster, period: float = PERIOD) -> None:
        self._roster = roster
        self._period = period
        self._stop = Event()
        self._thread: Thread | None = None
        self._hands = Hands(self._lost)
        self._lookout = Lookout(roster)
        self._process = os.getpid()

    @property
    def left_behind(self) -> bool:
        """Whether this is a copy in the child of a fork, whose threads stayed with the parent."""
        return self._process != os.getpid()

    def start(self) -> None:
        """Start looking, with the jobs that run on start; a second call changes nothing."""
        if self._thread is not None:
            return
        if (reason := self._why_off()) is not None:
            self._roster.tell("ticker_off", reason=reason)
            return
        now = self._roster.clock.now()
        self._roster.tell("ticker_on", jobs=sum(job.enabled for job in self._roster.jobs.values()), period=self._period)
        for job in self._roster.jobs.values():
            if job.enabled:
                due = instant(job.schedule.after(now))
                self._roster.tell(
                    "job_initialised", job=job.name, label=job.label, schedule=job.schedule.describe(), next_slot=due
                )
            else:
                self._roster.tell("job_disabled", job=job.name, label=job.label, why=job.disabled)
        thread = Thread(target=self._look, name="nightcrew-ticker", daemon=True)
        thread.start()
        self._thread = thread
        self._lookout.start()

    def stop(self) -> None:
        """Stop looking; runs in hand finish their batch and hand over. Returns when they have, or after 20 seconds."""
        if self._thread is None:
            return
        self._stop.set()
        until = self._roster.clock.monotonic() + _PATIENCE

        def left() -> float:
            return max(0.0, until - self._roster.clock.monotonic())

        self._thread.join(left())
        self._hands.work_off()  # told to stop, each run that still waits is handed over at once
        self._hands.join(left)
        self._lookout.stop()
        busy = self._thread.is_alive() or self._hands.busy
        self._roster.tell("ticker_slow_to_stop" if busy else "ticker_stopped", seconds=_PATIENCE)
        self._thread = None

    def _why_off(self) -> str | None:
        if self._roster.settings.environment == "test":
            return "NIGHTCREW_ENV is test"
        if not self._roster.settings.ticker:
            return "NIGHTCREW_TICKER is off"
        return None if self._roster.jobs else "no job is registered"

    def _look(self) -> None:
        start, failures = True, 0
        while not self._stop.is_set() and not sys.is_finalizing():
            looked = False
            try:
                looked = self._hand_out(start=start)
            except NightcrewError as error:
                failures += 1
                if failures == 1:  # one line an outage, not one a second
                    self._roster.tell("tick_failed", error=str(error))
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever one look runs into
                failures += 1
                self._roster.tell("tick_failed", error=f"{type(error).__name__}: {error}")
            else:
                if failures:
                    self._roster.tell("tick_recovered", failures=failures)
                start, failures = False, 0
            self._roster.clock.wait(self._stop, self._pause(failures, looked=looked))

    def _pause(self, failures: int, *, looked: bool) -> float:
        """Return how long to wait for the next look: no longer than until the next slot is due."""
        pause = min(self._period * 2.0 ** min(failures, 10), _SLOWEST) * self._roster.clock.jitter(0.1)
        if failures:
            return pause
        return max(_BREATH, self._roster.rest(pause)) if looked else min(pause, _BUSY)

    def _hand_out(self, *, start: bool) -> bool:
        """Claim what is due once a hand is free: what is claimed and has to wait is kept from every other process.

        Returns whether one was.
        """
        free = self._hands.free
        if free:
            self._hands.take(self._roster.hand_out(start=start, stop=self._stop, hands=free))
        self._hands.work()
        waiting = self._hands.waiting
        while self._hands.few and not self._roster.clock.wait(self._stop, _STEP):
            before, waiting = waiting, self._hands.waiting
            if waiting > _STEPS * (before - waiting):
                self._hands.work()
        return free

    def _lost(self, error: BaseException) -> None:
        self._roster.tell("run_lost", error=f"{type(error).__name__}: {error}")
