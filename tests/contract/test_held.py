"""A hold on what hangs on a row keeps the row, and all that hangs on it, whichever job would take it."""

from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from tests.contract.test_races import after_the_first, execute, refused

from nightcrew import Nightcrew, Settings
from nightcrew.console import prospect
from nightcrew.console.screen import Screen
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.hold import Hold
from nightcrew.policy import Policy

USERS = Policy("users", "left_at", timedelta(days=1), erase=True)
CASE = Hold("clean-files", "files", "held = 1")
CASES = Hold("clean-files", "files", "id IN (SELECT file_id FROM cases)")
HELD = "UPDATE files SET held = 1 WHERE id = 3"
LOCKED = ") IS TRUE \n LIMIT"  # in the look at what has just been locked
TABLES = ("users", "chats", "files")


def furnish(yard, rule="ON DELETE CASCADE", files=1):
    """Six users who left, a chat each, and files in it; every file has its number in the order of the users."""
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})",
        "CREATE INDEX users_left ON users (left_at)",
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)",
        "CREATE INDEX chats_user ON chats (user_id)",
        "CREATE TABLE files (id {number} PRIMARY KEY, chat_id {number}, held {number},"
        f" FOREIGN KEY (chat_id) REFERENCES chats (id) {rule})",
        "CREATE INDEX files_chat ON files (chat_id)",
    )
    left = datetime(2024, 6, 1, tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S")
    yard.fill("users", *({"id": n, "left_at": left} for n in range(6)))
    yard.fill("chats", *({"id": n, "user_id": n} for n in range(6)))
    yard.fill("files", *({"id": n, "chat_id": n % 6, "held": 0} for n in range(6 * files)))
    return yard


def court(yard):
    """A table of cases that files are part of, which alone says which are held."""
    yard.run(
        "CREATE TABLE cases (id {number} PRIMARY KEY, file_id {number},"
        " FOREIGN KEY (file_id) REFERENCES files (id) ON DELETE CASCADE)",
        "CREATE INDEX cases_file ON cases (file_id)",
    )


def select(yard, *holds):
    return yard.select(USERS, holds=holds)


def left(yard):
    return tuple(yard.ids(table) for table in TABLES)


RULES = pytest.mark.parametrize("rule", ["ON DELETE CASCADE", ""])


@RULES
def test_a_held_row_stays_with_all_that_it_hangs_on_and_is_counted_and_named(yard, rule):
    furnish(yard, rule, files=2).run(HELD)
    selection = select(yard, CASE)
    (kept,) = yard.rows.shielded(selection, 2, 5.0)
    assert (kept.rows, kept.keys, kept.shield.path[-1].table) == (1, ((3,),), "files")
    assert yard.rows.survey(selection).counts == {"users": 5, "chats": 5, "files": 10}
    assert yard.sweep(selection, limit=2) == {"users": 5, "chats": 5, "files": 10}
    assert left(yard) == ([3], [3], [3, 9])
    yard.run("UPDATE files SET held = NULL")
    assert yard.rows.shielded(selection, 2, 5.0)[0].rows == 0
    assert yard.sweep(selection, limit=2) == {"users": 1, "chats": 1, "files": 2}


def test_a_hold_of_another_job_on_the_same_table_is_heeded_beside_ones_own(yard):
    furnish(yard)
    policy = Policy("users", "left_at", timedelta(days=1), hold="id = 1", erase=True)
    assert yard.sweep(yard.select(policy, holds=[Hold("other", "users", "id = 2 OR id = 4")]))["users"] == 3
    assert yard.ids("users") == [1, 2, 4]


def test_a_hold_on_a_table_that_is_not_there_or_does_not_hang_on_ours_changes_nothing(yard):
    furnish(yard)
    yard.run("CREATE TABLE logs (id {number} PRIMARY KEY, held {number})")
    assert select(yard, Hold("x", "nothing", "held = 1"), Hold("y", "logs", "held = 1")).shields == ()


def test_a_misspelt_name_in_a_hold_of_another_job_stops_whoever_would_take_its_rows(yard):
    furnish(yard)
    with pytest.raises(PolicyError, match=r"the hold of job 'clean-files' cannot be read: .* did you mean 'held'"):
        select(yard, Hold("clean-files", "files", '"hld" = 1'))


def test_a_hold_below_foreign_keys_that_lead_round_is_refused(yard):
    furnish(yard)
    yard.run(
        "CREATE TABLE notes (id {number} PRIMARY KEY, chat_id {number}, up {number},"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE,"
        " FOREIGN KEY (up) REFERENCES notes (id) ON DELETE CASCADE)",
        "CREATE INDEX notes_chat ON notes (chat_id)",
        "CREATE INDEX notes_up ON notes (up)",
    )
    with pytest.raises(PolicyError, match=r"job 'clean-files' holds rows of table 'files' .* foreign keys lead round"):
        select(yard, CASE)


def test_a_hold_between_the_lock_of_a_row_and_the_look_at_it_is_seen(server_yard):
    furnish(server_yard, "")
    with after_the_first(server_yard, "SKIP LOCKED", lambda: execute(server_yard, HELD)):
        assert server_yard.sweep(select(server_yard, CASE), limit=10)["users"] == 5
    assert left(server_yard) == ([3],) * 3


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────


WAYS = pytest.mark.parametrize(
    ("hold", "deed"), [(CASE, HELD), (CASES, "INSERT INTO cases (id, file_id) VALUES (1, 3)")], ids=["column", "table"]
)


@pytest.fixture
def site(server_yard):
    return server_yard


@RULES
@WAYS
def test_a_hold_between_the_look_and_the_delete_undoes_the_batch_and_the_next_passes_by(site, rule, hold, deed):
    furnish(site, rule)
    court(site)
    selection = select(site, hold)
    come = after_the_first(site, "nightcrew_held", lambda: execute(site, deed))
    with come, pytest.raises(DatabaseError, match="came to be held") as lost:
        site.sweep(selection, limit=10)
    assert lost.value.transient
    assert left(site) == ([*range(6)],) * 3
    assert site.sweep(selection, limit=10)["users"] == 5
    assert left(site) == ([3],) * 3


@RULES
@WAYS
def test_a_hold_that_comes_after_the_lock_waits_until_the_row_has_gone(site, rule, hold, deed):
    furnish(site, rule)
    court(site)
    selection = select(site, hold)
    with after_the_first(site, LOCKED, lambda: refused(site, deed)):
        assert site.sweep(selection, limit=10)["users"] == 6
    assert left(site) == ([], [], [])


@pytest.mark.parametrize("moved", ["INSERT INTO files VALUES (99, 3, 1)", "UPDATE files SET chat_id = 3 WHERE id = 99"])
def test_no_held_row_is_put_below_one_that_was_locked(site, moved):
    furnish(site)
    site.run("INSERT INTO users VALUES (9, NULL)", "INSERT INTO chats VALUES (9, 9)")
    if moved.startswith("UPDATE"):
        site.run("INSERT INTO files VALUES (99, 9, 1)")
    with after_the_first(site, LOCKED, lambda: refused(site, moved)):
        assert site.sweep(select(site, CASE), limit=10)["users"] == 6
    assert site.ids("users") == [9]


def test_of_a_row_with_much_hanging_on_it_nothing_is_taken_once_some_of_that_is_held(site):
    furnish(site, files=20)
    selection = select(site, CASE)
    site.run(HELD, "DELETE FROM users WHERE id <> 3")
    assert site.sweep(selection, load=10) == {}
    site.run("UPDATE files SET held = 0")
    for number, taken in enumerate(site.batches(selection, limit=3, load=10)):
        if number == 0:
            assert taken.counts["files"] > 0
            some = site.ids("files")
            execute(site, f"UPDATE files SET held = 1 WHERE id = {some[-1]}")
    assert site.ids("files") == some
    assert site.ids("users") == [3]


def test_a_hold_between_the_look_and_a_slice_undoes_the_slice(site):
    furnish(site, files=20)
    site.run("DELETE FROM users WHERE id <> 3")
    deed = "UPDATE files SET held = 1"
    come = after_the_first(site, "nightcrew_child", lambda: execute(site, deed))
    with come, pytest.raises(DatabaseError, match="came to be held"):
        site.sweep(select(site, CASE), load=10)
    assert len(site.ids("files")) == 20


# ── a crew ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def hired(yard):
    crew = Nightcrew(yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    age = timedelta(days=1)
    crew.expire("delete-users", "users", column="left_at", every="1 hour", older_than=age, erase=True, max_fraction=1)
    crew.expire("clean-files", "files", column="made_at", every="1 hour", older_than=age, hold="held = 1")
    crew.migrate()
    with closing(crew):
        yield crew


def run(crew):
    return crew.run("delete-users", trigger="cli", now=True)


def test_one_jobs_hold_keeps_what_another_would_take_and_plan_and_report_say_so(yard):
    furnish(yard)
    yard.run("ALTER TABLE files ADD COLUMN made_at {time}", HELD)
    sentence = "1 row of users stays for held rows of files: id 3"
    with hired(yard) as crew:
        drawn = crew.plan("delete-users")
        assert (drawn.rows, drawn.json()["held"]) == (5, [sentence])
        lines = prospect.lines(drawn, crew.job_named("delete-users"), Screen(plain=True))
        assert f"  held     {sentence}" in lines
        assert run(crew).message.endswith(f"5 of files; {sentence}.")
        report = run(crew)
        assert (report.outcome, report.message) == ("nothing_to_do", f"No row of users could go; {sentence}.")
        assert left(yard) == ([3],) * 3
        yard.run("UPDATE files SET held = 0")
        assert (run(crew).deleted, left(yard)) == (1, ([], [], []))


def test_a_run_goes_on_past_a_row_whose_hold_came_in_the_moment_of_a_batch(site):
    furnish(site)
    site.run("ALTER TABLE files ADD COLUMN made_at {time}")
    with hired(site) as crew:
        with after_the_first(SimpleNamespace(link=crew._station.link), "nightcrew_held", lambda: execute(site, HELD)):
            report = run(crew)
        assert (report.outcome, report.deleted) == ("succeeded", 5)
        assert "1 row of users stays for held rows of files: id 3" in report.message
        assert left(site) == ([3],) * 3
