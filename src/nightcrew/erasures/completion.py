"""Completion: where what leaves can still be put back, a person is owed the rest of their erasure, until it cannot.

The debt is written as the row leaves, and due when an undo is over: so nobody is forgotten, and nobody too early.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from nightcrew.database import Selection
from nightcrew.errors import PolicyError
from nightcrew.owing import Owing
from nightcrew.policy import Policy

_LONGEST = 64  # letters of a store's name


def store_of(job: str) -> str:
    """Return the name under which the erasures of a job are owed; no store of an application is called so."""
    name = f"erasures of {job}"
    return name if len(name) <= _LONGEST else f"{name[:50]} {sha256(job.encode()).hexdigest()[:12]}"


def owing(job: str, selection: Selection) -> Owing:
    """Return what a row owes as it leaves: its primary key."""
    return Owing(store_of(job), selection.table.name, selection.table.primary_key[0])


def owed(job: str, policy: Policy, selection: Selection) -> Selection:
    """Let the erasure of each row be owed; raises PolicyError where it could not be carried out by the key alone."""
    key = selection.table.primary_key
    if len(key) != 1:
        raise PolicyError(
            "with archive, an erasure is completed by the primary key alone, once nothing can be put back any more, and"
            f" that of {selection.table.name!r} has {len(key)} columns: leave archive out, or erase",
            key="archive",
        )
    for trace in policy.traces:
        if further := [name for name in trace.columns if name not in key]:
            raise PolicyError(
                f"traces {trace.keys!r} names {further[0]}, which nobody knows any more when an erasure with archive is"
                f" completed: name {key[0]} alone, owe it by blobs, or leave archive out",
                key="traces",
            )
    return replace(selection, blobs=(*selection.blobs, owing(job, selection)))


@dataclass(frozen=True, slots=True)
class Completions:
    """The store that erasures of a job are owed to: what is removed from it, by a primary key, is a person."""

    place: str
    complete: Callable[[str], str | None]
    most: int = 10

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Complete the erasures, and return why by the key of each that is incomplete."""
        said = {key: self.complete(key) for key in keys}
        return {key: why for key, why in said.items() if why is not None}
