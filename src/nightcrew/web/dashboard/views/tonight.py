"""Tonight: whether all is well, what needs a person, when what ran and is planned, and how every job stands."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nightcrew.alarm import Kind
from nightcrew.books import RunRow, Standing
from nightcrew.chronicle import Removed
from nightcrew.portrait import distance, late
from nightcrew.roll import JobStatus
from nightcrew.verdict import Concern, Mood, Verdict, attention, concerns, verdict
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.views.marks import Mark, mark, standing_of
from nightcrew.web.dashboard.views.rota import Rota, edges, rota
from nightcrew.web.dashboard.views.strip import LENGTH, Strip, strip

PAGE = 30
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_OTHERS = {Kind.IDLE, Kind.UNSENT, Kind.UNCOVERED, Kind.OLD_SECRET}  # the rest are concerns already
_NAMED = 20  # jobs that need a person, of which each has a line


@dataclass(frozen=True, slots=True)
class Coming:
    """When a job is due next; or, in words, why it is not."""

    at: datetime | None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One job in the schedule."""

    name: str
    owner: str | None
    when: str
    zone: str
    stands: Mark
    last: RunRow | None
    ended: Mark
    ended_at: datetime | None
    beside: str
    coming: Coming
    strip: Strip
    removed: Removed
    removes: bool
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tonight:
    """The first screen; `after` is the job that this page of the schedule ends with, where there are more."""

    now: datetime
    verdict: Verdict
    concerns: Sequence[Concern]
    unnamed: int
    removed: Removed
    jobs: int
    resting: Sequence[Standing]
    stopped: Standing | None
    coming: tuple[str, datetime] | None
    rota: Rota
    rows: Sequence[Row]
    found: int
    asked: str
    begins: str | None
    after: str | None

    @property
    def headline(self) -> str:
        """The verdict, without the names that stand below it."""
        said = self.verdict.sentence.partition(":")[0] if self.verdict.mood is Mood.BAD else self.verdict.sentence
        return said[:1].upper() + said[1:]


def tonight(crew: Crew, *, asked: str = "", begins: str | None = None) -> Tonight:
    """Read the first screen: of the jobs whose name, owner or table has what was `asked` for, those behind a name."""
    statuses, chronicle, now = crew.status(), crew.chronicle, crew.clock.now()
    found = concerns(statuses, chronicle.missed(), now)
    found += _alarming(crew, {concern.job for concern in found})
    chosen = [each for each in statuses if _matches(each, asked)]
    place = next((number + 1 for number, each in enumerate(chosen) if each.job.name == begins), 0)
    page = chosen[place : place + PAGE]
    names = [each.job.name for each in page]
    strips, removed = chronicle.strips(names, LENGTH), _removed(crew, page, now)
    traffic = chronicle.traffic(names, edges(now))
    stopped = next((each.standing for each in statuses if each.standing.stopped_at is not None), None)
    next_up = min(((each.next_slot, each.job.name) for each in statuses if each.next_slot), default=None)
    return Tonight(
        now=now,
        verdict=verdict(statuses, attention(found)),
        concerns=found[:_NAMED],
        unnamed=max(0, len(found) - _NAMED),
        removed=chronicle.removed_in_all(now - _DAY),
        jobs=len(statuses),
        resting=[each.standing for each in statuses if each.paused and each.standing.stopped_at is None],
        stopped=stopped,
        coming=next_up and (next_up[1], next_up[0]) if stopped is None else None,
        rota=rota([(each.job, each.next_slot is not None and stopped is None) for each in page], traffic, now),
        rows=[_row(each, strips, removed, now) for each in page],
        found=len(chosen),
        asked=asked,
        begins=begins if place else None,
        after=names[-1] if place + PAGE < len(chosen) else None,
    )


def _alarming(crew: Crew, named: Collection[str]) -> list[Concern]:
    """Return what people were told of jobs that nothing else is said of, in the same words; of those of this crew."""
    silent = ("", *crew.jobs.keys() - named)
    others = (alarm for alarm in crew.alarms.kept() if alarm.kind in _OTHERS and alarm.job in silent)
    return [
        Concern(Mood.WARN, alarm.job, f"{alarm.says.rstrip('.')}; {alarm.remedy}", None, alarm.kind, alarm.since)
        for alarm in others
    ]


def _removed(crew: Crew, page: Sequence[JobStatus], now: datetime) -> Mapping[str, Removed]:
    """Add up what policies have removed; what a function counts, only it knows the meaning of."""
    return crew.chronicle.removed([each.job.name for each in page if each.job.policy], now - _WEEK)


def coming(each: JobStatus) -> Coming:
    """Say when a job is due next, or why it is not."""
    if not each.job.enabled:
        return Coming(None, "disabled")
    if each.standing.stopped_at is not None:
        return Coming(None, "stopped")
    if each.paused:
        return Coming(each.standing.paused_until, "paused")
    if each.standing.retry_at is not None:
        return Coming(each.standing.retry_at, "again")
    return Coming(each.opens or each.next_slot)


def _matches(each: JobStatus, asked: str) -> bool:
    words = (each.job.name, each.job.owner or "", each.job.policy.table if each.job.policy else "")
    return any(asked.lower() in word.lower() for word in words)


def _row(each: JobStatus, strips: Mapping[str, Sequence[RunRow]], removed: Mapping[str, Removed], now: datetime) -> Row:
    job, last = each.job, each.last
    recent = strips.get(job.name, ())
    beside = [late(last, job), distance(last)] if last else []
    return Row(
        name=job.name,
        owner=job.owner,
        when=job.schedule.describe().removesuffix(f" ({job.schedule.timezone})"),
        zone=job.schedule.timezone,
        stands=standing_of(each),
        last=last,
        ended=mark(last),
        ended_at=(last.finished_at or last.moment) if last else None,
        beside=", ".join(filter(None, beside)),
        coming=coming(each),
        strip=strip(recent, now),
        removed=removed.get(job.name, Removed()),
        removes=job.policy is not None,
        by=tuple(dict.fromkeys(row.trigger for row in recent if row.trigger != "none")),
    )
