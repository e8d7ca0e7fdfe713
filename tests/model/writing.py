"""How columns write time, database by database, and what each way of writing means by “expired”."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

SECOND, DAY = 1_000_000, 86_400_000_000  # microseconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = int | str | None
"""When a row's time is: microseconds from the cut, one of a writing's `ends`, or NULL."""


@dataclass(frozen=True)
class Writing:
    """One way to write time: `grain` is the least span it tells apart, in microseconds.

    A `whole` writing stands for all of its span (a day, a second), which has expired when it is over; the others
    name an instant. `ends` are values beyond any calendar, and whether they have expired.
    """

    type: str
    grain: int
    spell: Callable[[int], object]
    whole: bool = False
    ends: Mapping[str, bool] = field(default_factory=dict)

    def written(self, time: Time, cut: int) -> object:
        """Return what is inserted for a time."""
        if isinstance(time, int):
            return self.spell(self._instant(time, cut))
        return None if time is None else _NUMBERS.get(time, time)

    def expired(self, time: Time, cut: int) -> bool:
        """Say whether a time is strictly before the cut (in microseconds since 1970)."""
        if isinstance(time, int):
            return self._instant(time, cut) + self.grain * self.whole < cut + self.whole
        return time is not None and self.ends[time]

    def _instant(self, time: int, cut: int) -> int:
        return (cut + time) // self.grain * self.grain


_NUMBERS = {"zero": 0, "minus one": -1}
_NEVER = {"zero": False, "minus one": False}
_INFINITY = {"-infinity": True, "infinity": False}


def micros(moment: datetime) -> int:
    """Count the microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def _text(pattern: str) -> Callable[[int], str]:
    return lambda instant: (EPOCH + timedelta(microseconds=instant)).strftime(pattern)


def _number(unit: int) -> Callable[[int], int]:
    return lambda instant: instant // unit


def _fraction(instant: int) -> float:
    return instant / SECOND


_TO_THE_MICROSECOND, _TO_THE_SECOND, _DAY = (
    _text(pattern) for pattern in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
)
_WHOLE_NUMBERS = [
    Writing("BIGINT", unit, _number(unit), whole=True, ends=_NEVER) for unit in (SECOND, SECOND // 1000, 1)
]

WRITINGS: Mapping[str, list[Writing]] = {
    "sqlite": [
        Writing("DATETIME", 1, _TO_THE_MICROSECOND),
        Writing("DATETIME", SECOND, _TO_THE_SECOND),
        Writing("TEXT", 1, _text("%Y-%m-%dT%H:%M:%S.%fZ")),
        Writing("TEXT", SECOND, _text("%Y-%m-%dT%H:%M:%S+00:00")),
        Writing("DATE", DAY, _DAY, whole=True),
        Writing("REAL", SECOND // 4, _fraction),
        *_WHOLE_NUMBERS,
    ],
    "postgresql": [
        Writing("timestamptz", 1, _text("%Y-%m-%d %H:%M:%S.%f+00"), ends=_INFINITY),
        Writing("timestamp", 1, _TO_THE_MICROSECOND, ends=_INFINITY),
        Writing("timestamptz(3)", 1000, _text("%Y-%m-%d %H:%M:%S.%f+00"), ends=_INFINITY),
        Writing("timestamp(0)", SECOND, _TO_THE_SECOND, ends=_INFINITY),
        Writing("date", DAY, _DAY, whole=True, ends=_INFINITY),
        Writing("double precision", SECOND // 4, _fraction),
        Writing("integer", SECOND, _number(SECOND), whole=True, ends=_NEVER),
        *_WHOLE_NUMBERS,
    ],
    "mysql": [
        Writing("DATETIME(6)", 1, _TO_THE_MICROSECOND),
        Writing("DATETIME(3)", 1000, _TO_THE_MICROSECOND),
        Writing("DATETIME", SECOND, _TO_THE_SECOND),
        Writing("TIMESTAMP(6)", 1, _TO_THE_MICROSECOND),
        Writing("DATE", DAY, _DAY, whole=True),
        Writing("DOUBLE", SECOND // 4, _fraction),
        Writing("INT", SECOND, _number(SECOND), whole=True, ends=_NEVER),
        *_WHOLE_NUMBERS,
    ],
}
