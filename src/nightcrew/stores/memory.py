"""Blobs in the memory of this process, for tests and trials."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from threading import Lock

from nightcrew.clock import Clock, SystemClock
from nightcrew.store import MOST, Blob, Page


class Memory:
    """A store that is empty at first, and gone with the process."""

    place = "memory://"
    most = MOST

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._kept: dict[str, tuple[Blob, bytes]] = {}

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove these blobs; all of them go."""
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)
        return {}

    def page(self, after: str | None = None, limit: int = MOST, *, prefix: str = "") -> Page:
        """Return up to `limit` blobs whose keys come after one, of those that begin with `prefix`."""
        with self._lock:
            keys = sorted(key for key in self._kept if key.startswith(prefix))
            first = 0 if after is None else bisect_right(keys, after)
            return Page(tuple(self._kept[key][0] for key in keys[first : first + limit]), self._clock.now())

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys under which there is a blob."""
        with self._lock:
            return {key for key in keys if key in self._kept}

    def get(self, key: str) -> bytes | None:
        """Return a blob, or None where there is none."""
        with self._lock:
            return self._kept[key][1] if key in self._kept else None

    def put(self, key: str, data: bytes) -> None:
        """Write a blob, in place of one that may be there."""
        with self._lock:
            self._kept[key] = (Blob(key, len(data), self._clock.now()), bytes(data))
