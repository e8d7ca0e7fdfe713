"""Absence: which alarms stand at a moment, by what nightcrew's own tables tell of what did not happen, or failed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from nightcrew.alarm import Alarm, Kind, Sighting
from nightcrew.books import RunRow
from nightcrew.duration import span, when
from nightcrew.failsafe import FAILSAFE
from nightcrew.outcome import State
from nightcrew.roll import JobStatus
from nightcrew.verdict import concerns, said_of_missed
from nightcrew.vitals import interval

FAILURES = 3
"""How often in a row a job fails before it is an alarm, unless the crew says otherwise."""

HEALED = timedelta(hours=1)
"""For how long slots that nobody ran are an alarm, where the job has run since."""

_REMOVALS, _GAPS, _SLOTS = 5, 3, 5
_LATE = timedelta(minutes=10)  # a slot that nobody ran for less than this was missed by a deploy
_UNSENT = timedelta(minutes=30)
_USED = timedelta(hours=25)  # callers may come once a day

_REMEDIES = {
    Kind.LATE: "see that a process with the ticker runs, or that its caller comes; 'nightcrew run {job}' runs it now",
    Kind.MISSED: "see why no process ran then; 'nightcrew runs {job} --failed' lists what was missed",
    Kind.FAILING: "'nightcrew runs {job} --failed' shows the errors",
    Kind.REFUSED: "'nightcrew plan {job}' shows what it would take, and 'nightcrew ack {job}' agrees to it",
    Kind.IDLE: "see that its column still gets its values; 'nightcrew plan {job}' shows what it would take",
    Kind.UNSENT: "'nightcrew mail due' shows what waits, and 'nightcrew runs {job}' what its runs say",
    Kind.UNCOVERED: "see that whoever calls it from outside still does, and what they are answered",
    Kind.OLD_SECRET: "give that caller the new CRON_SECRET before you unset CRON_SECRET_PREVIOUS",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read at a moment: how jobs stand, and what is known of their runs.

    `missed` are the slots that nobody ran where nothing newer is known of the job, `lapsed` those of the last hour,
    `newest` the runs of jobs that somebody outside is to run, and `removals` when jobs removed rows, all the newest
    first. `unsent` is since when mail has been due of which none leaves, `old_secret` who used it last, and `idle` are
    the alarms of that kind that stand.
    """

    now: datetime
    found: Sequence[JobStatus]
    missed: Mapping[str, RunRow] = field(default_factory=dict)
    lapsed: Mapping[str, RunRow] = field(default_factory=dict)
    ended: Mapping[str, RunRow] = field(default_factory=dict)
    newest: Mapping[str, Sequence[RunRow]] = field(default_factory=dict)
    removals: Mapping[str, Sequence[datetime]] = field(default_factory=dict)
    unsent: tuple[str, datetime] | None = None
    old_secret: Sighting | None = None
    idle: Mapping[str, Alarm] = field(default_factory=dict)
    failures: int = FAILURES


def alarms(facts: Facts) -> list[Alarm]:
    """Return what stands; of a job that somebody has paused, or that is disabled, nothing does."""
    found = list(_of_concerns(facts))
    told = {alarm.job for alarm in found}
    awake = [each for each in facts.found if not quiet(each)]
    found.extend(_lapsed(facts, each) for each in awake if each.job.name in facts.lapsed.keys() - told)
    found.extend(filter(None, (_uncovered(facts, each) for each in awake)))
    found.extend(filter(None, (_idle(facts, each) for each in awake)))
    if facts.unsent is not None and facts.unsent[0] in {each.job.name for each in awake} - told:
        job, since = facts.unsent
        if facts.now - since > max(2 * interval(_of(awake, job).job.schedule, facts.now), _UNSENT):
            says = f"mail was due {when(since, facts.now)}, and none is sent"
            found.append(_made(Kind.UNSENT, job, since, says))
    if facts.old_secret is not None and facts.now - facts.old_secret.at < _USED:
        since, at, by = facts.old_secret
        says = f"{by} called with CRON_SECRET_PREVIOUS, the last time {when(at, facts.now)}"
        found.append(_made(Kind.OLD_SECRET, "", since, says))
    return found


def quiet(each: JobStatus) -> bool:
    """Tell whether nobody is to hear of a job: somebody has paused it, and knows, or it is disabled."""
    return not each.job.enabled or (each.paused and not each.standing.rests)


def _of_concerns(facts: Facts) -> Iterator[Alarm]:
    """Say what needs a person in the words in which it is said everywhere else; one failure is not yet alarming."""
    streaks = {each.job.name: each.standing.fail_streak for each in facts.found}
    for concern in concerns(facts.found, facts.missed, facts.now):
        rare = concern.kind is Kind.FAILING and streaks[concern.job] < facts.failures
        if concern.kind is not None and not rare:
            yield _made(concern.kind, concern.job, concern.since or facts.now, concern.says)


def _lapsed(facts: Facts, each: JobStatus) -> Alarm:
    """Say that nobody ran slots, though somebody has come since: whoever was away may be so again."""
    row = facts.lapsed[each.job.name]
    return _made(Kind.MISSED, each.job.name, row.since or row.slot or facts.now, said_of_missed(row))


def long_missed(rows: Iterable[RunRow]) -> dict[str, RunRow]:
    """Return, by job, the slots that nobody ran for long: those that a deploy is to blame for are nobody's concern."""
    return {
        row.job: row
        for row in rows
        if row.moment is not None and row.slot is not None and row.moment - (row.since or row.slot) > _LATE
    }


def _uncovered(facts: Facts, each: JobStatus) -> Alarm | None:
    """Say that redundancy is lost: nobody came from outside for two slots in a row, and the failsafe ran both."""
    ran = [row for row in facts.newest.get(each.job.name, ()) if row.state not in (State.MISSED, State.SKIPPED)][:2]
    if len(ran) < 2 or {row.trigger for row in ran} != {FAILSAFE}:
        return None
    says = "nobody came from outside for two slots in a row: its failsafe ran them"
    return _made(Kind.UNCOVERED, each.job.name, ran[1].slot or ran[1].moment or facts.now, says)


def _idle(facts: Facts, each: JobStatus) -> Alarm | None:
    """Say that a job has removed nothing for unusually long.

    Its own history decides. It has removed rows five times at least, of which its newest 500 runs tell; its last run
    ended well and removed none; and since the last removal three times the longest gap between two of them has passed,
    and five times the gap between its slots. A job that never removed anything is no alarm: there was nothing to. Once
    it stands it does so until the job removes a row, even when the removals of old are forgotten.
    """
    name, removals = each.job.name, facts.removals.get(each.job.name, ())
    standing, last = facts.idle.get(name), facts.ended.get(name)
    if standing is not None:
        return None if removals and removals[0] > standing.since else standing
    if last is None or last.moment is None or last.state is not State.DONE or last.deleted:
        return None
    if each.job.policy is None or len(removals) < _REMOVALS:
        return None
    longest = max(later - earlier for later, earlier in pairwise(removals))
    usual = max(_GAPS * longest, _SLOTS * interval(each.job.schedule, facts.now))
    if last.moment - removals[0] <= usual:
        return None
    says = f"it removed nothing since {removals[0]:%Y-%m-%d %H:%M}Z, and did so every {span(longest)} at least before"
    return _made(Kind.IDLE, name, removals[0], says)


def _of(found: Sequence[JobStatus], job: str) -> JobStatus:
    return next(each for each in found if each.job.name == job)


def _made(kind: Kind, job: str, since: datetime, says: str) -> Alarm:
    return Alarm(kind, job, since, says, _REMEDIES[kind].format(job=job))
