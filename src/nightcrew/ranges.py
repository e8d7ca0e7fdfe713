"""The shape of the ranges of runs that are cut, each with a lease of its own under the fence of the run's claim."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nightcrew.books import Stage
from nightcrew.database import Connection, Cursor

OUTSIDE = 0
"""The number of what a run that is cut takes outside of its ranges."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a run that is cut, as it was taken: nobody else takes a batch in it while `owner` holds its lease.

    `first` is where it begins, `fence` that of the claim under which the run is worked at, and `attempt` how often
    somebody has taken it since its last batch.
    """

    job: str
    run: str
    number: int
    fence: int
    owner: str
    first: Cursor
    stage: Stage
    attempt: int

    @property
    def begun_at(self) -> Cursor | None:
        """Where it begins, if somebody has been there before."""
        begun = self.attempt or self.stage.total or self.stage.cursor != self.first
        return self.first if begun else None


class Ranges(Protocol):
    """The ranges of runs that are cut, each with a lease of its own under the fence of the run's claim."""

    def cut(
        self,
        connection: Connection,
        run: str,
        fence: int,
        so_far: Mapping[str, int],
        parts: Sequence[Cursor],
        table: str,
    ) -> None:
        """Write down the ranges of a run, in the transaction that holds its claim, and what it took before them.

        Its row counts from then on what is taken in all, of the `table` and of those that hang on it.
        """

    def take(self, job: str, run: str, fence: int, owner: str, lease: float, first: int | None = None) -> Range | None:
        """Take a range that nobody works at, `first` if that is one; None where there is none.

        Raises ClaimLost and JobPaused as `Books.hold` does.
        """

    def hold(self, connection: Connection, taken: Range, lease: float) -> None:
        """Keep a range from being taken by another until the transaction it guards has ended, and renew its lease.

        Raises ClaimLost where it has been, or where the run's claim has; and JobPaused as `Books.hold` does.
        """

    def renew(self, taken: Range, lease: float) -> None:
        """Renew a range's lease between two batches, once what the last one left under way has ended; may raise so."""

    def renew_all(self, held: Sequence[Range], lease: float) -> None:
        """Renew the leases of those that are still held and are in no batch."""

    def account(
        self, connection: Connection, run: str, stage: Stage, table: str, lease: float | None = None
    ) -> Counter[str]:
        """Write down where a range stands, and return what the run took in all, which is in its row from then on.

        Nobody else does until the transaction has ended.
        """

    def stage(self, run: str, number: int) -> Stage:
        """Return where a range stands."""

    def finish(self, taken: Range, doubts: Sequence[Cursor]) -> None:
        """Note that a range is at its end, and where somebody has to look again; raises ClaimLost as `hold` does."""

    def close(self, job: str, run: str, fence: int, owner: str) -> list[Cursor] | None:
        """Return where to look again once all ranges are at their ends, to the first who asks under a fence.

        None while some are not, and to everybody else.
        """

    def leave(self, taken: Range) -> None:
        """Leave a range to whoever comes next, unless somebody has it by now."""

    def free(self, run: str, fence: int) -> list[int]:
        """Return the numbers of the ranges that nobody works at."""

    def manned(self, run: str) -> bool:
        """Tell whether anybody works at a range of a run."""

    def dissolve(self, connection: Connection, run: str) -> None:
        """End all ranges where they stand, for whoever holds the claim to go through what they leave by itself."""

    def adrift(self) -> list[tuple[str, str]]:
        """Return (job, run) of those runs under way that have a range which nobody works at."""
