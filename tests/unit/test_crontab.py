from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.crontab import read
from nightcrew.errors import ScheduleError

BAD = [
    # (expression, the field it blames or "", the remedy)
    ("", "", "has 0 fields; write five: minute hour day-of-month month day-of-week"),
    ("   ", "", "has 0 fields; write five"),
    ("0 0 * *", "", "has 4 fields; write five"),
    ("0 0 0 * * *", "", "has 6 fields; write five: minute hour day-of-month month day-of-week; leave out the seconds"),
    ("every 5 minutes", "", "; or say every = '5 minutes' in place of a schedule"),
    ("0 0 0 * * * 2026", "", "or say every = '30 seconds'"),
    ("@reboot", "", "set on_start = true"),
    ("@dayly", "", "did you mean '@daily'?"),
    ("@", "", "is not a known name"),
    ("CRON_TZ=Europe/Paris 0 0 * * *", "", "write timezone = "),
    ("TZ=UTC 0 0 * * *", "", "write timezone = "),
    ("60 * * * *", "minute", "takes 0-59, not '60'"),
    ("-1 * * * *", "minute", "cannot read '-1'; write values"),
    ("99999999 * * * *", "minute", "takes 0-59"),
    ("0 24 * * *", "hour", "takes 0-23, not '24'"),
    ("0 0 0 * *", "day-of-month", "takes 1-31, not '0'"),
    ("0 0 32 * *", "day-of-month", "takes 1-31, not '32'"),
    ("0 0 * 13 *", "month", "takes 1-12 or JAN-DEC, not '13'"),
    ("0 0 * 0 *", "month", "takes 1-12 or JAN-DEC, not '0'"),
    ("0 0 * JUNE *", "month", "write 'JUN'"),
    ("0 0 * * 8", "day-of-week", "takes 0-7 or SUN-SAT, not '8'"),
    ("0 0 * * MONDAY", "day-of-week", "write 'MON'"),
    ("0 0 * * XYZ", "day-of-week", "takes 0-7 or SUN-SAT, not 'XYZ'"),
    ("MON 0 * * *", "minute", "takes 0-59, not 'MON'"),
    ("\uff11 * * * *", "minute", "type the digits 0-9"),
    ("0 0 * * \u017fUN#1", "day-of-week", "plain ASCII"),
    ("0 0 * *\u00a0*", "", "has 4 fields; write five"),
    ("0 0\n* * * *", "hour", "plain ASCII"),
    ("0 0 * * *\0", "day-of-week", "plain ASCII"),
    ("0 22-2 * * *", "hour", "runs backwards; write '22-23,0-2'"),
    ("0 0 * NOV-FEB *", "month", "write 'NOV-DEC,JAN-FEB'"),
    ("0 0 * * FRI-MON", "day-of-week", "write 'FRI-SAT,SUN-MON'"),
    ("0 0 * * SAT-SUN", "day-of-week", "write 'SAT,SUN'"),
    ("0 0 * * 5-1", "day-of-week", "write '5-6,0-1'"),
    ("5/15 * * * *", "minute", "write '5-59/15' or '5'"),
    ("0 0 * * MON/2", "day-of-week", "write 'MON-SAT/2' or 'MON'"),
    ("*/0 * * * *", "minute", "write a step of 1 or more"),
    ("*/90 * * * *", "minute", "say every = '90 minutes'"),
    ("0 */36 * * *", "hour", "say every = '36 hours'"),
    ("0 0 */45 * *", "day-of-month", "say every = '45 days'"),
    ("0 0 * */13 *", "month", "name one month"),
    ("0 0 * * */10", "day-of-week", "say every = '10 days'"),
    ("0 0 ? * *", "day-of-month", "write '*'"),
    ("0 0 * * ?", "day-of-week", "write '*'"),
    ("0 0 15W * *", "day-of-month", "name a day, or a weekday such as MON#1"),
    ("0 0 LW * *", "day-of-month", "name a day"),
    ("H * * * *", "minute", "write a number, such as 17"),
    ("H/15 * * * *", "minute", "write a number, such as 17"),
    ("H(0-29)/10 * * * *", "minute", "write a number"),
    ("~ * * * *", "minute", "write a number"),
    ("0-30~ 3 * * *", "minute", "write a number"),
    ("0 0 L-3 * *", "day-of-month", "write 'L', or days such as 25-28"),
    ("0 0 1-L * *", "day-of-month", "write 'L' or '15,L'"),
    ("0 0 L/2 * *", "day-of-month", "write 'L' or '15,L'"),
    ("0 L * * *", "hour", "takes 0-23, not 'L'"),
    ("0 0 * * L", "day-of-week", "write '6L' for the last Saturday"),
    ("0 0 * * 8L", "day-of-week", "takes 0-7 or SUN-SAT"),
    ("0 0 * * MON#6", "day-of-week", "takes #1 to #5"),
    ("0 0 * * MON#0", "day-of-week", "takes #1 to #5"),
    ("0 0 * * MON-FRI#2", "day-of-week", "write values"),
    ("0 0 * * #2", "day-of-week", "write values"),
    ("0,,5 * * * *", "minute", "take out a comma"),
    (",5 * * * *", "minute", "take out a comma"),
    ("5, * * * *", "minute", "take out a comma"),
    ("1-5-7 * * * *", "minute", "write values, lists like 1,15"),
    ("1.5 * * * *", "minute", "write values"),
    ("*5 * * * *", "minute", "write values"),
    ("*/ * * * *", "minute", "write values"),
    ("*/-5 * * * *", "minute", "write values"),
    ("0 0 30 2 *", "day-of-month", "can never fire"),
    ("0 0 31 4,6 *", "day-of-month", "write 'L' for the last day of a month"),
    ("0 0 31 2-4/2 *", "day-of-month", "can never fire"),
]


@pytest.mark.parametrize(("expression", "field", "remedy"), BAD)
def test_what_cannot_be_read_is_refused_with_a_remedy(expression: str, field: str, remedy: str) -> None:
    """Every refusal names the whole expression, the field and what to write instead, in one sentence."""
    with pytest.raises(ScheduleError) as refused:
        read(expression)
    message = str(refused.value)
    assert message.startswith(f"schedule {expression!r}")
    assert f"{field} field" in message or not field
    assert remedy in message
    assert message.endswith((".", "?", "'@yearly'"))
    assert "\n" not in message


@pytest.mark.parametrize("expression", [None, 5, ["0 0 * * *"]])
def test_what_is_no_expression_at_all_is_refused_briefly(expression: str) -> None:
    """Something that is not a line of text is refused in a short sentence."""
    with pytest.raises(ScheduleError, match="is not the text of a cron expression; write like '0 3 "):
        read(expression)


SAME = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@Daily", "0 0 * * *"),
    ("0 0 * * 7", "0 0 * * 0"),
    ("0 0 * * SUN", "0 0 * * 0"),
    ("0 0 * * 5-7", "0 0 * * 0,5,6"),
    ("0 0 * * 0-7", "0 0 * * 0-6"),
    ("0 0 * * mon-FRI", "0 0 * * 1-5"),
    ("0 0 * jan,DEC *", "0 0 * 1,12 *"),
    ("0 0 * * FRIL", "0 0 * * 5L"),
    ("0 0 * * 7l", "0 0 * * SUNL"),
    ("0 0 * * MON#2", "0 0 * * 1#2"),
    ("0 0 * * MON#1,MON#2,MON#3,MON#4,MON#5", "0 0 * * MON"),
    ("05 00 01 * *", "5 0 1 * *"),
    ("  0\t0  * * * ", "0 0 * * *"),
    ("10-20/5 * * * *", "10,15,20 * * * *"),
    ("1-5,3-7 * * * *", "1-7 * * * *"),
    ("0 0 l * *", "0 0 L * *"),
]


@pytest.mark.parametrize(("written", "plain"), SAME)
def test_two_ways_of_writing_mean_the_same(written: str, plain: str) -> None:
    """Names, macros, 7 for Sunday, steps and overlapping ranges are only ways of writing."""
    assert read(written) == read(plain)


DAYS = [
    # Days in March 2026, which starts on a Sunday and has 31 days.
    ("0 0 L * *", [31]),
    ("0 0 15,L * *", [15, 31]),
    ("0 0 * * 5L", [27]),
    ("0 0 * * 3L", [25]),
    ("0 0 * * SAT#1", [7]),
    ("0 0 * * SUN#2", [8]),
    ("0 0 * * MON#2", [9]),
    ("0 0 * * MON#5", [30]),
    ("0 0 * * WED#5", []),
    ("0 0 * * MON#1,FRI", [2, 6, 13, 20, 27]),
    ("0 0 10 * MON", [2, 9, 10, 16, 23, 30]),
    ("0 0 L * MON#1", [2, 31]),
    ("0 0 1-7 * MON", [1, 2, 3, 4, 5, 6, 7, 9, 16, 23, 30]),
    ("0 0 */10 * MON", []),
    ("0 0 */10 * SUN", [1]),
    ("0 0 10 * */2", [10]),
    ("0 0 11 * */2", []),
    ("0 0 1-31 * MON", list(range(1, 32))),
    ("0 0 *,5 * MON", [2, 9, 16, 23, 30]),
    ("0 0 * 4 *", []),
]


@pytest.mark.parametrize(("expression", "days"), DAYS)
def test_day_fields_join_as_in_vixie_cron(expression: str, days: list[int]) -> None:
    """Either day field is enough, unless one of them starts with a star: then both must fit."""
    pattern = read(expression)
    march = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=number) for number in range(31)]
    assert [wall.day for wall in march if pattern.first(wall) == wall] == days
    assert [wall.day for wall in march if pattern.last(wall) == wall] == days


@pytest.mark.parametrize(
    ("expression", "fixed"),
    [
        ("0 0 * * *", True),
        ("0 1-5 * * *", True),
        ("0 0-23 * * *", True),
        ("0 */12 * * *", True),
        ("0 */2,5 * * *", True),
        ("0 * * * *", False),
        ("0 */1 * * *", False),
        ("@hourly", False),
        ("* 3 * * *", False),
        ("*/5 3 * * *", False),
        ("*/5 */12 * * *", False),
        ("0,30 * * * *", False),
    ],
)
def test_a_star_in_minute_or_hour_follows_the_time_that_passes(expression: str, fixed: bool) -> None:
    """A wildcard is what cron(8) calls one, but for an hour step beside a fixed minute."""
    assert read(expression).fixed is fixed


@pytest.mark.parametrize(
    "expression", ["0 0 */30 2 *", "0 0 29-31 2 */2", "0 0 29 2 *", "0 0 30 2 MON", "0 0 29 2 */7", "0 0 * 2 7#5"]
)
def test_the_rarest_day_is_not_called_impossible(expression: str) -> None:
    """A day that comes once in 28 years is accepted, and is found."""
    wall = read(expression).first(datetime(2026, 1, 1, tzinfo=UTC))
    assert wall is not None
    assert wall.year <= 2052


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("@hourly", "at minute 0 of every hour"),
        ("5,20 * * * *", "at minutes 5 and 20 of every hour"),
        ("*/15 9-17 * * *", "every 15 minutes in hours 9-17"),
        ("* 3 * * *", "every minute in hour 3"),
        ("0 */12 * * *", "at 00:00 and 12:00 every day"),
        ("30 2 * * *", "at 02:30 every day"),
        ("0 0 1 * *", "at 00:00 on day 1 of every month"),
        ("0 0 1,15 * *", "at 00:00 on days 1 and 15 of every month"),
        ("0 0 L * *", "at 00:00 on the last day of every month"),
        ("0 0 15,L JAN,APR *", "at 00:00 on day 15 and the last day of January and April"),
        ("@yearly", "at 00:00 on day 1 of January"),
        ("0 0 * JUN-AUG *", "at 00:00 every day in June, July and August"),
        ("*/5 * * 6 *", "every 5 minutes in June"),
        ("@weekly", "at 00:00 every Sunday"),
        ("0 8 * * MON-WED", "at 08:00 every Monday, Tuesday and Wednesday"),
        ("0 8 * 6 MON", "at 08:00 every Monday in June"),
        ("0 8 * * MON#2", "at 08:00 on the second Monday of every month"),
        ("0 8 * 6 FRIL", "at 08:00 on the last Friday of June"),
        ("0 8 * * SUN,FRIL", "at 08:00 every Sunday and on the last Friday of every month"),
        ("0 0 1 * MON", "at 00:00 on day 1 of every month and every Monday"),
        ("0 0 1-31 * MON", "at 00:00 every day"),
        ("0 0 */10 2 MON", "at 00:00 every Monday that falls on days 1, 11, 21 and 31 of February"),
    ],
)
def test_an_expression_can_be_said_in_english(expression: str, words: str) -> None:
    """A person who reads no cron can read what a schedule means."""
    assert read(expression).describe() == words


SETS = st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True).map(lambda hours: ",".join(map(str, hours)))


@given(
    st.tuples(
        st.sampled_from(["*", "0", "*/7", "3-50/11"]),
        SETS,
        st.sampled_from(["*", "L", "29", "1-7", "*/2"]),
        st.sampled_from(["*", "2", "4-9", "*/5"]),
        st.sampled_from(["*", "MON", "5L", "SUN#5", "1-5", "*/3"]),
    ),
    st.datetimes(datetime(1600, 1, 1), datetime(2399, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
)
def test_first_and_last_enclose_a_wall_time(parts: tuple[str, ...], wall: datetime) -> None:
    """Between the last wall time at or before a moment and the first one after it, there is none."""
    pattern = read(" ".join(parts))
    last, first = pattern.last(wall), pattern.first(wall + timedelta(microseconds=1))
    assert last is not None
    assert first is not None
    assert last <= wall < first
    assert (last.second, last.microsecond, first.second, first.microsecond) == (0, 0, 0, 0)
    assert pattern.last(first - timedelta(microseconds=1)) == last
    assert pattern.first(last) == last
    assert pattern.last(first) == first


def test_the_calendar_has_ends() -> None:
    """Beyond the ends of the calendar there is no wall time, and no overflow."""
    february = read("0 0 29 2 *")
    assert february.first(datetime(9999, 1, 1, tzinfo=UTC)) is None
    assert february.last(datetime(4, 2, 28, tzinfo=UTC)) is None
    assert february.last(datetime(4, 3, 1, tzinfo=UTC)) == datetime.combine(date(4, 2, 29), datetime.min.time(), UTC)


def test_an_expression_longer_than_a_jobs_row_keeps_is_refused():
    minutes = ",".join(str(minute) for minute in range(60))
    hours = ",".join(str(hour) for hour in range(24))
    assert read(f"{minutes}   *  *   *  * ").times
    for longer in (f"{minutes} {hours} 1,2,3,4,5,6,7,8 * MON-FRI", "0 " * 1000, "9" * 10_000):
        with pytest.raises(ScheduleError, match="longer than 255 characters") as refused:
            read(longer)
        assert len(str(refused.value)) < 200
