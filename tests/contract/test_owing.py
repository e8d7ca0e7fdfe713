"""What a sweep owes to the stores for the rows it takes: each key that left with a row, and no other, in every form."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import MOMENT

from nightcrew import Nightcrew, Policy, Settings
from nightcrew.clock import SystemClock
from nightcrew.console import prospect
from nightcrew.console.screen import Screen
from nightcrew.database import Form
from nightcrew.databases.dues import Dues
from nightcrew.databases.migrations import Migrations
from nightcrew.databases.parcels import SEPARATOR
from nightcrew.databases.tables import owed as owed_table
from nightcrew.errors import PolicyError
from nightcrew.outcome import Outcome
from nightcrew.stores.memory import Memory

OLD, NEW = timedelta(days=90), timedelta(days=1)
USERS = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time} NOT NULL, kind {number}, avatar {text})",
    "CREATE INDEX users_left ON users (left_at)",
)
CHATS = (
    (
        "CREATE TABLE chats (id {{number}} PRIMARY KEY, user_id {{number}} NOT NULL, picture {{text}},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE {rule})"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    (
        "CREATE TABLE files (id {{number}} PRIMARY KEY, chat_id {{number}} NOT NULL, blob_key {{text}},"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX files_chat ON files (chat_id)",
)
LINKED = (
    "CREATE TABLE notes (id {number} PRIMARY KEY, user_id {number}, blob_key {text})",
    "CREATE INDEX notes_user ON notes (user_id)",
    (
        "CREATE TABLE copies (id {number} PRIMARY KEY, note_id {number} NOT NULL, blob_key {text},"
        " FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX copies_note ON copies (note_id)",
)
TREE = (
    (
        "CREATE TABLE answers (id {number} PRIMARY KEY, above {number}, user_id {number}, blob_key {text},"
        " FOREIGN KEY (above) REFERENCES answers (id) ON DELETE CASCADE,"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX answers_above ON answers (above)",
    "CREATE INDEX answers_user ON answers (user_id)",
)


def policy(*columns, **terms):
    blobs = [{"store": "uploads", **dict(zip(("table", "column"), name.split("."), strict=True))} for name in columns]
    return Policy("users", "left_at", older_than=timedelta(days=30), blobs=blobs, **terms)


def ready(yard, *statements):
    yard.run(*statements)
    Migrations(yard.link, SystemClock()).apply()


def users(yard, old=6, new=2):
    """Fill in users: of every third, nothing is known of an avatar."""
    yard.fill(
        "users",
        *(
            {"id": n, "left_at": OLD if n <= old else NEW, "kind": n % 2, "avatar": [None, "", f"a{n}"][min(n % 3, 2)]}
            for n in range(1, old + new + 1)
        ),
    )


def chats(yard, per=3):
    """Fill in chats and files of users: every second file has no blob."""
    ids = yard.ids("users")
    rows = [{"id": 10 * user + n, "user_id": user, "picture": f"p{10 * user + n}"} for user in ids for n in range(per)]
    yard.fill("chats", *rows)
    files = [
        (10 * row["id"] + n, row["id"], f"f{10 * row['id'] + n}" if n % 2 else None) for row in rows for n in (0, 1)
    ]
    yard.fill("files", *({"id": number, "chat_id": chat, "blob_key": key} for number, chat, key in files))


def debts(yard):
    with yard.link.transaction(writes=False) as connection:
        rows = connection.execute(sa.select(owed_table.c.key)).scalars()
        return sorted(key for row in rows for key in row.split(SEPARATOR))


def held(yard, *columns):
    """Return every key that a row still has."""
    with yard.link.transaction(writes=False) as connection:
        return sorted(
            key
            for table, column in (name.split(".") for name in columns)
            for key in connection.exec_driver_sql(f"SELECT {column} FROM {table}").scalars()
            if key
        )


def owes_what_left(yard, rule, columns, form, **sizes):
    """Sweep, and compare what is owed with the keys that are gone."""
    before = held(yard, *columns)
    selection = yard.select(rule)
    assert selection.form is form
    yard.sweep(selection, **sizes)
    after = held(yard, *columns)
    assert before != after
    assert debts(yard) == sorted(set(before) - set(after))


def test_rows_that_only_their_time_decides_about(yard):
    ready(yard, *USERS)
    users(yard)
    expected = Form.CONTENDED if yard.kind == "mysql" else Form.RANGE  # it has no statement that answers with keys
    owes_what_left(yard, policy("users.avatar"), ["users.avatar"], expected)
    assert debts(yard) == ["a2", "a5"]


@pytest.mark.parametrize("terms", [{"where": "kind = 1"}, {"hold": "kind = 1"}])
def test_rows_that_others_may_change(yard, terms):
    ready(yard, *USERS)
    users(yard)
    form = Form.RANGE if yard.kind == "sqlite" else Form.CONTENDED  # where one writes at a time, nobody else does
    owes_what_left(yard, policy("users.avatar", **terms), ["users.avatar"], form)


def test_rows_that_other_rows_decide_about(yard):
    ready(yard, *USERS, "CREATE TABLE bills (id {number} PRIMARY KEY, user_id {number} REFERENCES users (id))")
    users(yard)
    yard.fill("bills", {"id": 1, "user_id": 2})
    rule = policy("users.avatar", unless_exists=["bills.user_id"], allow_unindexed=True)
    owes_what_left(yard, rule, ["users.avatar"], Form.LOCKED)
    assert debts(yard) == ["a5"]


def test_the_latest_rows_keep_what_they_have(yard):
    ready(yard, *USERS)
    users(yard, old=6, new=0)
    owes_what_left(yard, policy("users.avatar", keep_latest=2), ["users.avatar"], Form.LOCKED)
    assert debts(yard) == ["a2"]


@pytest.mark.parametrize("rule", ["CASCADE", "NO ACTION"])
@pytest.mark.parametrize("sizes", [{}, {"load": 2}, {"limit": 100}])
def test_rows_that_hang_on_those_that_go_however_they_leave(yard, rule, sizes):
    ready(yard, *USERS, *(statement.format(rule=rule) for statement in CHATS))
    users(yard)
    chats(yard)
    columns = ["users.avatar", "chats.picture", "files.blob_key"]
    owes_what_left(yard, policy(*columns, erase=True), columns, Form.LOCKED, **sizes)


def test_rows_that_two_keys_lead_to(yard):
    ready(
        yard,
        *USERS,
        "CREATE TABLE shares (id {number} PRIMARY KEY, by_id {number}, to_id {number}, blob_key {text},"
        " FOREIGN KEY (by_id) REFERENCES users (id) ON DELETE CASCADE,"
        " FOREIGN KEY (to_id) REFERENCES users (id) ON DELETE CASCADE)",
        "CREATE INDEX shares_by ON shares (by_id)",
        "CREATE INDEX shares_to ON shares (to_id)",
    )
    users(yard)
    pairs = [(1, 8), (8, 2), (3, 3), (7, 8), (None, 4), (5, None)]
    yard.fill("shares", *({"id": n, "by_id": a, "to_id": b, "blob_key": f"s{n}"} for n, (a, b) in enumerate(pairs)))
    owes_what_left(yard, policy("shares.blob_key"), ["shares.blob_key"], Form.LOCKED)
    assert debts(yard) == ["s0", "s1", "s2", "s4", "s5"]


def test_only_declared_columns_are_owed(yard):
    ready(yard, *USERS, *(statement.format(rule="CASCADE") for statement in CHATS))
    users(yard)
    chats(yard)
    yard.sweep(policy("files.blob_key"))
    assert debts(yard)
    assert all(key.startswith("f") for key in debts(yard))


@pytest.mark.parametrize("sizes", [{}, {"load": 2}])
def test_rows_that_only_a_link_leads_to(yard, sizes):
    ready(yard, *USERS, *LINKED)
    users(yard)
    yard.fill("notes", *({"id": n, "user_id": n % 9, "blob_key": f"n{n}"} for n in range(20)))
    yard.fill("copies", *({"id": n, "note_id": n % 20, "blob_key": f"c{n}"} for n in range(40)))
    columns = ["users.avatar", "notes.blob_key", "copies.blob_key"]
    owes_what_left(yard, policy(*columns, links=["notes.user_id"]), columns, Form.LOCKED, **sizes)


@pytest.mark.parametrize("sizes", [{}, {"load": 3}])
def test_trees(yard, sizes):
    ready(yard, *USERS, *TREE)
    users(yard)
    rows = [{"id": n, "above": n // 2 or None, "user_id": n % 9 or None, "blob_key": f"t{n}"} for n in range(1, 40)]
    yard.fill("answers", *rows)
    columns = ["users.avatar", "answers.blob_key"]
    owes_what_left(yard, policy(*columns), columns, Form.LOCKED, **sizes)


@pytest.mark.parametrize("sizes", [{}, {"load": 2}])
def test_what_rows_that_stay_refer_to_no_longer(yard, sizes):
    ready(
        yard,
        "CREATE TABLE users (id VARCHAR(20) PRIMARY KEY, left_at {time} NOT NULL)",
        "CREATE TABLE faces (id {number} PRIMARY KEY, image VARCHAR(20),"
        " FOREIGN KEY (image) REFERENCES users (id) ON DELETE SET NULL)",
        "CREATE INDEX faces_image ON faces (image)",
    )
    yard.fill("users", *({"id": f"u{n}", "left_at": OLD if n < 4 else NEW} for n in range(6)))
    yard.fill("faces", *({"id": n, "image": f"u{n % 6}"} for n in range(12)))
    yard.sweep(policy("faces.image"), **sizes)
    assert set(debts(yard)) == {"u0", "u1", "u2", "u3"}
    assert len(yard.ids("faces")) == 12


@pytest.mark.parametrize(
    "terms",
    [
        {"action": "clear", "set": {"avatar": None}},
        {"action": "anonymize", "set": {"avatar": "nobody", "kind": 7}},
    ],
)
def test_what_rows_that_stay_had_before_they_were_changed(yard, terms):
    ready(yard, USERS[0].replace(" NOT NULL", " NULL"), USERS[1])
    users(yard)
    yard.sweep(policy("users.avatar", **terms))
    assert debts(yard) == ["a2", "a5"]
    assert len(yard.ids("users")) == 8


def test_the_debts_are_undone_with_the_batch(yard):
    ready(yard, *USERS)
    users(yard)
    selection = yard.select(policy("users.avatar"))

    def broken_off():
        with yard.rows.transaction() as connection:
            yield yard.rows.take(connection, selection, {}, 100).rows

    batch = broken_off()
    assert next(batch)
    with pytest.raises(ZeroDivisionError):
        batch.throw(ZeroDivisionError)
    assert debts(yard) == []
    assert len(yard.ids("users")) == 8


def test_a_row_that_a_trigger_keeps_has_a_debt_that_is_forgotten(sqlite_yard):
    yard = sqlite_yard
    ready(yard, *USERS)
    users(yard)
    yard.run(
        "CREATE TRIGGER keep BEFORE DELETE ON users WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END",
    )
    yard.sweep(policy("users.avatar"))
    keys = debts(yard)
    assert "a5" in keys
    assert Dues(yard.link).referred(yard.select(policy("users.avatar")).blobs, keys) == {"a2"}


def test_a_run_owes_by_its_name_and_its_plan_says_what(yard, tmp_path):
    ready(yard, *USERS, *(statement.format(rule="CASCADE") for statement in CHATS))
    users(yard)
    chats(yard)
    store = Memory()
    crew = Nightcrew(yard.link.engine.url.render_as_string(False), settings=Settings(), blobs={"uploads": store})
    blobs = policy("users.avatar", "files.blob_key").blobs
    crew.expire("sweep", "users", column="left_at", older_than=OLD / 2, every="1 day", blobs=blobs, max_fraction=1)
    drawn = crew.plan("sweep")
    assert {step.table: step.owed for step in drawn.steps} == {
        "users": "what avatar names, to uploads",
        "files": "what blob_key names, to uploads",
        "chats": None,
    }
    said = prospect.lines(drawn, crew.jobs["sweep"], Screen())
    assert "  owes     users: what avatar names, to uploads" in said
    assert any("no index begins with files.blob_key" in warning for warning in drawn.warnings)
    for key in held(yard, "users.avatar", "files.blob_key"):
        store.put(key, b"")
    report = crew.run("sweep", now=True)
    assert report.outcome is Outcome.SUCCEEDED
    with yard.link.transaction(writes=False) as connection:
        assert set(connection.execute(sa.select(owed_table.c.run)).scalars()) == {report.run}
    assert crew.run("drain-outbox", now=True).outcome is Outcome.SUCCEEDED
    assert sorted(blob.key for blob in store.page().blobs) == held(yard, "users.avatar", "files.blob_key")
    crew.close()


WRONG = [
    (("users.avtar",), {}, r"table 'users' has no column 'avtar'; did you mean 'avatar'\?"),
    (("user.avatar",), {}, r"table 'user' is not in the database; did you mean 'users'\?"),
    (("bills.scan",), {}, "no row of 'bills' leaves with rows of 'users': declare a foreign key"),
    (("users.avatar",), {"action": "anonymize", "set": {"kind": 7}}, "is no column that the action 'anonymize' sets"),
    (("users.doc",), {}, "which is no single key: keep one key a row"),
]


@pytest.mark.parametrize(("columns", "terms", "said"), WRONG)
def test_what_cannot_be_owed_is_refused(yard, columns, terms, said):
    ready(
        yard,
        USERS[0].replace("avatar", "doc JSON, avatar"),
        "CREATE TABLE bills (id {number} PRIMARY KEY, scan {text})",
    )
    if columns == ("users.doc",) and yard.kind == "mysql":
        pytest.skip("MariaDB has a text where JSON was said")
    with pytest.raises(PolicyError, match=said) as refused:
        yard.select(policy(*columns, **terms))
    assert refused.value.key == "blobs"


def test_a_table_that_owes_is_not_dropped_by_partition(server_yard):
    ready(server_yard, *USERS)
    assert server_yard.select(policy()).alone
    assert not server_yard.select(policy("users.avatar")).alone


def test_a_key_that_no_lock_guards_is_refused(mysql_yard):
    ready(
        mysql_yard,
        "CREATE TABLE users (id {number} PRIMARY KEY, code {number} NOT NULL UNIQUE, left_at {time} NOT NULL)",
        "CREATE TABLE files (id {number} PRIMARY KEY, user_code {number}, blob_key {text},"
        " FOREIGN KEY (user_code) REFERENCES users (code) ON DELETE CASCADE)",
    )
    with pytest.raises(PolicyError, match=r"files.user_code refers to code of table 'users', which is not its primary"):
        mysql_yard.sweep(policy("files.blob_key"))


def test_moments_are_the_databases(yard):
    """A debt of a sweep is due at once, whatever moment the sweep goes by."""
    ready(yard, *USERS)
    users(yard)
    yard.sweep(policy("users.avatar"))
    assert MOMENT.year == 2024
    assert [debt.key for debt in Dues(yard.link).claim("uploads", 10, 60)] == ["a2", "a5"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_owes_in_one_row_and_what_no_row_can_hold_with_others_alone(postgresql_yard, frozen):
    yard = postgresql_yard
    ready(yard, *USERS)
    keys = ["a", "with\x1fsign", "b c", "\x1f", "ü/€", "", None]
    yard.fill("users", *({"id": n, "left_at": OLD, "avatar": key} for n, key in enumerate(keys)))
    with yard.rows.transaction(frozen=frozen) as connection:
        selection = yard.select(policy("users.avatar"))
        taken = yard.rows.take(connection, selection, {}, 100, even=frozen, frozen=frozen)
    assert (taken.rows, yard.ids("users")) == (7, [])
    with yard.link.transaction(writes=False) as connection:
        rows = connection.execute(sa.select(owed_table.c.size, owed_table.c.key)).all()
    assert sorted(rows) == [(1, "\x1f"), (1, "with\x1fsign"), (3, SEPARATOR.join(["a", "b c", "ü/€"]))]
    dues = Dues(yard.link)
    assert [balance.due for balance in dues.balances()] == [5]
    found = [debt.key for _ in range(2) for debt in dues.claim("uploads", 100, 60)]
    assert sorted(found) == sorted(key for key in keys if key)
    assert dues.claim("uploads", 100, 60) == []
