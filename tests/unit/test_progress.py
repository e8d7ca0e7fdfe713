"""The line that tells how far a sweep is."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from nightcrew.console.progress import Course

ROWS = st.lists(st.tuples(st.integers(0, 200_000), st.floats(0.001, 30)), max_size=20)


def course(about=None, begun=0.0):
    return Course("sweep", about, marks=deque([(begun, 0)]))


def test_a_line_says_how_far_how_fast_and_how_long_yet():
    swept = course(about=3_000_000)
    for second in range(1, 6):
        swept.went(60_000, float(second))
    assert swept.line(5.0) == (
        "sweep    300,000 of about 3,000,000 rows  10%     60,000 rows/s  45 s left         ".rstrip()
    )


def test_a_line_of_a_function_says_what_that_told_and_goes_by_it_however_slow_it_is():
    called = Course("mail", told=True)
    called.came(300, 1_000, 0.0)
    called.came(302, 1_000, 4.0)
    assert called.line(4.0) == "mail    302 of 1,000  30%        0.5/s  23 min left"
    called.came(303, None, 4.0)
    assert called.line(4.0) == "mail            303        0.8/s"
    called.came(100, 90, 5.0)
    assert "of" not in called.line(5.0)


@given(st.none() | st.integers(1, 10**7), ROWS)
def test_its_figures_keep_their_places(about, batches):
    swept, now, places = course(about), 0.0, set()
    for rows, seconds in batches:
        now += seconds
        if about is not None and swept.rows + rows > about:
            break
        swept.went(rows, now)
        places.add(swept.line(now).index("rows/s"))
    assert len(places) <= 1


@given(ROWS)
def test_the_rate_is_that_of_late_and_a_wait_lets_it_fall(batches):
    swept, now = course(), 0.0
    for rows, seconds in batches:
        now += seconds
        swept.went(rows, now)
    assert 0 <= swept.rate(now) <= 200_000 * len(batches) / 0.25
    assert swept.rate(now + 60) <= swept.rate(now) or swept.rate(now + 60) == 0


def test_an_estimate_that_was_too_low_is_not_held_up():
    swept = course(about=100)
    swept.went(150, 1.0)
    assert "of about" not in swept.line(1.0)
    assert "left" not in swept.line(1.0)


def test_what_a_gauge_says_cannot_break_the_line():
    swept = course()
    swept.held = "waits: sale: on\x1b[2J\nand on"
    assert swept.line(1.0).isprintable()
