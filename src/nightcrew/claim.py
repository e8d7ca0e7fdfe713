"""Slot → Claim (lease, fence, moment): the right to run it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from nightcrew.books import Bid, Bidder, Remark, Stage, Won, altogether
from nightcrew.clock import Lease
from nightcrew.job import Job


class Claim(NamedTuple):
    """The right to run one slot (None: by hand) of a job, as long as no newer fence exists.

    `moment` is the database's clock when the run was first claimed: every cutoff of the run derives from it.
    `resumed` says that somebody else began the run; the `stages` are how far it had come. Whoever asks for it
    `at_once` is not held to the job's window. `plan` is the ID of the plan that it is to carry out. The `remarks`
    tell how the run came about. Who has `joined` works at a run that somebody else holds, and is `called` to a range.
    """

    job: Job
    won: Won
    slot: datetime | None
    bidder: Bidder
    stages: tuple[Stage, ...] = (Stage(),)
    resumed: bool = False
    at_once: bool = False
    plan: str | None = None
    remarks: tuple[Remark, ...] = ()
    joined: bool = False
    called: int | None = None
    lease: Lease | None = None

    @classmethod
    def of(cls, job: Job, bid: Bid, won: Won, bidder: Bidder, lease: Lease | None = None) -> "Claim":
        """Return what a bid has won."""
        bidder = replace(bidder, trigger=bid.trigger) if bid.trigger else bidder
        return cls(job, won, bid.slot, bidder, remarks=bid.remarks, lease=lease)

    @property
    def counts(self) -> Mapping[str, int]:
        """The rows per table that the run had taken before."""
        return altogether(self.stages)

    @property
    def late_by(self) -> timedelta | None:
        """How long after its slot the run was claimed, below zero before it; None by hand."""
        return None if self.slot is None else self.moment - self.slot

    @property
    def cut(self) -> bool:
        """Whether the run has ranges that many workers share."""
        return self.stages[0].number is not None

    def stage(self, number: int) -> Stage:
        """Return how far a walk had come."""
        place = number if self.cut else number - 1
        return self.stages[place] if place < len(self.stages) else Stage()

    @property
    def run(self) -> str:
        """The run's id in the ledger."""
        return self.won.run

    @property
    def fence(self) -> int:
        """The number that a newer claim will exceed."""
        return self.won.fence

    def renewed(self, asked_at: float) -> None:
        """Hear that its lease was renewed, as was asked for at a monotonic instant."""
        if self.lease is not None:
            self.lease.renewed(asked_at)

    @property
    def moment(self) -> datetime:
        """The database's clock when the run was first claimed."""
        return self.won.moment
