"""The shape of a store: a place outside the database where things are kept by keys, of which nothing may stay behind.

What a store is to remove is said by rows of the database, so a key is whatever text an application wrote there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MOST = 1_000
"""Keys that a store can be asked about at once, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One entry of a listing: its size in bytes, and when it was last written (UTC, by the store's clock).

    Where older versions are kept, the size is of all of them.
    """

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, in the order of the keys' code points, and what the store's own clock said (UTC).

    Nothing comes after a page of fewer blobs than were asked for.
    """

    blobs: tuple[Blob, ...]
    at: datetime


class Store(Protocol):
    """Whatever things can be removed from by their keys."""

    @property
    def place(self) -> str:
        """What a message calls it, without anything secret: “s3://acme-uploads”."""

    @property
    def most(self) -> int:
        """How many keys it is to be asked to remove at once, so that this ends within a minute or two at worst."""

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove all of them, and return why by the key of each that would not go; what is not there is removed.

        What may go a moment later is tried again first, a few times. It may be called again with the same keys.
        Raises StoreError when nothing can be done at all: nobody answers, no permission, no such bucket or folder.
        """


class BlobStore(Store, Protocol):
    """A store of blobs, which can also be listed, read and written; each verb raises StoreError when it cannot."""

    def page(self, after: str | None = None, limit: int = MOST, *, prefix: str = "") -> Page:
        """Return up to `limit` blobs whose keys come after one, of those that begin with `prefix`."""

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys under which there is a blob."""

    def get(self, key: str) -> bytes | None:
        """Return a blob, or None where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Write a blob, in place of one that may be there; whoever reads meanwhile has one of the two whole."""
