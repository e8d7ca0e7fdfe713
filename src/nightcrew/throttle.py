"""Throttle: between two batches: take this many, wait, or stop — and why.

A batch is as large as it may be without lasting longer than the pace's target: how many rows fill that is measured, as
a moving average, for it differs a thousandfold between databases, indexes and disks. After each batch the sweep rests,
outside any transaction, for a time in proportion to the batch's. A gauge that brakes halves both; one that stops is
waited for, and the sweep begins again with small batches.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from nightcrew.errors import ConfigurationError, did_you_mean
from nightcrew.gauge import Gauge, Level

_WEIGHT = 0.4  # of the newest batch in the moving average
_STEADY = 0.05  # seconds of a batch that nobody minds
# A batch is at most so many times the last, for what a row will cost is not known before. Where no batch had to be made
# smaller and the last took next to nothing of its time, that was overhead for the most part, and the next leaps.
_GROWTH, _LEAP, _NEXT_TO_NOTHING = 2, 4, 1 / 16
_SHORTEST_HOLD, _LONGEST_HOLD = 0.25, 2.0  # seconds between two looks at a gauge that says stop
_PATIENCE = 300.0  # seconds in a row that a gauge may hold a sweep up, before its run is handed over
_LONGEST_REST = 5.0  # seconds
_FIRST_RETRY = 0.1  # seconds before a batch that failed is tried again, doubled each time


class Pace(StrEnum):
    """How much of a database's time a sweep may take."""

    GENTLE = "gentle"
    """Whoever else uses the database should not feel it, however long it takes."""
    STEADY = "steady"
    """Half of the time, in short batches."""
    FAST = "fast"
    """All of the time, in large batches: for an hour when nobody else is there."""


def pace(name: str) -> Pace:
    """Return the pace of this name; raises ConfigurationError for none."""
    names = [str(each) for each in Pace]
    if name in names:
        return Pace(name)
    raise ConfigurationError(f"there is no pace {str(name)[:40]!r}{did_you_mean(str(name), names)}")


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of a first batch and of the largest, and the seconds that one should not exceed.

    Below the `least` rows a batch is mostly overhead: it gets no smaller for being slow.
    """

    first: int
    most: int
    longest: float
    least: int = 50


@dataclass(frozen=True, slots=True)
class Tempo:
    """What a pace comes to: the seconds a batch aims at, the share of time in batches, the rows of the first one.

    Where so `few` rows take no longer than a steady batch, there are no fewer: a sweep must come to an end, too.
    """

    target: float
    duty: float
    first: int
    few: int = 1


TEMPOS = {
    # How long a batch lasts is what others feel, more than how often there is one: beside a load of 40 % on two cores,
    # batches of 50 ms in a quarter of the time made a server's p99 two to three times what it was, those of 20 ms in a
    # twentieth 1.7 times, and these 1.0 to 1.2 times, with 20,000 rows a second.
    Pace.GENTLE: Tempo(0.01, 0.05, 250, few=500),
    Pace.STEADY: Tempo(_STEADY, 0.5, 500),
    Pace.FAST: Tempo(0.25, 1.0, 10_000),
}


@dataclass(frozen=True, slots=True)
class Take:
    """Take a batch of at most so many rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds and ask again; `gauge` is the one that says stop, or None for the rest after a batch.

    So many of them are `held`: without a gauge that brakes or stops, nobody would wait them.
    """

    seconds: float
    gauge: Gauge | None = None
    held: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Hand the run over."""

    because: str


Answer: TypeAlias = Take | Wait | Stop


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known between two batches: the worst gauge, whether somebody asked to stop, and the time that is left.

    `left` is in seconds; None where nothing ends the work but its end, of which `ending` says what it is called.
    """

    gauge: Gauge
    asked: str | None = None
    left: float | None = None
    ending: str = "deadline reached"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Where the batches of one sweep stand.

    `size` is the rows of the next batch, `aim` the moving average of rows that fill the target, `worked` the seconds
    of the last batch that were not rested for yet, `owed` a pause before it is tried again. `held` counts the seconds
    that gauges have said stop in a row, in `holds` looks. The first batch is `fresh`: however little time there is,
    it is taken.
    """

    tempo: Tempo
    most: int
    size: int
    longest_wait: float
    least: int
    aim: float | None = None
    worked: float = 0.0
    owed: float = 0.0
    held: float = 0.0
    holds: int = 0
    fresh: bool = True

    @classmethod
    def of(cls, pace: Pace, size: Size, lease: float, most_duty: float) -> "Throttle":
        """Return the throttle of a sweep that begins; no wait is longer than a third of its lease.

        Whatever the pace, batches take no more than `most_duty` of the time.
        """
        tempo = TEMPOS[pace]
        duty = min(tempo.duty, most_duty)
        tempo = replace(tempo, target=min(tempo.target, size.longest, lease / 3), duty=duty)
        return cls(tempo, size.most, min(tempo.first, size.first, size.most), lease / 3, size.least)

    def answer(self, facts: Facts) -> Answer:
        """Say what comes next."""
        if facts.asked is not None:
            return Stop(facts.asked)
        if facts.gauge.level is Level.STOP:
            return self._hold(facts)
        over = facts.left is not None and facts.left <= 0
        if over and not self.fresh:
            return Stop(facts.ending)
        rest = min(self._rest(facts.gauge.level), self.longest_wait)
        if rest <= 0:
            return Take(max(1, self.size // 2) if facts.gauge.level is Level.BRAKE else self.size)
        if facts.left is not None and rest >= facts.left:
            return Stop(facts.ending)  # there is nothing to wait for
        return Wait(rest, held=rest - min(self._rest(Level.GREEN), self.longest_wait))

    def _hold(self, facts: Facts) -> Answer:
        if facts.left is not None and facts.left <= 0:
            return Stop(f"{facts.ending}, held back by {facts.gauge}")
        if self.held >= _PATIENCE:
            return Stop(f"held back for {_PATIENCE:g} s by {facts.gauge}")
        look = min(_SHORTEST_HOLD * 2.0 ** min(self.holds, 10), _LONGEST_HOLD, self.longest_wait)
        look = look if facts.left is None else min(look, facts.left)
        return Wait(look, facts.gauge, held=look)

    def _rest(self, level: Level) -> float:
        duty = self.tempo.duty / 2 if level is Level.BRAKE else self.tempo.duty
        return max(min(self.worked * (1 / duty - 1), _LONGEST_REST), self.owed)

    def took(self, rows: int, seconds: float, jitter: float = 1.0) -> "Throttle":
        """Return the throttle after a batch of at most `rows` rows; `jitter` stretches the rest that follows."""
        fill = rows * self.tempo.target / max(seconds, 1e-6)
        # What took far too long is no matter for averages, as the next batch must not do so again; nor what tells
        # next to nothing of the rows.
        slow, quick = seconds > _GROWTH * self.tempo.target, seconds < _NEXT_TO_NOTHING * self.tempo.target
        aim = fill if self.aim is None or slow else _WEIGHT * fill + (1 - _WEIGHT) * self.aim
        few = min(self.tempo.few, int(rows * _STEADY / max(seconds, 1e-6)))
        growth = _LEAP if quick and rows >= self.tempo.first else _GROWTH
        size = max(1, min(self.most, max(self.least, few, round(aim)), rows * growth))
        return replace(self.spent(seconds, jitter), size=size, aim=None if quick else aim)

    def spent(self, seconds: float, jitter: float = 1.0) -> "Throttle":
        """Return the throttle after a batch that tells nothing of how large the next one may be."""
        return replace(self, worked=seconds * jitter, owed=0.0, held=0.0, holds=0, fresh=False)

    def stumbled(self, tries: int, jitter: float = 1.0) -> "Throttle":
        """Return the throttle after a batch that failed for the `tries`th time in a row and is to be tried later."""
        owed = min(_FIRST_RETRY * 2.0 ** min(tries - 1, 10), _LONGEST_REST) * jitter
        return replace(self, worked=0.0, owed=owed)

    def smaller(self, rows: int) -> "Throttle":
        """Return the throttle when the next batch should take no more than so many rows, and those after it grow."""
        return replace(self, size=max(1, min(self.size, rows)), aim=None)

    def waited(self, wait: Wait) -> "Throttle":
        """Return the throttle after a wait; once a gauge has said stop, the next batch is small."""
        rested = replace(self, worked=0.0, owed=0.0)
        if wait.gauge is None:
            return rested
        size = self.size if self.holds else max(1, min(self.size, self.tempo.first) // 4)
        return replace(rested, size=size, held=self.held + wait.seconds, holds=self.holds + 1)
