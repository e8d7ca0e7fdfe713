"""Manifest: what the database says of a frame, and the shape of the table that says it.

Its row commits with the batch whose rows the frame holds. A frame without one is of a batch that was rolled back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

from nightcrew.archives.kept import Kept

Left: TypeAlias = Mapping[str, Sequence[int]]
"""The places of a frame's rows that have not been put back, by table."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A frame: whose it is, where, how many rows of each table, and what it must be when it is read.

    It was written `at`, and is kept `until` then (UTC). Once it was `restored_at`, what is `left` was not put back.
    """

    run: str
    job: str
    store: str
    key: str
    counts: Mapping[str, int]
    size: int
    digest: str
    seal: str | None
    id: int = 0
    at: datetime | None = None
    until: datetime | None = None
    restored_at: datetime | None = None
    left: Left | None = None

    @property
    def open(self) -> Mapping[str, int]:
        """How many rows of each table have not been put back."""
        if self.restored_at is None:
            return self.counts
        return {table: len(places) for table, places in (self.left or {}).items()}


class Manifests(Protocol):
    """The table of frames."""

    def enter(self, connection: Any, manifest: Manifest, kept: timedelta) -> None:
        """Write of a frame in the transaction of its batch, by the database's clock."""

    def of(self, run: str) -> list[Manifest]:
        """Return the frames of a run that are still to be kept, the newest first."""

    def listed(self, before: int | None, most: int) -> list[Kept]:
        """Return what is there of runs, the newest first, of those behind a place where one is given."""

    def told(self, run: str) -> Kept | None:
        """Return what is there of one run, also of one whose time is over; None where nothing is."""

    def held(self, connection: Any, number: int) -> Manifest | None:
        """Return a frame and keep others from putting it back meanwhile; None where it is to be kept no more."""

    def restored(self, connection: Any, number: int, left: Left) -> None:
        """Write that a frame was put back but for what is left, in the transaction in which it was."""

    def expired(self, store: str, most: int) -> list[Manifest]:
        """Return frames of a store that need not be kept any longer, the oldest first."""

    def known(self, store: str, keys: Sequence[str]) -> set[str]:
        """Return those keys of a store under which there is a frame that counts."""

    def forget(self, numbers: Sequence[int]) -> None:
        """Forget frames, and the keys by which they could be read."""
