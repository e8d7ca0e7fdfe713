"""Sequence: the mails a person is due, step by step, and what becomes of one of them at a moment."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from nightcrew.errors import ConfigurationError, ScheduleError, misfit
from nightcrew.hours import Hours
from nightcrew.schedule import zone as known_zone
from nightcrew.sent import State

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
AGAIN = timedelta(hours=1)
"""How long a mail waits for what nobody can tell the time of, such as that an address is verified."""
SOON = timedelta(minutes=1)
"""The least that a mail waits for it."""
NOBODY = "there is no such person"
_AWAY = 2 * DAY  # the most that the row of a person is waited for
_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9_-]{0,58}[a-z0-9])?$")
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Step:
    """One mail of a sequence, due so long `after` a person was enrolled.

    Its `name` is what it is known by: a mail that was sent under it is never sent again, and one that is called
    otherwise is another one, unless its former names are among `was`. `mail` is the name of its templates (default:
    its own). `only_if` is an SQL predicate over the table of people that has to hold when it leaves. It leaves no more
    than `within` later than it could have, for a mail of the third day is none in the third week. `arms` are the
    variants that people are told apart by: each always gets the same.
    """

    name: str
    after: timedelta = timedelta(0)
    mail: str = ""
    only_if: str | None = None
    within: timedelta = 2 * DAY
    arms: tuple[str, ...] = ()
    was: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in (self.name, *self.was, *self.arms, *([self.mail] if self.mail else [])):
            _check_name("step", each)
        object.__setattr__(self, "mail", self.mail or self.name)
        object.__setattr__(self, "arms", tuple(self.arms))
        object.__setattr__(self, "was", tuple(self.was))
        if self.after < timedelta(0):
            raise ConfigurationError(f"step {self.name!r} comes before anybody is enrolled: after is 0 or more")
        if self.within <= timedelta(0):
            raise ConfigurationError(f"step {self.name!r} could never leave: within is more than 0, such as '2 days'")

    @property
    def names(self) -> frozenset[str]:
        """All that it is, or was, called."""
        return frozenset((self.name, *self.was))

    def arm(self, sequence: str, person: str) -> str | None:
        """Return the variant for a person, the same whenever it is asked for, on every machine."""
        if not self.arms:
            return None
        digest = sha256("\0".join((sequence, self.name, person)).encode("utf-8", "surrogatepass")).digest()
        return self.arms[int.from_bytes(digest[:8]) % len(self.arms)]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Mails that a person is due from when they were enrolled on.

    `goal` is an SQL predicate over the table of people: whoever it holds for gets no more of them. Mails leave within
    `hours` of the day ("09:00-18:00") and on `days` of the week, as the clocks of the person show. `preference` is the
    column by which people say whether they want them.

    Raises ConfigurationError where no step, or two of a name, are there.
    """

    name: str
    steps: tuple[Step, ...]
    goal: str | None = None
    hours: str | None = None
    days: tuple[str, ...] = DAYS
    preference: str | None = None

    def __post_init__(self) -> None:
        _check_name("sequence", self.name)
        object.__setattr__(self, "steps", tuple(sorted(self.steps, key=lambda step: step.after)))
        object.__setattr__(self, "days", tuple(self.days))
        if not self.steps:
            raise ConfigurationError(f"sequence {self.name!r} has no steps: name at least one mail")
        names = [name for step in self.steps for name in (step.name, *step.was)]
        for first, second in pairwise(sorted(names)):
            if first == second:
                raise ConfigurationError(f"sequence {self.name!r} has two steps that are, or were, called {first!r}")
        wrong = [day for day in self.days if day not in DAYS]
        if wrong or not self.days:
            raise ConfigurationError(f"sequence {self.name!r}: days are {', '.join(DAYS)}, and not {wrong or 'none'}")
        if self.hours is not None:
            try:
                Hours(self.hours)
            except ScheduleError as problem:
                said = str(problem).replace("window", "hours", 1)
                raise ConfigurationError(f"sequence {self.name!r}: {said}") from None

    @property
    def fingerprint(self) -> str:
        """What tells this sequence's steps from those that people were enrolled for."""
        told = [f"{step.name} {step.after // _TICK} {' '.join(step.was)}" for step in self.steps]
        return sha256("\n".join(told).encode()).hexdigest()[:16]

    def step(self, name: str) -> Step | None:
        """Return the step of this name, if there is one."""
        return next((step for step in self.steps if step.name == name), None)

    def opens(self, moment: datetime, zone: str) -> datetime:
        """Return when a mail that is due may leave: then, or as soon as the hours and days of a zone allow."""
        for _ in range(2 * len(DAYS) + 2):
            opened = moment if self.hours is None else _hours(self.hours, zone).opens(moment)
            local = opened.astimezone(ZoneInfo(zone))
            if DAYS[local.weekday()] in self.days:
                return opened
            midnight = datetime.combine(local.date() + DAY, datetime.min.time(), ZoneInfo(zone))
            moment = midnight.astimezone(UTC)
        raise AssertionError("a week has no such day")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as the application's tables have them when a mail could leave.

    `true` are the predicates that hold for them, `wants` what they say of each preference, and `facts` what templates
    are told. `segment` is one that the application says. Of one whose row the database would not give, `unread` says
    why, and nothing else is known.
    """

    id: str
    address: str | None
    name: str = ""
    verified: bool = True
    zone: str | None = None
    segment: str | None = None
    true: frozenset[str] = frozenset()
    wants: Mapping[str, bool] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """The mail leaves now, to this person and in this variant."""

    person: Person
    arm: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """The mail is looked at again then, and why."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The mail will not leave, and why; where the `whole` sequence has ended for the person, none of it will."""

    state: State
    reason: str
    whole: bool = False


Verdict: TypeAlias = Send | Wait | End


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one mail when it could leave: `now` is the database's moment, and `zone` that of the crew.

    It was `due` then, to a `person` if there is one. `suppressed` says why nothing may be sent to them. `recent` are
    the mails to them of the last day, the oldest first, of which there may be so many: `most`.
    """

    due: datetime
    now: datetime
    person: Person | None
    zone: str = "UTC"
    suppressed: str | None = None
    recent: Several[datetime] = ()
    most: int = 1


def decide(sequence: Sequence, step: Step, look: Look) -> Verdict:
    """Say what becomes of a mail: the first rule that applies to it does; what can be amended in time is waited for."""
    if look.person is None:
        return _nobody(sequence, step, look)
    for rule in _RULES:
        if (verdict := rule(sequence, step, look, look.person)) is not None:
            return verdict
    return Send(look.person, step.arm(sequence.name, look.person.id))


def _nobody(sequence: Sequence, step: Step, look: Look) -> Wait | End:
    """Let the mail of somebody who is not there be late before it ends, and alone: the table may be the wrong one."""
    if look.now > sequence.opens(look.due, look.zone) + min(step.within, _AWAY):
        return End(State.EXPIRED, NOBODY)
    return Wait(look.now + _soon(look), NOBODY)


def _goal(sequence: Sequence, _step: Step, _look: Look, person: Person) -> End | None:
    reached = sequence.goal is not None and sequence.goal in person.true
    return End(State.CANCELLED, "goal", whole=True) if reached else None


def _late(sequence: Sequence, step: Step, look: Look, person: Person) -> End | None:
    """Count from when it could first have left: a night or a week-end is nobody's delay."""
    if look.now <= sequence.opens(look.due, _zone_of(person, look.zone)) + step.within:
        return None
    if not (person.unread or _reachable(person)):
        return End(State.SUPPRESSED, "the address was not verified in time")
    return End(State.EXPIRED, person.unread or "it could not leave in time")


def _unread(_sequence: Sequence, _step: Step, look: Look, person: Person) -> Wait | None:
    if not person.unread:
        return None
    return Wait(look.now + AGAIN, f"what is kept of the person cannot be read: {person.unread}")


def _silent(_sequence: Sequence, _step: Step, look: Look, _person: Person) -> End | None:
    return None if look.suppressed is None else End(State.SUPPRESSED, look.suppressed)


def _unwanted(sequence: Sequence, _step: Step, _look: Look, person: Person) -> End | None:
    wanted = sequence.preference is None or person.wants.get(sequence.preference, True)
    return None if wanted else End(State.SUPPRESSED, f"preference {sequence.preference}")


def _unmet(_sequence: Sequence, step: Step, _look: Look, person: Person) -> End | None:
    met = step.only_if is None or step.only_if in person.true
    return None if met else End(State.SUPPRESSED, "condition")


def _unverified(_sequence: Sequence, _step: Step, look: Look, person: Person) -> Wait | None:
    if _reachable(person):
        return None
    return Wait(look.now + _soon(look), "the address is not verified")


def _shut(sequence: Sequence, _step: Step, look: Look, person: Person) -> Wait | None:
    zone = _zone_of(person, look.zone)
    opened = sequence.opens(look.now, zone)
    return Wait(opened, f"quiet hours in {zone}") if opened > look.now else None


def _enough(_sequence: Sequence, _step: Step, look: Look, _person: Person) -> Wait | None:
    if len(look.recent) < look.most:
        return None
    return Wait(look.recent[len(look.recent) - look.most] + DAY, f"{look.most} a day for a person")


_RULES = (_goal, _late, _unread, _silent, _unwanted, _unmet, _unverified, _shut, _enough)


def _soon(look: Look) -> timedelta:
    """Return how long to wait for a person: most verify soon, or never."""
    return min(AGAIN, max(SOON, (look.now - look.due) / 4))


def _reachable(person: Person) -> bool:
    return person.verified and bool(person.address)


def _zone_of(person: Person, fallback: str) -> str:
    """Return the zone of a person where it is one: what stands in a column may be anything."""
    try:
        return known_zone(person.zone) if person.zone else fallback
    except ScheduleError:
        return fallback


@lru_cache(maxsize=1024)
def _hours(text: str, zone: str) -> Hours:
    return Hours(text, zone)


def _check_name(what: str, name: object) -> None:
    wrong = misfit(name, str, "write a text such as 'welcome'")
    if wrong or not _NAME.match(str(name)):
        said = wrong or f"{str(name)[:80]!r} is none: use small letters, digits, - and _, at most 60"
        raise ConfigurationError(f"the name of a {what} {said}")


def named(sequences: Iterable[Sequence]) -> Mapping[str, Sequence]:
    """Return sequences by name; raises ConfigurationError for two of one."""
    found: dict[str, Sequence] = {}
    for one in sequences:
        if found.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"there are two sequences {one.name!r}: give one of them another name")
    return found
