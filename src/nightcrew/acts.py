"""Acts: what people did by a crew, why, and the shape of the table that keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did: the verb, as the command line calls it, and whom it was done to.

    `at` and `number` are what the table says of one that is kept.
    """

    actor: str
    verb: str
    job: str | None = None
    run: str | None = None
    plan: str | None = None
    reason: str | None = None
    at: datetime | None = None
    number: int | None = None


class Acts(Protocol):
    """The part of nightcrew's own tables that is about who did what; nothing in it is ever changed."""

    def keep(self, act: Act) -> None:
        """Write down what somebody did."""

    def newest(self, *, job: str | None = None, before: int | None = None, limit: int = 50) -> Sequence[Act]:
        """Return the newest acts first, of one job or all, those before a number where one is given."""
