"""Between two batches: how many, how long to wait, and when to stop."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nightcrew.errors import ConfigurationError
from nightcrew.gauge import Gauge, Level, unreadable, worst
from nightcrew.throttle import TEMPOS, Facts, Pace, Size, Stop, Take, Throttle, Wait, pace

GREEN = Facts(Gauge("all"))
BRAKE = Facts(Gauge("load", Level.BRAKE, "12 threads"))
STOP = Facts(Gauge("load", Level.STOP, "60 threads"))
SIZE = Size(10_000, 100_000, 0.1)
PACES = st.sampled_from(Pace)
LEVELS = st.sampled_from(Level)
SECONDS = st.floats(0, 1e4)


def begun(pace=Pace.STEADY, size=SIZE, lease=60.0, most_duty=1.0):
    return Throttle.of(pace, size, lease, most_duty)


def sweep(throttle, cost, batches, level=Level.GREEN):
    """Take so many batches that cost what `cost` says of their rows, with all the rests; yield rows and seconds."""
    for _ in range(batches):
        answer = throttle.answer(Facts(Gauge("load", level)))
        if isinstance(answer, Wait):
            throttle = throttle.waited(answer)
            answer = throttle.answer(Facts(Gauge("load", level)))
        yield answer.rows, cost(answer.rows)
        throttle = throttle.took(answer.rows, cost(answer.rows))


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(PACES, st.lists(st.tuples(SECONDS, LEVELS, st.booleans()), max_size=30))
def test_no_batch_is_larger_than_the_ceiling_and_none_is_empty(pace, history):
    throttle = begun(pace)
    for seconds, level, failed in history:
        answer = replace(throttle, worked=0.0, owed=0.0).answer(Facts(Gauge("load", min(level, Level.BRAKE))))
        assert 1 <= answer.rows <= SIZE.most
        throttle = throttle.stumbled(1).smaller(answer.rows // 4) if failed else throttle.took(answer.rows, seconds)


@given(
    st.sampled_from([Pace.GENTLE, Pace.STEADY]),
    st.floats(1e-6, 9e-4),  # a row: from a microsecond to the point where fifty rows fill a batch
    st.floats(0, 0.02),  # what every batch costs, whatever its rows
    st.floats(0.8, 1.3),  # how the cost grows with the rows
)
def test_batches_come_to_take_their_time_whatever_a_row_costs(pace, row, fixed, power):
    def cost(rows):
        return fixed + row * rows**power

    target = TEMPOS[pace].target
    assume(cost(max(50, TEMPOS[pace].few)) < target < cost(SIZE.most))
    seconds = [seconds for _, seconds in sweep(begun(pace), cost, 30)]
    assert all(abs(took - target) < 0.25 * target for took in seconds[20:])
    assert max(seconds[1:]) < 1.5 * target, "but for the first, none is much too long on the way"


def test_where_others_would_wait_in_vain_even_the_fastest_pace_rests():
    assert begun(Pace.FAST, most_duty=0.9).took(1000, 0.09).answer(GREEN) == Wait(pytest.approx(0.01))
    assert isinstance(begun(Pace.FAST).took(1000, 0.09).answer(GREEN), Take)
    assert begun(Pace.GENTLE, most_duty=0.9).took(1000, 0.09).answer(GREEN) == Wait(pytest.approx(1.71))


def test_a_table_that_is_far_slower_than_the_first_guess_is_taken_in_small_batches_at_once():
    rows = [rows for rows, _ in sweep(begun(), lambda rows: rows * 0.01, 3)]
    assert rows == [500, 50, 50]


@pytest.mark.parametrize(("row", "rows"), [(1e-5, 500), (1e-4, 500), (2e-4, 250), (0.01, 50)])
def test_a_gentle_batch_whose_overhead_is_its_target_has_some_hundred_rows_unless_these_are_slow(row, rows):
    *_, (last, _) = sweep(begun(Pace.GENTLE), lambda rows: (0.01 if row < 1e-4 else 0) + rows * row, 20)
    assert last == rows


@given(PACES, st.floats(1e-7, 1e-3))
def test_a_batch_is_at_most_twice_the_last_and_four_times_what_took_next_to_nothing(pace, row):
    target = min(TEMPOS[pace].target, SIZE.longest)
    batches = list(sweep(begun(pace), lambda rows: rows * row, 15))
    for (before, took), (following, _) in pairwise(batches):
        assert following <= before * (4 if took < target / 16 else 2)


def test_a_sweep_of_quick_rows_does_not_spend_its_time_on_beginning():
    rows = [rows for rows, _ in sweep(begun(Pace.FAST, Size(10_000, 1_000_000, 0.25)), lambda rows: rows * 1e-7, 5)]
    assert rows == [10_000, 40_000, 160_000, 320_000, 640_000]


def test_one_slow_batch_makes_few_small_ones():
    throttle = begun()
    for _ in range(10):
        throttle = throttle.took(throttle.size, throttle.size * 1e-5)
    assert throttle.size == 5000
    throttle = throttle.took(5000, 1.0)
    assert throttle.size < 1000
    for _ in range(10):
        throttle = throttle.took(throttle.size, throttle.size * 1e-5)
    assert throttle.size > 4000


def test_a_batch_that_stumbled_is_tried_again_with_a_quarter_down_to_a_single_row():
    throttle, rows = begun(Pace.FAST), []
    for tries in range(1, 9):
        throttle = throttle.stumbled(tries).smaller(throttle.size // 4)
        rows.append(throttle.size)
    assert rows == [2500, 625, 156, 39, 9, 2, 1, 1]
    assert throttle.took(1, 0.001).size == 2, "and grows from there, not at a leap"


def test_a_batch_that_stumbled_waits_longer_each_time():
    waits = [begun().stumbled(tries).answer(GREEN).seconds for tries in range(1, 6)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]


# ── how long to wait ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("pace", "rest"), [(Pace.GENTLE, 0.76), (Pace.STEADY, 0.04)])
def test_the_rest_is_in_proportion_to_the_batch(pace, rest):
    throttle = begun(pace).took(500, 0.04)
    assert throttle.answer(GREEN) == Wait(pytest.approx(rest))
    assert isinstance(throttle.waited(Wait(rest)).answer(GREEN), Take)


def test_fast_never_rests_unless_a_gauge_brakes():
    throttle = begun(Pace.FAST).took(10_000, 0.05)
    assert throttle.answer(GREEN) == Take(20_000)
    assert throttle.answer(BRAKE) == Wait(0.05, held=0.05)


@pytest.mark.parametrize(("pace", "rest", "held"), [(Pace.GENTLE, 1.56, 0.8), (Pace.STEADY, 0.12, 0.08)])
def test_of_a_rest_that_a_gauge_stretches_only_the_stretch_is_held(pace, rest, held):
    throttle = begun(pace).took(500, 0.04)
    assert throttle.answer(BRAKE) == Wait(pytest.approx(rest), held=pytest.approx(held))
    assert throttle.answer(GREEN).held == 0
    assert throttle.answer(STOP).held == throttle.answer(STOP).seconds


@given(PACES)
def test_a_brake_halves_the_share_of_time_and_the_rows(pace):
    def share(level):
        throttle, work, rest = begun(pace), 0.0, 0.0
        for _ in range(50):
            answer = throttle.answer(Facts(Gauge("load", level)))
            if isinstance(answer, Wait):
                rest, throttle = rest + answer.seconds, throttle.waited(answer)
                continue
            work += answer.rows * 1e-5
            throttle = throttle.took(answer.rows, answer.rows * 1e-5)
        return work / (work + rest)

    assert share(Level.GREEN) == pytest.approx(TEMPOS[pace].duty, rel=0.1)
    assert share(Level.BRAKE) == pytest.approx(TEMPOS[pace].duty / 2, rel=0.1)
    settled = begun(pace).took(5000, 0.05)
    rested = settled.waited(Wait(0.0))
    assert rested.answer(BRAKE).rows == rested.answer(GREEN).rows // 2


def test_a_gauge_that_says_stop_is_looked_at_again_soon_and_then_less_often():
    throttle, waits = begun(), []
    for _ in range(6):
        wait = throttle.answer(STOP)
        waits.append(wait.seconds)
        throttle = throttle.waited(wait)
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert wait.gauge == STOP.gauge


def test_after_a_stop_the_sweep_begins_small_and_recovers_within_a_second_of_work():
    throttle = begun()
    for _ in range(10):
        throttle = throttle.took(throttle.size, throttle.size * 1e-5)
    throttle = throttle.waited(throttle.answer(STOP)).waited(Wait(0.5, STOP.gauge))
    assert throttle.answer(GREEN) == Take(125)
    taken = list(sweep(throttle, lambda rows: rows * 1e-5, 8))
    assert taken[-1][0] == 5000


def test_a_gauge_that_never_lets_go_hands_the_run_over():
    throttle, waited = begun(), 0.0
    while isinstance(answer := throttle.answer(STOP), Wait):
        waited, throttle = waited + answer.seconds, throttle.waited(answer)
    assert 300 <= waited < 303
    assert answer == Stop("held back for 300 s by load: 60 threads")


@given(PACES, LEVELS, SECONDS, st.floats(0.1, 600), st.floats(0.3, 120))
def test_no_wait_outlasts_a_third_of_the_lease_or_five_seconds(pace, level, seconds, owed, lease):
    throttle = replace(begun(pace, lease=lease).took(500, seconds), owed=min(owed, 5.0))
    answer = throttle.answer(Facts(Gauge("load", level)))
    assert not isinstance(answer, Wait) or answer.seconds <= min(5.0, lease / 3)


# ── when to stop ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(PACES, LEVELS, st.lists(SECONDS, max_size=10), st.floats(-10, 10))
def test_no_wait_leads_past_the_deadline(pace, level, history, left):
    throttle = begun(pace)
    for seconds in history:
        throttle = throttle.took(throttle.size, seconds)
    answer = throttle.answer(Facts(Gauge("load", level), left=left))
    assert not isinstance(answer, Wait) or 0 < answer.seconds <= left
    assert isinstance(answer, Stop) or left > 0 or not history


def test_the_first_batch_is_taken_however_short_the_deadline_is():
    assert begun().answer(Facts(Gauge("all"), left=-1.0)) == Take(500)
    assert begun().took(500, 0.01).answer(Facts(Gauge("all"), left=-1.0)) == Stop("deadline reached")


def test_a_rest_that_nothing_follows_is_not_taken():
    assert begun().took(500, 0.4).answer(Facts(Gauge("all"), left=0.3)) == Stop("deadline reached")


def test_the_reason_for_a_deadline_spent_waiting_is_told():
    answer = begun().answer(Facts(STOP.gauge, left=0.0, ending="its window is over"))
    assert answer == Stop("its window is over, held back by load: 60 threads")


@given(PACES, LEVELS, SECONDS)
def test_whoever_asks_it_to_stop_is_heard_first(pace, level, seconds):
    facts = Facts(Gauge("load", level), asked="asked to stop", left=1.0)
    assert begun(pace).answer(facts) == Stop("asked to stop")
    assert begun(pace).took(500, seconds).answer(facts) == Stop("asked to stop")


# ── gauges ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.builds(Gauge, st.text(), LEVELS), max_size=8))
def test_the_worst_gauge_wins(gauges):
    assert worst(gauges).level == max((gauge.level for gauge in gauges), default=Level.GREEN)
    assert not gauges or worst(gauges) in gauges


def test_a_gauge_that_cannot_be_read_brakes():
    assert unreadable("load", "timed out") == Gauge("load", Level.BRAKE, "cannot be read (timed out)")


def test_a_misspelt_pace_is_told_the_right_one():
    with pytest.raises(ConfigurationError, match="there is no pace 'gentel'; did you mean 'gentle'"):
        pace("gentel")


def test_a_batch_gets_no_smaller_than_the_least_of_its_form_for_being_slow():
    throttle = begun(size=replace(SIZE, first=500, least=250))
    for _ in range(5):
        throttle = throttle.took(throttle.size, 10.0)
    assert throttle.size == 250
    assert throttle.smaller(10).size == 10, "a batch that failed is another matter"
