"""The time of day in which a job may work, held against the clocks on the wall."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.errors import ConfigurationError, ScheduleError
from nightcrew.hours import Hours

MINUTE = timedelta(minutes=1)
LEAPS = {  # a day near which the clocks of a zone leap
    "Europe/Paris": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "America/Sao_Paulo": ("2018-11-04", "2018-02-18"),  # at midnight
    "Pacific/Apia": ("2011-12-30",),  # by a whole day
    "Asia/Kathmandu": ("2026-06-01",),  # never; 5:45 ahead
    "UTC": ("2026-06-01",),
}
DAYS = [(zone, datetime.fromisoformat(day).replace(tzinfo=UTC)) for zone, days in LEAPS.items() for day in days]
TIMES = st.integers(0, 24 * 60 - 1)


def text(begin, end):
    return f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


@cache
def shown(zone, day):
    """Return, for each minute of the days around a leap, the latest time that the clocks have shown until then."""
    latest, found = datetime(1, 1, 1), {}  # noqa: DTZ001 - a time on the wall
    for number in range(-3 * 1440, 3 * 1440):
        moment = day + number * MINUTE
        latest = found[moment] = max(latest, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None))
    return found


def model(zone, day, begin, end):
    """Say for each minute whether the clocks have come to the begin, and not to the end that follows it."""
    within = (lambda time: begin <= time < end) if begin < end else (lambda time: time >= begin or time < end)
    return {moment: within(wall.hour * 60 + wall.minute) for moment, wall in shown(zone, day).items()}


def is_open(hours, moment):
    return hours.closes(moment) is not None


@given(st.sampled_from(DAYS), TIMES, TIMES, st.integers(-1440, 1440))
@example(("Europe/Paris", DAYS[0][1]), 135, 165, 120)  # a window in the gap
@example(("Europe/Paris", DAYS[0][1]), 165, 135, 120)  # all day but for the gap
@example(("Pacific/Apia", DAYS[8][1]), 0, 1, 0)  # on the day that was left out
@example(("Europe/Paris", DAYS[1][1]), 150, 360, 60)  # begins in the hour that comes twice
def test_the_hours_are_those_that_the_clocks_on_the_wall_have_come_to(leap, begin, end, minute):
    if begin == end:
        return
    zone, day = leap
    hours, moment, wall = Hours(text(begin, end), zone), day + minute * MINUTE, model(zone, day, begin, end)
    assert is_open(hours, moment) == wall[moment]
    following = [other for other in wall if other >= moment]
    opens, closes = hours.opens(moment), hours.closes(moment)
    assert opens == next(other for other in following if wall[other])
    if closes is not None:
        assert closes == next(other for other in following if not wall[other])


@given(st.sampled_from(DAYS), TIMES, TIMES, st.integers(-1440, 1440))
def test_when_they_were_over_last_is_a_time_in_which_none_of_it_was_within_them(leap, begin, end, minute):
    if begin == end:
        return
    zone, day = leap
    hours, moment = Hours(text(begin, end), zone), day + minute * MINUTE
    ended, begun = hours.shut(moment)
    wall = model(zone, day, begin, end)
    assert ended < moment
    assert not any(wall[other] for other in wall if ended <= other < begun)
    assert wall[begun]
    assert all(wall[other] for other in wall if begun <= other < moment)


def test_over_midnight_in_the_zone_of_the_job():
    hours = Hours("22:00-06:00", "Europe/Istanbul")  # three hours ahead
    assert hours.opens(datetime(2026, 5, 1, 12, tzinfo=UTC)) == datetime(2026, 5, 1, 19, tzinfo=UTC)
    assert hours.closes(datetime(2026, 5, 1, 19, tzinfo=UTC)) == datetime(2026, 5, 2, 3, tzinfo=UTC)
    assert hours.closes(datetime(2026, 5, 2, 3, tzinfo=UTC)) is None, "up to the end, and without it"


def test_a_caller_may_be_a_little_early_and_not_a_little_late():
    hours, half = Hours("22:00-06:00"), timedelta(seconds=30)
    assert hours.closes(datetime(2026, 5, 1, 21, 59, 40, tzinfo=UTC), half) == datetime(2026, 5, 2, 6, tzinfo=UTC)
    assert hours.closes(datetime(2026, 5, 1, 21, 59, 20, tzinfo=UTC), half) is None
    assert hours.closes(datetime(2026, 5, 2, 6, 0, 1, tzinfo=UTC), half) is None


@pytest.mark.parametrize("written", ["22:00-06:00", " 22:00 - 6:00 ", "22:00\u20136:00"])
def test_hours_are_read_as_people_write_them(written):
    assert Hours(written).text == "22:00-06:00"


@pytest.mark.parametrize(
    ("written", "said"),
    [("22-6", "no time of day"), ("25:00-06:00", "no time of day"), ("06:00-06:00", "all day"), (22, "write a text")],
)
def test_what_is_no_time_of_day_is_refused_with_an_example(written, said):
    with pytest.raises(ScheduleError, match=said) as refused:
        Hours(written)
    assert "22:00-06:00" in str(refused.value)


def test_a_window_is_read_in_the_zone_of_its_job():
    crew = Nightcrew("sqlite://", timezone="Europe/Paris", settings=Settings())
    terms = {"column": "at", "window": "22:00-06:00"}
    assert crew.expire("by-the-crew", "t", every="1 hour", **terms).window.timezone == "Europe/Paris"
    assert crew.expire("by-itself", "t", every="1 hour", timezone="Asia/Tokyo", **terms).window.timezone == "Asia/Tokyo"
    of_schedule = crew.expire("by-its-schedule", "t", schedule=cron("0 3 * * *", "America/Lima"), **terms)
    assert of_schedule.window.timezone == "America/Lima"

    @crew.job(every="1 hour", window="01:00-02:00")
    def refresh():
        """Functions have hours, too."""

    assert crew.jobs["refresh"].window == Hours("01:00-02:00", "Europe/Paris")
    assert Job("alone", every("1 hour"), function=refresh, window="01:00-02:00").window.timezone == "UTC"
    with pytest.raises(ConfigurationError, match="window of job 'odd' is 7"):
        Job("odd", every("1 hour"), function=refresh, window=7)
