"""Rota: a night and a day as lines, one for each job: what ran when, and what is planned."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nightcrew.chronicle import Traffic
from nightcrew.job import Job
from nightcrew.outcome import State
from nightcrew.web.dashboard.views.marks import mark_of

_SPAN = timedelta(minutes=30)
_HOUR = timedelta(hours=1)
_SPANS = 48
_PAST = timedelta(hours=17)
_WORST = (
    *(State.FAILED, State.MISSED, State.RETRYING, State.PARTIAL, State.RUNNING),
    *(State.CANCELLED, State.SKIPPED, State.DONE),
)
_SLOTS = 400  # of a job in the hours to come: more often than that, every span has one


@dataclass(frozen=True, slots=True)
class Block:
    """Spans side by side that went alike; in minutes from the left."""

    x: int
    width: int
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Line:
    """One job: what ran, and the spans in which it is due."""

    job: str
    blocks: tuple[Block, ...]
    planned: tuple[int, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Rota:
    """The lines, the hours above them, and how far to the right now is, in minutes."""

    start: datetime
    hours: tuple[datetime, ...]
    now: int
    lines: tuple[Line, ...]


def edges(now: datetime) -> list[datetime]:
    """Return where the spans of the past begin and end, the last of them with the one that now is in."""
    start = _start(now)
    return [start + number * _SPAN for number in range(int((now - start) / _SPAN) + 2)]


def rota(jobs: Sequence[tuple[Job, bool]], traffic: Iterable[Traffic], now: datetime) -> Rota:
    """Draw what was counted between the `edges`; of each job it is said whether it is awake, so that it has plans."""
    start = _start(now)
    seen: dict[str, dict[int, dict[State, int]]] = defaultdict(lambda: defaultdict(dict))
    for one in traffic:
        seen[one.job][one.span][one.state] = one.number
    lines = tuple(_line(job, seen[job.name], start, now, awake=awake) for job, awake in jobs)
    hours = tuple(start + 2 * number * _HOUR for number in range(12))
    return Rota(start, hours, int((now - start).total_seconds() // 60), lines)


def _start(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) - _PAST


def _line(job: Job, spans: dict[int, dict[State, int]], start: datetime, now: datetime, *, awake: bool) -> Line:
    minutes, end = _SPAN.seconds // 60, start + _SPANS * _SPAN
    slots = job.schedule.between(now, end, _SLOTS) if awake else ()
    planned = {int((slot - start) / _SPAN) * minutes for slot in slots if slot < end}
    planned -= {int((now - start) / _SPAN) * minutes} if spans.get(int((now - start) / _SPAN)) else set()
    total: Counter[State] = sum(map(Counter, spans.values()), Counter())
    said = ", ".join(f"{number} {mark_of(state).word}" for state, number in total.items())
    return Line(job.name, _blocks(spans), tuple(sorted(planned)), said or "no runs")


def _blocks(spans: dict[int, dict[State, int]]) -> tuple[Block, ...]:
    """Let spans that went alike and stand side by side be one block."""
    minutes, blocks = _SPAN.seconds // 60, list[Block]()
    for number in sorted(spans):
        states = spans[number]
        worst = next(state for state in _WORST if state in states)
        kind, x = mark_of(worst).kind, number * minutes
        says = ", ".join(f"{count} {mark_of(state).word}" for state, count in states.items())
        last = blocks[-1] if blocks else None
        if last and last.kind == kind and last.x + last.width == x and kind == "good":
            blocks[-1] = Block(last.x, last.width + minutes, kind, "done")
        else:
            blocks.append(Block(x, minutes, kind, says))
    return tuple(blocks)
