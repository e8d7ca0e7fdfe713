"""Sent or not: how a scheduled mail stands, and which of them may be tried again."""

from enum import StrEnum


class State(StrEnum):
    """How a scheduled mail stands; all but the first two are ends."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    MAYBE_SENT = "maybe_sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


RETRIED = (State.MAYBE_SENT, State.FAILED, State.EXPIRED)
"""What a person may let be tried again: no mail that was sent, and none that nobody wanted."""
