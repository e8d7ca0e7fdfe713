"""Monitors: services outside hear of runs from a thread of their own, which no run ever waits for."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from threading import Event, Lock, Thread

from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError
from nightcrew.ledger import Audience, Entry
from nightcrew.listeners.checkin import CheckIn, Monitor, Stage
from nightcrew.outcome import Outcome
from nightcrew.ping import answered
from nightcrew.schedule import written

_MOST = 200  # check-ins that wait: more than that of a service that does not answer are too old to help anybody
_TRIES = 3
_REST = 1.0  # seconds before the second try, and twice as many before the third
_AT_THE_END = 3.0  # seconds that a process which ends gives what is still to be sent

_STAGES = {
    "begun": Stage.BEGUN,
    str(Outcome.SUCCEEDED): Stage.WELL,
    str(Outcome.NOTHING_TO_DO): Stage.WELL,
    str(Outcome.FAILED): Stage.BADLY,
    str(Outcome.REFUSED): Stage.BADLY,
    str(Outcome.CANCELLED): Stage.BADLY,
    "buried": Stage.BADLY,
}


class Monitors:
    """The listener that tells monitors of the runs of slots that this process began or ended; runs by hand are none.

    One that is handed over, or tried again later, has not ended: whoever ends it says so, by the same UUID.
    """

    def __init__(self, monitors: Iterable[Monitor], clock: Clock, audience: Audience) -> None:
        self._clock = clock
        self._couriers = [_Courier(monitor, clock, audience) for monitor in monitors]
        if self._couriers:
            audience.join(self)

    def hears(self, kind: str) -> bool:
        """Tell whether monitors hear of a kind."""
        return kind in _STAGES

    def __call__(self, entry: Entry) -> None:
        """Leave it to the threads to tell of a run."""
        facts = entry.facts
        if entry.job is None or entry.run is None or not facts.get("slot") or "retryAt" in facts:
            return
        took, schedule = facts.get("durationMs"), facts.get("schedule")
        checkin = CheckIn(
            _STAGES[entry.kind],
            entry.job,
            entry.run,
            str(facts.get("message") or facts.get("reason") or ""),
            int(facts.get("deletedCount") or 0),
            None if took is None else timedelta(milliseconds=took),
            written(schedule, facts["timezone"]) if schedule else None,
        )
        for courier in self._couriers:
            courier.take(checkin)

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return bool(self._couriers)

    def problems(self) -> list[str]:
        """Say which monitors cannot be told of anything, for want of a variable; nobody is asked."""
        return [problem for courier in self._couriers if (problem := courier.problem()) is not None]

    def close(self) -> None:
        """Give what is still to be sent a moment, and return."""
        until = self._clock.monotonic() + _AT_THE_END
        for courier in self._couriers:
            courier.close(until)


class _Courier:
    """A thread for one monitor, there while there is something to send; it tells when it fails, and when no more."""

    def __init__(self, monitor: Monitor, clock: Clock, audience: Audience) -> None:
        self._monitor = monitor
        self._clock = clock
        self._audience = audience
        self._lock = Lock()
        self._waiting: deque[CheckIn] = deque()
        self._thread: Thread | None = None
        self._closing = Event()
        self._missed = 0
        self._told = False

    def problem(self) -> str | None:
        """Say why the monitor cannot be told of anything, if it cannot."""
        try:
            _ = self._monitor.secret
        except ConfigurationError as problem:
            return f"monitor {self._monitor.name!r} cannot be used: {problem}"
        return None

    def take(self, checkin: CheckIn) -> None:
        """Take a check-in to be sent, or leave it out where too many wait; this waits for nobody."""
        with self._lock:
            if len(self._waiting) >= _MOST:
                self._missed += 1
                return
            self._waiting.append(checkin)
            if self._thread is None or not self._thread.is_alive():  # as it is not in the child of a fork
                thread = Thread(target=self._work, name=f"nightcrew-{self._monitor.name.lower()}", daemon=True)
                with suppress(RuntimeError, MemoryError):  # the process has as many threads as it may
                    thread.start()
                    self._thread = thread

    def close(self, until: float) -> None:
        """Let the thread send what waits, up to a monotonic instant; what fails is not tried again."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, until - self._clock.monotonic()))
        self._closing.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                checkin = self._waiting.popleft()
            self._account(checkin, self._sent(checkin))

    def _account(self, checkin: CheckIn, wrong: str | None) -> None:
        """Tell of the first failure, and of the first success after it: not of each, for a job may run every minute."""
        with self._lock:
            missed, told = self._missed, self._told
            self._missed, self._told = (0, False) if wrong is None else (missed + 1, True)
        name = self._monitor.name
        if wrong is not None and not told:
            self._audience.tell(Entry("monitor_failed", checkin.job, checkin.run, {"monitor": name, "error": wrong}))
        elif wrong is None and told:
            self._audience.tell(Entry("monitor_recovered", facts={"monitor": name, "failures": missed}))

    def _sent(self, checkin: CheckIn) -> str | None:
        """Send a check-in, and return what is wrong where it did not arrive."""
        wrong = None
        for tried in range(_TRIES):
            if tried and self._clock.wait(self._closing, _REST * 2 ** (tried - 1) * self._clock.jitter(0.2)):
                break
            try:
                self._audience.censor.learn(self._monitor.secret)
                wrong, final = answered(self._monitor.ping(checkin))
            except ConfigurationError as error:
                wrong, final = str(error), True
            except Exception as error:  # noqa: BLE001 - a monitor of somebody's own may do whatever it likes
                wrong, final = type(error).__name__, True
            if wrong is None or final:
                break
        return wrong
