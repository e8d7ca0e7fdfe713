"""What a plan says of the next run, going by those before it."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from nightcrew import Nightcrew, Settings
from nightcrew.console import prospect
from nightcrew.console.screen import Screen

OLD = timedelta(days=30)


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
        assert lines["last"].endswith("Z: 120 rows; far from it: messages 120 then, 450 now")


def test_a_run_that_was_refused_is_no_run_to_go_by(shop):
    fill(shop, 0, 12)
    with hired(shop) as crew:
        first = run(crew)
    fill(shop, 100, 150)
    with hired(shop, max_rows=20) as crew:
        assert run(crew).outcome == "refused"
        assert crew.plan("sweep").forecast.last.id == first.run


def test_nothing_is_told_of_runs_where_nightcrews_own_tables_are_not_there(server_yard):
    server_yard.run("CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL)")
    crew = Nightcrew(server_yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    crew.expire("sweep", "chats", column="created_at", every="1 hour")
    assert crew.plan("sweep").forecast is None
    assert "last" not in said(crew)
    crew.close()
