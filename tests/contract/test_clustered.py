"""A table that is kept in the order of its key is walked in it, where a large share of its rows goes."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import MOMENT

from nightcrew import Nightcrew, Settings
from nightcrew.database import Form
from nightcrew.errors import DatabaseError
from nightcrew.policy import Policy

ROWS = 12_000  # of a kilobyte each: more than what is called small
STALE = Policy("sessions", "ends_at", timedelta(hours=1))
KEYS = {
    "hash": ("id char(32)", "id", "md5(seq)"),
    "number": ("id bigint unsigned", "id", "seq * 7919 % 12007 + 18446744073709539000"),
    "bytes": ("id binary(20)", "id", "unhex(sha1(seq))"),
    "decimal": ("id decimal(20, 4)", "id", "(seq * 7919 % 12007) / 16"),
    "pair": ("tenant int, id char(32)", "tenant, id", "seq % 3, md5(seq)"),
    "triple": ("a int, b int, c bigint", "a, b, c", "seq % 2, seq % 5, seq"),
    "time": ("id time", "id", "sec_to_time((cast(seq AS signed) - 6000) * 60)"),
    "enum": ("kind enum('new', 'done', 'a', 'B', 'late'), id int", "kind, id", "1 + seq % 5, seq"),
    "set": ("flags set('new', 'done', 'a', 'B', 'late'), id int", "flags, id", "seq % 32, seq"),
}
FILL = """
INSERT INTO sessions SELECT {key}, IF(seq % {every} = 0, '2020-01-01' + INTERVAL seq % 10000 SECOND, '2099-01-01'),
                            repeat('x', 900) FROM seq_1_to_{rows}
"""


@pytest.fixture
def make(mysql_yard):
    def make(kind: str = "hash", every: int = 2):
        columns, key, values = KEYS[kind]
        parts = f"{columns}, ends_at datetime NOT NULL, pad varchar(900), PRIMARY KEY ({key}), KEY (ends_at)"
        with mysql_yard.link.transaction() as connection:
            connection.exec_driver_sql(f"CREATE TABLE sessions ({parts})")
            connection.exec_driver_sql(FILL.format(key=values, every=every, rows=ROWS).replace("%", "%%"))
            connection.exec_driver_sql("ANALYZE TABLE sessions").all()
        return mysql_yard

    return make


def counted(yard) -> tuple[int, int]:
    """Return how many expired and how many fresh rows there are."""
    with yard.link.transaction(writes=False) as connection:
        each = ", ".join(f"COALESCE(SUM(ends_at {which} '2099-01-01'), 0)" for which in "<=")
        expired, fresh = connection.exec_driver_sql(f"SELECT {each} FROM sessions").one()
        return int(expired), int(fresh)


@contextmanager
def holding(yard, which: str):
    """Let somebody hold one row; return its key."""
    with yard.link.engine.connect() as other:
        key = other.exec_driver_sql(f"SELECT id FROM sessions WHERE ends_at {which} '2099-01-01' LIMIT 1").scalar_one()
        other.execute(sa.text("UPDATE sessions SET pad = 'held' WHERE id = :id"), {"id": key})
        yield key
        other.rollback()


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("kind", KEYS)
def test_all_that_has_expired_goes_and_nothing_else_whatever_the_key(make, kind, form):
    yard = make(kind)
    gone, cursors = 0, []
    for taken in yard.batches(replace(yard.select(STALE), form=form), 700):
        gone += taken.rows
        cursors.append(json.loads(json.dumps(taken.cursor)))
    assert counted(yard) == (0, ROWS - ROWS // 2)
    assert gone == ROWS // 2
    assert all("key" in cursor for cursor in cursors)


@pytest.mark.parametrize("form", list(Form))
def test_a_walk_goes_on_from_what_the_ledger_has_of_it(make, form):
    yard = make("pair")
    selection, cursor, gone = replace(yard.select(STALE), form=form), {}, 0
    for _ in range(100):
        with yard.rows.transaction() as connection:
            taken = type(yard.rows)(yard.link).take(connection, selection, cursor, 500)
        gone, cursor = gone + taken.rows, json.loads(json.dumps(taken.cursor))
        if taken.exhausted:
            break
    assert (gone, counted(yard)) == (ROWS // 2, (0, ROWS // 2))


def test_where_few_go_the_index_of_the_time_is_walked(make):
    yard = make(every=100)
    cursors = [taken.cursor for taken in yard.batches(yard.select(STALE), 30)]
    assert not any("key" in cursor for cursor in cursors)
    assert counted(yard) == (0, ROWS - ROWS // 100)


def test_a_row_that_stays_is_not_waited_for(make):
    """Who waits holds what it has taken so far, and stands in the way of everybody that comes after."""
    yard = make()
    selection = replace(yard.select(STALE), form=Form.RANGE)
    with holding(yard, "="):
        begun = time.monotonic()
        with pytest.raises(DatabaseError) as refused, yard.rows.transaction() as connection:
            yard.rows.take(connection, selection, {}, ROWS)
        waited = time.monotonic() - begun
    assert refused.value.transient
    assert waited < 0.7  # of the second that a session waits


@pytest.mark.parametrize("values_change", [False, True])
def test_a_sweep_goes_past_rows_that_others_hold(make, values_change):
    yard = make()
    crew = Nightcrew(yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    terms = {"max_fraction": 1, "pace": "fast", "where": "pad <> ''" if values_change else None}
    crew.expire("clean", "sessions", column="ends_at", older_than=timedelta(hours=1), every="1 hour", **terms)
    crew.migrate()
    with holding(yard, "="), holding(yard, "<"):
        report = crew.run("clean", now=True)
    crew.close()
    assert report.outcome.success, report
    assert (report.deleted, report.remaining) == (ROWS // 2 - 1, 1)
    assert counted(yard) == (1, ROWS // 2)


def test_a_row_that_is_let_go_meanwhile_is_taken_by_the_same_run(make):
    yard = make()
    crew = Nightcrew(yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    terms = {"older_than": timedelta(hours=1), "every": "1 hour", "max_fraction": 1, "pace": "fast"}
    crew.expire("clean", "sessions", column="ends_at", **terms)
    crew.migrate()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with holding(yard, "<"):
            held.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    threading.Timer(0.4, free.set).start()
    report = crew.run("clean", now=True)
    free.set()
    holder.join()
    crew.close()
    assert (report.deleted, report.remaining, counted(yard)) == (ROWS // 2, 0, (0, ROWS // 2))


def test_what_was_left_is_counted_from_where_the_walk_is_unsure(make):
    yard = make()
    selection = replace(yard.select(STALE, MOMENT), form=Form.CONTENDED)
    with holding(yard, "<"):
        unsure = [taken.unsure for taken in yard.batches(selection, 700) if taken.unsure is not None]
    left = yard.rows.left(selection, unsure[0], ROWS)
    assert left.rows == 1
    with yard.rows.transaction() as connection:
        assert yard.rows.take(connection, selection, left.first, ROWS).rows == 1
