"""The desk in a real browser: with the keyboard alone, without script, on a telephone, by night, by its own rules."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import sqlalchemy as sa
from tests import chromium
from tests.browsing import ENTER, follow, opened, press, reach, sent, served
from tests.desk import hired, past

from nightcrew import Job, Nightcrew, Settings
from nightcrew.databases.tables import jobs as job_table
from nightcrew.schedule import every
from nightcrew.stores.memory import Memory

MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None and "CI" not in os.environ, reason="CHROMIUM IS NOT INSTALLED: no page was tested"
)


@pytest.fixture
def crew(sqlite_yard) -> Iterator[Nightcrew]:
    sqlite_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")
    sqlite_yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    crew = hired(sqlite_yard.link.engine.url.render_as_string(hide_password=False), max_rows=10)
    crew.migrate()
    crew.status()
    error = "Traceback (most recent call last):\n  File x\nOSError: disk full " + "x" * 500
    past(
        crew,
        ("daily", 60, "failed", {"reason": "Job daily failed: disk full", "error": error}),
        *(("purge-notes", 10 * n, "done") for n in range(1, 60)),
    )
    yield crew
    crew.close()


@pytest.fixture
def desk(crew) -> Iterator[str]:
    with served(crew) as address:
        yield address


def test_a_plan_past_a_rail_is_agreed_to_and_carried_out_with_the_keyboard_alone(browser, crew, desk, sqlite_yard):
    tab = opened(browser, f"{desk}/")
    tab.until("!document.getElementById('knobs').hidden")
    assert "1 job needs attention" in tab.text("h1")
    reach(tab, "th a[href$='/jobs/purge-notes']")
    follow(tab, ENTER)
    reach(tab, "form[action$='/plan'] button")
    follow(tab, ENTER)
    assert "A run would be refused" in tab.text("h1")
    reach(tab, "input[name=confirm]")
    tab.call("Input.insertText", text="purge")
    press(tab, ENTER)
    assert tab.value("document.querySelector('input[name=confirm]').validity.patternMismatch"), "not the job's name"
    assert len(sqlite_yard.ids("notes")) == 40
    tab.call("Input.insertText", text="-notes")
    follow(tab, ENTER)
    assert "✓ done" in tab.text(".title")
    assert sqlite_yard.ids("notes") == []
    assert tab.value("wrong") == []
    tab.open(f"{desk}/audit")
    did = tab.value("[...document.querySelectorAll('td[data-head=Did]')].map((cell) => cell.textContent)")
    assert did == ["run", "ack"]
    assert tab.value("wrong") == []


def test_everything_works_without_script(browser, crew, desk):
    tab = opened(browser, f"{desk}/jobs/daily", script=False)
    call = tab.value  # the protocol may still look, where the page may not
    assert call("document.getElementById('knobs').hidden")
    call("document.querySelector('.acts details:last-of-type summary').click()")
    call("document.querySelector('form[action$=\"/pause\"] input[name=reason]').value = 'moving house'")
    sent(tab, 'form[action$="/pause"] button')
    assert "The job is paused" in tab.text("[role=status]")
    assert crew.status("daily")[0].standing.paused_reason == "moving house"


def test_every_job_is_stopped_and_resumed_with_the_keyboard_alone(browser, crew, desk):
    tab = opened(browser, f"{desk}/")
    reach(tab, "#halt summary")
    press(tab, ENTER)
    reach(tab, "form[action$='/stop-all'] input[name=reason]")
    tab.call("Input.insertText", text="a fire")
    follow(tab, ENTER)
    assert "Every job is stopped" in tab.text("p.notice[role=status]:not([hidden])")
    assert crew.status("daily")[0].standing.stopped_reason == "a fire"
    reach(tab, "#halt summary")
    press(tab, ENTER)
    reach(tab, "form[action$='/resume-all'] button")
    follow(tab, ENTER)
    assert crew.status("daily")[0].standing.stopped_at is None
    assert tab.value("wrong") == []


def test_slots_that_have_passed_are_listed_and_run_without_script(browser, crew, desk):
    crew.add(Job("rates", every("1 minute"), function=lambda run: 1))
    crew.status()
    now = datetime.now(UTC)
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).where(job_table.c.name == "rates").values(epoch_at=now - 10 * MINUTE))
    tab = opened(browser, f"{desk}/jobs/rates", script=False)
    tab.click("details:has(form[action$='/backfill']) summary")
    for field, ago in (("from", 5), ("to", 3)):
        tab.fill(f"input[name={field}]", f"{now - ago * MINUTE:%Y-%m-%dT%H:%M}")
    sent(tab, "form[action$='/backfill'] button")
    assert "A backfill would run 3 slots" in tab.text("h1")
    sent(tab, "form[action$='/backfill'] button")
    assert "The slots were run" in tab.text("[role=status].notice")
    assert [row.state for row in crew.runs("rates") if row.trigger == "dashboard"] == ["done"] * 3


@pytest.fixture
def undoing(sqlite_yard) -> Iterator[tuple[Nightcrew, str, str]]:
    """A crew whose archive has what a run took, the run, and where the desk is served."""
    sqlite_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")
    sqlite_yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    url = sqlite_yard.link.engine.url.render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), blobs={"vault": Memory()}, archive="vault")
    kept = {"max_fraction": 1, "archive": timedelta(days=7)}
    crew.expire("purge-notes", "notes", column="created_at", every="10 minutes", **kept)
    crew.migrate()
    run = crew.run("purge-notes", now=True).run
    assert sqlite_yard.ids("notes") == []
    with served(crew) as address:
        yield crew, run, address
    crew.close()


def test_a_run_is_undone_with_the_keyboard_alone_and_its_job_is_paused(browser, undoing, sqlite_yard):
    crew, run, desk = undoing
    tab = opened(browser, f"{desk}/")
    reach(tab, "nav a[href$='/vault']")
    follow(tab, ENTER)
    reach(tab, "th a.name")
    follow(tab, ENTER)
    reach(tab, "form[action$='/look'] button")
    follow(tab, ENTER)
    assert "An undo would put 40 rows back" in tab.text("h1")
    reach(tab, "input[name=reason]")
    tab.call("Input.insertText", text="the cutoff was wrong")
    reach(tab, "input[name=confirm]")
    tab.call("Input.insertText", text="purge")
    press(tab, ENTER)
    assert tab.value("document.querySelector('input[name=confirm]').validity.patternMismatch"), "not the job's name"
    assert sqlite_yard.ids("notes") == []
    tab.call("Input.insertText", text="-notes")
    follow(tab, ENTER)
    assert "every row is back. purge-notes is paused." in tab.text("[role=status].notice")
    assert len(sqlite_yard.ids("notes")) == 40
    assert crew.status("purge-notes")[0].standing.paused_reason == f"run {run} is undone: the cutoff was wrong"
    assert tab.value("wrong") == []


def test_a_run_is_undone_without_script(browser, undoing, sqlite_yard):
    crew, run, desk = undoing
    tab = opened(browser, f"{desk}/vault/{run}", script=False)
    sent(tab, "form[action$='/look'] button")
    tab.fill("input[name=reason]", "the cutoff was wrong")
    tab.fill("input[name=confirm]", "purge-notes")
    tab.click("input[name=pause]")
    sent(tab, "form[action$='/undo'] button")
    assert "every row is back." in tab.text("[role=status].notice")
    assert len(sqlite_yard.ids("notes")) == 40
    assert not crew.status("purge-notes")[0].paused


@pytest.mark.parametrize("path", ["/", "/jobs/daily", "/jobs/purge-notes", "/runs/daily.00000", "/audit", "/nope"])
@pytest.mark.parametrize("width", [320, 1280])
def test_no_page_is_wider_than_its_window_or_breaks_its_own_rules_by_day_or_night(browser, crew, desk, path, width):
    tab = opened(browser, f"{desk}{path}", width=width, height=900)
    grounds = []
    for on in (False, True):
        tab.dark(on=on)
        tab.reload()
        assert tab.value("document.documentElement.scrollWidth") <= width
        grounds.append(tab.value("getComputedStyle(document.body).backgroundColor"))
        assert tab.value("wrong") == []
    assert grounds[0] != grounds[1]


def test_a_page_keeps_itself_fresh_and_leaves_alone_what_somebody_is_in_the_middle_of(browser, crew, desk):
    tab = opened(browser, f"{desk}/")
    knob = "document.querySelector('[data-knob=pulse]')"
    tab.value(f"{knob}.value = '5'; {knob}.dispatchEvent(new Event('change'))")
    tab.value("document.querySelector('#schedule a').focus(); window.kept = document.querySelector('#schedule table')")
    crew.run("daily", now=True)
    tab.until("document.querySelector('h1').textContent.includes('All quiet')")
    assert tab.value("document.querySelector('#schedule table') === window.kept")
    assert tab.value("document.title").startswith("Tonight"), "and the tab says so"
    assert tab.value("wrong") == []


def test_a_page_that_cannot_be_refreshed_says_so_until_it_can(browser, crew):
    inside = True
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    with served(crew, lambda _request: "all" if inside else None) as address:
        tab = opened(browser, f"{address}/")
        inside = False
        tab.value(look)
        tab.until("!document.getElementById('stale').hidden")
        inside = True
        tab.value(look)
        tab.until("document.getElementById('stale').hidden")


def test_a_run_under_way_shows_how_far_it_is_until_it_is_over(browser, crew):
    go_on = Event()

    def slow(run):
        run.progress(30, 120)
        run.checkpoint(30)
        go_on.wait(20)
        return 120

    crew.add(Job("slow", every("1 day"), function=slow))
    with served(crew) as address:
        tab = opened(browser, f"{address}/jobs/slow")
        tab.click(".acts details summary")
        tab.click("form[action$='/slow/run'] button")
        tab.until("document.querySelector('progress')")
        assert tab.value("document.querySelector('progress').value") == 30
        go_on.set()
        tab.until("document.querySelector('.title').textContent.includes('done')")
        assert tab.value("wrong") == []


def test_times_are_shown_as_where_one_is_and_the_theme_is_kept(browser, crew, desk):
    tab = opened(browser, f"{desk}/runs/daily.00000")
    tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    tab.reload()
    slot = "document.querySelector('time[data-shape=full]')"
    before = tab.value(f"{slot}.textContent")
    for name, value in (("zone", "here"), ("theme", "dark")):
        knob = f"document.querySelector('[data-knob={name}]')"
        tab.value(f"{knob}.value = '{value}'; {knob}.dispatchEvent(new Event('change'))")
    assert tab.value(f"{slot}.textContent") != before
    assert tab.value("document.querySelector('[data-zone]').textContent") == "Asia/Tokyo"
    assert tab.value(f"{slot}.title").endswith("Asia/Tokyo")
    tab.open(f"{desk}/")
    assert tab.value("document.documentElement.dataset.theme") == "dark"
    assert tab.value("document.querySelector('footer [data-zone]').textContent") == "Asia/Tokyo"
