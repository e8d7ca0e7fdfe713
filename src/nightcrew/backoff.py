"""Backoff: how long a run that has failed waits before it is tried again."""

from datetime import timedelta
from zlib import crc32

FIRST = timedelta(seconds=30)
LONGEST = timedelta(hours=1)
MOST_ATTEMPTS = 100
_DOUBLINGS = 32  # of a microsecond are more than an hour
_JITTER = 0.1  # of the wait at most: runs that failed together are not tried again together


def wait(first: timedelta, failures: int, run: str) -> timedelta:
    """Return how long a run waits after so many failures: twice as long after each, an hour at most.

    Up to a tenth of it is left out, as the run's name has it: whoever reckons comes to the same.
    """
    doubled = min(first * (1 << min(failures - 1, _DOUBLINGS)), LONGEST)
    return doubled * (1 - _JITTER * crc32(f"{run} {failures}".encode()) / 2**32)
