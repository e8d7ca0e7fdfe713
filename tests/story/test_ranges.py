"""A fast sweep on a server takes its rows in two ranges at once, and everything holds for both of them."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.story.mortal import LEASE, crew_with, kill_in

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import DatabaseError
from nightcrew.walk import SIZES

ROWS, FRESH = 60_000, 1_000
NUMBERS = {
    "postgresql": "SELECT n FROM generate_series(CAST(1 AS bigint), {0}) AS numbers (n) ORDER BY n * 7919 % {0}",
    "mysql": "SELECT seq AS n FROM seq_1_to_{0}",
}
OLD = {
    "postgresql": "timestamptz '2024-01-01' + div(n, 3) * interval '1 second'",
    "mysql": "timestamp('2024-01-01') + interval n DIV 3 second",
}
NOW = {"postgresql": "now()", "mysql": "utc_timestamp(6)"}
FORMS = {"range": "ends_at", "contended": "left_at"}
# Rows that nothing hangs on are left to one walk there.
REFERRING = (
    "CREATE TABLE uses (id {number} PRIMARY KEY, token_id {number} REFERENCES tokens (id) ON DELETE CASCADE)",
    "CREATE INDEX uses_token ON uses (token_id)",
)


@pytest.fixture
def yard(server_yard):
    """Tokens of which most have expired, and a few have not."""
    fill(server_yard, ROWS)
    return server_yard


def fill(yard, rows):
    old, new, numbers, pad = OLD[yard.kind], NOW[yard.kind], NUMBERS[yard.kind], "repeat('x', 150)"
    yard.run(
        "CREATE TABLE tokens (id {number} PRIMARY KEY, ends_at {time} NOT NULL, left_at {time}, pad VARCHAR(200))",
        "CREATE INDEX tokens_end ON tokens (ends_at)",
        "CREATE INDEX tokens_left ON tokens (left_at)",
        *(REFERRING if yard.kind == "postgresql" else ()),
        f"INSERT INTO tokens SELECT n, {old}, {old}, {pad} FROM ({numbers.format(rows)}) AS numbers",
        f"INSERT INTO tokens SELECT n + {rows}, {new}, {new}, {pad} FROM ({numbers.format(FRESH)}) AS numbers",
        "ANALYZE TABLE tokens" if yard.kind == "mysql" else "ANALYZE tokens",
    )


@contextmanager
def hired(yard, form="contended", listeners=(), **terms):
    """Hire a crew with one fast job over the tokens."""
    url = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), listeners=listeners)
    terms = {"older_than": timedelta(days=1), "every": "1 day", "pace": "fast", "max_fraction": 1, **terms}
    crew.expire("sweep", "tokens", column=FORMS[form], **terms)
    crew.migrate()
    yield crew
    crew.close()


def left(yard):
    with yard.link.transaction(writes=False) as connection:
        return connection.execute(sa.text("SELECT count(*) FROM tokens")).scalar_one()


def accounted(crew, run):
    """Return the rows that the batches in the ledger took, and those that the newest of each range says it took."""
    facts = [entry["facts"] for entry in crew.entries(run) if entry["kind"] == "batch"]
    newest = {fact.get("range", 1): fact["total"]["tokens"] for fact in facts}
    return sum(fact["rows"] for fact in facts), newest


@pytest.mark.parametrize("form", FORMS)
def test_both_ranges_together_take_what_has_expired_and_nothing_else(server_yard, form, monkeypatch):
    for each, size in SIZES.items():  # one batch might be all there is, of so few rows
        monkeypatch.setitem(SIZES, each, replace(size, first=500, most=2_000))
    rows = ROWS
    fill(server_yard, rows)
    with hired(server_yard, form) as crew:
        report = crew.run("sweep", trigger="http")
        assert (report.outcome, report.deleted, left(server_yard)) == ("succeeded", rows, FRESH)
        taken, newest = accounted(crew, report.run)
        assert set(newest) == {1, 2}
        assert min(newest.values()) > rows / 10
        assert (taken, sum(newest.values())) == (rows, rows)


@pytest.mark.parametrize(("pace", "rows"), [("steady", ROWS), ("fast", 1_000)])
def test_a_steady_sweep_and_a_small_one_keep_to_one_range(server_yard, pace, rows):
    fill(server_yard, rows)
    with hired(server_yard, pace=pace) as crew:
        report = crew.run("sweep", trigger="http")
        assert report.deleted == rows
        assert list(accounted(crew, report.run)[1]) == [1]


@pytest.mark.parametrize("next_pace", ["fast", "steady"])
def test_another_process_goes_on_in_both_ranges_after_a_kill_and_counts_no_row_twice(yard, next_pace):
    url = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)
    crew = crew_with("sweep-fast", url)
    crew.migrate()
    kill_in("sweep-fast", url, batches=8)
    between = left(yard)
    assert FRESH < between < ROWS + FRESH
    time.sleep(LEASE + 0.1)
    crew.close()
    crew = crew_with("sweep-fast", url, pace=next_pace)
    report = crew.run("sweep-fast", trigger="http")
    assert (report.outcome, report.deleted, left(yard)) == ("succeeded", ROWS, FRESH)
    rows, newest = accounted(crew, report.run)
    assert (rows, sum(newest.values()), set(newest)) == (ROWS, ROWS, {1, 2})
    crew.close()


def in_both(heard):
    """Tell whether batches of both ranges have been heard of."""
    threads = {thread for kind, thread in heard if kind == "batch"}
    return len(threads) == 2


def test_a_claim_that_is_lost_stops_both(yard):
    heard, lost = [], []

    def hear(entry):
        heard.append((entry.kind, threading.get_ident()))
        if in_both(heard) and not lost:
            with yard.link.transaction() as connection:
                connection.execute(sa.update(job_table).values(fence=job_table.c.fence + 1))
            lost.append(left(yard))

    with hired(yard, listeners=[hear]) as crew:
        report = crew.run("sweep", trigger="http")
        assert report.outcome == "in_progress_elsewhere"
        assert left(yard) == lost[0], "once the fence has moved, neither takes a row"


def test_what_one_may_not_take_stops_both(yard):
    heard, more = [], []

    def hear(entry):
        heard.append((entry.kind, threading.get_ident()))
        if in_both(heard) and not more:
            more.append(1)
            yard.run(
                f"INSERT INTO tokens SELECT n + 200000, {OLD[yard.kind]}, {OLD[yard.kind]}, NULL"
                f" FROM ({NUMBERS[yard.kind].format(50_000)}) AS numbers"
            )

    with hired(yard, listeners=[hear], max_fraction=0.99) as crew:
        report = crew.run("sweep", trigger="http")
        assert report.outcome == "refused", report.message
        assert "more rows of tokens than there were when it began" in report.message
        most = ROWS + ROWS // 5 + 100
        assert report.deleted <= most
        assert accounted(crew, report.run)[0] == report.deleted == ROWS + FRESH + 50_000 - left(yard)


def test_a_row_that_is_held_in_each_range_stays_and_goes_once_it_is_free(yard):
    with hired(yard) as crew:
        with yard.link.transaction() as holder:
            holder.exec_driver_sql(f"SELECT id FROM tokens WHERE id IN (10, {ROWS - 10}) FOR UPDATE")
            report = crew.run("sweep", trigger="http")
            assert (report.outcome, report.deleted, report.remaining) == ("succeeded", ROWS - 2, 2)
        assert crew.run("sweep", now=True).deleted == 2
    assert left(yard) == FRESH


def test_a_pause_ends_both_however_their_batches_overlap(yard, monkeypatch):
    monkeypatch.setattr("nightcrew.pair._BREATH", 0.1)
    heard, paused = [], []

    def hear(entry):
        heard.append((entry.kind, threading.get_ident()))
        if in_both(heard) and not paused:
            paused.append(threading.Thread(target=lambda: crew.pause("sweep", by="ops", reason="incident")))
            paused[0].start()

    with hired(yard, listeners=[hear]) as crew:
        report = crew.run("sweep", trigger="http")
        assert report.outcome == "paused"
        assert left(yard) > FRESH
        assert accounted(crew, report.run)[0] == report.deleted == ROWS + FRESH - left(yard)


def test_an_error_of_one_ends_both_and_what_they_took_is_in_the_ledger(yard, monkeypatch):
    with hired(yard) as crew:
        take, first = crew._station.database.take, threading.get_ident()

        def breaks(*arguments, **how):
            if threading.get_ident() != first:
                raise DatabaseError("no such thing")
            return take(*arguments, **how)

        monkeypatch.setattr(crew._station.database, "take", breaks)
        report = crew.run("sweep", trigger="http")
        assert report.outcome == "failed"
        assert "no such thing" in report.error
        assert left(yard) > FRESH
        assert accounted(crew, report.run)[0] == report.deleted == ROWS + FRESH - left(yard)
