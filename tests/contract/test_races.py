"""Two connections at once: what another transaction brings back to life, a sweep does not take.

Each race is run against our form and, where it is deterministic, against the forms that people write, which lose it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nightcrew.clock import SystemClock
from nightcrew.database import Form
from nightcrew.databases import forms
from nightcrew.databases.latest import Kept
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Policy

DAY, DAYS = timedelta(days=1), timedelta(days=9)
CUT = "2024-06-14 12:00:00"
EMPTY_CHATS = Policy("chats", "at", DAY, unless_exists=("messages.chat_id",))
STALE_ACCOUNTS = Policy("accounts", "left_at", DAY)
EXPIRED_SESSIONS = Policy("sessions", "ends_at", DAY)


@pytest.fixture
def yard(server_yard):
    """Accounts, sessions, chats and their messages, all of them stale."""
    server_yard.run(
        "CREATE TABLE accounts (id {number} PRIMARY KEY, left_at {time}, held {number})",
        "CREATE INDEX accounts_left ON accounts (left_at)",
        "CREATE TABLE sessions (id {number} PRIMARY KEY, ends_at {time} NOT NULL)",
        "CREATE INDEX sessions_end ON sessions (ends_at)",
        "CREATE TABLE chats (id {number} PRIMARY KEY, at {time} NOT NULL)",
        "CREATE INDEX chats_at ON chats (at)",
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number},"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)",
        "CREATE INDEX messages_chat ON messages (chat_id)",
        "CREATE TABLE drafts (id {number} PRIMARY KEY, chat_id {number})",
        "CREATE TABLE notes (id {number} PRIMARY KEY, chat_id {number}, FOREIGN KEY (chat_id) REFERENCES chats (id))",
        "CREATE INDEX notes_chat ON notes (chat_id)",
    )
    for table, column in (("accounts", "left_at"), ("sessions", "ends_at"), ("chats", "at")):
        server_yard.fill(table, *[{"id": n, column: DAYS + n * timedelta(minutes=1)} for n in range(6)])
    return server_yard


@contextmanager
def other(yard) -> Iterator[sa.Connection]:
    """Open the application's connection: a transaction that commits at the end, and waits for no lock for long."""
    with yard.link.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        for statement in SHORT_WAIT[yard.kind]:
            connection.exec_driver_sql(statement)
        yield connection
        connection.commit()


SHORT_WAIT = {
    "postgresql": ("SET LOCAL timezone = 'UTC'", "SET LOCAL lock_timeout = '300ms'"),
    "mysql": ("SET SESSION innodb_lock_wait_timeout = 1",),
}
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
    " ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
}


def until_waiting(yard, statement: str = "") -> None:
    """Return when some statement waits for a lock."""
    clock, never = SystemClock(), threading.Event()
    for _ in range(40):
        with yard.link.transaction(writes=False) as connection:
            if connection.execute(sa.text(statement or WAITING[yard.kind])).scalar_one():
                return
        clock.wait(never, 0.11)  # InnoDB answers from a cache as long as it is asked more often than that
    pytest.fail("nothing ever waited: the race did not happen")


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` in another thread; its error is ours."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
    if errors:
        raise errors[0]


@contextmanager
def after_the_first(yard, sign: str, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` once, right after the first statement of a sweep that has `sign` in it."""
    done: list[object] = []

    def listen(connection, cursor, statement, parameters, context, executemany):
        if sign in statement and not done:
            done.append(statement)
            act()

    sa.event.listen(yard.link.engine, "after_cursor_execute", listen)
    try:
        yield
    finally:
        sa.event.remove(yard.link.engine, "after_cursor_execute", listen)
    assert done, f"no statement with {sign!r} was sent"


def execute(yard, statement: str) -> None:
    with other(yard) as connection:
        connection.execute(sa.text(statement))


def hold(connection, *ids: int) -> None:
    """Lock accounts one by one: asked for many, InnoDB may read, and lock, the whole of a small table."""
    for number in ids:
        connection.execute(sa.text(f"SELECT id FROM accounts WHERE id = {number} FOR UPDATE")).all()


def refused(yard, statement: str) -> None:
    """Try a statement that must wait for the sweep."""
    with pytest.raises(sa.exc.OperationalError), other(yard) as connection:
        connection.execute(sa.text(statement))


# ── the forms that people write ──────────────────────────────────────────────────────────────────────────────────


def by_id_list(connection, table, column, between):
    """Select the keys, then delete by key: what ORMs and most clean-up commands do."""
    ids = connection.execute(sa.text(f"SELECT id FROM {table} WHERE {column} < '{CUT}'")).scalars().all()
    between()
    listed = sa.text(f"DELETE FROM {table} WHERE id IN :ids").bindparams(sa.bindparam("ids", expanding=True))
    connection.execute(listed, {"ids": ids})


def by_sub_select(connection, table, column, between):
    """Delete by a sub-select with a limit: what most batches on PostgreSQL look like."""
    between()
    connection.execute(sa.text(f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < '{CUT}')"))


# ── a value that comes back to life ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement", ["UPDATE accounts SET left_at = NULL WHERE id = 3", "UPDATE accounts SET held = 1 WHERE id = 3"]
)
def test_an_account_that_is_being_reactivated_or_held_is_passed_by(yard, statement):
    with other(yard) as connection:
        connection.execute(sa.text(statement))
        assert yard.sweep(replace(STALE_ACCOUNTS, hold="held = 1"), limit=2) == {"accounts": 5}
    assert yard.ids("accounts") == [3]
    assert yard.sweep(replace(STALE_ACCOUNTS, hold="held = 1")) == {}


@pytest.mark.parametrize(
    "statement", ["UPDATE accounts SET left_at = NULL WHERE id = 3", "UPDATE accounts SET held = 1 WHERE id = 3"]
)
def test_a_batch_that_does_not_look_beforehand_gives_up_where_it_would_wait(yard, statement):
    """It takes nothing then, and the next one looks."""
    selection = yard.select(replace(STALE_ACCOUNTS, hold="held = 1"))
    with other(yard) as connection:
        connection.execute(sa.text(statement))
        took = []
        for _ in range(3):  # on a machine that is busy with other things, one of them may be slow to come back
            begun = time.monotonic()
            with pytest.raises(DatabaseError) as given_up, yard.rows.transaction() as ours:
                yard.rows.take(ours, selection, {}, 10, even=True)
            took.append(time.monotonic() - begun)
            assert given_up.value.transient
        assert min(took) < 0.2  # of the 0.3 or 1 s that others are waited for
    assert yard.ids("accounts") == [0, 1, 2, 3, 4, 5]
    with yard.rows.transaction() as ours:
        assert yard.rows.take(ours, selection, {}, 10, even=True).rows == 5
    assert yard.ids("accounts") == [3]


@pytest.mark.parametrize("form", list(Form))
def test_an_account_that_is_reactivated_between_two_batches_stays(yard, form):
    selection = replace(yard.select(STALE_ACCOUNTS), form=form)
    for number, _ in enumerate(yard.batches(selection, limit=1)):
        if number == 0:
            execute(yard, "UPDATE accounts SET left_at = NULL WHERE id = 3")
    assert yard.ids("accounts") == [3]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("form", [Form.CONTENDED, Form.LOCKED])
def test_nobody_reactivates_an_account_once_it_is_locked(yard, form, even):
    """So none is told that it lives and then deleted: the application waits, and finds it gone."""
    selection = replace(yard.select(STALE_ACCOUNTS), form=form)
    with yard.rows.transaction() as connection:
        yard.rows.take(connection, selection, {}, 10, even=even)
        refused(yard, "UPDATE accounts SET left_at = NULL WHERE id = 3")
    assert yard.ids("accounts") == []


@pytest.mark.parametrize("form", [Form.CONTENDED, Form.LOCKED])
def test_between_the_lock_and_the_delete_there_is_no_gap(yard, form):
    if yard.kind == "postgresql" and form is Form.CONTENDED:
        pytest.skip("one statement locks and deletes: there is no between")
    selection = replace(yard.select(STALE_ACCOUNTS), form=form)
    with after_the_first(yard, "SKIP LOCKED", lambda: refused(yard, "UPDATE accounts SET left_at = NULL WHERE id = 3")):
        assert yard.sweep(selection, limit=10) == {"accounts": 6}


def test_a_key_list_loses_the_account_that_is_reactivated_between(yard):
    with yard.rows.transaction() as connection:
        reactivate = "UPDATE accounts SET left_at = NULL WHERE id = 3"
        by_id_list(connection, "accounts", "left_at", lambda: execute(yard, reactivate))
    assert yard.ids("accounts") == [], "if this fails, the naive form became safe, and ours proves nothing"


def test_a_session_that_is_refreshed_while_the_batch_waits_for_it_stays(yard):
    """The range form waits for the row, and judges it anew when it gets it."""
    selection = yard.select(EXPIRED_SESSIONS)
    assert selection.form is Form.RANGE
    with meanwhile_refreshed(yard) as sweep:
        sweep(lambda: yard.sweep(selection, limit=10))
    assert yard.ids("sessions") == [3]


def test_a_sub_select_loses_the_session_that_is_refreshed_while_it_waits(yard):
    def naive():
        with yard.rows.transaction() as connection:
            by_sub_select(connection, "sessions", "ends_at", lambda: None)

    with meanwhile_refreshed(yard) as sweep:
        sweep(naive)
    lost = yard.ids("sessions") == []
    assert lost == (yard.kind == "postgresql"), "the naive form changed: look at the race table again"


@contextmanager
def meanwhile_refreshed(yard) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Refresh a session, let the given sweep run into its lock, then commit the refresh."""

    def run_into(work: Callable[[], object]) -> None:
        with other(yard) as connection:
            connection.execute(sa.text("UPDATE sessions SET ends_at = '2024-07-01 00:00:00' WHERE id = 3"))
            with meanwhile(work):
                until_waiting(yard)
                connection.commit()

    yield run_into


@pytest.mark.parametrize("form", [Form.CONTENDED, Form.LOCKED])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_rows_that_somebody_holds_are_left_and_the_sweep_ends(yard, form, limit):
    selection = replace(yard.select(STALE_ACCOUNTS), form=form)
    with other(yard) as connection:
        hold(connection, 1, 4)
        assert yard.sweep(selection, limit) == {"accounts": 4}
    assert yard.ids("accounts") == [1, 4]
    assert yard.sweep(selection, limit) == {"accounts": 2}


@pytest.mark.parametrize("form", list(Form))
def test_rows_of_one_time_that_somebody_holds_are_left_and_the_sweep_ends(yard, form):
    yard.run("UPDATE accounts SET left_at = '2024-01-01 00:00:00'")
    selection = replace(yard.select(STALE_ACCOUNTS), form=form)
    with other(yard) as connection:
        hold(connection, 0, 1, 4)
        assert yard.sweep(selection, limit=2) == {"accounts": 3}
    assert yard.ids("accounts") == [0, 1, 4]


# ── the first message of an empty chat ───────────────────────────────────────────────────────────────────────────

FIRST = "INSERT INTO messages (id, chat_id) VALUES (1, 3)"


@pytest.mark.parametrize("unless_exists", [("messages.chat_id",), ()])
def test_a_first_message_that_is_not_yet_committed_saves_its_chat(yard, unless_exists):
    """Inserting a child holds its parent, so that the sweep passes it by; by its cascade too."""
    policy = replace(EMPTY_CHATS, unless_exists=unless_exists, erase=True)
    with other(yard) as connection:
        connection.execute(sa.text(FIRST))
        assert yard.sweep(policy, limit=2) == {"chats": 5}
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [1])


def test_a_first_message_between_two_batches_saves_its_chat(yard):
    for number, _ in enumerate(yard.batches(yard.select(replace(EMPTY_CHATS, erase=True)), limit=1)):
        if number == 0:
            execute(yard, FIRST)
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [1])


def test_no_first_message_comes_between_the_lock_and_the_second_look(yard):
    with after_the_first(yard, "SKIP LOCKED", lambda: refused(yard, FIRST)):
        assert yard.sweep(replace(EMPTY_CHATS, erase=True), limit=10) == {"chats": 6}
    assert yard.ids("messages") == []


PAUSE = {
    "postgresql": (
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_advisory_unlock(7)",
        "pg_advisory_xact_lock_shared(7) IS NOT NULL",
    ),
    "mysql": ("SELECT GET_LOCK(database(), 5)", "SELECT RELEASE_LOCK(database())", "GET_LOCK(database(), 5) = 1"),
}
PAUSED = {
    "postgresql": WAITING["postgresql"],
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND state = 'User lock'",
}


@pytest.mark.parametrize("form", [Form.LOCKED, Form.CONTENDED])
def test_a_first_message_that_commits_while_the_lock_is_taken_saves_its_chat(yard, form):
    """The statement that locks sees the world as it was when it began: only the next one sees the message.

    The sweep's first statement is stopped in its predicate; the message is committed; the sweep goes on. The
    contended form locks and deletes in one statement on PostgreSQL, and so loses the message.
    """
    stop, go, predicate = PAUSE[yard.kind]
    selection = replace(yard.select(replace(EMPTY_CHATS, erase=True)), form=form, where=predicate)
    with yard.link.engine.connect().execution_options(isolation_level="READ COMMITTED") as brake:
        brake.execute(sa.text(stop))
        with meanwhile(lambda: yard.sweep(selection, limit=10)):
            until_waiting(yard, PAUSED[yard.kind])
            execute(yard, FIRST)
            brake.execute(sa.text(go))
    lost = yard.kind == "postgresql" and form is Form.CONTENDED
    assert yard.ids("messages") == ([] if lost else [1])
    assert yard.ids("chats") == ([] if lost else [3])


def test_a_key_list_loses_the_first_message(yard):
    with yard.rows.transaction() as connection:
        by_id_list(connection, "chats", "at", lambda: execute(yard, FIRST))
    assert (yard.ids("chats"), yard.ids("messages")) == ([], [])


def test_a_draft_without_a_foreign_key_is_seen_by_the_second_look(yard):
    """Nothing makes such an insert wait; but what has committed by the second look counts."""
    policy = replace(EMPTY_CHATS, unless_exists=("drafts.chat_id",), erase=True)
    draft = "INSERT INTO drafts (id, chat_id) VALUES (1, 3)"
    with after_the_first(yard, "SKIP LOCKED", lambda: execute(yard, draft)):
        assert yard.sweep(policy, limit=10) == {"chats": 5}
    assert yard.ids("chats") == [3]


def test_the_children_of_a_chat_that_is_saved_at_the_second_look_stay_too(yard):
    yard.fill("notes", *[{"id": n, "chat_id": n} for n in range(6)])
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(6)])
    policy = replace(EMPTY_CHATS, unless_exists=("drafts.chat_id",), erase=True)
    assert [path[-1].table for path in yard.select(policy).drains] == ["notes"]
    draft = "INSERT INTO drafts (id, chat_id) VALUES (1, 3)"
    with after_the_first(yard, "SKIP LOCKED", lambda: execute(yard, draft)):
        assert yard.sweep(policy, limit=10) == {"chats": 5, "messages": 5, "notes": 5}
    assert (yard.ids("chats"), yard.ids("notes"), yard.ids("messages")) == ([3], [3], [3])


def test_a_hold_in_another_table_that_is_set_while_the_batch_runs_protects(yard):
    policy = replace(EMPTY_CHATS, hold="id IN (SELECT chat_id FROM drafts)", erase=True)
    draft = "INSERT INTO drafts (id, chat_id) VALUES (1, 3)"
    assert yard.select(policy).form is Form.LOCKED
    with after_the_first(yard, "SKIP LOCKED", lambda: execute(yard, draft)):
        assert yard.sweep(policy, limit=10) == {"chats": 5}
    assert yard.ids("chats") == [3]


# ── the latest of a group ────────────────────────────────────────────────────────────────────────────────────────────

KEEP_THREE = replace(EXPIRED_SESSIONS, older_than=DAYS + timedelta(minutes=2), keep_latest=3)
"""Sessions 0 to 2 are not yet due, and 3 to 5 may leave as long as there are three newer ones."""
removals = pytest.mark.parametrize(
    "statement", ["DELETE FROM sessions WHERE id = 0", "DELETE FROM sessions WHERE id = 1"]
)


@removals
def test_newer_rows_that_are_being_removed_do_not_count(yard, statement):
    with other(yard) as connection:
        connection.execute(sa.text(statement))
        assert yard.sweep(KEEP_THREE, limit=10) == {}
    yard.sweep(KEEP_THREE)
    assert len(yard.ids("sessions")) == 3


def test_nobody_removes_the_latest_once_a_batch_counts_on_them(yard):
    with yard.rows.transaction() as connection:
        yard.rows.take(connection, yard.select(KEEP_THREE), {}, 10)
        refused(yard, "DELETE FROM sessions WHERE id = 0")
        refused(yard, "UPDATE sessions SET ends_at = '2020-01-01 00:00:00' WHERE id = 1")
    assert yard.ids("sessions") == [0, 1, 2]


@removals
@pytest.mark.parametrize("sign", ["SKIP LOCKED", "nightcrew_edges"])
def test_newer_rows_that_are_removed_before_they_are_locked_leave_enough(yard, sign, statement):
    """After the batch has locked what may leave, or after it has found what must stay."""
    with after_the_first(yard, sign, lambda: execute(yard, statement)):
        yard.sweep(KEEP_THREE, limit=10)
    assert len(yard.ids("sessions")) >= 3
    yard.sweep(KEEP_THREE)
    assert len(yard.ids("sessions")) == 3


def test_without_those_locks_a_row_too_many_leaves(yard, monkeypatch):
    """The second look alone does not see what somebody is about to remove."""
    monkeypatch.setattr(Kept, "secure", lambda kept, connection, among: sa.true())
    with other(yard) as connection:
        connection.execute(sa.text("DELETE FROM sessions WHERE id = 0"))
        yard.sweep(KEEP_THREE, limit=10)
    assert len(yard.ids("sessions")) == 2, "if this fails, the locks are not what keeps three"


def test_a_batch_keeps_nobody_from_referring_to_the_latest(yard):
    if yard.kind == "mysql":
        pytest.skip("InnoDB's plain lock makes such an insert wait for the batch")
    with yard.rows.transaction() as connection:
        yard.rows.take(connection, yard.select(Policy("chats", "at", DAY, keep_latest=2, erase=True)), {}, 10)
        execute(yard, "INSERT INTO messages (id, chat_id) VALUES (1, 0)")
    assert yard.ids("messages") == [1]


# ── rows between ours and what is drained ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement", ["UPDATE rooms SET account_id = 77 WHERE id = 3", "INSERT INTO seats (id, room_id) VALUES (99, 3)"]
)
def test_a_row_between_is_neither_given_away_nor_added_to_while_its_own_are_drained(yard, statement):
    yard.run(
        "CREATE TABLE rooms (id {number} PRIMARY KEY, account_id {number},"
        " FOREIGN KEY (account_id) REFERENCES accounts (id))",
        "CREATE INDEX rooms_account ON rooms (account_id)",
        "CREATE TABLE seats (id {number} PRIMARY KEY, room_id {number}, FOREIGN KEY (room_id) REFERENCES rooms (id))",
        "CREATE INDEX seats_room ON seats (room_id)",
        "INSERT INTO accounts (id) VALUES (77)",
    )
    yard.fill("rooms", *[{"id": n, "account_id": n} for n in range(6)])
    yard.fill("seats", *[{"id": n, "room_id": n} for n in range(6)])
    with after_the_first(
        yard, "DELETE FROM" if yard.kind == "postgresql" else "DELETE", lambda: refused(yard, statement)
    ):
        assert yard.sweep(replace(STALE_ACCOUNTS, erase=True), limit=10) == {"accounts": 6, "rooms": 6, "seats": 6}
    assert yard.ids("accounts") == [77]


def test_a_reference_by_another_key_is_refused_where_a_lock_does_not_keep_it_off(yard):
    yard.run(
        "CREATE TABLE pages (id {number} PRIMARY KEY, code {number} UNIQUE, at {time} NOT NULL)",
        "CREATE TABLE visits (id {number} PRIMARY KEY, page_code {number}, FOREIGN KEY (page_code)"
        " REFERENCES pages (code))",
        "CREATE INDEX visits_page ON visits (page_code)",
    )
    yard.fill("pages", {"id": 1, "code": 10, "at": DAYS})
    policy = Policy("pages", "at", DAY, unless_exists=("visits.page_code",))
    if yard.kind == "mysql":
        with pytest.raises(PolicyError, match="refers to code of table 'pages', which is not its primary key"):
            yard.sweep(policy)
    else:
        assert yard.sweep(policy) == {"pages": 1}


# ── rows of which nobody looks first what hangs on them ──────────────────────────────────────────────────────────────

STALE_CHATS = Policy("chats", "at", DAY, erase=True)


def test_for_an_even_row_that_somebody_changes_nobody_waits_long_and_it_stays(yard):
    yard.run("DROP TABLE notes")
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(6)])
    change = sa.text("UPDATE chats SET at = at + INTERVAL '9' DAY WHERE id = 3")
    gives_up = pytest.raises(DatabaseError, match="lock timeout") if yard.kind == "postgresql" else nullcontext()
    with other(yard) as connection:
        connection.execute(change)
        with gives_up, yard.rows.transaction() as ours:
            yard.rows.take(ours, yard.select(STALE_CHATS), {}, 10, even=True)
        yard.sweep(STALE_CHATS)
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [3])


def test_an_even_row_that_is_wanted_again_while_the_delete_waits_for_it_stays(yard, monkeypatch):
    if yard.kind != "postgresql":
        pytest.skip("no row is taken there before it was locked")
    monkeypatch.setattr(forms, "_LONGEST", 20.0)
    yard.run("DROP TABLE notes")
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(6)])

    taken = []

    def take() -> None:
        with yard.rows.transaction() as ours:
            taken.append(yard.rows.take(ours, yard.select(STALE_CHATS), {}, 10, even=True))

    with other(yard) as connection:
        connection.execute(sa.text("UPDATE chats SET at = at + INTERVAL '9' DAY WHERE id = 3"))
        with meanwhile(take):
            until_waiting(yard)
            connection.commit()
    assert taken[0].counts == {"chats": 5, "messages": 5}
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [3])


def test_an_even_row_that_others_could_keep_is_locked_first_and_passed_by_where_somebody_changes_it(yard):
    yard.run("DROP TABLE notes")
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(6)])
    with other(yard) as connection:
        connection.execute(sa.text("UPDATE chats SET at = at + INTERVAL '9' DAY WHERE id = 3"))
        with yard.rows.transaction() as ours:
            taken = yard.rows.take(
                ours, yard.select(replace(STALE_CHATS, unless_exists=("drafts.chat_id",))), {}, 10, even=True
            )
            refused(yard, "INSERT INTO messages (id, chat_id) VALUES (9, 2)")
    assert taken.counts == {"chats": 5, "messages": 5}
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [3])


def test_an_even_row_whose_first_draft_comes_while_it_is_locked_is_not_taken_unseen(yard):
    yard.run("DROP TABLE notes")
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(6)])
    selection = yard.select(replace(STALE_CHATS, unless_exists=("drafts.chat_id",)))
    draft = lambda: execute(yard, "INSERT INTO drafts (id, chat_id) VALUES (1, 3)")  # noqa: E731
    with after_the_first(yard, "SKIP LOCKED", draft):
        if yard.kind == "postgresql":
            with pytest.raises(DatabaseError, match="not like those before"), yard.rows.transaction() as ours:
                yard.rows.take(ours, selection, {}, 10, even=True)
        else:
            with yard.rows.transaction() as ours:
                assert yard.rows.take(ours, selection, {}, 10, even=True).counts == {"chats": 5, "messages": 5}
    yard.sweep(selection)
    assert (yard.ids("chats"), yard.ids("messages")) == ([3], [3])


# ── what hangs on rows, found row by row or in slices ────────────────────────────────────────────────────────────


@pytest.fixture
def trees(yard):
    """Six stale pages with six comments each, every comment but the first an answer to the one before."""
    yard.run(
        "CREATE TABLE pages (id {number} PRIMARY KEY, at {time})",
        "CREATE INDEX pages_at ON pages (at)",
        "CREATE TABLE comments (id {number} PRIMARY KEY, page_id {number}, up {number},"
        " FOREIGN KEY (page_id) REFERENCES pages (id) ON DELETE CASCADE,"
        " FOREIGN KEY (up) REFERENCES comments (id) ON DELETE CASCADE)",
        "CREATE INDEX comments_page ON comments (page_id)",
        "CREATE INDEX comments_up ON comments (up)",
        "INSERT INTO pages (id) VALUES (77)",
        "INSERT INTO comments (id, page_id) VALUES (777, 77)",
    )
    yard.fill("pages", *[{"id": n, "at": DAYS} for n in range(6)])
    yard.fill("comments", *[{"id": 10 * n, "page_id": n, "up": None} for n in range(6)])
    for k in range(1, 6):
        yard.fill("comments", *[{"id": 10 * n + k, "page_id": None, "up": 10 * n + k - 1} for n in range(6)])
    return yard


STALE_PAGES = Policy("pages", "at", DAY)


@pytest.mark.parametrize("load", [4, 1000])
def test_a_comment_that_was_found_is_not_given_to_another_tree_before_it_leaves(trees, load):
    moved = "UPDATE comments SET up = 777 WHERE id = 0"
    with after_the_first(trees, "nightcrew_child", lambda: refused(trees, moved)):
        trees.sweep(STALE_PAGES, limit=1, load=load)
    assert (trees.ids("pages"), trees.ids("comments")) == ([77], [777])


def test_a_comment_that_is_given_to_another_tree_while_its_own_is_followed_stays_with_what_hangs_on_it(trees):
    given = lambda: execute(trees, "UPDATE comments SET up = 777 WHERE id = 3")  # noqa: E731
    with after_the_first(trees, "nightcrew_child", given):
        trees.sweep(STALE_PAGES, limit=1)
    assert trees.ids("comments") == [3, 4, 5, 777]


def test_a_page_that_is_wanted_again_between_two_slices_keeps_what_is_left(trees):
    execute(trees, "DELETE FROM pages WHERE id IN (1, 2, 3, 4, 5)")
    with trees.rows.transaction() as connection:
        taken = trees.rows.take(connection, trees.select(STALE_PAGES), {}, 10, 3)
    assert (taken.rows, taken.exhausted) == (0, False)
    kept = trees.ids("comments")
    assert len(kept) == 7 - taken.counts["comments"] < 7
    execute(trees, "UPDATE pages SET at = NULL WHERE id = 0")
    trees.sweep(STALE_PAGES, load=3)
    assert (trees.ids("pages"), trees.ids("comments")) == ([0, 77], kept)


def test_a_page_whose_first_draft_comes_while_it_is_locked_keeps_all_its_comments(trees):
    execute(trees, "DELETE FROM pages WHERE id IN (1, 2, 3, 4, 5)")
    policy = replace(STALE_PAGES, unless_exists=("drafts.chat_id",))
    with after_the_first(trees, "FOR UPDATE", lambda: execute(trees, "INSERT INTO drafts (id, chat_id) VALUES (1, 0)")):
        trees.sweep(policy, load=3)
    assert (trees.ids("pages"), trees.ids("comments")) == ([0, 77], [*range(6), 777])
