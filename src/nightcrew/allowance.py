"""Allowance: what a walk works under — a fence that keeps others out, and an account held against a permit."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Protocol

from nightcrew.books import Books, Stage
from nightcrew.claim import Claim
from nightcrew.clock import Clock
from nightcrew.database import Connection, Cursor
from nightcrew.rails import Permit
from nightcrew.ranges import Range, Ranges


class Right(Protocol):
    """What a walk works under; its `number` is that of its range, and None says that there is only one."""

    @property
    def permit(self) -> Permit:
        """What the run may take in all."""

    def hold(self, connection: Connection) -> None:
        """Keep others out until the transaction has ended; raises ClaimLost where they are in, and JobPaused."""

    def renew(self) -> None:
        """Renew the lease between two batches, once whatever the last one left under way has ended."""

    @property
    def fading(self) -> bool:
        """Whether the lease has to be renewed before the next batch."""

    @property
    def shared(self) -> bool:
        """Whether others write down their batches in rows that these are written down in, too."""

    def stage(self, number: int) -> Stage:
        """Return how far the walk is by what has been committed."""

    def account(self, connection: Connection, number: int, cursor: Cursor, total: Mapping[str, int]) -> None:
        """Hear how far a walk comes, before it commits; raises SafetyStop when the run comes to more than it may."""


class Allowance:
    """The right of those who hold a run's claim: all walks of one process, whose rows are added up as they come."""

    shared = False

    def __init__(self, claim: Claim, permit: Permit, books: Books, clock: Clock, lease: float) -> None:
        self.permit = permit
        self._claim = claim
        self._books = books
        self._clock = clock
        self._lease = lease
        self._renewed = clock.monotonic()
        self._taken = {number: Counter(stage.total) for number, stage in enumerate(claim.stages, 1)}
        self._lock = Lock()

    def hold(self, connection: Connection) -> None:
        """Hold the claim."""
        self._books.hold(connection, self._claim.job.name, self._claim.fence)

    def renew(self) -> None:
        """Renew the claim's lease, which batches hold and cannot."""
        now = self._clock.monotonic()
        self._books.renew(None, self._claim.job.name, self._claim.fence, self._lease)
        self._renewed = now
        self._claim.renewed(now)

    @property
    def fading(self) -> bool:
        """Whether a third of the lease has passed."""
        return self._clock.monotonic() - self._renewed > self._lease / 3

    def stage(self, number: int) -> Stage:
        """Ask the ledger."""
        stages = self._books.progress(self._claim.run)
        return stages[number - 1] if number <= len(stages) else Stage()

    def account(self, connection: Connection, number: int, cursor: Cursor, total: Mapping[str, int]) -> None:
        """Add up what the walks have come to."""
        with self._lock:
            self._taken[number] = Counter(total)
            self.permit.demand(sum(self._taken.values(), Counter()), self._claim.job.name)


class Remainder(Allowance):
    """The right of whoever holds the claim of a run that is cut, to what its ranges have left."""

    def __init__(
        self, claim: Claim, permit: Permit, books: Books, clock: Clock, lease: float, ranges: Ranges, table: str
    ) -> None:
        super().__init__(claim, permit, books, clock, lease)
        self._ranges = ranges
        self._table = table

    def stage(self, number: int) -> Stage:
        """Ask the run's own row among its ranges'."""
        return self._ranges.stage(self._claim.run, number)

    def account(self, connection: Connection, number: int, cursor: Cursor, total: Mapping[str, int]) -> None:
        """Write down what was taken outside of the ranges, too."""
        taken = self._ranges.account(connection, self._claim.run, Stage(cursor, total, number), self._table)
        self.permit.demand(taken, self._claim.job.name)


class Share:
    """The right to one range of a run that is cut: workers on other machines have the others, at the same time."""

    def __init__(self, taken: Range, permit: Permit, ranges: Ranges, lease: float, table: str) -> None:
        self.permit = permit
        self._range = taken
        self._ranges = ranges
        self._lease = lease
        self._table = table

    fading = False  # every batch renews the lease of the range that it holds
    shared = True

    def hold(self, connection: Connection) -> None:
        """Hold the range, and look at the claim."""
        self._ranges.hold(connection, self._range, self._lease)

    def renew(self) -> None:
        """Renew the lease of the range."""
        self._ranges.renew(self._range, self._lease)

    def stage(self, number: int) -> Stage:
        """Ask the range's row."""
        return self._ranges.stage(self._range.run, number)

    def account(self, connection: Connection, number: int, cursor: Cursor, total: Mapping[str, int]) -> None:
        """Write it down, and hear what all have taken together."""
        stage = Stage(cursor, total, number)
        taken = self._ranges.account(connection, self._range.run, stage, self._table, self._lease)
        self.permit.demand(taken, self._range.job)
