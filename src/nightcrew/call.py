"""Call: a job's own function, run once, from its last checkpoint on, whether it is def or async def."""

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from operator import index
from threading import Event
from typing import Any

from nightcrew.books import Checkpoint, Distance
from nightcrew.claim import Claim
from nightcrew.clock import Budget
from nightcrew.errors import (
    ClaimLost,
    DatabaseError,
    JobFailed,
    JobPaused,
    NightcrewError,
    RunCancelled,
    SafetyStop,
    UsageError,
)
from nightcrew.ledger import Entry
from nightcrew.walk import Broom

_SECOND = 1.0  # between two looks whether somebody has paused the job
_GLANCE = 0.25  # seconds between two entries that tell of progress, however often a function does
_TRIES = 4  # times a checkpoint is written before its error is the function's
_MOST = 2**63  # what a column of the ledger holds
_LONGEST_KIND = 30  # letters, as a column of the ledger has it
_NOWHERE = Checkpoint()  # where a function begins that nobody has called before
_VARIADIC = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
LONGEST_CURSOR = 64_000  # characters of JSON: a place in the work, not the work itself


class Call:
    """What a job's function is told of its run, and where it keeps count and says how far it is.

    `moment` is the database's clock when the run was claimed, in UTC; `id` stays the same when the run is tried again
    or gone on with. `attempt` is 1, and 1 more for each that has failed. `cursor` is what the last checkpoint kept,
    whoever wrote it, and None before the first.
    """

    def __init__(
        self,
        claim: Claim,
        broom: Broom,
        budget: Budget,
        note: Callable[[str, Distance], None],
        reached: Checkpoint,
    ) -> None:
        self.job: str = claim.job.name
        self.id: str = claim.run
        self.slot: datetime | None = claim.slot
        self.moment: datetime = claim.moment
        self.attempt: int = claim.won.failures + 1
        self.cursor: Any = reached.cursor
        self.counted: int = reached.counted
        self.said: str | None = None
        self.stopped: str | None = None
        self.paused = self.cancelled = False
        self._claim = claim
        self._broom = broom
        self._budget = budget
        self._note = note
        self._distance: Distance | None = None
        self._look_at = self._tell_at = 0.0

    def count(self, number: int = 1) -> None:
        """Add to what the run reports as removed; raises UsageError for what is no whole number."""
        try:
            self.counted += index(number)
        except TypeError:
            raise UsageError(f"count of job {self.job!r} is {number!r}; give a whole number: int(…)") from None

    def say(self, sentence: str) -> None:
        """Say what came of the run, in place of what it counted; the last sentence is the report's message."""
        self.said = sentence

    def enter(self, kind: str, **facts: Any) -> None:
        """Write a fact into the run's ledger, as JSON values, and let the listeners hear it.

        Raises UsageError for a kind that is no short word, and for facts that cannot be kept.
        """
        if not isinstance(kind, str) or not 0 < len(kind) <= _LONGEST_KIND:
            raise UsageError(f"kind {str(kind)[:60]!r} of an entry of job {self.job!r} is no word of 1 to 30 letters")
        entry = Entry(kind, self.job, self.id, self._readable(f"entry {kind!r}", facts))
        self._broom.ledger.write(entry)
        self._broom.ledger.tell(entry)

    def key(self, item: object) -> str:
        """Return what names one item's effect outside the database: the same in whichever attempt it is tried again."""
        return f"{self.id}/{item}"

    @property
    def remaining(self) -> timedelta | None:
        """How long the function may still work, zero once it should stop; None where nothing bounds it."""
        left = self._budget.left
        return None if left is None else timedelta(seconds=max(0.0, left))

    @property
    def should_stop(self) -> bool:
        """Whether to return soon: the deadline has passed, the process shuts down, or somebody paused or cancelled it.

        A function that has read it as true is taken to have left work undone; the next call goes on, unless the run was
        cancelled. For that, a pause, a stop of all jobs, and another crew that has taken over, the database is asked
        about once a second.
        """
        self.stopped = self.stopped or self._budget.spent
        now = self._broom.clock.monotonic()
        if self.stopped is None and now >= self._look_at:
            self._look_at = now + _SECOND
            if (why := self._halted()) is not None:
                self.stop(why)
        return self.stopped is not None

    def checkpoint(self, cursor: object, *, connection: object = None) -> None:
        """Keep how far the work is: whoever goes on with the run finds it as `cursor`, and what is counted by now.

        `cursor` is any JSON value of at most 64,000 characters. With `connection`, a SQLAlchemy Connection to this
        database, it is written in that one's transaction, and so commits together with what the function does there.
        Also renews the lease.

        Raises UsageError for a cursor that cannot be kept, ClaimLost if another crew has taken over, when nothing is
        kept, and JobPaused or RunCancelled once it is kept, if that is so. Let those three pass: they are no failures.
        """
        point = Checkpoint(self._readable("cursor", cursor), self.counted, self._distance)
        try:
            self._save(point, connection)
        except (ClaimLost, JobPaused, RunCancelled) as why:
            self.stop(why)
            raise
        self.cursor = point.cursor

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how much is done, of what total if that is known; as often as you like.

        A command shows it live; in the ledger it is noted with each checkpoint, and about every 20 seconds.
        """
        for name, number in (("done", done), ("total", total)):
            if not isinstance(number, int | None) or not 0 <= (number or 0) < _MOST or done is None:
                raise UsageError(f"{name} of a progress of job {self.job!r} is {number!r}; give a number from 0 on")
        self._distance = Distance(done, total)
        self._note(self.id, self._distance)
        now = self._broom.clock.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _GLANCE
            facts = {"done": done, "total": total, "label": self._claim.job.label}
            self._broom.ledger.tell(Entry("progress", self.job, self.id, facts))

    def stop(self, why: NightcrewError) -> None:
        """Take the function to leave work undone from now on."""
        self.stopped, self.paused = str(why), isinstance(why, JobPaused)
        self.cancelled = isinstance(why, RunCancelled)

    def _halted(self) -> NightcrewError | None:
        try:
            return self._broom.books.halted(self.job, self._claim.fence)
        except DatabaseError:  # whether it can go on without is the function's to say
            return None

    def _save(self, point: Checkpoint, connection: object) -> None:
        """Write a checkpoint; the same one may be written twice, so that a lost answer does no harm."""
        for attempt in range(1, _TRIES + 1):
            asked_at = self._broom.clock.monotonic()
            try:
                self._broom.books.save(connection, self._claim.won, point, self._broom.lease)
                if connection is None:  # who knows when the function's own transaction commits
                    self._claim.renewed(asked_at)
                return
            except DatabaseError as error:
                if connection is not None or not error.transient or attempt == _TRIES:
                    raise
            self._broom.clock.wait(Event(), 0.1 * 2**attempt * self._broom.clock.jitter(0.5))

    def _readable(self, what: str, value: object) -> Any:
        """Return a value as it will be read: JSON has no tuples, and keys are texts."""
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{what} of job {self.job!r} is no JSON ({error}); give a text, a number, or a list or dict of them,"
                " such as moment.isoformat()"
            ) from None
        if len(text) > LONGEST_CURSOR:
            raise UsageError(
                f"{what} of job {self.job!r} has {len(text):,} characters of JSON, and {LONGEST_CURSOR:,} can be kept:"
                " keep where the work stands, such as the last key, and not the work itself"
            )
        return json.loads(text)


def call(claim: Claim, broom: Broom, budget: Budget, note: Callable[[str, Distance], None]) -> Call:
    """Call the job's function; an integer that it returns counts, in place of what it counted itself.

    Raises JobFailed with the function's exception as its cause. A JobFailed, a SafetyStop and ClaimLost pass as they
    are, and so does a DatabaseError when the crew's own database is away.
    """
    function = claim.job.function
    if function is None:
        raise JobFailed(f"job {claim.job.name!r} has no function")
    reached = broom.books.saved(claim.run) if claim.resumed else _NOWHERE
    account = Call(claim, broom, budget, note, reached)
    try:
        result = function(account) if _wants_account(function) else function()
        if not isinstance(result, int | None) and inspect.isawaitable(result):
            result = asyncio.run(_finish(result))
    except (JobPaused, RunCancelled) as why:
        account.stop(why)
        return account
    except (JobFailed, SafetyStop, ClaimLost, KeyboardInterrupt):
        raise
    except BaseException as error:
        if broom.books.is_away(error):
            raise
        # A job that exits, is cancelled or runs into a time-out of gevent has failed as by any other exception.
        raise JobFailed(f"job {claim.job.name!r} raised {type(error).__name__}: {error}") from error
    if isinstance(result, int) and not isinstance(result, bool):
        account.counted = reached.counted + result
    if not 0 <= account.counted < _MOST:
        raise JobFailed(f"job {claim.job.name!r} counted {account.counted:.3g}, which is no number of things removed")
    return account


def _wants_account(function: Callable[..., Any]) -> bool:
    """Tell whether a function takes anything; of a plain one its code says so, hundreds of times a second."""
    if inspect.isfunction(function) and not vars(function):  # nor does it stand for another one
        code = function.__code__
        return code.co_argcount + code.co_kwonlyargcount > 0 or bool(code.co_flags & _VARIADIC)
    return bool(inspect.signature(function).parameters)


async def _finish(result: object) -> object:
    return await result  # type: ignore[misc]
