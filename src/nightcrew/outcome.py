"""Outcome: how a call for a slot ended, and what every door answers for it."""

from enum import StrEnum


class Outcome(StrEnum):
    """The one word a caller gets; the same over HTTP, on the command line and in Python."""

    SUCCEEDED = "succeeded"
    NOTHING_TO_DO = "nothing_to_do"
    ALREADY_DONE = "already_done"
    IN_PROGRESS_ELSEWHERE = "in_progress_elsewhere"
    PARTIAL = "partial"
    FAILED = "failed"
    REFUSED = "refused"
    DISABLED = "disabled"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def success(self) -> bool:
        """Whether the caller may look away: false for a failure, a refusal, and what was switched off or cancelled."""
        return self not in _UNSUCCESSFUL

    @property
    def status(self) -> int:
        """The HTTP status: a duplicate call is no error, for an error would set off the caller's retries."""
        return _STATUS.get(self, 200)

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return _EXIT_CODE.get(self, 0)


_UNSUCCESSFUL = {Outcome.FAILED, Outcome.REFUSED, Outcome.DISABLED, Outcome.PAUSED, Outcome.CANCELLED}
_STATUS = {Outcome.FAILED: 500, Outcome.REFUSED: 503}
_EXIT_CODE = {Outcome.FAILED: 1, Outcome.REFUSED: 3}


class State(StrEnum):
    """Where a run stands in the ledger; a slot ends as one of the last five.

    One that is `retrying` has failed, and is tried again.
    """

    RUNNING = "running"
    PARTIAL = "partial"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"

    @property
    def open(self) -> bool:
        """Whether somebody still has to go on with it."""
        return self in {State.RUNNING, State.PARTIAL, State.RETRYING}
