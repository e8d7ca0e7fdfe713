"""What a plan says of each step, in every database: the index it uses or lacks, and some rows by their keys."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nightcrew import plan
from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron

MOMENT = datetime(2024, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
USERS = Policy("users", "left_at", 30 * DAY, erase=True, links=("files.owner_id",))


@pytest.fixture
def site(yard):
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})",
        "CREATE INDEX users_left ON users (left_at)",
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number}, read_by {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,"
        " FOREIGN KEY (read_by) REFERENCES users (id) ON DELETE CASCADE)",
        "CREATE INDEX chats_user ON chats (user_id, id)",
        "CREATE INDEX chats_reader ON chats (read_by)",
        "CREATE TABLE parts (id {number} PRIMARY KEY, chat_id {number},"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)",
        "CREATE TABLE bills (id {number} PRIMARY KEY, user_id {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL)",
        "CREATE INDEX bills_user ON bills (user_id)",
        "CREATE TABLE files (id {number} PRIMARY KEY, owner_id {number})",
    )
    return yard


def drawn(yard, policy):
    return plan.draw_up(Job("clean", cron("0 0 * * *"), policy), MOMENT, yard.rows)


def test_each_step_names_the_index_that_finds_its_rows_or_the_statement_that_makes_it(site):
    steps = {step["table"]: step for step in drawn(site, USERS).json()["steps"]}
    assert steps["chats"]["index"] == "chats_reader, chats_user"
    assert steps["bills"]["index"] == "bills_user"
    assert (steps["files"]["index"], steps["files"]["createIndex"]) == (
        None,
        "CREATE INDEX files_owner_id_idx ON files (owner_id);",
    )
    site.run(steps["files"]["createIndex"])
    assert {step.table: step.index for step in drawn(site, USERS).steps}["files"] == "files_owner_id_idx"


def test_a_key_without_an_index_has_the_statement_and_with_it_the_name(site):
    (parts,) = [step for step in drawn(site, USERS).steps if step.table == "parts"]
    if site.kind == "mysql":  # which makes an index of its own
        assert (parts.index, parts.create_index) == ("chat_id", None)
        site.run("CREATE INDEX parts_chat_id_idx ON parts (chat_id)")
    else:
        assert (parts.index, parts.create_index) == (None, "CREATE INDEX parts_chat_id_idx ON parts (chat_id);")
        site.run(parts.create_index)
    (parts,) = [step for step in drawn(site, USERS).steps if step.table == "parts"]
    assert (parts.index, parts.create_index) == ("parts_chat_id_idx", None)


def test_the_swept_tables_own_step_has_the_statement_where_no_index_begins_with_the_time(site):
    site.run("DROP INDEX users_left" + (" ON users" if site.kind == "mysql" else ""))
    (own,) = [step for step in drawn(site, USERS).steps if step.form]
    assert own.create_index == "CREATE INDEX users_left_at_idx ON users (left_at);"
    site.run(own.create_index)
    (own,) = [step for step in drawn(site, USERS).steps if step.form]
    assert own.create_index is None


# ── sample keys ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_oldest_rows_are_named_by_their_keys_and_by_nothing_else(site):
    site.fill("users", *[{"id": n, "left_at": (40 + n) * DAY} for n in range(6)], {"id": 9, "left_at": DAY})
    (own,) = [step for step in drawn(site, USERS).json()["steps"] if step["form"]]
    assert own["sample"] == [{"id": 5}, {"id": 4}, {"id": 3}]
    (held,) = [step for step in drawn(site, replace(USERS, hold="id = 5")).steps if step.form]
    assert [key["id"] for key in held.sample] == [4, 3, 2]


def test_a_key_of_several_columns_is_named_whole_and_a_table_without_one_has_no_sample(yard):
    yard.run(
        "CREATE TABLE seats (room {text} NOT NULL, seat {number} NOT NULL, at {time} NOT NULL,"
        " PRIMARY KEY (room, seat))",
        "CREATE TABLE beats (at {time} NOT NULL)",
    )
    yard.fill("seats", {"room": "b", "seat": 1, "at": 2 * DAY}, {"room": "a", "seat": 2, "at": 2 * DAY})
    yard.fill("beats", {"at": 2 * DAY})
    assert drawn(yard, Policy("seats", "at")).steps[0].sample == ({"room": "a", "seat": 2}, {"room": "b", "seat": 1})
    assert drawn(yard, Policy("beats", "at")).steps[0].sample == ()


@pytest.mark.parametrize(
    ("kind", "written", "said"),
    [
        ("uuid", "'00000000-0000-0000-0000-00000000002a'", "00000000-0000-0000-0000-00000000002a"),
        ("bytea", r"'\x00ff'", "00ff"),
        ("numeric", "1.50", "1.50"),
        ("text", f"'{'ab' * 13}'", "ab" * 13),
        ("text", f"'{'ab' * 20}'", "abababab…"),  # it may be a secret by itself: a session's token
    ],
)
def test_keys_of_every_kind_are_json_and_long_texts_are_cut(postgresql_yard, kind, written, said):
    postgresql_yard.run(f"CREATE TABLE t (id {kind} PRIMARY KEY, at {{time}})")
    postgresql_yard.run(f"INSERT INTO t VALUES ({written}, '2024-01-01')".replace(":", r"\:"))
    assert json.loads(json.dumps(drawn(postgresql_yard, Policy("t", "at")).json()))["steps"][0]["sample"] == [
        {"id": said}
    ]
