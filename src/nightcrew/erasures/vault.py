"""Vault: whom the database has to forget, and the receipts, in a store outside of it, which no restore puts back."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from nightcrew.clock import instant
from nightcrew.erased import Erasure, State
from nightcrew.errors import StoreError
from nightcrew.store import MOST, BlobStore

_ERASED, _RECEIPTS = "erased/", "receipts/"


class Vault:
    """A store of blobs with one for each erasure, written before its first row goes, and one for each receipt."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    @property
    def place(self) -> str:
        """What a message calls it."""
        return self._store.place

    def announce(self, erasure: Erasure) -> None:
        """Write that a subject is to be forgotten, by its hash."""
        self._store.put(f"{_ERASED}{erasure.id}.json", _json(erasure))

    def withdraw(self, erasure: Erasure) -> None:
        """Take that back; raises StoreError where it stays."""
        key = f"{_ERASED}{erasure.id}.json"
        if refused := self._store.remove([key]):
            raise StoreError(f"{self.place} does not let go of {key}: {refused[key]}")

    def file(self, receipts: Iterable[Erasure]) -> None:
        """Write the receipts that are not there yet."""
        named = {_named(receipt.number or 0): receipt for receipt in receipts}
        there = self._store.present(list(named)) if named else set()
        for key, receipt in named.items():
            if key not in there:
                self._store.put(key, _json(receipt))

    def ahead(self, number: int) -> bool:
        """Tell whether there are receipts after this one."""
        return bool(self._store.page(_named(number), 1, prefix=_RECEIPTS).blobs)

    def announced(self) -> Iterator[Erasure]:
        """Read all that were announced."""
        return self._read(_ERASED)

    def receipts(self) -> Iterator[Erasure]:
        """Read all receipts, in the order of their numbers."""
        return self._read(_RECEIPTS)

    def _read(self, prefix: str) -> Iterator[Erasure]:
        after: str | None = None
        while True:
            page = self._store.page(after, MOST, prefix=prefix)
            for blob in page.blobs:
                if (found := self._store.get(blob.key)) is not None:
                    yield self._erasure(blob.key, found)
            if len(page.blobs) < MOST:
                return
            after = page.blobs[-1].key

    def _erasure(self, key: str, found: bytes) -> Erasure:
        try:
            said: dict[str, Any] = json.loads(found)
            times = {name: datetime.fromisoformat(said[name]) for name in _TIMES if said[name]}
            return Erasure(**{**said, **times, "state": State(said["state"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{key} in {self.place} cannot be read as an erasure: put back what a backup has"
            ) from error


_TIMES = ("requested_at", "finished_at")
_KEPT = ("id", "job", "table", "subject", "by", "number", "receipt", "digest")


def _json(erasure: Erasure) -> bytes:
    said = {name: getattr(erasure, name) for name in _KEPT} | {"state": str(erasure.state)}
    times = {name: moment and instant(moment) for name in _TIMES for moment in (getattr(erasure, name),)}
    return json.dumps(said | times, sort_keys=True).encode()


def _named(number: int) -> str:
    return f"{_RECEIPTS}{number:012}.json"
