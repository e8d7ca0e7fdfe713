"""The threads that carry out what was claimed, and whoever calls where no thread can be had."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Thread

from nightcrew.report import Report
from nightcrew.trigger import Work

HANDS = 4  # runs that work side by side, for one long sweep must not hold up the other jobs


class Hands:
    """At most `number` runs at a time; what is taken is carried out, for its claim is kept from everybody else.

    `lost` hears of a run that could not even be settled, which must not take the hand along.
    """

    def __init__(self, lost: Callable[[BaseException], object], number: int = HANDS) -> None:
        self._lost = lost
        self._number = number
        self._waiting: deque[Callable[[], object]] = deque()
        self._threads: list[Thread] = []

    @property
    def free(self) -> bool:
        """Whether nothing waits and some hand has nothing to do."""
        return not self._waiting and self._has_more

    @property
    def few(self) -> bool:
        """Whether something waits, and one more hand could be put to it."""
        return bool(self._waiting) and self._has_more

    @property
    def waiting(self) -> int:
        """The number of runs that no hand has begun with."""
        return len(self._waiting)

    @property
    def _has_more(self) -> bool:
        return sum(thread.is_alive() for thread in self._threads) < self._number

    @property
    def busy(self) -> bool:
        """Whether some hand is at work."""
        return any(thread.is_alive() for thread in self._threads)

    def take(self, works: Iterable[Callable[[], object]]) -> None:
        """Add to what waits."""
        self._waiting.extend(works)

    def work(self) -> None:
        """Put one more hand to what waits, if there is one; where no thread can be started, the caller works it off.

        Runs that are over in no time are worked off by one hand: several would keep each other from the processor.
        """
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if not self._waiting or len(self._threads) >= self._number:
            return
        thread = Thread(target=self.work_off, name="nightcrew-run", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # the process has as many threads as it may
            self.work_off()
            return
        self._threads.append(thread)

    def work_off(self) -> None:
        """Carry out what waits, one after the other, until nothing does."""
        while True:
            try:
                work = self._waiting.popleft()
            except IndexError:
                return
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - whatever a run raises, the next one is not to blame
                self._lost(error)

    def join(self, left: Callable[[], float | None] = lambda: None) -> None:
        """Wait for every hand to end, each for as many seconds as are left then (None: as long as it takes)."""
        for thread in self._threads:
            thread.join(left())


def side_by_side(works: Sequence[Work]) -> list[Report]:
    """Carry works out and return their reports in order, once all have ended; raises the first error there was."""
    reports: list[Future[Report]] = [Future() for _ in works]
    hands = Hands(lost=lambda error: None)
    hands.take(partial(_note, report, work) for report, work in zip(reports, works, strict=True))
    for _ in range(HANDS):
        hands.work()
    hands.join()
    return [report.result() for report in reports]


def _note(report: Future[Report], work: Work) -> None:
    try:
        report.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where the report is asked for
        report.set_exception(error)
