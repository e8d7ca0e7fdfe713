"""Upkeep: frames whose time is over leave the archive, and so do those of batches that never committed."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from nightcrew.archives.archive import Archive
from nightcrew.errors import JobFailed
from nightcrew.store import MOST

UPKEEP = "keep-up-archive"
_YOUNG = timedelta(hours=1)  # a batch that is under way has written its frame, and not yet of it


class Chore(Protocol):
    """The run of a job's function."""

    @property
    def should_stop(self) -> bool:
        """Whether it is to come to an end."""

    def count(self, number: int) -> None:
        """Count what it removed."""

    def say(self, sentence: str) -> None:
        """Say what came of it."""


def keep_up(run: Chore, archive: Archive, known: Callable[[str], Any]) -> None:
    """Remove what need not be kept; a frame of a run that is not `known` here stays, for it may be another database's.

    Raises JobFailed where some would not go, and StoreError where the store is away.
    """
    over, refused = _expired(run, archive)
    left, strange, more = _leftovers(run, archive, known)
    refused = {**refused, **more}
    said = [f"removed {over:,} frames whose time is over"] if over else []
    said += [f"removed {left:,} of batches that never committed"] if left else []
    said += [f"{strange:,} of runs that this database does not know stay"] if strange else []
    if refused:
        key, reason = next(iter(refused.items()))
        raise JobFailed("; ".join([*said, f"{len(refused):,} would not go: {key} ({reason})"]))
    sentence = "; ".join(said) or "nothing in the archive is to go"
    run.say(f"{sentence[:1].upper()}{sentence[1:]}.")


def _expired(run: Chore, archive: Archive) -> tuple[int, Mapping[str, str]]:
    """Remove frames first and their rows after them, so that a frame that would not go is tried again."""
    gone = 0
    while not run.should_stop and (over := archive.manifests.expired(archive.name, MOST)):
        refused = archive.store.remove([manifest.key for manifest in over])
        ended = [manifest.id for manifest in over if manifest.key not in refused]
        archive.manifests.forget(ended)
        gone += len(ended)
        run.count(len(ended))
        if refused:
            return gone, refused
    return gone, {}


def _leftovers(run: Chore, archive: Archive, known: Callable[[str], Any]) -> tuple[int, int, Mapping[str, str]]:
    """Remove frames that the database says nothing of; return how many, how many are strange, and what would not go."""
    gone, strange, refused = 0, 0, dict[str, str]()
    after: str | None = None
    while not run.should_stop:
        page = archive.store.page(after)
        old = [blob.key for blob in page.blobs if page.at - blob.modified_at > _YOUNG]
        told = archive.manifests.known(archive.name, old) if old else set()
        unsaid = [key for key in old if key not in told]
        ours = [key for key in unsaid if known(key.rpartition("/")[0])]
        strange += len(unsaid) - len(ours)
        if ours:
            found = archive.store.remove(ours)
            gone, refused = gone + len(ours) - len(found), {**refused, **found}
            run.count(len(ours) - len(found))
        if len(page.blobs) < MOST:
            break
        after = page.blobs[-1].key
    return gone, strange, refused
