"""The latest rows of each group stay, whatever their age, on every database."""

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightcrew.database import Form
from nightcrew.policy import Action, Policy

HOUR = timedelta(hours=1)
BEATS = "CREATE TABLE beats (id {number} PRIMARY KEY, at {time} NOT NULL, host {text}, up {number})"
POLICY = Policy("beats", "at", 2 * HOUR, keep_latest=2, per=("host",))


@pytest.fixture(params=[True, False], ids=["indexed", "bare"])
def beats(yard, request):
    """Twelve heartbeats, one an hour, of two hosts in turn and of nobody every third."""
    yard.run(
        BEATS, *["CREATE INDEX beats_at ON beats (at)", "CREATE INDEX beats_host ON beats (host, at)"] * request.param
    )
    hosts = ["a", "b", None]
    yard.fill("beats", *[{"id": n, "at": n * HOUR, "host": hosts[n % 3], "up": n % 2} for n in range(12)])
    return yard


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_newest_of_each_group_stay_and_a_row_of_no_group_too(beats, limit):
    selection = beats.select(POLICY)
    assert selection.form is Form.LOCKED
    assert beats.rows.survey(selection).rows == 4
    assert beats.sweep(selection, limit) == {"beats": 4}
    assert beats.ids("beats") == [0, 1, 2, 3, 4, 5, 8, 11]
    assert beats.sweep(selection, limit) == {}


def test_without_a_group_the_newest_of_the_table_stay(beats):
    assert beats.sweep(replace(POLICY, keep_latest=7, per=())) == {"beats": 5}
    assert beats.ids("beats") == list(range(7))


def test_a_group_of_two_columns(beats):
    beats.run("UPDATE beats SET host = 'a'")
    assert beats.sweep(replace(POLICY, keep_latest=1, per=("up", "host"))) == {"beats": 9}
    assert beats.ids("beats") == [0, 1, 2]  # 2 is not older than two hours


def test_fewer_rows_than_are_kept_all_stay(beats):
    assert beats.sweep(replace(POLICY, keep_latest=1000)) == {}


def test_rows_of_one_time_are_told_apart_by_their_key(beats):
    beats.run("UPDATE beats SET at = '2024-01-01 00:00:00.000000', host = 'a'")
    assert beats.sweep(replace(POLICY, keep_latest=3), limit=2) == {"beats": 9}
    assert beats.ids("beats") == [9, 10, 11]


def test_a_row_counts_as_newer_whatever_else_is_said_of_it(beats):
    policy = replace(POLICY, keep_latest=1, per=(), where="up = 1", hold="id = 5")
    assert beats.sweep(policy) == {"beats": 4}
    assert beats.ids("beats") == [0, 1, 2, 4, 5, 6, 8, 10]


def test_what_is_kept_may_be_anonymized_or_cleared_no_more_than_deleted(beats):
    assert beats.sweep(replace(POLICY, action=Action.ANONYMIZE, set={"up": 9})) == {"beats": 4}
    assert beats.ids("beats", "up")[-4:] == [9] * 4
    assert beats.sweep(replace(POLICY, action=Action.ANONYMIZE, set={"up": 9})) == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 6)), st.sampled_from(["a", "b", "c", None])), max_size=25),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 5),
)
def test_what_survives_is_what_the_rule_says(sqlite_yard, rows, keep, grouped, limit):
    sqlite_yard.run("DROP TABLE IF EXISTS t", "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, host TEXT)")
    if rows:
        written = [{"id": n, "at": a if a is None else a * HOUR, "host": h} for n, (a, h) in enumerate(rows)]
        sqlite_yard.fill("t", *written)
    policy = Policy("t", "at", 2 * HOUR, keep_latest=keep, per=("host",) if grouped else ())
    groups = defaultdict(list)
    for number, (age, host) in enumerate(rows):
        if age is not None:
            groups[host if grouped else "all"].append((-age, number))
    gone = {n for host, group in groups.items() if host for age, n in sorted(group)[:-keep] if -age > 2}
    assert sqlite_yard.sweep(policy, limit).get("t", 0) == len(gone)
    assert sqlite_yard.ids("t") == [n for n in range(len(rows)) if n not in gone]
