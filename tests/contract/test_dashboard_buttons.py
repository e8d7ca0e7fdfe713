"""The desk's buttons for every job at once, and for slots that have passed."""

import time
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import sqlalchemy as sa
from tests.desk import Browser, hired, letting_in, past, staffed, words

from nightcrew import Job
from nightcrew.databases.tables import jobs as job_table
from nightcrew.schedule import every


@pytest.fixture
def crew(yard):
    with staffed(yard) as crew:
        yield crew


@pytest.fixture
def browser(crew):
    return Browser(crew.dashboard(letting_in("all")), "/ops/nightcrew")


def acts(crew):
    return [(act.actor, act.verb, act.job, act.reason) for act in crew.acts.newest()]


def known_since(crew, name, age):
    """Let a job's schedule be as old as that, and nobody have run a slot of it since."""
    with crew._station.link.transaction() as connection:
        begun = {"epoch_at": datetime.now(UTC) - age, "mark": None}
        connection.execute(sa.update(job_table).where(job_table.c.name == name).values(begun))


def until(true):
    """Wait until something is so."""
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it never came true")


def test_every_job_is_stopped_for_a_reason_and_resumed(crew, browser):
    assert "needs a reason" in words(browser.send("/", "/stop-all", status=422, reason=" "))
    assert acts(crew) == []
    assert browser.send("/", "/stop-all", reason="a fire") == "/?done=stopped"
    said = words(browser.open("/?done=stopped"))
    assert "Every job is stopped: what ran ends after the batch it is in" in said
    assert "■ every job a fire stopped by ada" in said
    assert "stop-all" not in browser.open("/"), "it is offered to end the stop"
    assert {each.standing.stopped_reason for each in crew.status()} == {"a fire"}
    assert browser.send("/", "/resume-all", reason="it is out") == "/?done=resumed"
    assert {each.standing.stopped_at for each in crew.status()} == {None}
    assert acts(crew) == [("ada", "resume all", None, "it is out"), ("ada", "stop all", None, "a fire")]


def test_whoever_may_not_pause_or_run_is_not_offered_it(crew):
    browser = Browser(crew.dashboard(letting_in({"plan"})))
    assert "stop-all" not in browser.open("/")
    assert "/backfill" not in browser.open("/jobs/daily")
    since, until = datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC)
    known_since(crew, "daily", timedelta(days=1))
    page = browser.open(f"/jobs/daily/backfill?from={since:%Y-%m-%dT%H:%M}&to={until:%Y-%m-%dT%H:%M}")
    assert "<button" not in page
    seal = browser.open("/jobs/purge-notes").split('name="seal" value="')[1].split('"')[0]
    for path, needed in (("/stop-all", "pause"), ("/resume-all", "pause"), ("/jobs/daily/backfill", "run")):
        answer = browser.ask("POST", path, data={"seal": seal, "reason": "so"})
        assert answer.status_code == 403
        assert f"ada may not {needed} here" in words(answer.text)
    assert acts(crew) == []


def test_slots_that_have_passed_are_listed_and_run_once(crew, browser):
    crew.add(Job("rates", every("1 hour"), function=lambda run: 1))
    crew.status()
    known_since(crew, "rates", timedelta(hours=6, minutes=30))
    assert 'action="/ops/nightcrew/jobs/rates/backfill"' in browser.open("/jobs/rates")
    now = datetime.now(UTC)
    asked = f"/jobs/rates/backfill?from={now - timedelta(hours=5):%Y-%m-%dT%H:%M}&to={now:%Y-%m-%dT%H:%M}"
    said = words(browser.open(asked))
    assert "A backfill would run 5 slots" in said
    assert "Nothing has been run" in said
    assert crew.runs("rates") == []
    assert browser.send(asked, "/rates/backfill") == "/jobs/rates?done=backfilled"
    ran = [(row.state, row.caller) for row in crew.runs("rates") if row.trigger == "dashboard"]
    assert ran == [("done", "ada")] * 5
    ((actor, verb, job, reason),) = acts(crew)
    assert (actor, verb, job) == ("ada", "backfill", "rates")
    assert reason.startswith("slots from ")
    assert "every slot has its run" in words(browser.open(asked))


def test_a_backfill_that_cannot_be_says_why_and_many_slots_are_named_in_part(crew, browser):
    crew.add(Job("often", every("1 minute"), function=lambda run: 1))
    crew.status()
    known_since(crew, "often", timedelta(days=3))
    now = datetime.now(UTC)

    def asked(since, until, status=422, job="often"):
        return words(browser.open(f"/jobs/{job}/backfill?from={since}&to={until}", status))

    def at(**ago):
        return f"{now - timedelta(**ago):%Y-%m-%dT%H:%M}"

    assert "such as 2026-01-31T12:00, in UTC" in asked("", at(hours=1))
    assert "such as 2026-01-31T12:00, in UTC" in asked(at(hours=1), "9999-99-99")
    assert "such as 2026-01-31T12:00, in UTC" in asked("0001-01-01T00:00%2B23:00", at(hours=1))
    assert "ends before it begins" in asked(at(hours=1), at(hours=2))
    assert "ends in the future" in asked(at(hours=1), at(hours=-1))
    assert "begins before its schedule did" in asked(at(days=9), at(days=8))
    assert "more than 1,000 slots" in asked(at(days=2), at(days=0))
    assert "takes what has expired by now" in asked(at(hours=1), at(hours=0), job="purge-notes")
    assert "and 21 more slots" in asked(at(minutes=120), at(minutes=0), 200)
    assert "/purge-notes/backfill" not in browser.open("/jobs/purge-notes")
    assert crew.runs("often") == []


def test_a_backfill_that_takes_long_goes_on_beside_the_page(crew, browser, monkeypatch):
    go_on = Event()
    crew.add(Job("slow", every("1 hour"), function=lambda run: go_on.wait(20)))
    crew.status()
    known_since(crew, "slow", timedelta(hours=3, minutes=30))
    monkeypatch.setattr("nightcrew.web.dashboard.screens.start._PATIENCE", 0.05)
    now = datetime.now(UTC)
    asked = f"/jobs/slow/backfill?from={now - timedelta(hours=2):%Y-%m-%dT%H:%M}&to={now:%Y-%m-%dT%H:%M}"
    assert browser.send(asked, "/slow/backfill") == "/jobs/slow?done=backfilling"
    assert "The slots are being run" in words(browser.open("/jobs/slow?done=backfilling"))
    go_on.set()
    until(lambda: [row.state for row in crew.runs("slow") if row.trigger == "dashboard"] == ["done"] * 2)


def test_slots_of_a_job_that_workers_run_are_left_to_them(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    crew.migrate()
    crew.status()
    past(crew, ("daily", 60, "failed"))
    crew.errand = lambda *asked: None
    browser = Browser(crew.dashboard(letting_in("all")))
    assert "/daily/backfill" not in browser.open("/jobs/daily")
    said = words(browser.open("/jobs/daily/backfill?from=2026-01-31T12:00&to=2026-01-31T13:00", 422))
    assert "'nightcrew backfill daily' on one of them does it" in said
    crew.close()
