"""Call: a job's own function, run once with its account, whether it is def or async def."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from nightcrew.books import Books
from nightcrew.claim import Claim
from nightcrew.clock import Budget
from nightcrew.errors import DatabaseError, JobFailed, JobPaused, NightcrewError, SafetyStop

_SECOND = 1.0  # between two looks whether somebody has paused the job
_MOST = 2**63  # what a column of the ledger holds


@dataclass(slots=True)
class Call:
    """What a job's function is told of its run, and where it keeps count.

    `moment` is the database's clock when the run was claimed, in UTC; `id` stays the same when the run is tried
    again, so it can serve as an idempotency key.
    """

    job: str
    id: str
    slot: datetime | None
    moment: datetime
    budget: Budget
    halted: Callable[[], NightcrewError | None]
    counted: int = 0
    stopped: str | None = None
    paused: bool = False
    _look_at: float = field(default=0.0, init=False, repr=False)

    def count(self, number: int = 1) -> None:
        """Add to what the run reports as removed."""
        self.counted += number

    @property
    def should_stop(self) -> bool:
        """Whether to return soon: the deadline has passed, the process shuts down, or somebody has paused the job.

        A function that has read it as true is taken to have left work undone; the next call goes on. For a pause, a
        stop of all jobs, and another crew that has taken over, the database is asked about once a second.
        """
        self.stopped = self.stopped or self.budget.spent
        now = self.budget.clock.monotonic()
        if self.stopped is None and now >= self._look_at:
            self._look_at = now + _SECOND
            if (why := self.halted()) is not None:
                self.stopped, self.paused = str(why), isinstance(why, JobPaused)
        return self.stopped is not None


def call(claim: Claim, budget: Budget, books: Books) -> Call:
    """Call the job's function; an integer that it returns counts, in place of what it counted itself.

    Raises JobFailed with the function's exception as its cause; a SafetyStop passes as it is.
    """
    function = claim.job.function
    if function is None:
        raise JobFailed(f"job {claim.job.name!r} has no function")

    def halted() -> NightcrewError | None:
        try:
            return books.halted(claim.job.name, claim.fence)
        except DatabaseError:  # whether it can go on without is the function's to say
            return None

    account = Call(claim.job.name, claim.run, claim.slot, claim.moment, budget, halted)
    try:
        result = function(account) if inspect.signature(function).parameters else function()
        if inspect.isawaitable(result):
            result = asyncio.run(_finish(result))
    except (SafetyStop, KeyboardInterrupt):
        raise
    except BaseException as error:
        # A job that exits, is cancelled or runs into a time-out of gevent has failed as by any other exception.
        raise JobFailed(f"job {claim.job.name!r} raised {type(error).__name__}: {error}") from error
    if isinstance(result, int) and not isinstance(result, bool):
        account.counted = result
    if not 0 <= account.counted < _MOST:
        raise JobFailed(f"job {claim.job.name!r} counted {account.counted:.3g}, which is no number of things removed")
    return account


async def _finish(result: object) -> object:
    return await result  # type: ignore[misc]
