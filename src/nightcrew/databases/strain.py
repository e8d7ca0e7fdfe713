"""The database's own gauge: how long it takes to answer us, and the figures that it gives of its work.

The time it takes to read one row by its key is the first of them: whatever a server suffers from, its clients wait.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from threading import Lock

import sqlalchemy as sa

from nightcrew.databases.connect import Link
from nightcrew.databases.scale import Scale
from nightcrew.databases.tables import jobs
from nightcrew.errors import DatabaseError
from nightcrew.gauge import LONGEST, Gauge, Level, unreadable, worst
from nightcrew.throttle import Pace

# A read by key that takes so many times what it takes at best, and at least so many seconds, brakes, or stops.
_SLOW = {Level.BRAKE: (2.0, 0.025), Level.STOP: (4.0, 0.1)}
_OWN = 10.0  # times as many seconds, where a fast sweep's own batches keep readers of a file waiting while they last
_FREELY = {Pace.GENTLE: 1.0, Pace.STEADY: 4.0, Pace.FAST: math.inf}
"""How many times a rate is allowed that brakes a gentle sweep."""


class Strain:
    """The gauge of one database, as sweeps of one pace read it."""

    name = "database"
    patient = True

    def __init__(self, link: Link, pace: Pace) -> None:
        self._link = link
        self._freely = _FREELY[pace]
        self._patience = _OWN if pace is Pace.FAST and link.dialect.one_writer else 1.0
        self._lock = Lock()
        self._answers: deque[float] = deque(maxlen=2)
        self._best = math.inf
        self._before: tuple[float, Mapping[str, float | None]] = (0.0, {})

    def read(self) -> Gauge:
        """Read a row, then the figures; raises DatabaseError when the database does not answer."""
        with self._lock:
            return self._read()

    def _read(self) -> Gauge:
        monotonic = self._link.monotonic
        begun = monotonic()
        try:
            with self._link.glimpse(LONGEST) as connection:
                asked = monotonic()
                connection.execute(sa.select(jobs.c.fence).where(jobs.c.name == "")).first()
                self._answers.append(monotonic() - asked)
                gauges = [self._answered(), *self._figures(self._link.dialect.strain(connection), asked)]
        except DatabaseError:
            if monotonic() - begun < LONGEST:
                raise
            return Gauge(self.name, Level.STOP, f"does not answer within {LONGEST:g} s")
        return worst(gauges)

    def _answered(self) -> Gauge:
        """Judge by the better of two answers, for one may have met a checkpoint, or the process's own pause."""
        self._best = min(self._best, *self._answers)
        took = min(self._answers) if len(self._answers) == 2 else 0.0
        level = Level.GREEN
        for reached, (times, least) in _SLOW.items():
            if took > max(times * self._best, least * self._patience):
                level = reached
        return Gauge(self.name, level, f"answers within {1000 * took:.0f} ms, at best {1000 * self._best:.1f} ms")

    def _figures(self, now: Mapping[str, float | None], at: float) -> Iterator[Gauge]:
        (earlier, before), self._before = self._before, (at, now)
        for scale in self._link.dialect.scales:
            if scale.figure not in now:
                continue
            value, last = now[scale.figure], before.get(scale.figure)
            if value is None:
                yield unreadable(self.name, f"{scale.figure} is hidden from this role: grant it pg_monitor")
            elif not scale.per_second:
                yield self._judged(scale, value, 1.0)
            elif last is not None and at > earlier:
                yield self._judged(scale, (value - last) / (at - earlier), self._freely)

    def _judged(self, scale: Scale, value: float, freely: float) -> Gauge:
        stops, brakes = value >= scale.stop * freely, value >= scale.brake * freely
        level = Level.STOP if stops else Level.BRAKE if brakes else Level.GREEN
        return Gauge(self.name, level, scale.words.format(value=value))
