"""Respite: how long a job that fails run after run is left alone before it is tried again."""

from datetime import timedelta

ITSELF = "nightcrew itself"
"""Who has paused such a job; no user of a machine has a space in the name."""

USUAL = 5
"""Failures in a row after which a job is paused that says nothing of it."""

_FIRST = timedelta(minutes=10)
# A job that is due once a day or less often is tried at each of its slots all the same.
_LONGEST = timedelta(hours=12)


def respite(streak: int, after: int) -> timedelta | None:
    """Return for how long a job is paused that has failed so many times in a row, or None while it is not.

    It is 10 minutes after the first `after` failures, twice as long with each one more, and never more than 12 hours.
    """
    if not after or streak < after:
        return None
    return min(_FIRST * (1 << min(streak - after, 10)), _LONGEST)
