import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.duration import parse, spell
from nightcrew.errors import ConfigurationError, DurationError


@pytest.mark.parametrize(
    ("text", "delta"),
    [
        ("30 days", timedelta(days=30)),
        ("15 minutes", timedelta(minutes=15)),
        ("1 hour 30 minutes", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("30 minutes 1 hour", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("2 weeks", timedelta(days=14)),
        ("90 sec", timedelta(seconds=90)),
        ("7d", timedelta(days=7)),
        ("7 D", timedelta(days=7)),
        ("  1 Day\t", timedelta(days=1)),
        ("007 days", timedelta(days=7)),
        ("0 days 5 minutes", timedelta(minutes=5)),
        ("1w1d1h1m1s", timedelta(days=8, hours=1, minutes=1, seconds=1)),
        ("36525 days", timedelta(days=36_525)),
    ],
)
def test_a_span_of_time_is_read_as_a_person_writes_it(text: str, delta: timedelta) -> None:
    """Full words, plurals and the usual abbreviations all work, alone or joined."""
    assert parse(text) == delta


@pytest.mark.parametrize(
    ("unit", "delta"),
    [(word, timedelta(**{unit: 3}))
     for unit, words in {
        "seconds": "s sec secs second seconds", "minutes": "m min mins minute minutes", "hours": "h hr hrs hour hours",
        "days": "d day days", "weeks": "w wk wks week weeks",
     }.items() for word in words.split()],
)  # fmt: skip
def test_every_usual_unit_is_known(unit: str, delta: timedelta) -> None:
    """No usual abbreviation of a unit is refused."""
    assert parse(f"3 {unit}") == parse(f"3{unit}") == parse(f"3 {unit.capitalize()}" if len(unit) > 1 else f"3 {unit}")
    assert parse(f"3 {unit}") == delta


EXAMPLES = "write it like '30 days', '15 minutes' or '1h30m'"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", f"is empty; {EXAMPLES}"),
        ("  ", f"is empty; {EXAMPLES}"),
        ("0 days", f"is no time at all; {EXAMPLES}"),
        ("0h 0m", "is no time at all"),
        ("-5 minutes", f"is negative; {EXAMPLES}"),
        ("1 hour -5 minutes", "is negative"),
        ("30", "has no unit after '30'"),
        ("1h30", "has no unit after '30'"),
        ("1.5 hours", "has a fraction; use whole numbers and a smaller unit, such as '90 minutes'"),
        ("1,5 hours", "has a fraction"),
        (".5 days", "has a fraction"),
        ("6 months", "counts in months, which differ in length; say '180 days'"),
        ("1 month", "say '30 days'"),
        ("1 mo", "say '30 days'"),
        ("2 years", "counts in years, which differ in length; say '730 days'"),
        ("1y", "say '365 days'"),
        ("99999 months", "say '30 days'"),
        ("6M", "counts in months, which differ in length; say '180 days', or '6 minutes' if minutes were meant"),
        ("3 fortnights", "has no unit 'fortnights'; use seconds, minutes, hours, days or weeks"),
        ("250 ms", "has no unit 'ms'; use seconds"),
        ("1h 2h", "names 'h' or its like twice; name every unit once"),
        ("1 hour 2 hrs", "names 'hrs' or its like twice"),
        ("36526 days", "is longer than 100 years"),
        ("36525 days 1 second", "is longer than 100 years"),
        ("999999999999 weeks", "is longer than 100 years"),
        ("9" * 10_000 + " days", "is longer than 100 years"),
        ("\uff13\uff10 days", f"is no length of time; {EXAMPLES}"),
        ("30 day\u017f", "has '\u017f' where a number with its unit belongs"),
        ("days", f"is no length of time; {EXAMPLES}"),
        ("P30D", "is no length of time"),
        ("1 hour and 5 minutes", "has 'and 5 minutes' where a number with its unit belongs"),
        ("1 day\n", "where a number with its unit belongs"),
        ("30 days; DROP TABLE users", "has '; DROP TABLE users' where a number with its unit belongs"),
        (None, "is not text"),
        (30, "is not text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    """Every refusal names what was written and what to write instead, in one short sentence."""
    with pytest.raises(DurationError) as refused:
        parse(text)
    message = str(refused.value)
    assert repr(text)[:50] in message
    assert remedy in message
    assert message.endswith(".")
    assert len(message) < 220
    assert isinstance(refused.value, ConfigurationError)


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (timedelta(days=30), "30 days"),
        (timedelta(days=14), "14 days"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(minutes=90), "1 hour 30 minutes"),
        (timedelta(days=1), "1 day"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(milliseconds=250), "250 ms"),
        (timedelta(seconds=1, microseconds=500_017), "1 second 500 ms 17 µs"),
        (timedelta(0), "0 seconds"),
        (-timedelta(minutes=5), "minus 5 minutes"),
        (timedelta(days=1, seconds=3661), "1 day 1 hour 1 minute 1 second"),
    ],
)
def test_a_span_of_time_is_spelled_in_words(delta: timedelta, words: str) -> None:
    """Reports say “1 hour 30 minutes”, never “5400.0”."""
    assert spell(delta) == words


@given(st.integers(1, 36_525 * 86_400))
def test_what_is_spelled_can_be_read_back(seconds: int) -> None:
    """Any whole number of seconds up to a century survives being written and read."""
    assert parse(spell(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@given(st.text(max_size=30) | st.from_regex(r"[0-9 ]{0,4}[a-zA-Z ]{0,6}-?[0-9]{0,3}[a-z]{0,3}"))
def test_no_text_is_ever_half_read(text: str) -> None:
    """Any text is either read to a span within bounds or refused as a duration, and nothing else."""
    with contextlib.suppress(DurationError):
        assert timedelta(0) < parse(text) <= timedelta(days=36_525)
