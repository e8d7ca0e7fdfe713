"""Metronome: lets a sweep's next batch begin when the throttle says so; it waits, and notes why, and how long."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from nightcrew.claim import Claim
from nightcrew.clock import Budget, Clock
from nightcrew.errors import DatabaseError
from nightcrew.gauge import Gauge, Level
from nightcrew.ledger import Entry, Ledger
from nightcrew.throttle import Facts, Stop, Take, Throttle, Wait
from nightcrew.watch import Look

_MOST_NOTES = 50  # a gauge that goes up and down must not fill the ledger
_ACCOUNT, _SELDOM = 5.0, 600.0  # seconds held after which that is told; and written, after twice as many each time


class Metronome:
    """The pace of one walk, as its `throttle` has it; of two at once, one `notes` what holds both back."""

    def __init__(
        self, claim: Claim, ledger: Ledger, throttle: Throttle, look: Look, budget: Budget, *, notes: bool = True
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._look = look
        self.budget = budget
        self._clock: Clock = budget.clock
        self.throttle = throttle
        self._noted = Gauge("nothing")
        self._notes = 0 if notes else _MOST_NOTES
        self._counts = notes
        self._untold: dict[str, float] = defaultdict(float)
        self._unwritten: dict[str, float] = defaultdict(float)
        self._due = _ACCOUNT

    def next(self) -> Take | Stop:
        """Wait until the next batch may begin, or the work has to end; a request to stop ends the wait at once."""
        while True:
            gauge = self._look()
            self._note(gauge)
            facts = Facts(gauge, self.budget.stopping, self.budget.left, self.budget.ending)
            answer = self.throttle.answer(facts)
            if not isinstance(answer, Wait):
                return answer
            self._rest(answer, gauge)
            self.throttle = self.throttle.waited(answer)

    def took(self, rows: int, seconds: float) -> None:
        """Hear how long a batch of at most so many rows has taken."""
        self.throttle = self.throttle.took(rows, seconds, self._clock.jitter(0.1))

    def spent(self, seconds: float) -> None:
        """Hear how long a batch has taken that was not as large as it might have been."""
        self.throttle = self.throttle.spent(seconds, self._clock.jitter(0.1))

    def stumbled(self, tries: int) -> None:
        """Hear that a batch failed for the `tries`th time in a row; the next try comes later."""
        self.throttle = self.throttle.stumbled(tries, self._clock.jitter(0.5))

    def smaller(self, rows: int) -> None:
        """Let the next batch take no more than so many rows."""
        self.throttle = self.throttle.smaller(rows)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Tell, and write down, for how long gauges have held the sweep back; that is worth no failure."""
        with suppress(DatabaseError):
            self._account()

    def _account(self) -> None:
        self._tell()
        if self._unwritten:
            self._write(self._waited(self._unwritten))
            self._unwritten = defaultdict(float)

    def _rest(self, answer: Wait, gauge: Gauge) -> None:
        begun = self._clock.monotonic()
        self.budget.rest(answer.seconds)
        if not (answer.held and self._counts):
            return
        held = (self._clock.monotonic() - begun) * answer.held / answer.seconds
        self._untold[gauge.name] += held
        self._unwritten[gauge.name] += held
        if sum(self._unwritten.values()) >= self._due:
            self._due = min(2 * self._due, _SELDOM)
            self._account()
        elif sum(self._untold.values()) >= _ACCOUNT:
            self._tell()

    def _tell(self) -> None:
        if self._untold:
            self._ledger.tell(self._waited(self._untold))
            self._untold = defaultdict(float)

    def _waited(self, held: Mapping[str, float]) -> Entry:
        by = {name: round(seconds, 3) for name, seconds in held.items()}
        facts = {"seconds": round(sum(held.values()), 3), "by": by, "label": self._claim.job.label}
        return Entry("waited", self._claim.job.name, self._claim.run, facts)

    def _note(self, gauge: Gauge) -> None:
        """Write down, and tell, that another gauge or level holds the sweep back; the words alone make no change."""
        noted, self._noted = self._noted, gauge
        eased = noted.level > gauge.level is Level.GREEN
        if not eased and (gauge.level is Level.GREEN or (noted.level, noted.name) == (gauge.level, gauge.name)):
            return
        self._notes += 1
        if self._notes > _MOST_NOTES:
            return
        job = self._claim.job
        told = noted if eased else gauge
        facts = {"level": gauge.level.name.lower(), "gauge": told.name, "seen": gauge.seen, "label": job.label}
        entry = Entry("eased" if eased else "throttled", job.name, self._claim.run, facts)
        self._write(entry)
        self._ledger.tell(entry)

    def _write(self, entry: Entry) -> None:
        try:
            self._ledger.write(entry)
        except DatabaseError as error:
            if not error.transient:
                raise
