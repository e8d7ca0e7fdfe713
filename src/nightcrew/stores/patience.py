"""Patience: what would not go is tried again a few times, each time after a longer wait."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event

from nightcrew.clock import Clock

TRIES = 4
_FIRST = 0.25  # seconds before the second try; each wait is twice the one before


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one key would not go, and whether that is the end of it."""

    reason: str
    final: bool = False


def patiently(
    attempt: Callable[[Sequence[str]], Mapping[str, Refusal]], keys: Iterable[str], clock: Clock
) -> dict[str, str]:
    """Attempt to remove keys until none is left that may go a moment later, and return why the others did not."""
    refused: dict[str, str] = {}
    left = list(dict.fromkeys(keys))
    for tried in range(1, TRIES + 1):
        found = attempt(left) if left else {}
        refused |= {key: refusal.reason for key, refusal in found.items() if refusal.final}
        left = [key for key, refusal in found.items() if not refusal.final]
        if not left:
            return refused
        if tried < TRIES:
            clock.wait(Event(), _FIRST * 2 ** (tried - 1) * clock.jitter(0.5))
    return refused | {key: f"{found[key].reason} ({TRIES} times)" for key in left}
