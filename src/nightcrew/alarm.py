"""Alarm: what a person has to know of a job, what is told of it and when, and the shape of the table that keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from nightcrew.clock import instant

_CALM = timedelta(minutes=5)  # how long an alarm is not seen before it is over, the first time within a day
_CALMEST = timedelta(hours=6)
_DAY = timedelta(days=1)


class Kind(StrEnum):
    """What an alarm is about."""

    LATE = "late"
    """A job is due, and nobody has run it."""
    MISSED = "missed"
    """Nobody ran a job when it was due, and no more will."""
    FAILING = "failing"
    """Run after run of a job fails."""
    REFUSED = "refused"
    """A safety rail has stopped a run."""
    IDLE = "idle"
    """A job has removed nothing for unusually long."""
    UNSENT = "unsent"
    """Mail is due, and none is sent."""
    OLD_SECRET = "old_secret"  # noqa: S105 - no secret
    """A caller still uses the previous secret."""
    UNCOVERED = "uncovered"
    """Nobody came from outside for a job: only its failsafe runs it."""
    MANY = "many"
    """None of its own: a notice tells of many at once."""
    TEST = "test"
    """None: channels are tried."""


class Stage(StrEnum):
    """Why something is told."""

    RAISED = "raised"
    REMINDED = "reminded"
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Alarm:
    """What stands since when: what was seen, and what to do about it. Without a `job` it is about the crew."""

    kind: Kind
    job: str
    since: datetime
    says: str
    remedy: str

    @property
    def key(self) -> tuple[Kind, str]:
        """What tells it from every other."""
        return self.kind, self.job

    @property
    def sentence(self) -> str:
        """All of it, for a person."""
        return f"{f'{self.job}: ' * bool(self.job)}{self.says.rstrip('.')}; {self.remedy}"

    def json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        about = {"kind": str(self.kind), "job": self.job or None, "since": instant(self.since)}
        return about | {"message": self.says, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of an alarm at a moment; its `id` is the same however often it is tried.

    One of many alarms at once has them as its `parts`, the oldest first, and an `alarm` of kind MANY that sums them up.
    """

    id: str
    stage: Stage
    alarm: Alarm
    at: datetime
    parts: tuple[Alarm, ...] = ()

    @property
    def subject(self) -> str:
        """One line that says what it is about."""
        if self.parts:
            return f"[nightcrew] {_HEADS[self.stage]}{self.alarm.says.partition(':')[0]}"
        return f"[nightcrew] {_HEADS[self.stage]}{self.alarm.job or 'this crew'} {_SHORT[self.alarm.kind]}"

    @property
    def text(self) -> str:
        """The whole of it, for a person: a line or two."""
        if self.stage is Stage.TEST:
            return f"{self.alarm.says} Nothing is wrong."
        if self.stage is Stage.RESOLVED:
            return f"It stood since {instant(self.alarm.since)}; what was seen last: {self.alarm.says.rstrip('.')}."
        return f"{self.alarm.sentence.rstrip('.')}. It is so since {instant(self.alarm.since)}."

    def json(self) -> dict[str, Any]:
        """Return it as JSON has it, in the shape of the Standard Webhooks."""
        data = self.alarm.json()
        if self.parts:
            data["alarms"] = [part.json() for part in self.parts]
        return {"type": f"nightcrew.alarm.{self.stage}", "timestamp": instant(self.at), "data": data}


_HEADS = {Stage.RAISED: "", Stage.REMINDED: "still: ", Stage.RESOLVED: "no longer: ", Stage.TEST: "test: "}
_SHORT = {
    Kind.LATE: "is late",
    Kind.MISSED: "was missed",
    Kind.FAILING: "is failing",
    Kind.REFUSED: "was refused",
    Kind.IDLE: "removes nothing",
    Kind.UNSENT: "sends no mail",
    Kind.OLD_SECRET: "is called with the old secret",
    Kind.UNCOVERED: "is run by its failsafe alone",
    Kind.MANY: "has many alarms",
    Kind.TEST: "tells of alarms",
}
_NAMED = 5  # alarms that a notice of many names; all of them stand in the JSON


def trial(now: datetime, token: str) -> Notice:
    """Return a notice by which channels are tried."""
    says = "This is a test of the alarms."
    return Notice(f"test-{token}", Stage.TEST, Alarm(Kind.TEST, "", now, says, "nothing is to be done"), now)


def summed_up(notices: Sequence[Notice]) -> Notice:
    """Return one notice for many of one stage: of the same ones it has the same id, in whichever order they are."""
    parts = tuple(sorted((notice.alarm for notice in notices), key=lambda alarm: (alarm.since, alarm.key)))
    names = [f"{alarm.job or 'this crew'} {_SHORT[alarm.kind]}" for alarm in parts[:_NAMED]]
    rest = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    says = f"{len(parts)} alarms at once: {', '.join(names)}{rest}"
    alarm = Alarm(Kind.MANY, "", parts[0].since, says, "'nightcrew alarms' lists them with what to do")
    ids = " ".join(sorted(notice.id for notice in notices))
    at = max(notice.at for notice in notices)
    return Notice(f"many-{sha256(ids.encode()).hexdigest()[:24]}", notices[0].stage, alarm, at, parts)


class Kept(NamedTuple):
    """A row of the table: an alarm that was last seen at `seen_at`, and ended perhaps; it rose so often within a day.

    `stage` is due to be told since `due_at`, where it is, or was told; whoever tells has it until `lease_until`, and so
    long it rests where that failed. Each change of hands has a `fence` of its own. `reached` are the channels that took
    it, of so many `attempts` so far.
    """

    alarm: Alarm
    episode: str
    rises: int
    seen_at: datetime
    ended_at: datetime | None
    stage: Stage
    number: int
    due_at: datetime | None
    lease_until: datetime | None
    fence: int
    attempts: int
    reached: tuple[str, ...]
    told_at: datetime | None
    wrong: str | None

    @property
    def stands(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None

    @property
    def notice(self) -> Notice:
        """What is to be told of it."""
        return Notice(f"{self.episode}-{self.number}", self.stage, self.alarm, self.due_at or self.seen_at)

    def held(self, now: datetime) -> bool:
        """Tell whether somebody tells of it at this moment, or it rests until that is tried again."""
        return self.lease_until is not None and self.lease_until > now

    def calm(self, now: datetime) -> bool:
        """Tell whether it was not seen for so long that it is over: the longer, the more often it came back."""
        return now - self.seen_at > min(_CALM * (1 << min(self.rises - 1, 10)), _CALMEST)


class Sighting(NamedTuple):
    """What is to come to an end was seen at a moment, by whom, and since when without a day in between."""

    since: datetime
    at: datetime
    by: str


class Alarms(Protocol):
    """The part of nightcrew's own tables that keeps which alarms stand, and what was told of them."""

    def listed(self) -> tuple[datetime, Sequence[Kept]]:
        """Return the database's clock, and every alarm there is, 5,000 at most; the oldest first."""

    def raise_(self, risen: Mapping[str, Alarm]) -> None:
        """Keep alarms that are due to be told at once, by their episodes, unless they are kept already.

        Nobody sees some of them before the others: they may be told of together.
        """

    def move(self, seen: Kept, changes: Mapping[str, Any]) -> bool:
        """Change a row that stands as it was seen, under a new fence; False where somebody else has."""

    def refresh(self, seen: Sequence[tuple[Kept, Alarm]], now: datetime) -> None:
        """Note that alarms were seen again, unless somebody has a moment ago; in the words of now, unless some wait.

        So a notice that is tried again says the same.
        """

    def claim(self, seen: Sequence[Kept], lease: timedelta) -> list[Kept]:
        """Win the right to tell of rows until the lease is over; return those won, as they are now.

        Of two who ask for the same rows at once, one gets them all.
        """

    def forget(self, seen: Sequence[Kept]) -> None:
        """Delete rows that stand as they were seen."""

    def saw(self, what: str, by: str) -> None:
        """Note that something was seen which is to come to an end, at most once a minute whoever sees it."""

    def sighting(self, what: str) -> Sighting | None:
        """Return when it was last seen."""


def changes(kept: Kept, seen: Alarm | None, now: datetime, *, told: bool) -> dict[str, Any] | None:
    """Return what changes of a row, now that its alarm is `seen`, or is not: None for nothing, {} for its deletion.

    What ends is `told` unless whoever paused the job knows, or nobody was told that it had risen. What has ended is
    kept for a day, so that one which comes and goes is known, and told of ever less often.
    """
    if kept.held(now):
        return None
    if seen is not None:
        return _reminded(kept, now) if kept.stands else _raised_again(kept, seen, now)
    if kept.ended_at is not None:
        return {} if kept.due_at is None and now - kept.ended_at > _DAY else None
    if told and not kept.calm(now):
        return None
    if told and kept.told_at is not None:
        return _anew(kept, Stage.RESOLVED, now) | {"ended_at": now}
    return {"due_at": None, "ended_at": now}


def _reminded(kept: Kept, now: datetime) -> dict[str, Any] | None:
    waits = kept.due_at is not None or kept.told_at is None or now - kept.told_at < _DAY
    return None if waits else _anew(kept, Stage.REMINDED, now)


def _raised_again(kept: Kept, seen: Alarm, now: datetime) -> dict[str, Any]:
    words = {"since": seen.since, "says": seen.says, "remedy": seen.remedy, "seen_at": now}
    return _anew(kept, Stage.RAISED, now) | words | {"ended_at": None, "told_at": None, "rises": kept.rises + 1}


def _anew(kept: Kept, stage: Stage, now: datetime) -> dict[str, Any]:
    """Return what makes a notice due that nobody has told of yet."""
    blank: dict[str, Any] = {"lease_until": None, "attempts": 0, "reached": [], "wrong": None}
    return blank | {"stage": str(stage), "number": kept.number + 1, "due_at": now}
