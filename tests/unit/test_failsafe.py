"""How long the in-process scheduler leaves a slot to the outside caller who is to run it: the rule alone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew import Job, cron, every
from nightcrew.bid import bid_for
from nightcrew.books import Standing
from nightcrew.errors import ConfigurationError
from nightcrew.failsafe import covers_from

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EPOCH = NOON - timedelta(days=400)


def outside(schedule, name="rates", **terms):
    return Job(name, schedule, function=print, primary="external", **terms)


def standing(job, *, epoch=EPOCH, mark=None):
    """A job's row as it is when nobody runs it."""
    return Standing(
        job=job.name, schedule=job.schedule.expression, timezone="UTC", meaning=job.schedule.meaning, epoch_at=epoch,
        mark=mark, fence=0, run=None, owner=None, attempt=0, lease_until=None, failed_run=None, paused_at=None,
        paused_by=None, paused_reason=None, paused_until=None, fail_streak=0, last_ok_at=None,
    )  # fmt: skip


PERIODS = st.timedeltas(2 * SECOND, timedelta(days=40)).map(lambda period: period // SECOND * SECOND)
WAITS = st.timedeltas(SECOND, timedelta(days=2))
MOMENTS = st.timedeltas(timedelta(0), timedelta(days=36_500)).map(lambda since: EPOCH + since)


@given(PERIODS, WAITS, MOMENTS)
def test_a_slot_is_left_alone_as_long_as_was_said_and_covered_before_the_next_is_due(period, after, moment):
    job = outside(every(period), failsafe_after=after)
    slot = job.schedule.latest(moment)
    wait = covers_from(job, slot) - slot
    assert min(after, 0.4 * period) <= wait <= min(1.25 * after, period / 2) + SECOND / 1000
    assert covers_from(job, slot) - slot == wait, "every machine reckons the same"


def test_jobs_of_one_minute_are_not_covered_all_at_once():
    waits = {covers_from(outside(every(HOUR), f"job-{number}"), NOON) for number in range(20)}
    assert len(waits) == 20
    assert max(waits) - min(waits) > 15 * SECOND


@given(PERIODS, WAITS, st.sampled_from(["latest", "all", "none"]))
def test_the_scheduler_bids_from_then_on_and_anybody_else_at_once(period, after, catch_up):
    job = outside(every(period), failsafe_after=after, catch_up=catch_up)
    slot = job.schedule.latest(NOON)
    seen, covered = standing(job, mark=slot - period), covers_from(job, slot)
    assert bid_for(job, seen, slot).trigger is None
    assert bid_for(job, seen, covered - SECOND / 1000, inside=True) is None
    bid = bid_for(job, seen, covered, inside=True)
    assert (bid.slot, bid.trigger, [remark.kind for remark in bid.remarks]) == (slot, "failsafe", ["failsafe"])


def test_it_says_how_long_nobody_came():
    job = outside(every(HOUR))
    (remark,) = bid_for(job, standing(job), NOON + 150.7 * SECOND, inside=True).remarks
    assert remark.sentence == "the outside caller did not come: covered as failsafe 2 minutes 30 seconds after the slot"


def test_a_slot_that_its_window_has_held_back_is_run_when_that_opens_for_whoever_came_was_sent_away():
    job = outside(cron("0 12 * * *"), window="22:00-06:00")
    bid = bid_for(job, standing(job), NOON + 10 * HOUR, inside=True)
    assert (bid.slot, bid.trigger, bid.remarks) == (NOON, None, ())


def test_a_slot_within_the_window_is_left_to_the_caller_as_any_other():
    job = outside(cron("0 23 * * *"), window="22:00-06:00")
    seen = standing(job, mark=NOON - 13 * HOUR)
    assert bid_for(job, seen, NOON + 11 * HOUR + MINUTE, inside=True) is None
    assert bid_for(job, seen, NOON + 11 * HOUR + 3 * MINUTE, inside=True).trigger == "failsafe"


def test_of_slots_caught_up_on_each_is_left_to_the_caller_for_as_long():
    job = outside(every(HOUR), catch_up="all")
    seen = standing(job, mark=NOON - 2 * HOUR)
    assert bid_for(job, seen, NOON + MINUTE, inside=True).slot == NOON - HOUR
    assert bid_for(job, standing(job, mark=NOON - HOUR), NOON + MINUTE, inside=True) is None


def test_a_job_that_runs_on_start_waits_for_nobody_then_and_blames_nobody():
    job = outside(every(HOUR), on_start=True)
    seen = standing(job, mark=NOON - HOUR)
    assert bid_for(job, seen, NOON + MINUTE, inside=True) is None
    bid = bid_for(job, seen, NOON + MINUTE, inside=True, start=True)
    assert (bid.slot, bid.remarks) == (NOON, ())
    new = standing(job, epoch=NOON + MINUTE)
    assert bid_for(job, new, NOON + 30 * MINUTE, inside=True, start=True).remarks == (), "nobody knew of it then"


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"primary": "externl"}, "there is no primary 'externl'; did you mean 'external'?"),
        ({"failsafe_after": MINUTE}, "failsafe_after of job 'rates' goes with primary 'external'"),
        ({"primary": "external", "failsafe_after": 0 * MINUTE}, "failsafe_after of job 'rates' leaves a caller no"),
        ({"primary": "external", "failsafe_after": 120}, "failsafe_after of job 'rates' is 120 (int); write timedelta"),
    ],
)
def test_what_makes_no_sense_is_refused(terms, sentence):
    with pytest.raises(ConfigurationError) as refusal:
        Job("rates", every(HOUR), function=print, **terms)
    assert sentence in str(refusal.value)
