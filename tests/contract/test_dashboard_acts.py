"""What a person does at the desk is done, once, and written down with their name and why."""

import re
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.desk import Browser, hired, letting_in, past, staffed, words

from nightcrew import Job, Nightcrew, Settings, recipes
from nightcrew.acts import Act
from nightcrew.databases.tables import acts as act_table
from nightcrew.errors import DatabaseError
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


def test_a_pause_has_a_reason_and_an_end_and_is_resumed(crew, browser):
    assert "needs a reason" in words(browser.send("/jobs/daily", "/pause", status=422, reason="  "))
    assert browser.send("/jobs/daily", "/pause", reason="moving house", lasting="4h") == "/jobs/daily?done=paused"
    standing = crew.status("daily")[0].standing
    assert (standing.paused_by, standing.paused_reason) == ("ada", "moving house")
    assert timedelta(hours=3.9) < standing.paused_until - datetime.now(UTC) < timedelta(hours=4.1)
    page = words(browser.open("/jobs/daily?done=paused"))
    assert "The job is paused: no trigger runs it" in page
    assert "Paused by ada" in page
    assert browser.send("/jobs/daily", "/resume", reason="moved") == "/jobs/daily?done=resumed"
    assert not crew.status("daily")[0].paused
    assert acts(crew) == [("ada", "resume", "daily", "moved"), ("ada", "pause", "daily", "moving house")]
    audit = words(browser.open("/audit"))
    assert audit.index("resume daily moved") < audit.index("pause daily moving house")
    assert browser.ask("POST", "/jobs/daily/pause", data={"lasting": "9y", "reason": "x"}).status_code == 403


def test_what_cannot_be_written_down_is_not_done_but_everything_can_be_stopped(crew):
    crew.pause("daily", by="grace", reason="moving house")
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE nightcrew_acts RENAME TO away")
    for act in (
        lambda: crew.pause("purge-notes", by="ada", reason="x"),
        lambda: crew.resume("daily", by="ada"),
        lambda: crew.stop_all(by="ada", reason="a fire"),
        lambda: crew.resume_all(by="ada"),
    ):
        with pytest.raises(DatabaseError, match="nightcrew_acts"):
            act()
    assert crew.status("daily")[0].standing.paused_at is not None
    assert crew.status("purge-notes")[0].standing.paused_at is None
    assert crew.status("daily")[0].standing.stopped_reason == "a fire"
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO nightcrew_acts")
    crew.resume_all(by="ada")


def test_a_run_by_hand_is_shown_when_it_is_over_and_the_same_form_starts_no_second(crew, browser):
    where = browser.send("/jobs/daily", "/daily/run", key="once")
    said = words(browser.open(where))
    assert "✓ done" in said
    assert "dashboard: ada" in said
    assert browser.send("/jobs/daily", "/daily/run", key="once") == where
    (row,) = crew.runs("daily")
    assert (row.trigger, row.caller, row.slot) == ("dashboard", "ada", None)
    assert [(act.verb, act.run) for act in crew.acts.newest()] == [("run", row.id)]


def test_whoever_runs_a_job_that_is_kept_from_running_hears_so(crew, browser):
    crew.pause("daily", by="grace", reason="moving house")
    crew.stop_all(by="grace", reason="a fire")
    for _ in ("stopped", "paused"):
        assert "No run was begun" in words(browser.open(browser.send("/jobs/daily", "/daily/run")))
        crew.resume_all(by="grace")
    assert crew.runs("daily") == []


def test_what_is_run_by_hand_from_any_door_is_written_down(crew, browser):
    crew.run("daily", now=True, trigger="cli", caller="grace")
    crew.run("daily", trigger="http", caller="vercel#1234")
    assert acts(crew) == [("grace", "run", "daily", None)], "a slot's run is nobody's act"


def test_a_plan_is_shown_and_its_run_takes_what_it_showed(crew, browser, yard):
    where = browser.send("/jobs/purge-notes", "/plan")
    said = words(browser.open(where))
    assert "A run would take 40 rows" in said
    assert len(yard.ids("notes")) == 40, "a plan changes nothing"
    run = browser.send(where, "/run")
    assert "notes 40" in words(browser.open(run))
    assert yard.ids("notes") == []
    assert "It was carried out by" in words(browser.open(where))
    assert "<form" not in browser.open(where), "and is not carried out twice"
    (act,) = crew.acts.newest()
    assert (act.verb, act.plan, act.run) == ("run", where.rpartition("/")[2], run.rpartition("/")[2])


def test_past_a_rail_goes_only_whoever_may_and_types_the_name(yard, crew):
    url = yard.link.engine.url.render_as_string(hide_password=False)
    strict = hired(url, max_rows=10)
    browser = Browser(strict.dashboard(letting_in("all")))
    timid = Browser(strict.dashboard(letting_in({"plan", "run"}, "tim")))
    where = timid.send("/jobs/purge-notes", "/plan")
    assert "takes a permission that you have not" in words(timid.open(where))
    assert "it would take 40 rows" in words(browser.open(where))
    assert "is not 'purge-notes'" in words(browser.send(where, "/run", status=422, confirm="purge"))
    assert len(yard.ids("notes")) == 40
    run = browser.send(where, "/run", confirm="purge-notes")
    assert "notes 40" in words(browser.open(run))
    assert yard.ids("notes") == []
    assert [(act.actor, act.verb) for act in strict.acts.newest()] == [("ada", "run"), ("ada", "ack")]
    strict.close()


def test_whoever_confirms_agrees_to_what_they_saw_and_to_no_more(yard, crew):
    url = yard.link.engine.url.render_as_string(hide_password=False)
    strict = hired(url, max_rows=10)
    browser = Browser(strict.dashboard(letting_in("all")))
    where = browser.send("/jobs/purge-notes", "/plan")
    more = ({"id": 1_000 + n, "created_at": "2020-01-01 00:00:00"} for n in range(4_000))
    yard.fill("notes", *more)
    following = browser.send(where, "/run", confirm="purge-notes")
    assert following != where
    assert "There is more by now" in words(browser.open(following))
    assert len(yard.ids("notes")) == 4_040
    assert strict.acts.newest() == []
    strict.close()


def test_a_run_under_way_is_seen_and_cancelled(crew):
    began, ended = threading.Event(), threading.Event()

    def slow(run):
        run.progress(30, 120)
        run.checkpoint("here")
        began.set()
        while not run.should_stop:
            ended.wait(0.02)
        return 5

    crew.add(Job("slow", every("1 day"), function=slow))
    browser = Browser(crew.dashboard(letting_in("all")))
    where = browser.send("/jobs/slow", "/slow/run")
    assert began.wait(10)
    page = browser.open(where)
    assert "▸ running" in words(page)
    assert "<progress" in page
    assert "of 120" in words(page)
    assert "at work already" in words(browser.open(browser.send("/jobs/slow", "/slow/run", key="another")))
    assert browser.send(where, "/cancel", reason="too slow") == where
    for _ in range(200):
        if "cancelled" in words(page := browser.open(where)) and "▸ running" not in words(page):
            break
        ended.wait(0.05)
    assert "⊘ cancelled" in words(page)
    assert "cancelled by ada: too slow" in words(page)
    assert acts(crew)[0] == ("ada", "cancel", "slow", "too slow")
    assert "<form" not in page


def test_an_act_on_what_is_not_there_says_so_and_changes_nothing(crew, browser):
    past(crew, ("daily", 5, "done"))
    seal = {"seal": browser_seal(browser)}
    for path, status, said in (
        ("/jobs/nope/run", 404, "no job is called 'nope'"),
        ("/jobs/nope/pause", 404, "no job is called 'nope'"),
        ("/jobs/daily/plan", 422, "is a function of its own"),
        ("/runs/nope/cancel", 422, "there is no run 'nope'"),
        ("/runs/daily.00000/cancel", 422, "there is nothing left to cancel"),
        ("/plans/nope/run", 404, "Nobody knows this plan any more"),
    ):
        answer = browser.ask("POST", path, data=seal | {"reason": "so"})
        assert (answer.status_code, said in words(answer.text)) == (status, True), answer.text
    assert crew.acts.newest() == []


def browser_seal(browser):
    return re.search(r'name="seal" value="([0-9a-f]+)"', browser.open("/jobs/daily"))[1]


def test_the_audit_is_turned_page_by_page_and_can_be_of_one_job(crew, browser):
    for number in range(120):
        job = "daily" if number % 2 else "purge-notes"
        crew.acts.keep(Act("ada", "pause", job, reason=f"no. {number:03}"))
    seen, path = [], "/audit"
    while path:
        page = browser.open(path)
        seen += re.findall(r"no\. (\d{3})", page)
        following = re.search(r'rel="next" href="/ops/nightcrew([^"]+)"', page)
        path = following[1] if following else None
    assert seen == [f"{n:03}" for n in reversed(range(120))]
    assert words(browser.open("/audit?job=daily")).count("no. ") == 50
    assert "Who did what to daily" in words(browser.open("/audit?job=daily"))


def test_an_erasure_is_written_down_and_not_whom_it_was_about(tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT, gone_at TEXT)")
        database.execute("INSERT INTO users VALUES ('bob-4711', 'bob@example.com', NULL)")
    crew = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings(erasure_key="k" * 32))
    crew.expire("users", "users", column="gone_at", older_than=timedelta(days=30), every="1 day", erase=True)
    crew.migrate()
    closed = crew.erase("bob-4711", by="grace")
    assert acts(crew) == [("grace", "erase", "users", f"erasure {closed.id}: complete")]
    browser = Browser(crew.dashboard(letting_in("all")))
    assert "bob" not in "".join(browser.open(page) for page in ("/audit", "/", "/jobs/users"))
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert "bob" not in "".join(database.iterdump())
    crew.close()


def test_the_audit_loses_what_is_older_than_a_year_by_its_recipe(crew, yard):
    for number, age in enumerate((366, 364)):
        crew.acts.keep(Act("ada", "pause", "daily", reason=f"no. {number}"))
        with crew._station.link.transaction() as connection:
            at = datetime.now(UTC) - timedelta(days=age)
            connection.execute(sa.update(act_table).where(act_table.c.reason == f"no. {number}").values(at=at))
    crew.add(recipes.history.prune_audit())
    assert crew.plan("prune-audit").rows == 1
    assert crew.run("prune-audit", now=True, trigger="cli", caller="grace").deleted == 1
    assert acts(crew) == [("grace", "run", "prune-audit", None), ("ada", "pause", "daily", "no. 1")]


@pytest.mark.parametrize("actor", ["ada", "x" * 400, "nul\0byte"])
def test_an_actor_of_any_name_can_act(crew, actor):
    browser = Browser(crew.dashboard(letting_in("all", actor)))
    browser.send("/jobs/daily", "/pause", reason="so" * 200)
    assert acts(crew)[0][1:3] == ("pause", "daily")


def test_a_run_that_cannot_be_written_down_is_not_begun_and_blocks_nobody(tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, created_at TEXT)")
    crew, ran = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings()), []
    crew.add(Job("daily", every("1 day"), function=lambda run: ran.append(run.id)))
    crew.migrate()
    crew.status()
    browser = Browser(crew.dashboard(letting_in("all")))
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON nightcrew_acts BEGIN SELECT RAISE(ABORT, 'full'); END")
    assert "full" in words(browser.send("/jobs/daily", "/daily/run", status=503))
    (row,) = crew.runs("daily")
    assert (ran, crew.at_work, row.state) == ([], [], "cancelled")
    assert row.reason == "called off: who asked for it could not be written down"
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("DROP TRIGGER full")
    assert "✓ done" in words(browser.open(browser.send("/jobs/daily", "/daily/run")))
    assert len(ran) == 1
    crew.close()


def test_a_run_that_cannot_be_begun_is_told_of_after_its_page_was_answered(server_yard):
    with staffed(server_yard) as crew:
        if crew._station.link.engine.dialect.name != "postgresql":
            pytest.skip("what holds an insert up and then fails is written for PostgreSQL")
        server_yard.run(
            "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(2.5); RAISE 'disk full'; END $$",
            "CREATE TRIGGER full_up BEFORE INSERT ON nightcrew_acts FOR EACH ROW EXECUTE FUNCTION full_up()",
        )
        told, heard = [], threading.Event()
        crew.listen(lambda entry: entry.kind == "http_error" and (told.append(entry), heard.set()))
        Browser(crew.dashboard(letting_in("all"))).send("/jobs/daily", "/daily/run")
        assert heard.wait(5)
        assert (told[0].job, "disk full" in str(told[0].facts["error"])) == ("daily", True)


def test_whoever_confirms_does_not_agree_to_another_policy(yard, crew):
    url = yard.link.engine.url.render_as_string(hide_password=False)
    strict, changed = hired(url, max_rows=10), hired(url, max_rows=10, older_than=timedelta(days=2))
    where = Browser(strict.dashboard(letting_in("all"))).send("/jobs/purge-notes", "/plan")
    browser = Browser(changed.dashboard(letting_in("all")))
    following = browser.send(where, "/run", confirm="purge-notes")
    assert "or something else" in words(browser.open(following))
    assert (len(yard.ids("notes")), strict.acts.newest()) == (40, [])
    run = browser.send(following, "/run", confirm="purge-notes")
    assert "notes 40" in words(browser.open(run))
    strict.close()
    changed.close()


def test_a_confirmation_sent_twice_is_one_run_and_agrees_once(yard, crew):
    strict = hired(yard.link.engine.url.render_as_string(hide_password=False), max_rows=10)
    browser = Browser(strict.dashboard(letting_in("all")))
    where = browser.send("/jobs/purge-notes", "/plan")
    form = {"confirm": "purge-notes", "key": "once"}
    run = browser.send(where, "/run", **form)
    assert browser.send(where, "/run", **form) == run
    assert "Nothing is due" in words(browser.open(browser.send(where, "/run", confirm="purge-notes", key="other")))
    assert [act.verb for act in strict.acts.newest()] == ["run", "ack"]
    strict.close()


def test_a_confirmation_that_is_clicked_twice_leaves_no_agreement_behind(yard, crew):
    strict = hired(yard.link.engine.url.render_as_string(hide_password=False), max_rows=10)
    desk = strict.dashboard(letting_in("all"))
    browser = Browser(desk)
    where = browser.send("/jobs/purge-notes", "/plan")
    form = {"seal": browser_seal(browser), "confirm": "purge-notes", "key": "once"}
    led = []

    def click():
        finger = Browser(desk)
        finger.cookies = dict(browser.cookies)
        led.append(finger.ask("POST", f"{where}/run", data=form).headers["location"].partition("?")[0])

    fingers = [threading.Thread(target=click) for _ in range(2)]
    for finger in fingers:
        finger.start()
    for finger in fingers:
        finger.join()
    assert len(set(led)) == 1
    assert [act.verb for act in strict.acts.newest()] == ["run", "ack"]
    yard.fill("notes", *({"id": 100 + n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    assert strict.run("purge-notes", now=True).outcome == "refused", "what was agreed to has been done"
    strict.close()


def test_who_pauses_cannot_write_lines_into_the_log(crew, caplog):
    with caplog.at_level("INFO", "nightcrew"):
        crew.pause("daily", by="ada\n12:00 ERROR eve", reason="so\r\n12:00 ERROR mallory")
    assert [line for line in caplog.messages if "\n" in line or "\r" in line] == []
