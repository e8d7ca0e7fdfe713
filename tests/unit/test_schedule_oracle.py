"""The schedule against three strangers: a clock watched minute by minute, cronsim and croniter."""

import random
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from cronsim import CronSim

from nightcrew.errors import ScheduleError
from nightcrew.schedule import cron

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
DAYS = [datetime(2026, 1, 1) + n * DAY for n in range(28 * 366)]  # noqa: DTZ001 - wall times


@dataclass(frozen=True)
class Leap:
    """A zone's clocks jumping from one wall time to another, and the minutes around it as a clock shows them."""

    zone: str
    instant: datetime
    before: datetime
    after: datetime
    minutes: tuple[tuple[datetime, datetime], ...]

    def chance(self, purpose: str) -> random.Random:
        """Seeded by the leap, so that a new leap in tzdata changes no other leap's cases."""
        return random.Random(f"{purpose} {self.zone} {self.instant}")


def wall(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def offset(zone: ZoneInfo, instant: datetime) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


def watch(name: str, instant: datetime, around: timedelta = 2 * DAY) -> Leap:
    zone = ZoneInfo(name)
    count = int(2 * around / MINUTE)
    minutes = tuple((at := instant - around + n * MINUTE, wall(zone, at)) for n in range(count))
    return Leap(name, instant, wall(zone, instant - MINUTE) + MINUTE, wall(zone, instant), minutes)


def find_leaps() -> list[Leap]:
    """One zone for every distinct leap of 2026 and 2027, found by asking every zone at every midnight and minute."""
    found: dict[tuple[object, ...], str] = {}
    for name in sorted(available_timezones()):
        zone, day = ZoneInfo(name), START
        while day < END:
            if offset(zone, day) != offset(zone, day + DAY):
                minutes = (day + n * MINUTE for n in range(1, 1441))
                instant = next(at for at in minutes if offset(zone, at) != offset(zone, at - MINUTE))
                found.setdefault((instant, offset(zone, instant - MINUTE), offset(zone, instant)), name)
            day += DAY
    return [watch(name, key[0]) for key, name in found.items()]  # type: ignore[arg-type]


# The oracle: crontab(5) and cron(8) read once more, the slow way, and sharing no line with the library.


def hits(part: str, value: int, lowest: int) -> bool:
    for item in part.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        start = lowest if span == "*" else int(low)
        end = 99 if span == "*" else int(high or low)
        if start <= value <= end and (value - start) % int(step or 1) == 0:
            return True
    return False


def day_fits(dom: str, month: str, dow: str, at: datetime) -> bool:
    if not hits(month, at.month, 1):
        return False
    last = (at + DAY).month != at.month
    by_date = any(last if item == "L" else hits(item, at.day, 1) for item in dom.split(","))
    weekday, by_week = at.isoweekday() % 7, False
    for item in dow.split(","):
        if "#" in item:
            by_week |= weekday == int(item[0]) % 7 and (at.day - 1) // 7 + 1 == int(item[2])
        elif "L" in item:
            by_week |= weekday == int(item[0]) % 7 and (at + 7 * DAY).month != at.month
        else:
            by_week |= hits(item, weekday, 0) or (weekday == 0 and item != "*" and "/" not in item and hits(item, 7, 0))
    return (by_date and by_week) if dom[0] == "*" or dow[0] == "*" else (by_date or by_week)


def is_wildcard(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return minute.startswith("*") or hour in {"*", "*/1"}  # “*/12” with a fixed minute is the documented deviation


def oracle(expression: str, leap: Leap) -> list[datetime]:
    minute, hour, dom, month, dow = expression.split()
    good_minutes = {n for n in range(60) if hits(minute, n, 0)}
    good_hours = {n for n in range(24) if hits(hour, n, 0)}
    dates = {at.date(): at for _, at in leap.minutes}
    dates |= {day.date(): day for day in (leap.before + n * HOUR for n in range(24)) if day < leap.after}
    good_dates = {day for day, at in dates.items() if day_fits(dom, month, dow, at)}

    def fits(at: datetime) -> bool:
        return at.minute in good_minutes and at.hour in good_hours and at.date() in good_dates

    if is_wildcard(expression):
        return [instant for instant, shown in leap.minutes if fits(shown)]
    slots, highest = [], leap.minutes[0][1] - MINUTE
    for instant, shown in leap.minutes:
        due = False
        while highest < shown:  # more than one step where the clock leapt on, none where it shows a time again
            highest += MINUTE
            due |= fits(highest)
        if due:
            slots.append(instant)
    return slots


def draw(chance: random.Random, leap: Leap) -> str:
    """An expression that is likely to fire near a leap."""
    near = [leap.before, leap.after, leap.before - HOUR, leap.after + HOUR, leap.before - MINUTE]
    moment = chance.choice(near)
    a, b = sorted(chance.sample(range(60), 2))
    minute = chance.choice(["*", "*/5", "*/15", "0", "30", f"{a}", f"{a},{b}", f"{a}-{b}/7", f"{moment.minute}"])
    h = chance.choice(near).hour
    hour = chance.choice(["*", "*/2", "*/12", "*/1", f"{h}", f"{h}", f"{h}", f"{min(h, moment.hour)}-{max(h, 3)}"
                          if min(h, moment.hour) <= max(h, 3) else f"{h}", f"0,{h}", "0", "0-23/3"])  # fmt: skip
    dom = chance.choice(["*", "*", "*", "*", "*/2", f"{moment.day}", f"1,{moment.day}", "L", "1-31", "15"])
    month = chance.choice(["*", "*", "*", f"{moment.month}", f"1,{moment.month}", "*/2"])
    weekday, nth = moment.isoweekday(), (moment.day - 1) // 7 + 1
    dow = chance.choice(
        ["*", "*", "*", "*/2", f"{weekday}", f"{weekday % 7}", f"{weekday}#{nth}", f"{weekday}L", "1-5"]
    )
    return f"{minute} {hour} {dom} {month} {dow}"


@pytest.fixture(scope="module")
def leaps() -> list[Leap]:
    return find_leaps()


def assert_agrees(expression: str, leap: Leap, chance: random.Random) -> None:
    schedule, expected = cron(expression, leap.zone), oracle(expression, leap)
    first, last = leap.minutes[0][0], leap.minutes[-1][0]
    case = f"{expression} in {leap.zone} around {leap.instant}"
    assert list(schedule.between(first - timedelta(microseconds=1), last)) == expected, case
    probes = [leap.instant + timedelta(seconds=chance.randint(-9000, 9000)) for _ in range(6)]
    for probe in [leap.instant, leap.instant - timedelta(microseconds=1), *probes]:
        index = bisect_right(expected, probe)
        if index < len(expected):
            assert schedule.after(probe) == expected[index], (case, probe)
        if index:
            assert schedule.latest(probe) == expected[index - 1], (case, probe)


def drawn(chance: random.Random, leap: Leap, count: int) -> Iterator[str]:
    """Expressions that can fire; whether one can is settled by a calendar of twenty-eight years."""
    for _ in range(count):
        expression = draw(chance, leap)
        *_, dom, month, dow = expression.split()
        if any(day_fits(dom, month, dow, day) for day in DAYS):
            yield expression
        else:
            with pytest.raises(ScheduleError, match="can never fire"):
                cron(expression)


def test_slots_are_what_a_watched_clock_shows_at_every_leap_of_every_zone(leaps: list[Leap]) -> None:
    """At each distinct leap of 2026 and 2027, every drawn expression fires exactly as cron(8)'s rule says."""
    assert len(leaps) > 100, "the zone data of this machine has lost its leaps"
    cases = 0
    for leap in leaps:
        chance = leap.chance("watched")
        for expression in drawn(chance, leap, 12):
            assert_agrees(expression, leap, chance)
            cases += 1
    assert cases > 1000


@pytest.mark.parametrize(
    ("zone", "instant"),
    [
        ("Pacific/Apia", "2011-12-30T10:00"),  # skips a day
        ("Pacific/Kwajalein", "1993-08-21T12:00"),  # skips a day
        ("Pacific/Kwajalein", "1969-09-30T13:00"),  # repeats 23 hours
        ("America/Caracas", "2007-12-09T07:00"),  # half an hour back, for good
        ("Asia/Pyongyang", "2018-05-04T15:00"),  # half an hour on, for good
        ("America/St_Johns", "2010-11-07T02:31"),  # at one minute past midnight, back over it
        ("Africa/Casablanca", "2062-12-31T02:00"),  # on New Year's Eve
        ("Antarctica/Casey", "2018-03-10T17:00"),  # three hours back
        ("Europe/Volgograd", "2020-12-26T22:00"),  # not a daylight saving time at all
    ],
)
def test_slots_are_what_a_watched_clock_shows_at_odd_leaps(zone: str, instant: str) -> None:
    """The same rule holds where a zone skips a day, repeats most of one, or moves for good."""
    leap = watch(zone, datetime.fromisoformat(instant).replace(tzinfo=UTC))
    assert leap.before != leap.after, "this is no leap"
    chance = leap.chance("odd")
    for expression in drawn(chance, leap, 40):
        assert_agrees(expression, leap, chance)


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"]
)
def test_slots_are_what_a_watched_clock_shows_at_new_year(zone: str) -> None:
    """Nothing is lost or repeated where one year ends and the next begins, here or in UTC."""
    calm = watch(zone, datetime(2028, 1, 1, tzinfo=UTC))
    for expression in drawn(calm.chance("New Year"), calm, 40):
        assert_agrees(expression, calm, calm.chance(expression))


# Where other evaluators differ, and why: (who, reason, what tells it, given the expression, the leap and both answers).


@dataclass(frozen=True)
class Difference:
    """Two evaluators answering one question in two ways."""

    expression: str
    leap: Leap
    ours: list[datetime]
    theirs: list[datetime]

    @property
    def extra(self) -> list[datetime]:
        return sorted(set(self.theirs) - set(self.ours))

    @property
    def missing(self) -> list[datetime]:
        return sorted(set(self.ours) - set(self.theirs))

    @property
    def parts(self) -> list[str]:
        return self.expression.split()

    @property
    def gap(self) -> bool:
        return self.leap.after > self.leap.before

    @property
    def midnight_gap(self) -> bool:
        return self.gap and (self.leap.before.hour, self.leap.before.minute) == (0, 0)

    @property
    def wildcard(self) -> bool:
        return is_wildcard(self.expression)

    @property
    def deviation(self) -> bool:
        minute, hour = self.parts[:2]
        return not minute.startswith("*") and hour.startswith("*/") and hour != "*/1"


Reason = tuple[str, Callable[[Difference], bool]]

CALENDAR: dict[str, list[Reason]] = {
    "cronsim": [],
    "croniter": [
        ("a starred step counts as a restriction, so either day field is enough (Vixie: both)",
         lambda d: {d.parts[2][:2], d.parts[4][:2]} & {"*/"} != set()),
        ("MON#2 beside a day of the month asks for both (Vixie's rule for a weekday: either)",
         lambda d: "#" in d.parts[4] and d.parts[2] != "*"),
        ("'7L' is refused, and so is '5L' beside a day of the month",
         lambda d: "L" in d.parts[4]),
        ("a range of one value, such as '3-3', is taken for '*'",
         lambda d: re.search(r"\b(\d+)-\1\b", d.expression) is not None),
    ],
}  # fmt: skip


def assert_explained(differences: list[Difference], reasons: list[Reason]) -> None:
    """Every difference has a listed reason, and every listed reason still occurs."""
    counts = Counter(next((why for why, tells in reasons if tells(d)), None) for d in differences)
    stray = [d for d in differences if not any(tells(d) for _, tells in reasons)]
    assert not stray, [(d.expression, d.leap.zone, d.leap.instant, d.extra[:3], d.missing[:3]) for d in stray[:9]]
    assert sum(counts.values()) == len(differences)
    assert set(counts) == {why for why, _ in reasons}


def ask(who: str, expression: str, start: datetime) -> Iterator[datetime]:
    if who == "cronsim":
        return (slot.astimezone(UTC) for slot in CronSim(expression, start))
    return (slot.astimezone(UTC) for slot in croniter(expression, start, ret_type=datetime).all_next(datetime))


@pytest.mark.parametrize("who", CALENDAR)
def test_in_utc_other_evaluators_agree_but_for_listed_reasons(who: str) -> None:
    """Without clocks that leap, cronsim gives the same slots, and croniter too but for its day rules."""
    chance, calm, differences = random.Random(2), watch("UTC", START + 88 * DAY), []
    for expression in drawn(chance, calm, 700):
        start = START + timedelta(minutes=chance.randrange(700_000))
        ours = list(cron(expression).between(start, start + 3660 * DAY, limit=4))
        try:
            theirs = list(islice(ask(who, expression, start), len(ours)))
        except ValueError:
            theirs = []
        if theirs != ours:
            differences.append(Difference(expression, calm, ours, theirs))
    assert_explained(differences, CALENDAR[who])


LEAPS: dict[str, list[Reason]] = {
    "cronsim": [
        ("our deviation: '0 */12' is fixed-time here and a wildcard there, as in cron(8)",
         lambda d: d.deviation),
        ("a wildcard minute runs once for an hour that a midnight gap leapt over (cron(8): not at all)",
         lambda d: d.wildcard and d.midnight_gap and d.extra == [d.leap.instant] and not d.missing),
        ("a wildcard minute loses the hour that begins where a midnight gap ends",
         lambda d: d.wildcard and d.midnight_gap and not d.extra and d.missing[0] == d.leap.instant
         and d.missing[-1] < d.leap.instant + HOUR),
        ("wildcard runs are lost, or repeated for ever, where clocks leap from or to a part of an hour",
         lambda d: d.wildcard and bool(d.leap.after.minute or d.leap.before.minute)),
    ],
    "croniter": [
        ("our deviation: '0 */12' is fixed-time here and a wildcard there, as in cron(8)",
         lambda d: d.deviation),
        ("a repeated wall time runs twice (cron(8): the first time only)",
         lambda d: not d.wildcard and not d.gap and not d.missing
         and all(d.leap.instant <= slot < d.leap.instant + (d.leap.before - d.leap.after) for slot in d.extra)),
        ("a wildcard runs once for a gap (cron(8): not at all)",
         lambda d: d.wildcard and d.gap and d.extra == [d.leap.instant] and not d.missing),
        ("a wildcard in named hours loses runs of the second pass",
         lambda d: d.wildcard and not d.gap and not d.extra
         and all(d.leap.instant <= slot < d.leap.instant + (d.leap.before - d.leap.after) for slot in d.missing)),
        ("an hour range over the whole day, '0-23', is taken for the wildcard '*'",
         lambda d: not d.wildcard and d.parts[1] == "0-23"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("who", LEAPS)
def test_at_leaps_other_evaluators_differ_only_for_listed_reasons(who: str, leaps: list[Leap]) -> None:
    """Around every leap, each answer of another evaluator is ours, or is explained by a rule or fault of its own."""
    differences = []
    for leap in leaps:
        chance = leap.chance("compared")
        start, end = leap.minutes[0][0] - MINUTE, leap.minutes[-1][0]
        for expression in [*drawn(chance, leap, 6), "* 1 * 9 0", "30 0-23 * * *"]:  # two that chance would draw seldom
            ours = list(cron(expression, leap.zone).between(start, end))
            case = Difference(expression, leap, ours, [])
            if any(tells(case) for _, tells in CALENDAR["croniter"]):
                continue
            theirs = []
            for slot in islice(ask(who, expression, start.astimezone(ZoneInfo(leap.zone))), len(ours) + 500):
                if slot > end:
                    break
                theirs.append(slot)
            if theirs != ours:
                differences.append(Difference(expression, leap, ours, theirs))
    assert_explained(differences, LEAPS[who])
