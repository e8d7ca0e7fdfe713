"""Whether the schedule that a caller goes by is the job's."""

from datetime import UTC, datetime, timedelta

import pytest

from nightcrew import Job, cron, every
from nightcrew.caller import Caller, drift

MARCH = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOURLY, DAILY = every("1 hour"), cron("0 3 * * *")


def remarked(ours, slot=None, **said):
    remarks = drift(Job("rates", ours, function=print), Caller(**said), slot, MARCH)
    return [remark.sentence for remark in remarks]


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (DAILY, "0 3 * * *"),
        (DAILY, "00 3 * * 0-6"),
        (cron("@daily"), "0 0 * * *"),
        (every("10 minutes"), "*/10 * * * *"),
        (every("12 hours"), "0 0,12 * * *"),
        (cron("0 3 * * *", "Europe/Paris"), "0 3 * * *"),
        (cron("0 3 * * *", "Asia/Tokyo"), "0 18 * * *"),
        (cron("0 3 1 * MON"), "0 3 * * 1"),  # of two lines that an export is
        (cron("0 6,18 * * *"), "0 18 * * *"),  # on Hobby
        (every("45 minutes"), "30 1,4,7,10,13,16,19,22 * * *"),
    ],
)
def test_one_schedule_may_be_written_in_many_ways(schedule, theirs):
    assert remarked(schedule, schedule=theirs) == []


@pytest.mark.parametrize(
    ("schedule", "theirs", "ours"),
    [
        (DAILY, "0 4 * * *", "0 3 * * *"),
        (DAILY, "0 3 * * 1-5", "0 3 * * *"),
        (every("7 minutes"), "*/7 * * * *", "every 7 minutes"),
        (every("12 hours"), "0 * * * *", "every 12 hours"),
        (cron("0 3 * * *", "Asia/Tokyo"), "0 19 * * *", "0 3 * * * (Asia/Tokyo)"),
        (DAILY, "rate(1 day)", "0 3 * * *"),
    ],
)
def test_another_schedule_is_told_with_the_jobs(schedule, theirs, ours):
    assert remarked(schedule, schedule=theirs) == [f"the caller goes by the schedule {theirs!r}, the job by {ours!r}"]


def test_a_time_that_is_no_slot_is_told_with_the_jobs_schedule():
    said = remarked(HOURLY, MARCH, source="X-CloudScheduler-ScheduleTime")
    time = "X-CloudScheduler-ScheduleTime says 2026-03-02T09:30:00.000Z"
    assert said == [f"{time}, which is no slot of the job's schedule 'every 1 hour'"]


def test_a_slot_is_one_and_whoever_names_another_time_himself_means_the_slot_it_falls_into():
    assert remarked(HOURLY, MARCH - timedelta(minutes=30), source="Ce-Time") == []
    assert remarked(HOURLY, MARCH) == []
    assert remarked(HOURLY) == []
