"""Progress: how far the sweeps of a command are: in a line that a terminal shows anew, or in one now and then."""

import shutil
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING

from nightcrew import settings
from nightcrew.console.screen import Screen
from nightcrew.duration import span
from nightcrew.errors import NightcrewError
from nightcrew.outcome import Outcome
from nightcrew.report import one_line

if TYPE_CHECKING:
    from nightcrew.crew import Nightcrew
    from nightcrew.ledger import Entry

_PERIOD = 0.25  # seconds between two drawings; and before the first, by which most runs are over
_SELDOM = 10.0  # seconds between two lines that stay, as in a log
_SPAN = 10.0  # seconds back that the rate is measured over
_PATIENCE = 2.0  # seconds that the end waits for a drawing under way
_SLOWEST = 0.01  # things a second below which nobody can say how long it takes
_HELD = {"stop": "waits", "brake": "slowed down"}


@dataclass(slots=True)
class Course:
    """One run's way: its rows so far, of about how many (None: nobody knows), and what holds it back.

    A function that tells of its progress is `told` of: it has no rows, and knows of how many.
    """

    job: str
    about: int | None = None
    rows: int = 0
    held: str = ""
    marks: deque[tuple[float, int]] = field(default_factory=deque)
    told: bool = False

    def went(self, rows: int, at: float) -> None:
        """Add the rows of a batch that ended at a monotonic instant."""
        self.rows += rows
        self.marks.append((at, self.rows))

    def came(self, done: int, total: int | None, at: float) -> None:
        """Take over how far a function says it has come at a monotonic instant."""
        self.rows, self.about = done, total
        self.marks.append((at, done))

    def rate(self, now: float) -> float:
        """Return the rows a second of late."""
        while len(self.marks) > 1 and self.marks[1][0] < now - _SPAN:
            self.marks.popleft()
        if len(self.marks) < 2:
            return 0.0
        begun, before = self.marks[0]
        return max(0, self.rows - before) / max(now - begun, _PERIOD)

    def line(self, now: float) -> str:
        """Say it in one line; figures keep their places."""
        rate, rows = self.rate(now), "" if self.told else " rows"
        about = self.about if self.about is not None and self.rows <= self.about else None
        so_far = f"{self.rows:>13,}{rows}"
        if about:
            of = "of" if self.told else "of about"
            so_far = f"{self.rows:>{len(f'{about:,}')},} {of} {about:,}{rows} {self.rows * 100 // about:>3}%"
        known = about and rate >= (_SLOWEST if self.told else 1)
        left = span(timedelta(seconds=(about - self.rows) / rate)) if about and known else ""
        speed = f"{rate:>9,.1f}/s" if self.told else f"{round(rate):>9,} rows/s"
        figures = f"{so_far}  {speed}  {f'{left} left' if left else '':<16}"
        return one_line(f"{self.job}  {figures}  {self.held}")


class Progress:
    """Listens to a crew, and tells where its sweeps are as long as they last: `live` in one line, else in many."""

    def __init__(self, screen: Screen, crew: "Nightcrew", *, live: bool) -> None:
        self._screen = screen
        self._crew = crew
        self._live = live
        self._courses: dict[str, Course] = {}
        self._lock = RLock()  # a signal's handler may come in between, in the same thread
        self._over = Event()
        self._drawn = 0

    def hear(self, entry: "Entry") -> None:
        """Follow what a run tells."""
        now = self._crew.clock.monotonic()
        with self._lock:
            if entry.run is None or entry.job is None:
                return
            if entry.kind in list(Outcome):
                self._courses.pop(entry.run, None)
            elif entry.kind == "progress":
                course = self._courses.setdefault(entry.run, Course(entry.job, told=True))
                course.came(entry.facts["done"], entry.facts["total"], now)
            elif entry.kind in ("batch", "throttled", "eased"):
                begun = now - entry.facts.get("ms", 0) / 1000
                course = self._courses.setdefault(entry.run, Course(entry.job, marks=deque([(begun, 0)])))
                if entry.kind == "batch":
                    course.went(entry.facts["rows"], now)
                else:
                    held = _HELD.get(entry.facts.get("level", ""), "") if entry.kind == "throttled" else ""
                    course.held = f"{held}: {entry.facts['gauge']}: {entry.facts['seen']}" if held else ""

    def say(self, text: str) -> None:
        """Say something beside the line, which is drawn anew below it."""
        with self._lock:
            self._wipe()
            self._screen.talk(text)

    def tell(self) -> None:
        """Tell again and again, until it is over."""
        asked: set[str] = set()
        while not self._crew.clock.wait(self._over, _PERIOD if self._live else _SELDOM):
            with self._lock:
                courses = dict(self._courses)
                if self._live:
                    self._draw(list(courses.values()))
            for run, course in courses.items():
                # What is still to go, for a run that has lasted long enough to be watched.
                if run not in asked and not course.told:
                    asked.add(run)
                    self._ask(course)
            if not self._live:
                self._write_down(courses)

    def end(self) -> None:
        """Leave nothing of it behind."""
        self._over.set()
        with self._lock:
            self._wipe()

    def _ask(self, course: Course) -> None:
        begun = course.rows
        try:
            still = self._crew.expected(course.job)
        except NightcrewError:  # the run itself will say what is wrong
            return
        course.about = None if still is None else max(begun + still, course.rows)

    def _write_down(self, courses: dict[str, Course]) -> None:
        with self._lock:
            now = self._crew.clock.monotonic()
            for run, course in courses.items():
                if run in self._courses and not self._over.is_set():
                    self._screen.talk(course.line(now))

    def _draw(self, courses: list[Course]) -> None:
        if not courses or self._over.is_set():
            self._wipe()
            return
        others = f"  (and {len(courses) - 1} more)" if len(courses) > 1 else ""
        width = shutil.get_terminal_size().columns - len("^C") - 1  # a full line would wrap
        text = courses[0].line(self._crew.clock.monotonic())[: max(0, width - len(others))] + others
        text = text[:width]
        self._write("\r" + text.ljust(min(self._drawn, width)))
        self._drawn = len(text)

    def _wipe(self) -> None:
        if self._drawn:
            self._write(f"\r{' ' * (self._drawn + len('^C'))}\r")  # which the terminal shows for itself
            self._drawn = 0

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal has gone; the run goes on
            self._over.set()


@contextmanager
def shown(screen: Screen, crew: "Nightcrew") -> Iterator[Progress]:
    """Show progress on stderr, unless the log lines of -v do, or nobody wants to be talked to."""
    live = sys.stderr is not None and sys.stderr.isatty() and settings.variable("TERM") != "dumb"
    progress = Progress(screen, crew, live=live)
    if screen.json or screen.quiet or screen.verbose:
        yield progress
        return
    crew.listen(progress.hear)
    thread = Thread(target=progress.tell, name="nightcrew-progress", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        progress.end()
        thread.join(_PATIENCE)
