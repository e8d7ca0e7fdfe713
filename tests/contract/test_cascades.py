"""What hangs on a row leaves with it, however it hangs and however much it is, in batches that are never large."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from nightcrew.databases import forms, webs
from nightcrew.errors import DatabaseError
from nightcrew.policy import Policy

DAY, OLD = timedelta(days=1), timedelta(days=9)
USERS = Policy("users", "left_at", DAY)
LOAD = 20
"""Rows of a batch in these tests."""


@pytest.fixture
def users(yard):
    """Users 0 to 4 have left, 5 has not; nothing hangs on them yet."""
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})", "CREATE INDEX users_left ON users (left_at)"
    )
    yard.fill("users", *[{"id": n, "left_at": OLD if n < 5 else None} for n in range(6)])
    return yard


def child(yard, name, parent, rule, *rows, column="up"):
    """Make a table that refers to another, or to itself, with rows of (id, up)."""
    yard.run(
        f"CREATE TABLE {name} (id {{number}} PRIMARY KEY, {column} {{number}},"
        f" FOREIGN KEY ({column}) REFERENCES {parent} (id) ON DELETE {rule})",
        f"CREATE INDEX {name}_{column} ON {name} ({column})",
    )
    if rows:
        yard.fill(name, *[{"id": n, column: up} for n, up in rows])


def loads(yard, policy, limit=50, load=LOAD):
    """Sweep; return what each batch touched in all, and the sum of what they took."""
    total: Counter[str] = Counter()
    touched = []
    for taken in yard.batches(yard.select(policy), limit, 1000, load):
        total.update(taken.counts)
        touched += [taken.load] if taken.load else []
    return touched, dict(+total)


def refer(yard, table, column, parent, rule="NO ACTION"):
    """Give a table one more foreign key."""
    refers = f"REFERENCES {parent} (id) ON DELETE {rule}"
    if yard.kind == "sqlite":
        yard.run(f"ALTER TABLE {table} ADD COLUMN {column} {{number}} {refers}")
    else:
        yard.run(
            f"ALTER TABLE {table} ADD {column} {{number}}", f"ALTER TABLE {table} ADD FOREIGN KEY ({column}) {refers}"
        )
    yard.run(f"CREATE INDEX {table}_{column} ON {table} ({column})")


@pytest.mark.parametrize(("rule", "erase"), [("CASCADE", False), ("NO ACTION", True)])
def test_a_batch_takes_as_many_rows_as_fit_with_all_that_hangs_on_them(users, rule, erase):
    child(users, "chats", "users", rule, *[(n, n % 5) for n in range(25)])
    child(users, "messages", "chats", rule, *[(n, n % 25) for n in range(50)])
    touched, total = loads(users, replace(USERS, erase=erase))
    assert total == {"users": 5, "chats": 25, "messages": 50}
    assert touched == [16] * 5, "a user with five chats and ten messages"


@pytest.mark.parametrize(("rule", "erase"), [("CASCADE", False), ("RESTRICT", True)])
def test_a_row_with_more_than_a_batch_leaves_in_slices_from_the_leaves_up(users, rule, erase):
    child(users, "chats", "users", rule, *[(n, 0) for n in range(3)], (3, 5))
    child(users, "messages", "chats", rule, *[(n, n % 4) for n in range(200)])
    users.run("UPDATE users SET left_at = NULL WHERE id IN (1, 2, 3, 4)")
    touched, total = loads(users, replace(USERS, erase=erase))
    assert total == {"users": 1, "chats": 3, "messages": 150}
    assert len(touched) >= 154 // LOAD
    assert users.ids("messages") == list(range(3, 200, 4))
    assert users.ids("chats") == [3]


def test_rows_that_are_to_refer_to_nothing_are_loosened_in_slices_too(users):
    child(users, "notes", "users", "SET NULL", *[(n, n % 2) for n in range(200)])
    touched, total = loads(users, USERS)
    assert total == {"users": 5}
    assert sum(touched) == 205
    assert users.ids("notes", "up") == [None] * 200


def test_a_slice_of_rows_with_a_key_of_two_columns(users):
    users.run(
        "CREATE TABLE rooms (user_id {number}, nr {number}, PRIMARY KEY (user_id, nr),"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)",
        "CREATE TABLE visits (id {number} PRIMARY KEY, room_user {number}, room_nr {number},"
        " FOREIGN KEY (room_user, room_nr) REFERENCES rooms (user_id, nr))",
        "CREATE INDEX visits_room ON visits (room_user, room_nr)",
    )
    users.fill("rooms", *[{"user_id": user, "nr": n} for user in (1, 5) for n in range(40)])
    users.fill(
        "visits", *[{"id": 10 * n + user, "room_user": user, "room_nr": n} for user in (1, 5) for n in range(40)]
    )
    _, total = loads(users, replace(USERS, erase=True))
    assert total == {"users": 5, "rooms": 40, "visits": 40}
    assert users.ids("rooms", "user_id") == [5] * 40


def test_what_is_linked_without_a_foreign_key_leaves_as_if_there_were_one(users):
    users.run("CREATE TABLE files (id {number} PRIMARY KEY, user_id {number})", "CREATE INDEX f ON files (user_id)")
    child(users, "parts", "files", "CASCADE", *())
    users.run("CREATE TABLE marks (id {number} PRIMARY KEY, part_id {number})", "CREATE INDEX m ON marks (part_id)")
    users.fill("files", *[{"id": n, "user_id": n % 6} for n in range(60)], {"id": 99, "user_id": None})
    users.fill("parts", *[{"id": n, "up": n} for n in range(60)])
    users.fill("marks", *[{"id": n, "part_id": n % 60} for n in range(300)])
    _, total = loads(users, replace(USERS, links=("files.user_id", "marks.part_id = parts.id")))
    assert total == {"users": 5, "files": 50, "parts": 50, "marks": 250}
    assert users.ids("files") == [*range(5, 60, 6), 99]
    assert users.ids("marks") == [n for n in range(300) if n % 6 == 5]


# ── where foreign keys lead round ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("rule", "erase"), [("CASCADE", False), ("NO ACTION", True), ("RESTRICT", True)])
def test_a_tree_of_comments_leaves_whole_in_batches_and_no_other_tree_with_it(yard, rule, erase):
    yard.run("CREATE TABLE comments (id {number} PRIMARY KEY, at {time} NOT NULL)")
    refer(yard, "comments", "up", "comments", rule)
    yard.run("CREATE INDEX comments_at ON comments (at)")
    ups = {n: None if n < 2 else (n - 2) // 3 for n in range(300)}
    young = timedelta(hours=1)
    yard.fill("comments", *[{"id": n, "at": young if n else OLD, "up": up} for n, up in ups.items()])
    tree = grown(ups, 0)
    touched, total = loads(yard, Policy("comments", "at", DAY, erase=erase))
    assert total == {"comments": len(tree)}
    assert 300 > len(tree) > 5 * LOAD
    assert len(touched) > 5
    assert yard.ids("comments") == [n for n in range(300) if n not in tree]


def grown(ups, root):
    tree = {root}
    while more := {n for n, up in ups.items() if up in tree} - tree:
        tree |= more
    return tree


@pytest.mark.parametrize("upwards", [True, False])
def test_a_chain_deeper_than_the_database_cascades_leaves(users, upwards):
    child(users, "versions", "users", "CASCADE")
    refer(users, "versions", "after_id", "versions", "CASCADE")
    chain = [5000 + (n if upwards else -n) for n in range(120)]
    rows = [{"id": n, "up": 2, "after_id": before} for n, before in zip(chain, [None, *chain], strict=False)]
    users.fill("versions", *rows)
    assert loads(users, USERS, load=1000)[1] == {"users": 5, "versions": 120}
    users.fill("users", {"id": 7, "left_at": OLD})
    users.fill("versions", *[{"id": n, "up": None if n else 7, "after_id": n - 1 if n else None} for n in range(60)])
    assert loads(users, USERS)[1] == {"users": 1, "versions": 60}


@pytest.mark.parametrize("load", [1, 2, 3, 8, LOAD])
def test_a_long_chat_of_answers_leaves_in_slices_wherever_its_end_is(users, load):
    child(users, "messages", "users", "CASCADE")
    refer(users, "messages", "answers", "messages", "CASCADE")
    child(users, "parts", "messages", "CASCADE")
    users.fill("messages", *[{"id": n, "up": 1, "answers": n - 1 if n else None} for n in range(100)])
    users.fill("messages", *[{"id": n, "up": 5, "answers": None} for n in range(100, 110)])
    users.fill("parts", *[{"id": n, "up": n % 110} for n in range(220)])
    touched, total = loads(users, USERS, load=load)
    assert total == {"users": 5, "messages": 100, "parts": 200}
    assert len(touched) >= 300 // load
    assert users.ids("messages") == list(range(100, 110))


def test_a_chain_too_deep_to_be_followed_is_named_with_the_way_out(users, monkeypatch):
    monkeypatch.setattr(webs, "_MOST_GENERATIONS", 10)
    child(users, "notes", "users", "CASCADE")
    refer(users, "notes", "after_id", "notes", "CASCADE")
    users.fill("notes", *[{"id": n, "up": None if n else 0, "after_id": n - 1 if n else None} for n in range(15)])
    with pytest.raises(DatabaseError, match="more than 10 generations of rows hang on a row of table 'users'") as error:
        loads(users, USERS)
    assert error.value.of_row
    assert len(users.ids("notes")) == 15


@pytest.mark.parametrize("rule", ["CASCADE", "NO ACTION"])
def test_rows_that_refer_to_each_other_leave_together(users, rule):
    """A user's addresses refer to the user, and the user to the one that is its first."""
    child(users, "emails", "users", rule, *[(n, n // 3) for n in range(18)])
    child(users, "messages", "users", "CASCADE", *[(n, n % 2) for n in range(100)])
    refer(users, "users", "email_id", "emails")
    users.run("UPDATE users SET email_id = id * 3")
    _, total = loads(users, replace(USERS, erase=True))
    assert total == {"users": 5, "emails": 15, "messages": 100}
    assert users.ids("emails") == [15, 16, 17]


def test_rows_that_hang_on_each_other_and_fit_into_no_batch_are_named(users):
    child(users, "notes", "users", "CASCADE", *[(n, None if n else 0) for n in range(60)])
    refer(users, "notes", "after_id", "notes", "CASCADE")
    users.run("UPDATE notes SET after_id = CASE WHEN id = 0 THEN 59 ELSE id - 1 END")
    with pytest.raises(
        DatabaseError, match="more rows hang on a row of table 'users' than fit into one batch"
    ) as error:
        loads(users, USERS)
    assert error.value.of_row
    assert len(users.ids("notes")) == 60
    assert loads(users, USERS, load=100)[1] == {"users": 5, "notes": 60}


# ── rows of which nobody looks what hangs on them, for it was the same with those before ─────────────────────────────


def even(yard, policy=USERS, load=LOAD):
    """Take one batch of rows that are said to be even."""
    with yard.rows.transaction() as connection:
        return yard.rows.take(connection, yard.select(policy), {}, 50, load, even=True)


def test_what_leaves_with_even_rows_is_counted_as_it_left(users):
    child(users, "chats", "users", "CASCADE", *[(n, n % 6) for n in range(12)])
    child(users, "messages", "chats", "CASCADE", *[(n, n % 12) for n in range(36)])
    child(users, "notes", "users", "SET NULL", *[(n, n % 6) for n in range(6)])
    refer(users, "users", "guest_of", "users", "SET NULL")
    users.run("UPDATE users SET guest_of = 0 WHERE id = 5")
    for _ in range(2):
        taken = even(users, load=1000)
        assert (taken.rows, +Counter(taken.counts)) == (5, {"users": 5, "chats": 10, "messages": 30})
        assert taken.load == 5 + 10 + 30 + 5 + 1, "with five notes and a guest that stay, and refer to nothing"
        users.fill("users", *[{"id": n, "left_at": OLD} for n in range(5)])
        users.fill("chats", *[{"id": n, "up": n % 6} for n in range(12) if n % 6 < 5])
        users.fill("messages", *[{"id": n, "up": n % 12} for n in range(36) if n % 6 < 5])
        users.run("UPDATE notes SET up = id", "UPDATE users SET guest_of = 0 WHERE id = 5")


def test_even_rows_of_a_divided_table_are_counted_once(postgresql_yard):
    postgresql_yard.run(
        'CREATE TABLE "Users" (id bigint PRIMARY KEY, left_at timestamptz)',
        'CREATE TABLE visits (id bigint, up bigint REFERENCES "Users" ON DELETE CASCADE) PARTITION BY HASH (id)',
        "CREATE INDEX visits_up ON visits (up)",
        "CREATE TABLE visits_0 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE visits_1 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        'CREATE TABLE marks (up bigint REFERENCES "Users" ON DELETE CASCADE)',
        "CREATE INDEX marks_up ON marks (up)",
    )
    postgresql_yard.fill("Users", *[{"id": n, "left_at": OLD} for n in range(5)])
    postgresql_yard.fill("visits", *[{"id": n, "up": n % 5} for n in range(20)])
    postgresql_yard.fill("marks", *[{"up": n % 5} for n in range(10)])
    taken = even(postgresql_yard, replace(USERS, table="Users"), load=1000)
    assert (taken.counts, taken.load) == ({"Users": 5, "visits": 20, "marks": 10}, 35)


def test_all_rows_before_one_with_much_hanging_on_it_leave_together(users):
    child(users, "messages", "users", "CASCADE", *[(n, n % 3) for n in range(6)], *[(n, 3) for n in range(10, 110)])
    touched, total = loads(users, USERS)
    assert touched[0] == 9
    assert max(touched) <= LOAD
    assert total == {"users": 5, "messages": 106}


def test_rows_that_are_not_as_even_as_they_were_said_to_be_are_left_to_be_taken_with_care(users):
    child(users, "messages", "users", "CASCADE", *[(n, 1 if n > 4 else n) for n in range(200)])
    if users.kind == "postgresql":
        with pytest.raises(DatabaseError, match="rows of table 'users' are not like those before") as error:
            even(users)
        assert error.value.transient
        assert (len(users.ids("users")), len(users.ids("messages"))) == (6, 200)
    else:
        assert even(users).load <= LOAD
    loads(users, USERS)
    assert (users.ids("users"), users.ids("messages")) == ([5], [])


def test_even_rows_are_no_more_than_ever_leave_at_once(users, monkeypatch):
    monkeypatch.setattr(forms, "MOST", 100)
    child(users, "messages", "users", "CASCADE", *[(n, 3) for n in range(101)])
    if users.kind == "postgresql":
        with pytest.raises(DatabaseError, match="not like those before"):
            even(users, load=80)
        monkeypatch.setattr(forms, "MOST", 106)
    assert even(users, load=80 if users.kind == "postgresql" else 106).load <= 106


def test_even_rows_are_given_no_more_than_a_moment(users, monkeypatch):
    monkeypatch.setattr(forms, "_LONGEST", 0.001)
    child(users, "messages", "users", "CASCADE", *[(n, n % 5) for n in range(5000)])
    if users.kind == "postgresql":
        with pytest.raises(DatabaseError, match="statement timeout") as error:
            even(users, load=10_000)
        assert error.value.transient
    assert loads(users, USERS, load=10_000)[1] == {"users": 5, "messages": 5000}


def test_where_the_server_counts_nothing_even_rows_are_looked_at_like_others(postgresql_yard):
    postgresql_yard.run(
        "CREATE TABLE users (id bigint PRIMARY KEY, left_at timestamptz)",
        "CREATE INDEX users_left ON users (left_at)",
    )
    postgresql_yard.fill("users", *[{"id": n, "left_at": OLD} for n in range(5)])
    child(postgresql_yard, "messages", "users", "CASCADE", *[(n, n % 5) for n in range(50)])
    with postgresql_yard.rows.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL track_counts = off")
        taken = postgresql_yard.rows.take(connection, postgresql_yard.select(USERS), {}, 50, LOAD, even=True)
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "10s"
    assert taken.counts == {"users": 1, "messages": 10}


def test_rows_that_refer_to_each_other_by_every_rule_leave_together(yard):
    rules = {"a": "CASCADE", "b": "NO ACTION", "c": "SET NULL", "d": "CASCADE"}
    keys = "".join(f", FOREIGN KEY ({name}) REFERENCES nodes (id) ON DELETE {rule}" for name, rule in rules.items())
    columns = "".join(f", {name} {{number}}" for name in rules)
    yard.run(
        f"CREATE TABLE nodes (id {{number}} PRIMARY KEY, at {{time}}{columns}{keys})",
        "CREATE INDEX nodes_at ON nodes (at)",
        *(f"CREATE INDEX nodes_{name} ON nodes ({name})" for name in rules),
    )
    yard.fill("nodes", {"id": 0, "at": OLD})
    yard.run(
        "INSERT INTO nodes (id, d) VALUES (9, NULL), (1, 0)",
        "INSERT INTO nodes (id, d) VALUES (2, 1), (4, 1)",
        "INSERT INTO nodes (id, b, c, d) VALUES (6, 0, 2, 1)",
        "UPDATE nodes SET a = 4 WHERE id = 1",
    )
    assert loads(yard, Policy("nodes", "at", DAY, erase=True), load=50)[1] == {"nodes": 5}
    assert yard.ids("nodes") == [9]
