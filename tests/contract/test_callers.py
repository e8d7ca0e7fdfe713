"""Who calls from outside, on every database: known again when they repeat themselves, and told what does not fit."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.books import Bid, Bidder
from nightcrew.caller import Caller
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import UsageError
from nightcrew.triggers.http import Door
from nightcrew.triggers.request import Request

SECRET = "correct-horse-battery-staple"
HOUR = timedelta(hours=1)
HALF_DAILY = every(12 * HOUR)


@pytest.fixture
def crew(database_url):
    """A crew with one job every twelve hours that notes the slots of its calls, and has been there for a month."""
    heard = []
    crew = Nightcrew(database_url, settings=Settings(secret=SECRET), listeners=[heard.append])
    crew.heard, crew.calls, crew.fails = heard, [], False
    crew.add(Job("rates", HALF_DAILY, function=lambda run: called(crew, run)))
    crew.add(Job("others", HALF_DAILY, function=lambda run: called(crew, run)))
    crew.migrate()
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=datetime.now(UTC) - 30 * timedelta(days=1)))
    yield crew
    crew.close()


def called(crew, run):
    crew.calls.append(run.slot)
    if crew.fails:
        raise ValueError("no rates today")
    return 1


def latest():
    return HALF_DAILY.latest(datetime.now(UTC))


def ran(crew):
    return [run for run in crew.runs() if run.state != "missed"]


def post(crew, *headers, query=b""):
    sent = [(b"authorization", f"Bearer {SECRET}".encode()), *((key, value.encode()) for key, value in headers)]
    return Door(crew).answer(Request("POST", "/api/internal/jobs/rates", query, sent))


def vercel(slot, execution="01JABC:1"):
    return (b"ce-type", "com.vercel.schedule.v1beta"), (b"ce-id", execution), (b"ce-vssscheduledat", slot.isoformat())


# ── known again ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repeated_execution_of_vercels_gets_the_same_run_though_a_later_slot_is_due(crew):
    before = latest() - 12 * HOUR
    assert post(crew, *vercel(before)).status == 200
    assert post(crew, *vercel(before)).status == 200
    assert crew.calls == [before]
    assert ran(crew)[0].caller.endswith(" 01JABC:1")
    assert crew.run("rates", trigger="http").slot == latest()


def test_the_same_key_gets_the_same_run_and_another_key_another_one(crew):
    first, again = (crew.run("rates", now=True, caller=Caller("ada", "deploy-17")) for _ in range(2))
    assert (first.outcome, again.outcome, again.run) == ("succeeded", "already_done", first.run)
    assert again.message.startswith(f"Run {first.run} ended as done by manual at ")
    other = crew.run("rates", now=True, caller=Caller("ada", "deploy-18"))
    elsewhere = crew.run("others", now=True, caller=Caller("ada", "deploy-17"))
    assert (other.outcome, elsewhere.outcome) == ("succeeded", "succeeded")
    assert crew.calls == [None] * 3


def test_a_key_whose_run_failed_hears_so_again_and_nothing_is_tried_twice(crew):
    crew.fails = True
    first, again = (crew.run("rates", now=True, caller=Caller("ada", "deploy-17")) for _ in range(2))
    assert (first.outcome, again.outcome, again.run) == ("failed", "failed", first.run)
    assert "no rates today" in again.message
    assert crew.calls == [None]


def test_of_many_with_one_key_at_once_one_starts_a_run(crew, database_url):
    rivals = [Nightcrew(database_url, jobs=crew.jobs.values(), settings=Settings()) for _ in range(4)]
    for rival in rivals:
        rival.status()
    with ThreadPoolExecutor(4) as threads:
        reports = list(threads.map(lambda rival: rival.run("rates", now=True, caller=Caller(None, "k")), rivals))
    assert len(crew.calls) == 1
    assert sorted({report.run for report in reports}) == [crew.runs()[0].id]
    assert [report.outcome for report in reports].count("succeeded") == 1
    for rival in rivals:
        rival.close()


def test_a_run_by_hand_that_the_ledger_knows_already_leaves_the_mark_where_it_is(crew):
    crew.run("rates", trigger="http")
    before = crew.status()[0].standing
    known = crew.run("rates", now=True, caller=Caller(None, "k")).run
    bid = Bid("rates", None, known, crew.status()[0].standing.fence)
    assert crew._station.books.claim([bid], Bidder("me", "http", None, 60)) == []
    assert crew.status()[0].standing.mark == before.mark


# ── what does not fit ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_caller_who_goes_by_another_schedule_gets_the_run_and_is_told_of_it_everywhere(crew):
    said = "the caller goes by the schedule '0 * * * *', the job by 'every 12 hours'"
    header = (b"x-vercel-cron-schedule", "0 * * * *")
    first, again = (post(crew, header).body.decode() for _ in range(2))
    assert '"outcome": "succeeded"' in first
    assert f'"note": "{said}"' in first
    assert '"outcome": "already_done"' in again
    assert f'"note": "{said}"' in again
    (row,) = ran(crew)
    assert row.reason == f"Job rates ran and counted 1; {said}"
    entry = next(entry for entry in crew.entries(row.id) if entry["kind"] == "drift")
    assert (entry["facts"]["theirs"], entry["facts"]["ours"]) == ("0 * * * *", "every 12 hours")
    assert [entry.facts["sentence"] for entry in crew.heard if entry.kind == "drift"] == [said], "once a run"


def test_cloud_schedulers_time_that_is_no_slot_is_taken_for_the_slot_it_falls_into_and_told_of(crew):
    at = latest() + timedelta(seconds=1)
    report = post(crew, (b"x-cloudscheduler-scheduletime", at.isoformat())).body.decode()
    assert crew.calls == [latest()]
    assert "which is no slot of the job's schedule 'every 12 hours'" in report


@pytest.mark.parametrize("known", [False, True], ids=["a new job", "a job that has run"])
def test_a_slot_before_the_job_was_there_is_an_error_and_nothing_is_run(crew, known):
    if known:
        crew.run("rates", trigger="http")
    calls = list(crew.calls)
    response = post(crew, query=b"slot=2020-01-01T00:00Z")
    assert response.status == 400
    assert "slot 2020-01-01T00:00:00.000Z of job 'rates' lies before 20" in response.body.decode()
    assert crew.calls == calls


def test_the_slot_that_is_due_now_may_be_named_also_of_a_job_that_is_new(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=datetime.now(UTC)))
    assert crew.run("rates", trigger="http", slot=latest()).outcome == "succeeded"


def test_a_slot_that_was_run_before_the_job_got_its_schedule_is_still_done(crew):
    done, _ = crew.run("rates", trigger="http", slot=latest() - 12 * HOUR), crew.run("rates", trigger="http")
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=datetime.now(UTC)))
    again = crew.run("rates", trigger="http", slot=done.slot)
    assert (again.outcome, again.run) == ("already_done", done.run)


def test_a_slot_to_come_is_an_error_that_names_the_header(crew):
    response = post(crew, (b"x-cloudscheduler-scheduletime", "2999-01-01T00:00:00Z"))
    assert response.status == 400
    assert "X-CloudScheduler-ScheduleTime: slot 2999-01-01T00:00:00.000Z of job 'rates' lies" in response.body.decode()
    with pytest.raises(UsageError, match="lies in the future"):
        crew.run("rates", slot=datetime(2999, 1, 1, tzinfo=UTC))
    assert (crew.calls, crew.runs()) == ([], [])
