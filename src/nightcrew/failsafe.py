"""How long the in-process scheduler leaves a slot to the outside caller who is to run it, before it covers it."""

from datetime import datetime
from hashlib import sha256

from nightcrew.books import Remark
from nightcrew.duration import about
from nightcrew.job import Job

FAILSAFE = "failsafe"
"""What a run is said to be started by that the in-process scheduler covered, and the kind of the remark on it."""

_MOST = 0.4  # of the period, and with the jitter half of it: a slot is covered before the next one is due
_JITTER = 0.25  # of the wait at most: not all jobs of one minute are covered in the same instant


def covers_from(job: Job, slot: datetime) -> datetime | None:
    """Return when the in-process scheduler runs a slot in place of the outside caller; None where it need not wait.

    It waits for nobody where anyone may run the job, nor for a slot that the job's window has held back: whoever was
    to come for it has come, and was sent away. Every machine reckons the same moment.
    """
    if job.failsafe_after is None or job.opens(slot) != slot:
        return None
    wait = min(job.failsafe_after, _MOST * (job.schedule.after(slot) - slot))
    return slot + wait * (1 + _JITTER * _chance(job, slot))


def absence(slot: datetime, now: datetime) -> Remark:
    """Return the remark that nobody came from outside for a slot, which is covered now."""
    late = about(now - slot)
    return Remark(FAILSAFE, f"the outside caller did not come: covered as failsafe {late} after the slot")


def _chance(job: Job, slot: datetime) -> float:
    """Return a number from 0 to 1 that is the same on every machine, and another for every job and slot."""
    digest = sha256(f"{job.name} {slot.timestamp()}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32
