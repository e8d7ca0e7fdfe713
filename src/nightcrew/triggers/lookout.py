"""A thread beside the ticker that looks about once a minute whether there is cause for alarm, and delays no run."""

from threading import Event, Thread

from nightcrew.trigger import Roster

PERIOD = 60.0  # seconds between two looks
_AT_THE_END = 3.0  # seconds that a process which ends gives what is being told


class Lookout:
    """Looks for as long as the ticker does, where there is a channel to tell anybody by."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to look, some of a minute from now: many processes that start together need not look together."""
        if self._roster.alarms.channels:
            self._thread = Thread(target=self._look, name="nightcrew-lookout", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more; what is being told has a moment, and is told by another process where that is too short."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_AT_THE_END)

    def _look(self) -> None:
        while not self._roster.clock.wait(self._stop, PERIOD * self._roster.clock.jitter(0.3)):
            self._roster.alarms.watch(self._stop)
