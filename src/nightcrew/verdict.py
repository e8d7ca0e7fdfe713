"""Verdict: whether all is well with the jobs of a crew, and which of them need a person."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nightcrew.alarm import Kind
from nightcrew.bid import accounted_for, slot_due
from nightcrew.books import RunRow
from nightcrew.duration import when
from nightcrew.failsafe import FAILSAFE
from nightcrew.outcome import State
from nightcrew.roll import JobStatus

ABANDONED = "its run is open, and nobody goes on with it"
"""What is said of a run whose process is gone, and that no other has taken over."""

_BAD = {State.FAILED, State.MISSED}
_LATE = timedelta(minutes=10)  # past the slot, or the failsafe's time: outside callers are late now and then


class Mood(StrEnum):
    """How urgent something is."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line that says whether all is well."""

    mood: Mood
    sentence: str


@dataclass(frozen=True, slots=True)
class Concern:
    """Why one job needs a person; `run` is the one to look at, if there is one.

    Of what kind an alarm of it is, if it can be one, and since when it is so.
    """

    mood: Mood
    job: str
    says: str
    run: str | None = None
    kind: Kind | None = None
    since: datetime | None = None


def verdict(found: Sequence[JobStatus], bad: Sequence[str]) -> Verdict:
    """Say in one line whether all is well, where these jobs need attention."""
    if found and found[0].standing.stopped_at is not None:
        stop = found[0].standing
        return Verdict(Mood.WARN, f"every job is stopped by {stop.stopped_by}: {stop.stopped_reason}")
    if bad:
        needs = "1 job needs" if len(bad) == 1 else f"{len(bad)} jobs need"
        return Verdict(Mood.BAD, f"{needs} attention: {', '.join(bad)}")
    if covered := [each.job.name for each in found if each.last and each.last.trigger == FAILSAFE]:
        ran = "its failsafe ran it" if len(covered) == 1 else "their failsafe ran them"
        return Verdict(Mood.WARN, f"nobody came from outside for {', '.join(covered)}: {ran}")
    if not found:
        return Verdict(Mood.WARN, "nothing runs: no job is enabled")
    still = sum(each.paused or not each.job.enabled for each in found)
    if still == len(found):
        what = "the only job is" if still == 1 else f"all {still} jobs are"
        return Verdict(Mood.WARN, f"nothing runs: {what} paused or disabled")
    rest = f", {still} paused or disabled" if still else ""
    if again := sum(each.standing.retry_at is not None for each in found):
        rest += f", {again} of which failed and {'is' if again == 1 else 'are'} tried again"
    jobs = "1 job" if len(found) - still == 1 else f"{len(found) - still} jobs"
    return Verdict(Mood.GOOD, f"all quiet: {jobs} on schedule{rest}")


def concerns(found: Iterable[JobStatus], missed: Mapping[str, RunRow], now: datetime) -> list[Concern]:
    """Say of each job that needs a person why, the most urgent first; `missed` are slots that were the last of theirs.

    One that somebody has paused, or that is disabled, needs nobody: whoever did so knows.
    """
    told = [
        concern
        for each in found
        if each.job.enabled and (each.standing.rests or not each.paused)
        for concern in [_concern(each, missed.get(each.job.name), now)]
        if concern is not None
    ]
    return sorted(told, key=lambda concern: concern.mood is not Mood.BAD)


def attention(found: Iterable[Concern]) -> list[str]:
    """Name the jobs that need a person now."""
    return [concern.job for concern in found if concern.mood is Mood.BAD]


def refused(row: RunRow) -> bool:
    """Whether a safety rail stopped a run: it has failed, and its reason says so."""
    return row.state is State.FAILED and " was refused: " in (row.reason or "")


def _concern(each: JobStatus, missed: RunRow | None, now: datetime) -> Concern | None:
    last, name, standing = each.last, each.job.name, each.standing
    if last is not None and last.state in _BAD:
        streak = f"{standing.fail_streak} times in a row; " if standing.fail_streak > 1 else ""
        rests = " It is paused by itself for a while." if standing.rests and each.paused else ""
        kind = Kind.MISSED if last.state is State.MISSED else Kind.REFUSED if refused(last) else Kind.FAILING
        return Concern(Mood.BAD, name, f"{streak}{_said(last)}{rests}", last.id, kind, last.finished_at or last.moment)
    if missed is not None and (last is None or not last.state.open):
        return Concern(Mood.BAD, name, said_of_missed(missed), missed.id, Kind.MISSED, missed.since or missed.slot)
    if (late := _late(each, now)) is not None:
        return late
    if standing.retry_at is not None and last is not None:
        return Concern(Mood.WARN, name, _said(last), last.id)
    if last is not None and last.trigger == FAILSAFE:
        return Concern(Mood.WARN, name, "nobody came from outside: its failsafe ran it", last.id)
    return None


def _late(each: JobStatus, now: datetime) -> Concern | None:
    name, standing = each.job.name, each.standing
    if (slot := overdue(each, now)) is not None:
        first = min(slot, each.job.schedule.after(accounted_for(standing)))
        return Concern(Mood.BAD, name, f"due {when(slot, now)}, and nobody has run it", None, Kind.LATE, first)
    if (left := abandoned(each, now)) is not None:
        return Concern(Mood.BAD, name, ABANDONED, standing.run, Kind.LATE, left)
    return None


def abandoned(each: JobStatus, now: datetime, late: timedelta = _LATE) -> datetime | None:
    """Return since when a run is open that nobody goes on with, where somebody should have done so by now.

    When a run was handed over is not kept: it is nobody's since the next slot at the latest.
    """
    standing, job = each.standing, each.job
    if not standing.left(now) or standing.paused_at is not None or standing.stopped_at is not None:
        return None
    by = now - late - (job.failsafe_after or timedelta(0))
    since = standing.retry_at or standing.lease_until or job.schedule.after(accounted_for(standing))
    return since if since <= by and job.opens(by) <= by else None


def _said(row: RunRow) -> str:
    """Return what a run says, where the name of its job stands before it."""
    return (row.reason or str(row.state)).removeprefix(f"Job {row.job} ")


def said_of_missed(row: RunRow) -> str:
    """Return what is said of slots that nobody ran."""
    return f"missed: {row.reason}"


def overdue(each: JobStatus, now: datetime, late: timedelta = _LATE) -> datetime | None:
    """Return the slot that somebody should have claimed by now, where one may be so late."""
    standing, job = each.standing, each.job
    if standing.run is not None or standing.paused_at is not None or standing.stopped_at is not None:
        return None
    patience = late + (job.failsafe_after or timedelta(0))
    slot = slot_due(job, standing, now - patience)
    if slot is None or slot <= accounted_for(standing) or job.opens(slot) > now - patience:
        return None
    return slot
