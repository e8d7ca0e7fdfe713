"""When a job is to be looked at again: never later than it has something to do."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from nightcrew import Job, cron, every
from nightcrew.bid import bid_for, look_again
from nightcrew.books import Standing
from nightcrew.hours import Hours

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2024, 3, 30, tzinfo=UTC)  # the clocks of Paris leap in the night after the next
SCHEDULES = (
    every("7 seconds"),
    every("1 hour"),
    cron("13 */2 * * *", "Europe/Paris"),
    cron("30 2 * * *", "Europe/Paris"),
)
WINDOWS = (None, Hours("22:00-06:00"), Hours("03:30-15:15", "Europe/Paris"))


def standing(job, epoch, mark):
    """A job's row as it is when nobody runs it."""
    return Standing(
        job=job.name, schedule=job.schedule.expression, timezone=job.schedule.timezone, meaning=job.schedule.meaning,
        epoch_at=epoch, mark=mark, fence=0, run=None, owner=None, attempt=0, lease_until=None, failed_run=None,
        paused_at=None, paused_by=None, paused_reason=None, paused_until=None, fail_streak=0, last_ok_at=None,
    )  # fmt: skip


def has_to_do(job, seen, now):
    shut = job.window is not None and job.window.closes(now) is None
    return not shut and bid_for(job, seen, now, inside=True) is not None


@given(
    schedule=st.sampled_from(SCHEDULES),
    window=st.sampled_from(WINDOWS),
    catch_up=st.sampled_from(["latest", "all", "none"]),
    primary=st.sampled_from(["anyone", "external"]),
    hours=st.tuples(*[st.floats(0, 50)] * 3),
    parts=st.lists(st.floats(0, 0.999), min_size=4, max_size=4),
)
def test_no_job_has_anything_to_do_before_it_is_looked_at_again(schedule, window, catch_up, primary, hours, parts):
    job = Job("walk", schedule, function=print, window=window, primary=primary).but(catch_up=catch_up)
    now, epoch, marked = (MIDNIGHT + hour * HOUR for hour in hours)
    seen = standing(job, epoch - 50 * HOUR, schedule.latest(min(marked, now)))
    again = look_again(job, seen, now)
    assert not any(has_to_do(job, seen, now + part * (again - now)) for part in (0, *parts) if again > now)


def test_a_slot_that_a_window_has_held_back_is_looked_for_again_where_its_claim_was_lost():
    job = Job("walk", cron("0 12 * * *"), function=print, window=Hours("22:00-06:00")).but(catch_up="none")
    opened = MIDNIGHT + 22 * HOUR
    seen = standing(job, MIDNIGHT - HOUR, None)
    assert bid_for(job, seen, opened).slot == MIDNIGHT + 12 * HOUR
    assert look_again(job, seen, opened) == opened, "whoever has lost the race for it may win the next"
