"""What a plan says of the next run, going by those before it."""

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.books import RunRow
from nightcrew.console import prospect
from nightcrew.console.screen import Screen
from nightcrew.forecast import Forecast, Rate
from nightcrew.outcome import State
from nightcrew.plan import Plan
from nightcrew.policy import Policy
from nightcrew.throttle import Pace

OLD = timedelta(days=30)
JOB = Job("sweep", cron("0 0 * * *"), Policy("chats", "created_at"))


@pytest.fixture
def shop(yard):
    """Chats and messages, empty."""
    yard.run(
        "CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL, kept {number} NOT NULL)",
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)",
        "CREATE INDEX chats_at ON chats (created_at)",
        "CREATE INDEX messages_chat ON messages (chat_id)",
    )
    return yard


def fill(shop, first, number, each=1):
    at = (datetime.now(UTC) - OLD).strftime("%Y-%m-%d %H:%M:%S.%f")
    shop.fill("chats", *({"id": first + n, "created_at": at, "kept": 0} for n in range(number)))
    shop.fill(
        "messages", *({"id": each * (first + n) + k, "chat_id": first + n} for n in range(number) for k in range(each))
    )


@contextmanager
def hired(shop, **terms):
    crew = Nightcrew(shop.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    terms = {"column": "created_at", "every": "1 hour", "older_than": timedelta(days=7), "max_fraction": 1, **terms}
    crew.expire("sweep", "chats", **terms)
    crew.migrate()
    try:
        yield crew
    finally:
        crew.close()


def run(crew):
    return crew.run("sweep", trigger="cli", now=True)


def said(crew):
    """Return the plan's lines by the word they begin with."""
    lines = prospect.lines(crew.plan("sweep"), crew.job_named("sweep"), Screen(plain=True))
    return {line.strip("├└ ")[:8].split()[0]: " ".join(line.split()) for line in lines}


def test_rows_are_held_against_what_the_last_run_took_and_large_changes_are_named(shop):
    with hired(shop) as crew:
        fill(shop, 0, 120)
        assert crew.plan("sweep").json()["forecast"]["lastRun"] is None
        assert said(crew)["last"] == "last run none yet"
        report = run(crew)
        fill(shop, 200, 150, each=3)
        drawn = crew.plan("sweep").json()
        last = drawn["forecast"]["lastRun"]
        assert (last["runId"], last["rows"], last["counts"]) == (report.run, 120, {"chats": 120, "messages": 120})
        assert drawn["forecast"]["changes"] == [{"table": "messages", "now": 450, "then": 120}]
        lines = said(crew)
        assert lines["chats"].startswith("chats 150 120 ")
        assert lines["messages"].startswith("└ messages 450 120 messages_chat cascade")
        assert lines["last"].endswith("Z: 120 rows; far from it now: messages")


def test_a_run_that_was_refused_is_no_run_to_go_by(shop):
    fill(shop, 0, 12)
    with hired(shop) as crew:
        first = run(crew)
    fill(shop, 100, 150)
    with hired(shop, max_rows=20) as crew:
        assert run(crew).outcome == "refused"
        assert crew.plan("sweep").forecast.last.id == first.run


def test_how_long_it_takes_is_told_by_a_run_of_the_same_pace_and_never_made_up(shop):
    fill(shop, 0, 4000)
    with hired(shop) as crew:
        assert said(crew)["takes"] == "takes not known before the first run"
        assert re.fullmatch(
            r"load batches of about 35 ms, 1[234] a second at most: \d\d% of the time", said(crew)["load"]
        )
        report = run(crew)
        assert "takes" not in said(crew)
        fill(shop, 5000, 3000)
        batches = [entry for entry in crew.entries(report.run) if entry["kind"] == "batch"]
        seconds = (batches[-1]["at"] - batches[0]["at"]).total_seconds()
        rate = sum(sum(batch["facts"]["counts"].values()) for batch in batches[1:]) / seconds
        forecast = crew.plan("sweep").forecast
        assert (forecast.due, forecast.rate.run.id) == (6000, report.run)
        assert forecast.seconds == pytest.approx(6000 / rate)
        assert re.fullmatch(
            r"takes (about \d+ s|less than a second) at pace steady, going by the last run", said(crew)["takes"]
        )
        assert re.fullmatch(r"load about [\d,]+ rows a second, in [\d.]+ batches of [\d,]+", said(crew)["load"])
    with hired(shop, pace="gentle") as crew:
        assert said(crew)["takes"] == "takes not known: no run at pace gentle was long enough to go by"
        assert crew.plan("sweep").json()["forecast"]["seconds"] is None


def test_a_run_that_took_next_to_nothing_tells_nothing_of_a_long_one(shop):
    with hired(shop) as crew:
        fill(shop, 0, 3000)
        long = run(crew)
        fill(shop, 4000, 10)
        run(crew)
        fill(shop, 5000, 3000)
        forecast = crew.plan("sweep").forecast
        assert (forecast.rate.run.id, forecast.last.deleted) == (long.run, 10)
        assert "going by the run of 20" in said(crew)["takes"]
        shop.run("DELETE FROM chats WHERE id >= 5010")
        assert said(crew)["takes"] == "takes a batch or two"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "less than a second"), (12.3, "about 12 s"), (119, "about 119 s"), (254, "about 4 min"), (9000, "about 2 h"),
     (400_000, "about 5 days")],
)  # fmt: skip
def test_a_length_of_time_is_told_in_one_unit(seconds, words):
    rate = Rate(RunRow("r", "sweep", None, State.DONE, "cli", moment=datetime(2024, 6, 1, 3, tzinfo=UTC)), 1.0, 0.5)
    forecast = Forecast(None, (), seconds, Pace.STEADY, rate, 0.05, 0.5, 1)
    lines = prospect.lines(Plan("sweep", datetime.now(UTC), (), forecast=forecast), JOB, Screen(plain=True))
    assert f"  takes    {words} at pace steady, going by the run of 2024-06-01 03:00Z" in lines


def test_nothing_is_told_of_runs_where_nightcrews_own_tables_are_not_there(server_yard):
    server_yard.run("CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL)")
    crew = Nightcrew(server_yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    crew.expire("sweep", "chats", column="created_at", every="1 hour")
    assert crew.plan("sweep").forecast is None
    assert "last" not in said(crew)
    crew.close()


@pytest.mark.parametrize("statement", ["CREATE INDEX notes_at ON notes (at);", 'ANALYZE app."Notes";'])
def test_a_statement_to_paste_stands_on_a_line_of_its_own(statement):
    warning = f"notes is read whole: {statement}"
    lines = prospect.lines(Plan("sweep", datetime.now(UTC), (), (warning,)), JOB, Screen(plain=True))
    assert lines[-2:] == ["! warning  notes is read whole", f"  {statement}"]
