"""Occasion: what a scheduler says in its headers of the run that it asks for.

- Google Cloud Scheduler sends the time that its schedule was due at, the same for every retry, as RFC 3339 in
  X-CloudScheduler-ScheduleTime (docs.cloud.google.com/scheduler/docs/configuring/deduplicate-job-requests).
- Vercel sends its cron expression in X-Vercel-Cron-Schedule when it calls a path, as a Cron Job or as a Schedule
  (vercel.com/docs/schedules/migrate-from-cron-jobs). Schedules that call a function send a CloudEvent instead: Ce-Type
  is com.vercel.schedule.v1beta, Ce-Id the execution ID, the same for every delivery of one occurrence, and
  Ce-Vssscheduledat the time that the schedule was due at, as ISO 8601 (vercel.com/docs/schedules/concepts, and the
  schedules package in github.com/vercel/vercel-py, which also reads Ce-Time). Whoever passes such a call on passes
  these headers on.
"""

from dataclasses import dataclass
from datetime import datetime

from nightcrew.errors import UsageError
from nightcrew.triggers.query import instant_of
from nightcrew.triggers.request import Request, visible

_CLOUD_SCHEDULER = "X-CloudScheduler-ScheduleTime"
_VERCEL_CRON = "X-Vercel-Cron-Schedule"
_VERCEL_TIMES = ("Ce-Vssscheduledat", "Ce-Time")
_VERCEL_EVENT = "com.vercel.schedule."
_LONGEST, _LONGEST_EXPRESSION = 255, 100  # characters of a key, and of a cron expression


@dataclass(frozen=True, slots=True)
class Occasion:
    """When a scheduler's own schedule was due, which header says so, the schedule, and the scheduler's ID for it."""

    at: datetime | None = None
    source: str | None = None
    schedule: str | None = None
    execution: str | None = None


def occasion(request: Request) -> Occasion:
    """Read what is said of the occasion of a call, once its caller is known; most callers say nothing.

    Raises UsageError with one sentence for the caller.
    """
    schedule = " ".join((_once(request, _VERCEL_CRON) or "").split())[:_LONGEST_EXPRESSION] or None
    if (time := _once(request, _CLOUD_SCHEDULER)) is not None:
        return Occasion(instant_of(time, _CLOUD_SCHEDULER), _CLOUD_SCHEDULER, schedule)
    if not (_once(request, "Ce-Type") or "").startswith(_VERCEL_EVENT):
        return Occasion(schedule=schedule)
    for header in _VERCEL_TIMES:
        if (time := _once(request, header)) is not None:
            execution = visible(_once(request, "Ce-Id") or "", 60) or None
            return Occasion(instant_of(time, header), header, schedule, execution)
    example = "send what Vercel sent, an instant such as 2026-03-29T01:00:00.000Z."
    raise UsageError(f"the header {_VERCEL_TIMES[0]} is missing from a schedule's event; {example}")


def key_of(request: Request) -> str | None:
    """Return the Idempotency-Key by which a call is known again, written with quotes or without.

    Raises UsageError with one sentence for the caller.
    """
    sent = _once(request, "Idempotency-Key")
    if sent is None:
        return None
    key = sent.strip()
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if 0 < len(key) <= _LONGEST and all("!" <= char <= "~" for char in key):
        return key
    raise UsageError(
        f"the header Idempotency-Key cannot be used; send 1 to {_LONGEST} visible characters, such as"
        ' "8e03978e-40d5-43dd-bc93-6894a57f9324".'
    )


def _once(request: Request, header: str) -> str | None:
    found = request.values(header.lower().encode())
    if len(found) > 1:
        raise UsageError(f"the header {header} is given twice; send it once.")
    return found[0].decode("latin-1") if found else None
