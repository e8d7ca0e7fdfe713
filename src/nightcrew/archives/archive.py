"""Archive: the store in which frames are kept, and what is written there before a batch commits."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from nightcrew.archives import frame as frames
from nightcrew.archives.frame import Copy, Frame
from nightcrew.archives.manifest import Manifest, Manifests
from nightcrew.archives.seal import Keyring
from nightcrew.clock import Clock
from nightcrew.errors import ArchiveError
from nightcrew.store import BlobStore

_T = TypeVar("_T")
NOWHERE = "archive is said, and there is no archive: name a store of blobs by archive = 'vault' under [nightcrew]"
"""What is wrong with a policy that is to be archived where there is no archive."""


class Archive:
    """The frames in a store of blobs, which is opened when it is first needed; nothing else is kept there."""

    def __init__(
        self, name: str, opened: Callable[[], BlobStore], keyring: Keyring, manifests: Manifests, clock: Clock
    ) -> None:
        self.name = name
        self.manifests = manifests
        self.clock = clock
        self._store = opened
        self._keyring = keyring

    @property
    def store(self) -> BlobStore:
        """Where the frames are."""
        return self._store()

    def keep(self, connection: Any, run: str, job: str, kept: timedelta, copies: Sequence[Copy]) -> None:
        """Write what a batch takes into the store, and then of it in the batch's transaction.

        So everything that leaves is in the archive, at whatever point this process dies. Raises StoreError where it
        cannot be written, and the batch is to be rolled back.
        """
        frame = Frame(run, job, tuple(copies))
        key = f"{run}/{self.clock.now():%Y%m%dT%H%M%S}-{self.clock.token()}.jsonl.zst{'.aes' * self._keyring.seals}"
        data, seal = self._keyring.seal(frames.packed(frame), key)
        self.store.put(key, data)
        digest = sha256(data).hexdigest()
        manifest = Manifest(run, job, self.name, key, frame.counts, len(data), digest, seal)
        self.manifests.enter(connection, manifest, kept)

    def read(self, manifest: Manifest) -> Frame:
        """Return a frame.

        Raises ArchiveError where it is not there, damaged, or sealed with another key, and StoreError where the store
        is away.
        """
        return self._opened(manifest, frames.unpacked)

    def check(self, manifest: Manifest) -> None:
        """Look whether a frame can be read, but at no row of it; raises what `read` does."""
        self._opened(manifest, frames.demand_format)

    def _opened(self, manifest: Manifest, read: Callable[[bytes], _T]) -> _T:
        data = self.store.get(manifest.key)
        try:
            return read(self._keyring.open(_whole(data, manifest), manifest.key, manifest.seal))
        except ArchiveError as error:
            place = f"frame {manifest.key} of the archive ({self.store.place})"
            raise ArchiveError(f"{place} cannot be read: {error}") from error


def _whole(data: bytes | None, manifest: Manifest) -> bytes:
    if data is None:
        raise ArchiveError("it is not there")
    if sha256(data).hexdigest() != manifest.digest:
        raise ArchiveError(f"it is damaged: of {manifest.size:,} bytes that were written, not all are what they were")
    return data
