"""The lines of a plain cron have a schedule's slots and no others, as two other libraries read them."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nightcrew.errors import ScheduleError
from nightcrew.schedule import Schedule, cron, every
from nightcrew.spelling import Line, lines

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def written(schedule: Schedule, zone: str | None = None) -> list[str]:
    return [line.expression for line in lines(schedule, NOW, zone)]


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        (cron("@daily"), None, ["0 0 * * *"]),
        (cron("0 */12 * * *"), None, ["0 0,12 * * *"]),
        (cron("*/10 * * * *"), None, ["*/10 * * * *"]),
        (cron("0 3 * JAN-MAR MON"), None, ["0 3 * 1-3 1"]),
        (cron("0 3 1 * MON"), None, ["0 3 1 * *", "0 3 * * 1"]),
        (cron("0 3 */2 * *"), None, ["0 3 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 * *"]),
        (cron("0 3 * * 7"), None, ["0 3 * * 0"]),
        (every("10 minutes"), None, ["*/10 * * * *"]),
        (every("45 minutes"), None, ["0,45 0,3,6,9,12,15,18,21 * * *", "30 1,4,7,10,13,16,19,22 * * *",
                                     "15 2,5,8,11,14,17,20,23 * * *"]),
        (every("12 hours", timedelta(hours=1, minutes=5)), None, ["5 1,13 * * *"]),
        (every("7 days"), None, ["0 0 * * 4"]),
        (every("7 days", timedelta(days=3, hours=2)), None, ["0 2 * * 0"]),
        (cron("30 2 * * MON", "Asia/Kolkata"), "UTC", ["0 21 * * 0"]),
        (cron("0 0,12 * * *", "Asia/Kolkata"), "UTC", ["30 18 * * *", "30 6 * * *"]),
        (cron("*/20 * * * *", "Asia/Kolkata"), "UTC", ["10,30,50 * * * *"]),
        (cron("15 * * * *", "Europe/Paris"), "UTC", ["15 * * * *"]),
        (cron("0 9 * * *", "Europe/Berlin"), "Europe/Paris", ["0 9 * * *"]),
    ],
)  # fmt: skip
def test_a_schedule_is_written_as_plain_lines(schedule: Schedule, zone: str | None, expected: list[str]) -> None:
    assert written(schedule, zone) == expected


@pytest.mark.parametrize(
    ("schedule", "zone", "reason"),
    [
        (cron("0 3 L * *"), None, "last day of a month"),
        (cron("0 3 * * MON#1"), None, "first or the last such weekday"),
        (cron("0 3 */2 * MON"), None, "not on those that are both"),
        (every("30 seconds"), None, "whole minutes"),
        (every("7 minutes"), None, "no multiple of it"),
        (every("2 days"), None, "no multiple of it"),
        (cron("0 3 * * *", "Europe/Paris"), "UTC", "Europe/Paris and of UTC, the zone of that cron, differ by season"),
        (cron("0 0-23 * * *", "Europe/Paris"), "UTC", "differ by season"),
        (cron("*/15 * * * *", "Australia/Lord_Howe"), "UTC", "differ by season"),
        (cron("0 3 1 * *", "Asia/Kolkata"), "UTC", "another month's"),
    ],
)
def test_what_no_lines_can_say_is_refused_with_the_reason(schedule: Schedule, zone: str | None, reason: str) -> None:
    with pytest.raises(ScheduleError, match=reason):
        lines(schedule, NOW, zone)


def oracle(line: Line, until: datetime) -> set[datetime]:
    """Read a line in a zone whose clocks do not leap, by cronsim and by croniter, which must agree."""
    clocks = ZoneInfo(line.timezone)
    start = (NOW - timedelta(minutes=1)).astimezone(clocks)
    one = {each.astimezone(UTC) for each in takewhile(lambda each: each <= until, CronSim(line.expression, start))}
    two: set[datetime] = set()
    for each in croniter(line.expression, start, ret_type=datetime):
        if each > until:
            break
        two.add(each.astimezone(UTC))
    assert one == two
    return one


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    some = st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True)
    return st.one_of(st.just("*"), some.map(lambda these: ",".join(map(str, sorted(these)))))


@settings(deadline=None, max_examples=60)
@given(
    fields=st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 6)),
    zones=st.tuples(*[st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "America/Bogota"])] * 2),
)
def test_two_other_libraries_read_the_same_slots(fields: tuple[str, ...], zones: tuple[str, str]) -> None:
    minute = fields[0] if fields[0] != "*" else "*/30"  # two slots an hour tell as much as sixty
    try:
        schedule = cron(" ".join((minute, *fields[1:])), zones[0])
        found = lines(schedule, NOW, zones[1])
    except ScheduleError:
        assume(False)
    until = NOW + timedelta(days=33)
    assert set().union(*(oracle(line, until) for line in found)) == {
        *schedule.between(NOW - timedelta(minutes=1), until)
    }


@settings(deadline=None, max_examples=50)
@given(
    minutes=st.sampled_from([n for n in range(15, 1441) if 1440 % n == 0] + [10_080]),
    phase=st.integers(0, 10_079),
    zone=st.sampled_from(["UTC", "Asia/Kolkata"]),
)
def test_intervals_that_divide_a_day_keep_their_slots(minutes: int, phase: int, zone: str) -> None:
    schedule = every(timedelta(minutes=minutes), timedelta(minutes=phase % minutes))
    until = NOW + timedelta(days=9)
    found = set().union(*(oracle(line, until) for line in lines(schedule, NOW, zone)))
    assert found == {*schedule.between(NOW - timedelta(minutes=1), until)}


def test_the_slots_that_stand_for_a_time_that_is_leapt_over() -> None:
    year = at("2026-01-01"), at("2027-01-01")
    assert [*cron("30 2 * * *", "Europe/Paris").leapt(*year)] == [at("2026-03-29T01:00")]
    assert [*cron("0 3 * * *", "Europe/Paris").leapt(*year)] == []  # the first instant after the gap is its own
    assert [*cron("*/30 2 * * *", "Europe/Paris").leapt(*year)] == []  # a wildcard does not run for the gap
    assert [*cron("0 0 * * *", "Africa/Cairo").leapt(*year)] == [at("2026-04-23T22:00")]
    assert [*cron("0 0 1 1 *").leapt(*year)] == []
