"""What a plan says of each step, in every database: the index it uses, or the one that is wanting."""

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
