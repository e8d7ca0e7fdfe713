"""A Job and its Standing → the Bid for the slot that is due, and what becomes of those nobody ran."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from nightcrew.books import Bid, RunRow, Standing
from nightcrew.clock import instant
from nightcrew.errors import ScheduleError, UsageError
from nightcrew.failsafe import FAILSAFE, absence, covers_from
from nightcrew.job import CatchUp, Job, Overlap
from nightcrew.outcome import State
from nightcrew.schedule import Schedule, written

MOST_EARLY = timedelta(seconds=30)  # a caller's clock may be this far ahead of the database's
MOST_CAUGHT_UP = 100  # slots of a job that catches up on all of them; those before them end as missed
_LONGEST_GRACE, _SHORTEST_GRACE = timedelta(hours=1), timedelta(minutes=1)
_TICK = timedelta(microseconds=1)
_NOBODY = "nobody was there to run them"
_COUNTED = 1000  # lapsed slots beyond this are not counted one by one


def bid_for(job: Job, standing: Standing, now: datetime, *, inside: bool = False, start: bool = False) -> Bid | None:
    """Return the bid for the slot that a job is to run now, if one is due.

    It is later than any slot claimed and than the job's epoch, and the latest, or the oldest that it catches up on.
    `inside` is the in-process scheduler, which leaves a slot for a while to the outside caller who is to run it.
    """
    oldest = job.schedule.after(accounted_for(standing))
    alone = oldest <= now < job.schedule.after(oldest)  # as it is nearly always
    slot = oldest if alone else slot_due(job, standing, now)
    if slot is None or (standing.mark is not None and slot <= standing.mark):
        return None
    at_start = start and job.on_start
    if slot <= standing.epoch_at and not at_start:
        return None
    covered = covers_from(job, slot) if inside and slot > standing.epoch_at else None
    if covered is not None and now < covered and not at_start:
        return None
    due = covered or job.opens(slot)
    if job.catch_up is CatchUp.NONE and not at_start and now - due > _grace(job, slot):
        return None  # the claim of the next one records it as missed
    bid = Bid(job.name, slot, run_id(job, slot), standing.fence, () if alone else lapsed(job, standing, slot))
    if covered is None or now < covered:
        return bid
    return bid._replace(trigger=FAILSAFE, remarks=(absence(slot, now),))


def look_again(job: Job, standing: Standing, now: datetime) -> datetime:
    """Return when there may be something to do for a job that was looked at now; what is past is the next look."""
    if is_paused(standing, now) or standing.paused_at is not None or standing.run is not None:
        return now
    if job.window is not None and job.window.closes(now) is None:
        return job.window.opens(now)
    slot = job.schedule.latest(now)
    if slot is None or slot <= accounted_for(standing):
        return job.schedule.after(now)
    missed = job.catch_up is CatchUp.NONE and job.failsafe_after is None and now - job.opens(slot) > _grace(job, slot)
    return job.schedule.after(now) if missed else now


def slot_due(job: Job, standing: Standing, now: datetime) -> datetime | None:
    """Return the latest slot, or the oldest that nobody has claimed where the job catches up on all of them."""
    slot = job.schedule.latest(now)
    if slot is None or job.catch_up is not CatchUp.ALL:
        return slot
    since = accounted_for(standing)
    for _ in range(MOST_CAUGHT_UP - 1):
        earlier = job.schedule.latest(slot - _TICK)
        if earlier is None or earlier <= since:
            break
        slot = earlier
    return slot


def accounted_for(standing: Standing) -> datetime:
    """Return the moment up to which every slot is accounted for."""
    return max(standing.mark, standing.epoch_at) if standing.mark else standing.epoch_at


def _grace(job: Job, slot: datetime) -> timedelta:
    """Return how late a slot may be that a job would rather miss than make up for: as late as a slow caller comes."""
    return min(max((job.schedule.after(slot) - slot) / 10, _SHORTEST_GRACE), _LONGEST_GRACE)


def slot_asked_for(job: Job, asked: datetime, now: datetime) -> datetime | None:
    """Return the slot that an instant falls into; None before the first one.

    Raises UsageError for an instant that is naive, before 1970 or still to come.
    """
    if asked.tzinfo is None:
        raise UsageError(f"slot {asked.isoformat()} has no time zone: write it in UTC, as in 2026-01-31T12:00:00Z")
    if asked < datetime(1970, 1, 1, tzinfo=UTC):
        raise UsageError(f"slot {asked.isoformat()} of job {job.name!r} lies before 1970, when no job was due")
    if asked > now + early(job, now):
        raise UsageError(f"slot {instant(asked)} of job {job.name!r} lies in the future: it cannot be run yet")
    return job.schedule.latest(asked)


def check_existed(job: Job, slot: datetime, standing: Standing, now: datetime) -> None:
    """Raise UsageError for a slot that was due before the job was there, or had its schedule.

    The one that is due now may be run all the same: whoever asks for it need not know when the job was registered.
    """
    if slot <= standing.epoch_at and slot != job.schedule.latest(now):
        since = instant(standing.epoch_at)
        raise UsageError(
            f"slot {instant(slot)} of job {job.name!r} lies before {since}, when the job got its schedule: it was"
            " not due then"
        )


def early(job: Job, now: datetime) -> timedelta:
    """Return how long before a slot a caller's tick already counts as that slot's: little, and less than its period."""
    before = job.schedule.latest(now)
    return timedelta(0) if before is None else min(MOST_EARLY, (job.schedule.after(now) - before) / 10)


def waits(job: Job, standing: Standing, now: datetime) -> bool:
    """Tell whether a job has something to do that its window keeps it from."""
    shut = job.window is not None and job.window.closes(now) is None
    return shut and (standing.run is not None or bid_for(job, standing, now) is not None)


def is_waiting(job: Job, standing: Standing, now: datetime) -> bool:
    """Tell whether a look would claim something of a job: a slot that is due, or a run that nobody holds any more."""
    if not job.enabled or is_paused(standing, now) or (job.window is not None and job.window.closes(now) is None):
        return False
    if standing.run is not None:
        held = standing.lease_until is not None and standing.lease_until >= now
        return not held and not between_attempts(standing, now)
    return bid_for(job, standing, now) is not None


def is_paused(standing: Standing, now: datetime) -> bool:
    """Tell whether a pause is in force, of the job or of all."""
    alone = standing.paused_at is not None and (standing.paused_until is None or standing.paused_until > now)
    return alone or standing.stopped_at is not None


def between_attempts(standing: Standing, now: datetime) -> bool:
    """Tell whether the open run has failed and is not to be tried again yet."""
    return standing.retry_at is not None and standing.retry_at > now


def lapsed(job: Job, standing: Standing, before: datetime) -> tuple[RunRow, ...]:
    """Return the rows for the slots between the last one claimed and `before`, which nobody ran: missed, or skipped.

    Of those that wait for the job's window only the latest is run; the others are skipped.
    """
    since = accounted_for(standing)
    if job.schedule.after(since) >= before:
        return ()
    until = before - _TICK
    paused_at = standing.paused_at or until
    awake = min(paused_at, until)
    shut, opened = (end - _TICK for end in job.window.shut(before)) if job.window else (awake, awake)
    rows = (
        unrun(job, job.schedule, (since, min(shut, awake)), State.MISSED, _NOBODY),
        unrun(
            job,
            job.schedule,
            (max(since, shut), min(opened, awake)),
            State.SKIPPED,
            f"due outside of window {job.window}",
        ),
        unrun(job, job.schedule, (max(since, opened), awake), State.MISSED, _NOBODY),
        unrun(job, job.schedule, (max(since, paused_at), until), State.SKIPPED, f"paused: {standing.paused_reason}"),
    )
    return tuple(row for row in rows if row is not None)


def overlapped(job: Job, standing: Standing, begun: datetime, now: datetime) -> RunRow | None:
    """Return the row for the slots that fell due during a run that ends now, if the job skips those.

    As long as a slot is still to come that was due before the run began, it says nothing: the mark would pass that by.
    """
    since = accounted_for(standing)
    due_before = job.schedule.latest(begun)
    to_come = due_before is not None and due_before > since
    if job.overlap is not Overlap.SKIP or to_come or standing.meaning != job.schedule.meaning:
        return None
    return unrun(job, job.schedule, (max(since, begun), now), State.SKIPPED, "the run before was still at work")


def unrun_before_change(job: Job, standing: Standing, now: datetime) -> RunRow | None:
    """Return the row for slots of the schedule that a job has had until now, which were due and nobody ran."""
    try:
        old = written(standing.schedule, standing.timezone)
    except ScheduleError:  # an older nightcrew may have read what this one refuses
        return None
    since = accounted_for(standing)
    row = unrun(job, old, (since, now), State.MISSED, "the schedule was changed before anybody ran them")
    # An id of its own: a slot that both schedules have can still be asked for.
    return row and replace(row, id=f"{row.id}.changed")


def unrun(job: Job, schedule: Schedule, span: tuple[datetime, datetime], state: State, why: str) -> RunRow | None:
    """Return the row for all slots later than the span's begin and up to its end, or None when there is none."""
    slots = list(schedule.between(*span, limit=_COUNTED)) if span[0] < span[1] else []
    last = schedule.latest(span[1]) if slots else None
    if last is None:
        return None
    number = f"more than {_COUNTED}" if len(slots) >= _COUNTED else str(len(slots))
    first = _stamp(slots[0])
    which = f"slot {first}" if len(slots) == 1 else f"{number} slots from {first} to {_stamp(last)}"
    return RunRow(
        id=f"{job.name}.{_stamp(last)}.{state}",  # of its own: the slot itself may still be run
        job=job.name,
        slot=last,
        state=state,
        trigger="none",
        reason=f"{which}: {why}",
        since=slots[0] if len(slots) > 1 else None,
    )


def run_id(job: Job, slot: datetime) -> str:
    """Return the id of the run of one slot: the same whoever runs it, so that it can only be written once."""
    return f"{job.name}.{_stamp(slot)}"


def hand_id(job: str, token: str) -> str:
    """Return the id of a run that belongs to no slot; by the token of a caller's key it is known before it begins."""
    return f"{job}.manual-{token}"


@lru_cache(maxsize=64)
def _stamp(slot: datetime) -> str:
    fraction = f".{slot:%f}" if slot.microsecond else ""
    return f"{slot.astimezone(UTC):%Y%m%dT%H%M%S}{fraction}Z"
