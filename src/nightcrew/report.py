"""Entries → Report, for a person or as JSON."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nightcrew.clock import instant
from nightcrew.outcome import Outcome

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Report:
    """How one call for a job ended; `message` is one line for a person, `details` says more about an error.

    `late_by` is how long after its slot the run was claimed, below zero before it.
    """

    job: str
    outcome: Outcome
    message: str
    timestamp: datetime
    trigger: str
    run: str | None = None
    slot: datetime | None = None
    deleted: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    late_by: timedelta | None = None
    duration_ms: int = 0
    remaining: int | None = None
    next_slot: datetime | None = None
    error: str | None = None
    details: str | None = None
    note: str | None = None
    retry_at: datetime | None = None

    def json(self) -> dict[str, Any]:
        """Return the body every door gives, in the order a person reads it; instants are ISO-8601 in UTC."""
        body: dict[str, Any] = {
            "success": self.outcome.success,
            "deletedCount": self.deleted,
            "message": self.message,
            "timestamp": instant(self.timestamp),
            "job": self.job,
            "runId": self.run,
            "slot": self.slot and instant(self.slot),
            "outcome": str(self.outcome),
            "trigger": self.trigger,
            "durationMs": self.duration_ms,
            "remaining": self.remaining,
            "nextSlot": self.next_slot and instant(self.next_slot),
            "counts": dict(self.counts),
            "lateSeconds": seconds(self.late_by),
        }
        again = instant(self.retry_at) if self.retry_at else None
        extra = {"error": self.error, "details": self.details, "note": self.note, "retryAt": again}
        return body | {key: value for key, value in extra.items() if value is not None}


def seconds(span: timedelta | None) -> float | None:
    """Write a span of time as JSON has it: in seconds, to the millisecond."""
    return None if span is None else round(span.total_seconds(), 3)


def one_line(text: str) -> str:
    """Return a text as one line that every terminal, log and encoding takes for one: no control characters in it."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode().strip()


def indented(text: str, by: int) -> list[str]:
    """Return a text's lines, each fit for a terminal or log and further in by so many blanks."""
    lines = text.rstrip().split("\n")
    return [f"{' ' * (by + len(line) - len(line.lstrip()))}{one_line(line)}" for line in lines]
