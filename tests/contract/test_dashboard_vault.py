"""The desk's vault: what was archived is shown run by run, what an undo would do is looked at, and the undo is done."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.contract.test_archive import KEY, OTHER, SCHEMA, Site
from tests.desk import Browser, hired, letting_in, words

from nightcrew.archives.upkeep import UPKEEP
from nightcrew.databases.tables import frames
from nightcrew.stores.memory import Memory

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def site(database_url):
    site = Site(database_url, Memory())
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill()
    yield site
    site.crew.close()


@pytest.fixture
def browser(site):
    return Browser(site.crew.dashboard(letting_in("all")), "/desk")


def over(site, run, age=timedelta(minutes=20)):
    """Let the time of what is kept of a run be over."""
    with site.engine.begin() as connection:
        past = sa.update(frames).where(frames.c.run == run).values(until=site.crew.clock.now() - age)
        connection.execute(past)


def test_a_run_is_looked_at_and_undone_and_the_page_says_what_came_of_it(site, browser):
    before, run = site.rows(), site.purged()
    site.run("INSERT INTO users VALUES (99, 1, 'u3@a', NULL, NULL)")
    listed = words(browser.open("/vault"))
    assert "purge , run" in listed
    assert "▣ kept" in listed
    page = words(browser.open(f"/vault/{run}"))
    assert "What this run removed can be put back until" in page
    assert "users 5 0 0 5" in page
    looked = words(browser.send(f"/vault/{run}", "/look", status=200))
    assert "An undo would put 28 rows back" in looked
    assert "something stands in the way of 7 rows" in looked
    assert "1 row of users : another row has a value that only one may have" in looked
    assert site.rows()["chats"] == [], "a look changes nothing"
    seal = browser.answer.text.split('name="seal" value="')[1].split('"')[0]
    for given in ({"confirm": "nope", "reason": "so"}, {"confirm": "purge", "reason": " "}):
        assert browser.ask("POST", f"/vault/{run}/undo", data={"seal": seal, **given}).status_code == 422
    assert site.rows()["chats"] == []
    given = {"seal": seal, "confirm": "purge", "reason": HOSTILE, "pause": "yes"}
    assert browser.ask("POST", f"/vault/{run}/undo", data=given).headers["location"].endswith("?done=undone")
    page = words(browser.open(f"/vault/{run}?done=undone"))
    assert "7 rows stayed where they are" in page
    assert "purge is paused." in page
    assert "ada 28 7" in page
    assert "◐ put back in part 7 rows left" in words(browser.open("/vault"))
    acts = [(act.actor, act.verb, act.run, act.reason) for act in site.crew.acts.newest(limit=2)]
    assert acts == [("ada", "undo", run, HOSTILE), ("ada", "pause", None, f"run {run} is undone: {HOSTILE}")]
    assert HOSTILE not in browser.open("/audit")
    site.run("DELETE FROM users WHERE id = 99")
    browser.ask("POST", f"/vault/{run}/undo", data=given)
    assert site.rows() == before
    page = words(browser.open(f"/vault/{run}?done=undone"))
    assert "All of it is back where it was. The undo is done: every row is back." in page
    assert "/look" not in browser.open(f"/vault/{run}"), "there is nothing left to do"
    assert "✓ put back" in words(browser.open("/vault"))


def test_what_is_kept_is_turned_page_by_page_however_the_frames_of_runs_lie(site, browser, monkeypatch):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)
    first = site.purged()
    assert len(site.frames()) > 3
    (frame, *_) = site.frames()
    said = {name: value for name, value in frame._mapping.items() if name != "id"}
    with site.engine.begin() as connection:
        for round_ in range(2):
            for number in range(40):
                other = {"run": f"purge.{number:03}", "key": f"{round_}.{number}", "counts": {"users": 2}, "seal": None}
                connection.execute(sa.insert(frames).values(**{**said, **other}))
    seen, where = [], "/vault"
    for _ in range(2):
        page = browser.open(where)
        seen += [part.split('"')[0] for part in page.split('class="name" href="/desk/vault/')[1:]]
        where = page.split('rel="next" href="/desk')[1].split('"')[0] if 'rel="next"' in page else None
    assert where is None
    assert seen == [f"purge.{number:03}" for number in range(39, -1, -1)] + [first]
    (kept,) = [one for one in site.crew.archived(limit=100) if one.run == "purge.007"]
    assert (kept.rows, kept.frames, kept.sealed, kept.whole) == (4, 2, 0, True)
    assert "There is nothing older" in words(browser.open("/vault?before=1"))
    for nonsense in ("x", "²", "9" * 30, "-1"):
        assert "What can be put back" in words(browser.open(f"/vault?before={nonsense}"))


def test_of_many_frames_not_all_are_looked_at_and_the_number_says_so(site, monkeypatch):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)
    run = site.purged()
    monkeypatch.setattr("nightcrew.databases.manifests.LOOKED_AT", 2)
    kept = site.crew.archive_of(run)
    assert not kept.whole
    assert kept.rows < 35
    assert kept.frames == len(site.frames())
    browser = Browser(site.crew.dashboard(letting_in("all")))
    assert f"{kept.rows}+" in words(browser.open("/vault"))


def test_an_archive_whose_time_is_over_says_so_and_offers_nothing(site, browser):
    run = site.purged()
    over(site, run)
    assert "∅ time over" in words(browser.open("/vault"))
    page = browser.open(f"/vault/{run}")
    assert "was over 20 min ago" in words(page)
    assert "/look" not in page
    assert "its time was over" in words(browser.open(f"/runs/{run}"))
    seal = browser.open("/jobs/purge").split('name="seal" value="')[1].split('"')[0]
    given = {"seal": seal, "confirm": "purge", "reason": "so"}
    assert browser.ask("POST", f"/vault/{run}/undo", data=given).status_code == 422
    site.crew.run(UPKEEP, now=True)
    assert "Nothing is kept of this run: it archived nothing, or the time of that is over" in words(
        browser.open(f"/vault/{run}")
    )
    assert "none of the jobs below has removed anything" in words(browser.open("/vault"))
    assert browser.ask("GET", "/vault/nope").status_code == 404


def test_what_cannot_be_read_is_named_and_nothing_is_put_back(site, browser):
    run = site.purged()
    other = Site(site.url, site.vault, key=OTHER)
    elsewhere = Browser(other.crew.dashboard(letting_in("all")))
    said = words(elsewhere.send(f"/vault/{run}", "/look", status=503))
    assert "cannot be read" in said
    assert KEY not in said
    other.crew.close()
    site.vault.remove([blob.key for blob in site.vault.page().blobs])
    said = words(browser.send(f"/vault/{run}", "/look", status=503))
    assert "it is not there" in said
    assert site.rows()["users"] == []


def test_a_look_that_takes_long_says_how_many_rows_it_saw_and_an_undo_goes_on_beside_its_page(
    site, browser, monkeypatch
):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)
    before, run = site.rows(), site.purged()
    monkeypatch.setattr("nightcrew.web.dashboard.screens.vault._PATIENCE", 0)
    looked = words(browser.send(f"/vault/{run}", "/look", status=200))
    assert "more were not, for that takes longer than a page waits" in looked
    monkeypatch.setattr("nightcrew.web.dashboard.screens.start._PATIENCE", 0)
    seal = browser.answer.text.split('name="seal" value="')[1].split('"')[0]
    given = {"seal": seal, "confirm": "purge", "reason": "so"}
    assert browser.ask("POST", f"/vault/{run}/undo", data=given).headers["location"].endswith("?done=begun")
    for _ in range(400):
        page = words(browser.open(f"/vault/{run}?done=begun"))
        if "All of it is back" in page:
            break
        assert "Rows are being put back" in page
        time.sleep(0.05)
    assert site.rows() == before
    assert not site.crew.status("purge")[0].paused, "nobody asked for that"


def test_whoever_may_only_look_is_offered_nothing(site):
    run = site.purged()
    browser = Browser(site.crew.dashboard(letting_in({"plan", "run"})))
    page = browser.open(f"/vault/{run}")
    assert "/look" not in page
    assert "takes a permission that you have not" in words(page)
    seal = browser.open("/jobs/purge").split('name="seal" value="')[1].split('"')[0]
    for act in ("look", "undo"):
        answer = browser.ask("POST", f"/vault/{run}/{act}", data={"seal": seal, "confirm": "purge", "reason": "so"})
        assert answer.status_code == 403
        assert "ada may not undo here" in words(answer.text)
    assert site.rows()["users"] == []


def test_without_an_archive_the_vault_says_how_to_have_one(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    crew.migrate()
    said = words(Browser(crew.dashboard(letting_in("read_only"))).open("/vault"))
    assert "there is no archive, so what a job removes is gone" in said
    assert '[jobs.purge-notes] archive = "7 days"' in said
    crew.close()


def test_an_archive_that_no_job_uses_says_how_to_use_it(tmp_path):
    site = Site(f"sqlite:///{tmp_path}/x.db", Memory(), archive=None)
    site.crew.migrate()
    said = words(Browser(site.crew.dashboard(letting_in("read_only"))).open("/vault"))
    assert '[jobs.purge] archive = "7 days"' in said
    site.crew.close()
