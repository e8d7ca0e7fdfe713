"""Rows that leave, rows that stay: each form, predicate and shape of children, on every database."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from nightcrew.database import Form, Selection
from nightcrew.databases.rows import Rows
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Action, Policy

MOMENT = datetime(2024, 6, 15, 12, tzinfo=UTC)
HOURS = [timedelta(hours=number) for number in range(24)]
HALF_A_DAY = timedelta(hours=12)
DAY = timedelta(days=1)
OLD = [number for number in range(24) if number > 12]
MICRO = timedelta(microseconds=1)

CHATS = "CREATE TABLE chats (id {number} PRIMARY KEY, at {time} NOT NULL, seen_at {time}, title {text}, kept {number})"
INDEXES = ("CREATE INDEX chats_at ON chats (at)", "CREATE INDEX chats_seen ON chats (seen_at)")
MESSAGES = (
    "CREATE TABLE messages (id {{number}} PRIMARY KEY, chat_id {{number}},"
    " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE {rule})"
)
POLICIES = {
    Form.RANGE: Policy("chats", "at", HALF_A_DAY),
    Form.CONTENDED: Policy("chats", "seen_at", HALF_A_DAY),
    Form.LOCKED: Policy("chats", "at", HALF_A_DAY, where="id IN (SELECT c.id FROM chats c)"),
}
forms = pytest.mark.parametrize("form", [pytest.param(form, id=form.value) for form in Form])


@pytest.fixture
def chats(yard):
    """Twenty-four chats, one an hour."""
    yard.run(CHATS, *INDEXES)
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age, "title": f"chat {n}"} for n, age in enumerate(HOURS)])
    return yard


def messages(yard, rule="CASCADE", index=True):
    yard.run(MESSAGES.format(rule=rule), *["CREATE INDEX messages_chat ON messages (chat_id)"] * index)
    yard.fill("messages", *[{"id": n, "chat_id": n // 2} for n in range(48)])


# ── what leaves ──────────────────────────────────────────────────────────────────────────────────────────────────


@forms
@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_what_is_older_leaves_and_the_rest_stays(chats, form, limit):
    selection = chats.select(POLICIES[form])
    one_writer = chats.kind == "sqlite" and form is Form.CONTENDED
    assert selection.form is (Form.RANGE if one_writer else form)
    assert chats.rows.survey(selection).counts == {"chats": 11}
    assert chats.sweep(selection, limit) == {"chats": 11}
    assert chats.ids("chats") == list(range(13))
    assert chats.sweep(selection, limit) == {}


@forms
def test_a_row_leaves_one_microsecond_after_the_cut_and_not_at_it(yard, form):
    yard.run(CHATS, *INDEXES)
    ages = [HALF_A_DAY - MICRO, HALF_A_DAY, HALF_A_DAY + MICRO]
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(ages)])
    assert yard.sweep(POLICIES[form]) == {"chats": 1}
    assert yard.ids("chats") == [0, 1]


@forms
def test_the_cut_may_have_microseconds(yard, form):
    yard.run(CHATS, *INDEXES)
    ages = [HALF_A_DAY + number * MICRO for number in (122, 123, 124)]
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(ages)])
    policy = replace(POLICIES[form], older_than=HALF_A_DAY + 123 * MICRO)
    assert yard.sweep(policy) == {"chats": 1}
    assert yard.ids("chats") == [0, 1]


@forms
def test_more_rows_of_one_time_than_a_batch_holds_all_leave(yard, form):
    yard.run(CHATS, *INDEXES)
    ages = [timedelta(days=2)] * 45 + [timedelta(days=1)] * 40 + [timedelta(hours=13)] + [timedelta(hours=1)] * 5
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(ages)])
    assert yard.sweep(POLICIES[form], limit=4) == {"chats": 86}
    assert yard.ids("chats") == list(range(86, 91))


@forms
def test_rows_of_one_time_that_must_stay_do_not_hold_up_the_others(yard, form):
    yard.run(CHATS, *INDEXES)
    ages = [timedelta(days=2)] * 45 + [timedelta(days=1)] * 5
    rows = [{"id": n, "at": age, "seen_at": age, "kept": int(n < 42)} for n, age in enumerate(ages)]
    yard.fill("chats", *rows)
    selection = replace(yard.select(POLICIES[form]), hold="kept = 1")
    assert yard.sweep(selection, limit=4) == {"chats": 8}
    assert yard.ids("chats") == list(range(42))


def test_a_row_without_a_time_never_leaves_nor_does_one_of_the_future(yard):
    yard.run(CHATS, *INDEXES)
    ages = [None, timedelta(days=-1), timedelta(days=1)]
    yard.fill("chats", *[{"id": n, "at": timedelta(0), "seen_at": age} for n, age in enumerate(ages)])
    assert yard.sweep(POLICIES[Form.CONTENDED]) == {"chats": 1}
    assert yard.ids("chats") == [0, 1]


@forms
def test_without_an_index_every_batch_is_bounded_all_the_same(yard, form):
    yard.run(CHATS)
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(HOURS)])
    assert yard.sweep(POLICIES[form], limit=4) == {"chats": 11}
    assert yard.ids("chats") == list(range(13))


@pytest.mark.parametrize("index", [True, False])
def test_a_table_without_a_primary_key_can_be_swept_by_range(yard, index):
    yard.run("CREATE TABLE beats (rowid {number}, at {time} NOT NULL)")
    yard.run(*["CREATE INDEX beats_at ON beats (at)"] * index)
    yard.fill("beats", *[{"rowid": n, "at": age} for n, age in enumerate([timedelta(days=1)] * 11 + HOURS)])
    assert yard.sweep(Policy("beats", "at", HALF_A_DAY), limit=4) == {"beats": 22}
    assert yard.ids("beats", "rowid") == list(range(11, 24))


@forms
def test_a_key_of_two_columns_is_a_key(yard, form):
    yard.run(
        "CREATE TABLE chats (room {text}, id {number}, at {time} NOT NULL, seen_at {time}, PRIMARY KEY (room, id))",
        *INDEXES,
    )
    rows = [{"room": room, "id": n, "at": age, "seen_at": age} for room in "ab" for n, age in enumerate(HOURS)]
    yard.fill("chats", *rows)
    assert yard.sweep(POLICIES[form]) == {"chats": 22}
    assert yard.ids("chats") == sorted([*range(13), *range(13)])


# ── predicates ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_and_hold_mean_what_sql_means_by_them(chats):
    chats.run("UPDATE chats SET kept = CASE WHEN id < 16 THEN 1 WHEN id < 20 THEN 0 END")
    assert chats.sweep(replace(POLICIES[Form.RANGE], hold="kept = 1")) == {"chats": 8}  # unknown does not protect
    assert chats.ids("chats") == list(range(16))
    assert chats.sweep(replace(POLICIES[Form.RANGE], where="kept = 1 OR 1 = 1", hold="id = 14")) == {"chats": 2}
    assert chats.ids("chats") == [*range(13), 14]


def test_a_where_that_is_unknown_takes_nothing(chats):
    assert chats.sweep(replace(POLICIES[Form.RANGE], where="kept = 0")) == {}


@forms
def test_signs_that_drivers_give_a_meaning_pass_through(chats, form):
    chats.run("UPDATE chats SET title = :title WHERE id = 20", title="100% :of it %s ?")
    hostile = "title LIKE '100% :of%' AND title LIKE '%s ?' AND title <> 'a::b' AND title <> '%(x)s'"
    where = f"{POLICIES[form].where or '1 = 1'} AND ({hostile})"
    assert chats.sweep(replace(chats.select(POLICIES[form]), where=where)) == {"chats": 1}
    assert 20 not in chats.ids("chats")


def test_a_predicate_may_name_its_table(chats):
    assert chats.sweep(replace(POLICIES[Form.RANGE], where="chats.id = 20", hold="chats.id = 21")) == {"chats": 1}


def test_a_column_that_is_only_a_childs_is_an_error_and_not_a_silent_join(chats):
    messages(chats)
    with pytest.raises(DatabaseError):
        chats.rows.survey(chats.select(replace(POLICIES[Form.RANGE], where="chat_id > 0")))


@pytest.mark.parametrize("rule", ["CASCADE", "NO ACTION", None])
def test_rows_that_others_need_stay(chats, rule):
    if rule is None:
        chats.run("CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number})")
    else:
        chats.run(MESSAGES.format(rule=rule))
    chats.fill("messages", *[{"id": n, "chat_id": n} for n in (3, 14, 20)])
    policy = Policy("chats", "at", HALF_A_DAY, unless_exists=("messages.chat_id",))
    assert chats.select(policy).form is Form.LOCKED
    assert chats.sweep(policy, limit=4) == {"chats": 9}
    assert chats.ids("chats") == [*range(13), 14, 20]
    assert chats.ids("messages") == [3, 14, 20]


def test_few_rows_among_many_are_found_in_bounded_looks(yard):
    yard.run(CHATS, *INDEXES, MESSAGES.format(rule="CASCADE"), "CREATE INDEX messages_chat ON messages (chat_id)")
    ages = [timedelta(days=1, seconds=number) for number in range(300)]
    yard.fill("chats", *[{"id": n, "at": age} for n, age in enumerate(ages)])
    yard.fill("messages", *[{"id": n, "chat_id": n} for n in range(300) if n not in (5, 150, 299)])
    selection = yard.select(Policy("chats", "at", HALF_A_DAY, unless_exists=("messages.chat_id",)))
    batches = list(yard.batches(selection, limit=2))
    assert sum(batch.rows for batch in batches) == 3
    assert 10 <= len(batches) <= 20  # windows of ten times the limit
    assert len(yard.ids("chats")) == 297


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_database_removes_along_is_counted(chats):
    messages(chats)
    chats.run(
        "CREATE TABLE parts (id {number} PRIMARY KEY, message_id {number},"
        " FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE)",
        "CREATE INDEX parts_message ON parts (message_id)",
    )
    chats.fill("parts", *[{"id": n, "message_id": n % 48} for n in range(96)])
    selection = chats.select(POLICIES[Form.RANGE])
    expected = {"chats": 11, "messages": 22, "parts": 44}
    assert [path[-1].table for path in selection.cascades] == ["messages", "parts"]
    assert chats.rows.survey(selection).counts == expected
    assert chats.sweep(selection) == expected
    assert len(chats.ids("parts")) == 52


@pytest.mark.parametrize(("rule", "erase"), [("CASCADE", False), ("NO ACTION", True), ("RESTRICT", True)])
def test_what_the_database_would_not_or_only_slowly_remove_is_removed_first(chats, rule, erase):
    messages(chats, rule, index=rule != "CASCADE")
    chats.run(
        "CREATE TABLE parts (id {number} PRIMARY KEY, message_id {number},"
        " FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE)",
        "CREATE INDEX parts_message ON parts (message_id)",
    )
    chats.fill("parts", *[{"id": n, "message_id": n % 48} for n in range(96)])
    selection = chats.select(replace(POLICIES[Form.RANGE], erase=erase))
    expected = {"chats": 11, "messages": 22, "parts": 44}
    assert chats.rows.survey(selection).counts == expected
    assert chats.sweep(selection) == expected
    assert len(chats.ids("messages")) == 26
    assert len(chats.ids("parts")) == 52


def test_a_table_reached_by_two_ways_is_counted_and_removed_once(yard):
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, gone_at {time})",
        "CREATE INDEX users_gone ON users (gone_at)",
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number}, FOREIGN KEY (user_id) REFERENCES users (id))",
        "CREATE TABLE messages (id {number} PRIMARY KEY, user_id {number}, chat_id {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id))",
        "CREATE INDEX chats_user ON chats (user_id)",
        "CREATE INDEX messages_user ON messages (user_id)",
        "CREATE INDEX messages_chat ON messages (chat_id)",
    )
    yard.fill("users", *[{"id": n, "gone_at": timedelta(days=n)} for n in range(6)])
    yard.fill("chats", *[{"id": n, "user_id": n % 6} for n in range(12)])
    yard.fill("messages", *[{"id": n, "user_id": (n + 1) % 6, "chat_id": n % 12} for n in range(24)])
    selection = yard.select(Policy("users", "gone_at", timedelta(days=3), erase=True))
    assert [path[-1].table for path in selection.drains] == ["messages", "messages", "chats"]
    expected = {"users": 2, "chats": 4, "messages": 12}
    assert yard.rows.survey(selection).counts == expected
    assert yard.sweep(selection, limit=1) == expected


def test_children_with_a_key_of_two_columns_follow_it(yard):
    yard.run(
        "CREATE TABLE chats (room {text} NOT NULL, id {number} NOT NULL, at {time} NOT NULL, PRIMARY KEY (room, id))",
        INDEXES[0],
        "CREATE TABLE messages (id {number} PRIMARY KEY, room {text}, chat_id {number},"
        " FOREIGN KEY (room, chat_id) REFERENCES chats (room, id))",
        "CREATE INDEX messages_chat ON messages (room, chat_id)",
        "CREATE TABLE parts (id {number} PRIMARY KEY, message_id {number},"
        " FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE)",
        "CREATE INDEX parts_message ON parts (message_id)",
    )
    yard.fill("chats", *[{"room": room, "id": n, "at": age} for room in "ab" for n, age in enumerate(HOURS)])
    yard.fill("messages", *[{"id": n, "room": "ab"[n % 2], "chat_id": n // 2} for n in range(48)])
    yard.fill("parts", *[{"id": n, "message_id": n} for n in range(48)])
    expected = {"chats": 22, "messages": 22, "parts": 22}
    assert yard.sweep(Policy("chats", "at", HALF_A_DAY, erase=True)) == expected
    yard.fill("messages", {"id": 99, "room": "a", "chat_id": 12})
    yard.fill("chats", {"room": "a", "id": 99, "at": timedelta(hours=99)})
    keep = Policy("chats", "at", timedelta(hours=1), unless_exists=("messages.chat_id",))
    assert yard.sweep(keep) == {"chats": 1}  # every other old chat has its message


def test_a_set_null_child_stays(chats):
    messages(chats, "SET NULL")
    assert chats.sweep(POLICIES[Form.RANGE]) == {"chats": 11}
    assert len(chats.ids("messages")) == 48


def test_rows_that_outlive_what_they_refer_to_are_counted_by_key(yard):
    """Not those that leave by another way, or by themselves."""
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, gone_at {time}, host_id {number},"
        " FOREIGN KEY (host_id) REFERENCES users (id) ON DELETE SET NULL)",
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number}, FOREIGN KEY (user_id) REFERENCES users (id))",
        "CREATE TABLE messages (id {number} PRIMARY KEY, user_id {number}, chat_id {number}, seen_by {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,"
        " FOREIGN KEY (seen_by) REFERENCES users (id) ON DELETE SET NULL,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE SET NULL)",
        "CREATE INDEX messages_user ON messages (user_id)",
    )
    yard.fill("users", *[{"id": n, "gone_at": timedelta(days=n)} for n in range(6)])
    yard.run("UPDATE users SET host_id = 5 - id")
    yard.fill("chats", *[{"id": n, "user_id": n % 6} for n in range(12)])
    rows = [{"id": n, "user_id": n % 6, "chat_id": (n + 1) % 12, "seen_by": None if n % 3 else 5} for n in range(24)]
    yard.fill("messages", *rows)
    selection = yard.select(Policy("users", "gone_at", timedelta(days=3), erase=True))
    survey = yard.rows.survey(selection)
    gone = {4, 5}
    stay = [row for row in rows if row["user_id"] not in gone]
    counted = {(key.table, key.columns): rows for key, rows in survey.loosened.items()}
    assert counted == {
        ("users", ("host_id",)): sum(5 - n in gone for n in range(6) if n not in gone),
        ("messages", ("seen_by",)): sum(row["seen_by"] in gone for row in stay),
        ("messages", ("chat_id",)): sum(row["chat_id"] % 6 in gone for row in stay),
    }
    assert min(counted.values()) > 0
    assert yard.sweep(selection) == survey.counts == {"users": 2, "chats": 4, "messages": 8}
    assert yard.ids("messages", "chat_id").count(None) == counted["messages", ("chat_id",)]


def test_a_tree_within_the_table_goes_with_its_root(yard):
    yard.run(
        "CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL, up {number},"
        " FOREIGN KEY (up) REFERENCES notes (id) ON DELETE CASCADE)",
        "CREATE INDEX notes_at ON notes (at)",
        "CREATE INDEX notes_up ON notes (up)",
    )
    yard.fill("notes", *[{"id": n, "at": timedelta(days=9 - n), "up": n - 1 if n % 3 else None} for n in range(9)])
    yard.sweep(Policy("notes", "at", timedelta(days=8)), limit=2)
    assert yard.ids("notes") == list(range(3, 9))


def test_leaves_first_where_the_table_refers_to_itself_without_a_rule(yard):
    yard.run(
        "CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL, up {number},"
        " FOREIGN KEY (up) REFERENCES notes (id))",
        "CREATE INDEX notes_at ON notes (at)",
        "CREATE INDEX notes_up ON notes (up)",
    )
    yard.fill("notes", *[{"id": n, "at": timedelta(days=9 - n), "up": n - 1 if n else None} for n in range(9)])
    assert yard.sweep(Policy("notes", "at", timedelta(0), unless_exists=("notes.up",))) == {"notes": 1}
    assert yard.ids("notes") == list(range(8))


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = ['we"ird', "select", "it's", "100%", "%s", ":id", "a`b", "spaß 表", "Camel Case", "back\\slash", "{x}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_names(yard, name):
    key, time, up = (sa.quoted_name(f"{name}{suffix}", quote=True) for suffix in ("", "_at", "_up"))
    instant = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
    number = sa.Column(key, sa.Integer, primary_key=True, autoincrement=False)
    metadata = sa.MetaData()
    table = sa.Table(key, metadata, number, sa.Column(time, instant))
    parent = sa.Column(up, sa.Integer, sa.ForeignKey(table.c[key], ondelete="CASCADE"))
    child = sa.Table(sa.quoted_name(f"{name} child", quote=True), metadata, number._copy(), parent)
    sa.Index("i1", table.c[time])
    sa.Index("i2", child.c[up])
    with yard.link.transaction() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(table), [{key: n, time: MOMENT - age} for n, age in enumerate(HOURS)])
        connection.execute(sa.insert(child), [{key: n, up: n} for n in range(24)])
    found = yard.table(name)
    assert (found.name, found.primary_key, found.leads(f"{name}_at")) == (name, (name,), True)
    (hanging,) = yard.children(name)
    assert hanging.indexed
    cut = MOMENT - HALF_A_DAY
    paths = [(hanging,)]
    for form, deeper in ((Form.RANGE, {}), (Form.CONTENDED, {}), (Form.LOCKED, {"drains": tuple(paths)})):
        cut += timedelta(hours=2)
        selection = Selection(found, f"{name}_at", cut, form, **deeper)
        survey = yard.rows.survey(selection)
        assert yard.sweep(selection) == survey.counts
    assert yard.ids(name, name) == list(range(7))
    assert yard.ids(f"{name} child", name) == list(range(7))
    cleared = Selection(found, f"{name}_at", MOMENT, Form.CONTENDED, action=Action.CLEAR)
    assert yard.sweep(cleared) == {name: 6}


def test_a_policy_may_name_whatever_the_catalog_knows(yard):
    mark = "`" if yard.kind == "mysql" else '"'
    sign_ups, items, left, number = (
        f"{mark}{name}{mark}" for name in ("Sign-Ups", "line items", "Left At", "No-Of User")
    )
    yard.run(
        f"CREATE TABLE {sign_ups} (id {{number}} PRIMARY KEY, {left} {{time}}, {number} {{number}})",
        f"CREATE INDEX left_at ON {sign_ups} ({left})",
        f"CREATE TABLE {items} (id {{number}} PRIMARY KEY, {number} {{number}})",
        f"CREATE INDEX items_of ON {items} ({number})",
    )
    yard.fill("Sign-Ups", *[{"id": n, "Left At": timedelta(days=9 - n), "No-Of User": n % 2} for n in range(8)])
    yard.fill("line items", *[{"id": n, "No-Of User": n} for n in (0, 3)])
    old = Policy("Sign-Ups", "Left At", timedelta(days=5))
    kept = replace(old, unless_exists=("line items.No-Of User",), keep_latest=1, per=("No-Of User",))
    assert yard.sweep(kept) == {"Sign-Ups": 2}
    assert yard.ids("Sign-Ups") == [0, 3, 4, 5, 6, 7]
    cleared = replace(old, action=Action.CLEAR, set={"No-Of User": None}, where=f"{number} = 1")
    assert yard.sweep(cleared) == {"Sign-Ups": 1}
    linked = replace(old, older_than=None, links=("line items.No-Of User = Sign-Ups.id",))
    assert yard.sweep(linked) == {"Sign-Ups": 5, "line items": 1}
    assert yard.ids("Sign-Ups") == yard.ids("line items") == [3]


def test_a_table_in_another_schema_is_found_by_its_schema(postgresql_yard):
    yard = postgresql_yard
    yard.run(
        "CREATE SCHEMA app",
        "CREATE TABLE app.chats (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE TABLE app.messages (id bigint PRIMARY KEY, chat_id bigint REFERENCES app.chats ON DELETE CASCADE)",
        "CREATE TABLE messages (id bigint PRIMARY KEY, chat_id bigint REFERENCES app.chats)",
        "CREATE INDEX ON app.messages (chat_id)",
        "CREATE INDEX ON messages (chat_id)",
        "INSERT INTO app.chats SELECT n, '2024-06-15T12:00Z'::timestamptz - n * interval '1 hour' FROM"
        " generate_series(0, 23) n".replace("::", r"\:\:"),
        "INSERT INTO app.messages SELECT id, id FROM app.chats",
        "INSERT INTO messages VALUES (1, 20)",
    )
    policy = Policy("app.chats", "at", HALF_A_DAY, unless_exists=("messages.chat_id",), hold="chats.id = 21")
    selection = yard.select(policy)
    assert selection.table.name == "app.chats"
    expected = {"app.chats": 9, "app.messages": 9}
    assert yard.rows.survey(selection).counts == expected
    assert yard.sweep(policy) == expected


# ── how time is written ──────────────────────────────────────────────────────────────────────────────────────────


def times(yard, kind, values, *, index=True, nullable=True):
    yard.run(f"CREATE TABLE t (id {{number}} PRIMARY KEY, at {kind}{'' if nullable else ' NOT NULL'})")
    yard.run(*["CREATE INDEX t_at ON t (at)"] * index)
    yard.fill("t", *[{"id": n, "at": value} for n, value in enumerate(values)])
    return yard.select(Policy("t", "at", HALF_A_DAY))


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "timestamp(0)", "timestamptz(3)"])
def test_the_ends_of_postgresqls_calendar_pass_by_the_driver(postgresql_yard, kind):
    values = ["-infinity", "0044-03-15 BC", "0044-03-15 BC", "2024-06-14", "2024-06-15 00:00:00", "infinity", None]
    selection = times(postgresql_yard, kind, values)
    survey = postgresql_yard.rows.survey(selection)
    assert (survey.rows, survey.oldest, survey.newest) == (4, "-infinity", "2024-06-14T00:00:00Z")
    assert postgresql_yard.sweep(selection, limit=1) == {"t": 4}
    assert postgresql_yard.ids("t") == [4, 5, 6]


def test_a_time_is_read_the_same_whatever_way_the_server_writes_dates(postgresql_yard):
    with postgresql_yard.link.transaction() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET DateStyle = 'German'")
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET timezone = 'Asia/Kolkata'")
    postgresql_yard.link.close()
    selection = times(postgresql_yard, "timestamp", HOURS)
    assert postgresql_yard.rows.survey(selection).oldest == "2024-06-14T13:00:00Z"
    assert postgresql_yard.sweep(selection) == {"t": 11}


def test_a_domain_is_what_it_is_made_of(postgresql_yard):
    postgresql_yard.run("CREATE DOMAIN moment AS timestamp(3) with time zone")
    assert postgresql_yard.sweep(times(postgresql_yard, "moment", HOURS)) == {"t": 11}


def test_a_domain_of_a_domain_is_too(postgresql_yard):
    postgresql_yard.run(
        "CREATE DOMAIN moment AS timestamp(3) with time zone NOT NULL",
        "CREATE DOMAIN departure AS moment",
        "CREATE DOMAIN last_departure AS departure",
        "CREATE TABLE sums (id int PRIMARY KEY, at last_departure, price numeric(10,2))",
    )
    columns = postgresql_yard.table("sums").columns
    assert (columns["at"].kind, columns["at"].nullable) == ("timestamp(3) with time zone", False)
    assert columns["price"].kind == "numeric(10,2)"
    assert postgresql_yard.sweep(times(postgresql_yard, "last_departure", HOURS)) == {"t": 11}


def test_a_number_that_is_none_is_no_time(postgresql_yard):
    for kind in ("numeric", "double precision"):
        postgresql_yard.run(f"CREATE TABLE t (id int PRIMARY KEY, at {kind})",
                            "INSERT INTO t VALUES (1, 1700000000), (2, 'NaN')")  # fmt: skip
        with pytest.raises(PolicyError, match="numbers that are not all seconds"):
            postgresql_yard.rows.survey(postgresql_yard.select(Policy("t", "at")))
        postgresql_yard.run("DROP TABLE t")


@forms
@pytest.mark.parametrize("digits", [0, 3, 6])
@pytest.mark.parametrize("kind", ["DATETIME", "TIMESTAMP"])
def test_a_cut_finer_than_mysqls_column_is_no_other_cut(mysql_yard, form, digits, kind):
    """Not for the row of the cut's own second either, by which MariaDB lost sight of all others."""
    times = f"{kind}({digits}) NULL" if kind == "TIMESTAMP" else f"{kind}({digits})"
    mysql_yard.run(CHATS.replace("{time} NOT NULL", "{time}").replace("{time}", times), *INDEXES)
    ages = [timedelta(hours=n) for n in range(1, 21)] + [timedelta(0), timedelta(seconds=-1)]
    mysql_yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(ages)])
    selection = mysql_yard.select(replace(POLICIES[form], older_than=None), MOMENT + MICRO)
    survey = mysql_yard.rows.survey(selection)
    assert (survey.rows, survey.newest) == (21, "2024-06-15T12:00:00Z")
    assert mysql_yard.rows.left(selection, {}, 100).rows == 21
    assert mysql_yard.sweep(selection) == {"chats": 21}
    assert mysql_yard.ids("chats") == [21]


@pytest.mark.parametrize("kind", ["DATETIME", "DATETIME(3)", "TIMESTAMP NULL", "TIMESTAMP(6) NULL"])
def test_mysqls_zero_date_means_never(mysql_yard, kind):
    with mysql_yard.link.transaction() as connection:
        connection.exec_driver_sql("SET SESSION sql_mode = ''")
        connection.exec_driver_sql(f"CREATE TABLE t (id INT PRIMARY KEY, at {kind}, KEY (at))")
        rows = [(0, "0000-00-00 00:00:00"), (1, "1971-01-01 00:00:00"), (2, "2024-06-15 00:00:00"), (3, None)]
        connection.exec_driver_sql("INSERT INTO t VALUES (%s, %s)", rows)
    mysql_yard.link.close()
    selection = mysql_yard.select(Policy("t", "at", HALF_A_DAY))
    assert mysql_yard.rows.survey(selection).oldest == "1971-01-01T00:00:00Z"
    assert mysql_yard.sweep(selection, limit=1) == {"t": 1}
    assert mysql_yard.ids("t") == [0, 2, 3]


def test_a_date_has_expired_when_its_day_is_over(yard):
    kind = "DATE" if yard.kind != "sqlite" else "TEXT"
    selection = times(yard, kind, ["2024-06-13", "2024-06-14", "2024-06-15", "2024-06-16", None])
    assert yard.rows.survey(selection).newest == "2024-06-14"
    assert yard.sweep(selection) == {"t": 2}  # the cut is the 15th at midnight
    assert yard.ids("t") == [2, 3, 4]
    yard.run("DROP TABLE t")
    times(yard, kind, ["2024-06-14", "2024-06-15"])
    late = yard.select(Policy("t", "at", timedelta(minutes=1)))
    assert yard.sweep(late) == {"t": 1}  # the 15th is not over at 11:59


FORMATS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ"]
FORMATS += ["%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f+00:00"]


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("column", ["TEXT", "DATETIME", "VARCHAR(40)", ""])
def test_sqlite_texts_in_utc_leave_to_the_second(sqlite_yard, written, column):
    at_the_cut = [timedelta(seconds=number) for number in (-1, 0, 1)]
    values = [(MOMENT - HALF_A_DAY - age).strftime(written) for age in [*HOURS, *at_the_cut]]
    selection = times(sqlite_yard, column, values)
    assert sqlite_yard.sweep(selection) == {"t": 24}
    assert sqlite_yard.ids("t") == [0, 24, 25]


@pytest.mark.parametrize("form", FORMATS[1:4:2])
def test_sqlite_texts_leave_to_the_microsecond(sqlite_yard, form):
    ages = [HALF_A_DAY + number * MICRO for number in (-1500, -1, 0, 1, 1500)]
    assert sqlite_yard.sweep(times(sqlite_yard, "TEXT", [(MOMENT - age).strftime(form) for age in ages])) == {"t": 2}
    assert sqlite_yard.ids("t") == [0, 1, 2]


def test_sqlite_texts_in_a_local_zone_leave_by_the_instant_they_mean(sqlite_yard):
    values = [
        "2024-06-15 02:59:00+03:00",  # 23:59 UTC, a minute past the cut
        "2024-06-15 03:00:00+03:00",  # the cut
        "2024-06-14 19:30:00-05:00",  # 00:30 UTC: reads older than it is
        "2024-06-14 18:30:00-05:00",  # 23:30 UTC
        "2024-06-15 13:59:59+14:00",  # 23:59:59 UTC: reads much younger than it is
        "2024-06-14 19:00:00.001-05:00",  # a millisecond young
    ]
    assert sqlite_yard.sweep(times(sqlite_yard, "TEXT", values)) == {"t": 3}
    assert sqlite_yard.ids("t") == [1, 2, 5]


def test_sqlite_texts_may_leave_zeros_out(sqlite_yard):
    values = [f"2024-06-15 00:00:00{fraction}" for fraction in (".5", ".50", ".500000", ".49", ".4999999", ".6", "")]
    times(sqlite_yard, "TEXT", values)
    half_a_second_later = HALF_A_DAY - timedelta(milliseconds=500)
    assert sqlite_yard.sweep(Policy("t", "at", half_a_second_later)) == {"t": 3}
    assert sqlite_yard.ids("t") == [0, 1, 2, 5]


def test_sqlite_texts_of_mixed_forms_never_leave_too_early(sqlite_yard):
    young = ["2024-06-15 00:00:00.000000", "2024-06-15T00:00:00Z", "2024-06-15 00:00", "2024-06-14 20:00:00-05:00"]
    odd = ["", "now", "2460000.5", "10:00", "yesterday", "2024-13-45 00:00:00", "2020-13-45", "0", 0, 5, None]
    old = ["2024-06-14 23:59:59.999", "2024-06-13T00:00:00.5Z", "2020-01-01 00:00", "2020-01-01"]
    selection = times(sqlite_yard, "TEXT", young + old)
    for number, value in enumerate(odd):
        sqlite_yard.run("INSERT INTO t VALUES (:id, :at)", id=100 + number, at=value)
    assert sqlite_yard.sweep(selection) == {"t": 4}
    assert set(range(len(young))) | set(range(100, 100 + len(odd))) <= set(sqlite_yard.ids("t"))


def test_sqlite_texts_that_are_no_times_are_refused(sqlite_yard):
    selection = times(sqlite_yard, "TEXT", ["soon", "later"])
    with pytest.raises(PolicyError, match=r"'at' of table 't' holds texts that are no times"):
        sqlite_yard.sweep(selection)


EPOCHS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


@forms
@pytest.mark.parametrize("unit", EPOCHS)
def test_whole_numbers_since_1970_are_told_apart_by_their_size(yard, unit, form):
    scale = EPOCHS[unit]
    cut = int((MOMENT - HALF_A_DAY).timestamp()) * scale
    never = 253_402_300_799 * scale
    values = [cut + 3600 * scale, cut, cut - 1, cut - 1, cut - 1, 0, -1, never, None]
    selection = replace(times(yard, "BIGINT", values), form=form)
    survey = yard.rows.survey(selection)
    assert (survey.rows, survey.newest[:10]) == (3, "2024-06-14")
    assert yard.sweep(selection, limit=1) == {"t": 3}
    assert yard.ids("t") == [0, 1, 5, 6, 7, 8]


def test_a_whole_second_has_expired_when_it_is_over(yard):
    cut = int((MOMENT - HALF_A_DAY).timestamp())
    times(yard, "BIGINT", [cut - 1, cut, cut + 1])
    assert yard.sweep(Policy("t", "at", HALF_A_DAY - timedelta(milliseconds=500))) == {"t": 1}


def test_fractions_of_seconds_since_1970_are_exact(yard):
    cut = (MOMENT - HALF_A_DAY).timestamp()
    kind = "DOUBLE" if yard.kind == "mysql" else "DOUBLE PRECISION"
    values = [cut + 0.25, cut, cut - 0.25, cut - 0.1, cut - 0.1, cut - 0.1, cut - 1e5 / 3]
    assert yard.sweep(times(yard, kind, values), limit=1) == {"t": 5}
    assert yard.ids("t") == [0, 1]


@pytest.mark.parametrize("values", [[1_700_000_000, 1_700_000_000_000], [19_000, 19_500], [1_700_000_000_000_000_000]])
def test_numbers_that_may_mean_anything_are_refused(yard, values):
    selection = times(yard, "BIGINT", values)
    with pytest.raises(PolicyError, match="numbers that are not all seconds"):
        yard.sweep(selection)
    with pytest.raises(PolicyError, match="numbers that are not all seconds"):
        yard.rows.survey(selection)


def test_an_empty_table_has_any_unit(yard):
    yard.run("CREATE TABLE t (id {number} PRIMARY KEY, at BIGINT)")
    assert yard.sweep(Policy("t", "at", HALF_A_DAY)) == {}


@pytest.mark.parametrize("kind", ["text", "boolean", "jsonb", "interval", "time", "uuid", "smallint", "bytea"])
def test_a_column_that_is_no_time_in_postgresql_is_refused(postgresql_yard, kind):
    selection = times(postgresql_yard, kind, [None], index=False)
    with pytest.raises(PolicyError, match=rf"'at' of table 't' is {kind}.*, which is no time"):
        postgresql_yard.sweep(selection)


@pytest.mark.parametrize("kind", ["VARCHAR(20)", "BOOLEAN", "JSON", "TIME", "YEAR", "BLOB"])
def test_a_column_that_is_no_time_in_mysql_is_refused(mysql_yard, kind):
    with pytest.raises(PolicyError, match="which is no time"):
        mysql_yard.sweep(times(mysql_yard, kind, [None], index=False))


def test_a_column_of_numbers_and_texts_is_refused(sqlite_yard):
    with pytest.raises(PolicyError, match="holds integer and text values, which is no time"):
        sqlite_yard.sweep(times(sqlite_yard, "DATETIME", ["2020-01-01 00:00:00", 1_700_000_000]))


# ── clearing ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", [Form.CONTENDED, Form.LOCKED])
@pytest.mark.parametrize("index", [True, False])
def test_clearing_keeps_the_row_and_takes_its_time(yard, form, index):
    yard.run(CHATS, *INDEXES * index)
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age, "title": "x", "kept": 1} for n, age in enumerate(HOURS)])
    constants = {"title": "50% :off", "kept": None}
    policy = Policy("chats", "seen_at", HALF_A_DAY, action=Action.CLEAR, set=constants)
    selection = replace(yard.select(policy), form=form)
    assert yard.select(policy).form is Form.CONTENDED
    assert yard.sweep(selection) == {"chats": 11}
    with yard.link.transaction() as connection:
        rows = connection.execute(sa.text("SELECT id, seen_at, title, kept FROM chats ORDER BY id")).all()
    assert [row.id for row in rows if row.seen_at is None] == OLD
    assert {(row.title, row.kept) for row in rows if row.id in OLD} == {("50% :off", None)}
    assert {(row.title, row.kept) for row in rows if row.id not in OLD} == {("x", 1)}
    assert yard.sweep(selection) == {}


def test_clearing_does_not_touch_the_children(chats):
    messages(chats, "NO ACTION")
    assert chats.sweep(Policy("chats", "seen_at", HALF_A_DAY, action=Action.CLEAR)) == {"chats": 11}
    assert len(chats.ids("messages")) == 48


def test_constants_take_the_columns_type(postgresql_yard):
    postgresql_yard.run("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    postgresql_yard.run("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, key uuid, mood mood, doc jsonb, yes bool)")
    postgresql_yard.fill("t", {"id": 1, "at": timedelta(days=9)})
    key = "00000000-0000-0000-0000-000000000001"
    constants = {"key": key, "mood": "ok", "doc": "{}", "yes": True}
    assert postgresql_yard.sweep(Policy("t", "at", action=Action.CLEAR, set=constants)) == {"t": 1}


# ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────


@forms
def test_another_process_goes_on_where_the_cursor_stands(chats, form):
    selection = chats.select(POLICIES[form])
    with chats.rows.transaction() as connection:
        first = chats.rows.take(connection, selection, {}, 4)
    assert not first.exhausted
    kept = json.loads(json.dumps(dict(first.cursor)))
    other = Rows(chats.link)
    total, cursor = first.rows, kept
    while True:
        with other.transaction() as connection:
            taken = other.take(connection, selection, cursor, 4)
        total, cursor = total + taken.rows, taken.cursor
        if taken.exhausted:
            break
    assert total == 11
    assert chats.ids("chats") == list(range(13))


@forms
def test_a_batch_that_is_rolled_back_took_nothing(chats, form):
    selection = chats.select(POLICIES[form])
    with pytest.raises(ZeroDivisionError), chats.rows.transaction() as connection:
        chats.rows.take(connection, selection, {}, 4).rows / 0
    assert len(chats.ids("chats")) == 24


@forms
def test_a_cursor_beyond_the_cut_ends_the_sweep_and_takes_nothing_young(chats, form):
    selection = chats.select(POLICIES[form])
    mark = "2030-01-01 00:00:00.000000"
    with chats.rows.transaction() as connection:
        taken = chats.rows.take(connection, selection, {"from": mark}, 4)
    assert (taken.rows, taken.exhausted) == (0, True)
    assert len(chats.ids("chats")) == 24


def keep(yard, when):
    """Let a trigger keep rows without a word."""
    if yard.kind == "postgresql":
        yard.run(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            f"CREATE TRIGGER keep BEFORE DELETE ON chats FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION keep()",
        )
    elif yard.kind == "sqlite":
        yard.run(f"CREATE TRIGGER keep BEFORE DELETE ON chats WHEN {when} BEGIN SELECT RAISE(IGNORE); END")
    else:
        pytest.skip("a MySQL trigger cannot keep a row without an error")


@forms
@pytest.mark.parametrize("limit", [1, 2])
def test_rows_that_a_trigger_will_not_let_go_do_not_hold_the_sweep(chats, form, limit):
    keep(chats, "OLD.id > 15")
    assert chats.sweep(POLICIES[form], limit) == {"chats": 3}


@forms
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("key", ["id", "title, kept", "code"])
def test_rows_of_one_time_that_a_trigger_keeps_hide_no_other(yard, form, index, key):
    """Whatever their number, and wherever among the others they stand."""
    yard.run(
        CHATS.replace("PRIMARY KEY", "NOT NULL").replace("title {text}", "title {text}, code NUMERIC(9, 3)")[:-1]
        + f", PRIMARY KEY ({key}))",
        *INDEXES[: 2 * index],
    )
    ages = [timedelta(days=2)] * 40 + [timedelta(days=1)] * 9 + [timedelta(hours=13)]
    rows = [{"id": n, "at": age, "seen_at": age, "title": f"t{n % 5}"} for n, age in enumerate(ages)]
    yard.fill("chats", *[row | {"kept": row["id"] // 5, "code": 1 - row["id"] / 8} for row in rows])
    keep(yard, "OLD.id % 10 < 7")
    expected = [n for n in range(50) if n % 10 < 7]
    for limit in (4, 100):
        batches = list(yard.batches(yard.select(POLICIES[form]), limit))
        assert yard.ids("chats") == expected
        assert len(batches) < 60
    if yard.select(POLICIES[form]).form is not Form.RANGE:
        assert sum(taken.kept for taken in batches) == len(expected)
    assert yard.rows.left(yard.select(POLICIES[form]), {}, 100).rows == len(expected)


KEYS = {
    "sqlite": {"BLOB": lambda n: bytes([n, 255 - n]), "REAL": lambda n: n / 7},
    "postgresql": {
        "uuid": lambda n: f"{n:032x}",
        "real": lambda n: n / 7,
        "numeric": lambda n: f"{n}.00000000000000000001",
        "timestamptz": lambda n: f"2024-01-01 00:00:00.{n:06}",
    },
    "mysql": {
        "BINARY(2)": lambda n: bytes([n, 255 - n]),
        "DECIMAL(40, 20)": lambda n: f"{n}.00000000000000000001",
        "DATETIME(6)": lambda n: f"2024-01-01 00:00:00.{n:06}",
        "VARCHAR(9)": lambda n: f"'%s:a{n}",
        "FLOAT": lambda n: n / 7,
        "BIT(12)": lambda n: n * 16,
    },
}


@forms
@pytest.mark.parametrize("number", range(6))
def test_rows_can_be_gone_through_by_keys_of_any_kind(yard, form, number):
    if number >= len(KEYS[yard.kind]):
        pytest.skip("no more kinds")
    kind, value = list(KEYS[yard.kind].items())[number]
    yard.run(
        CHATS.replace("id {number} PRIMARY KEY", f"id {{number}}, code {kind} NOT NULL PRIMARY KEY"),
        *INDEXES,
    )
    rows = [{"id": n, "code": value(n), "at": HALF_A_DAY * 2, "seen_at": HALF_A_DAY * 2} for n in range(24)]
    yard.fill("chats", *rows)
    selection = yard.select(POLICIES[form])
    keys = yard.rows.nearest(selection, {}, 3)
    assert yard.rows.nearest(replace(selection, spared=tuple(keys[:2])), {}) == keys[2:]
    assert yard.rows.nearest(replace(selection, only=keys[1]), {}) == keys[1:2]
    with yard.rows.transaction() as connection:
        first = yard.rows.take(connection, selection, {}, 1)
    cursor = json.loads(json.dumps({"from": first.cursor["from"], "past": []}))
    for left in (20, 17, 14, 11, 8, 5, 2, 0):
        with yard.rows.transaction() as connection:
            taken = yard.rows.take(connection, selection, cursor, 3)
        cursor = json.loads(json.dumps(taken.cursor))
        assert len(yard.ids("chats")) == left
    assert taken.exhausted


@forms
@pytest.mark.parametrize("key", ["PRIMARY KEY (code)", "PRIMARY KEY (code, kept)"])
@pytest.mark.parametrize("rowid", ["rowid", "_rowid_"])
def test_sqlites_keys_that_are_null_tell_no_rows_apart_and_all_leave(sqlite_yard, form, key, rowid):
    columns = "" if rowid == "rowid" else "rowid TEXT, "
    sqlite_yard.run(
        CHATS.replace("id {number} PRIMARY KEY", f"id {{number}}, {columns}code TEXT")[:-1] + f", {key})", *INDEXES
    )
    rows = [{"id": n, "code": f"c{n}" if n % 3 else None, "at": age, "seen_at": age} for n, age in enumerate(HOURS)]
    sqlite_yard.fill("chats", *rows)
    selection = sqlite_yard.select(POLICIES[form])
    keys = sqlite_yard.rows.nearest(selection, {}, 11)
    assert {key[0] for key in keys} == {None, *(f"c{n}" for n in OLD if n % 3)}
    spared = replace(selection, spared=(keys[2], keys[3]))
    assert sqlite_yard.sweep(spared) == {"chats": 9}
    assert sqlite_yard.ids("chats") == [*range(13), 20, 21]
    assert sqlite_yard.sweep(selection) == {"chats": 2}


@forms
def test_a_sqlite_table_without_rowids_is_found_by_its_key(sqlite_yard, form):
    sqlite_yard.run(CHATS.replace("id {number}", "id TEXT") + " WITHOUT ROWID", *INDEXES)
    sqlite_yard.fill("chats", *[{"id": f"c{n}", "at": age, "seen_at": age} for n, age in enumerate(HOURS)])
    assert sqlite_yard.sweep(POLICIES[form]) == {"chats": 11}


def test_children_are_not_lost_with_a_parent_that_a_trigger_keeps(chats):
    messages(chats, "NO ACTION")
    keep(chats, "OLD.id = 20")
    with pytest.raises(DatabaseError, match="kept 1 rows whose dependent rows"):
        chats.sweep(replace(POLICIES[Form.RANGE], erase=True), limit=100)
    assert len(chats.ids("messages")) == 48


def touching(yard, change):
    """Let every message that leaves change its chat."""
    if yard.kind == "postgresql":
        yard.run(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN UPDATE chats SET {change.replace(chr(39), chr(39) * 2)} WHERE id = OLD.chat_id; RETURN OLD; END'",
            "CREATE TRIGGER touch AFTER DELETE ON messages FOR EACH ROW EXECUTE FUNCTION touch()",
        )
    else:
        body = f"UPDATE chats SET {change} WHERE id = OLD.chat_id"
        body = f"BEGIN {body}; END" if yard.kind == "sqlite" else body
        yard.run(f"CREATE TRIGGER touch AFTER DELETE ON messages FOR EACH ROW {body}")


@pytest.mark.parametrize("change", ["kept = 0", "at = '2024-06-15 11:59:59'"])
def test_a_parent_that_its_children_change_as_they_leave_goes_with_them(chats, change):
    messages(chats, "NO ACTION")
    touching(chats, change)
    chats.run(
        "CREATE TABLE notes (id {number} PRIMARY KEY, chat_id {number}, FOREIGN KEY (chat_id) REFERENCES chats (id))"
    )
    chats.fill("notes", *[{"id": n, "chat_id": n % 24} for n in range(48)])
    policy = replace(POLICIES[Form.RANGE], erase=True, where="id IN (SELECT chat_id FROM messages)")
    assert chats.sweep(policy) == {"chats": 11, "messages": 22, "notes": 22}
    assert chats.ids("chats") == list(range(13))


@forms
def test_a_partitioned_table_is_a_table(postgresql_yard, form):
    yard = postgresql_yard
    yard.run(
        "CREATE TABLE chats (id bigint, at timestamptz NOT NULL, seen_at timestamptz, PRIMARY KEY (id))"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE chats_a PARTITION OF chats FOR VALUES FROM (0) TO (24)",
        "CREATE TABLE chats_b PARTITION OF chats FOR VALUES FROM (24) TO (99)",
        *INDEXES,
    )
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(HOURS + HOURS)])
    assert yard.sweep(POLICIES[form]) == {"chats": 22}
    assert yard.ids("chats") == [*range(13), *range(24, 37)]


# ── surveys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_survey_counts_exactly_and_names_the_index(yard):
    yard.run(CHATS, *INDEXES)
    ages = [timedelta(minutes=number) for number in range(3000)]
    yard.fill("chats", *[{"id": n, "at": age, "seen_at": age} for n, age in enumerate(ages)])
    yard.run("ANALYZE TABLE chats" if yard.kind == "mysql" else "ANALYZE chats")
    survey = yard.rows.survey(yard.select(Policy("chats", "at", timedelta(minutes=2800))))
    assert (survey.rows, survey.index) == (199, "chats_at")
    assert (survey.oldest, survey.newest) == ("2024-06-13T10:01:00Z", "2024-06-13T13:19:00Z")
    assert len(yard.ids("chats")) == 3000


def test_a_survey_of_nothing_is_empty(chats):
    survey = chats.rows.survey(chats.select(replace(POLICIES[Form.RANGE], older_than=timedelta(days=99))))
    assert (survey.rows, survey.oldest, survey.newest, survey.counts) == (0, None, None, {"chats": 0})


def test_a_column_that_is_not_there_is_named_with_its_nearest(chats):
    selection = replace(chats.select(POLICIES[Form.RANGE]), column="att")
    with pytest.raises(PolicyError, match="no column 'att'; did you mean 'at'"):
        chats.rows.survey(selection)


def test_errors_of_a_predicate_are_the_databases_own(chats):
    with pytest.raises(DatabaseError) as error:
        chats.sweep(replace(POLICIES[Form.RANGE], where="no_such = 1"))
    assert isinstance(error.value.__cause__, DBAPIError)


# ── rows that stay although they should go ───────────────────────────────────────────────────────────────────────


@forms
def test_what_a_sweep_left_is_found_in_stretches_and_with_the_first_of_it(chats, form):
    selection, cursor, found = chats.select(POLICIES[form]), {}, []
    while not found or not found[-1].exhausted:
        found.append(chats.rows.left(selection, cursor, 4))
        cursor = found[-1].cursor
    assert sum(left.rows for left in found) == 11
    assert len(found) > 2
    assert chats.sweep(replace(selection, only=(23,))) == {"chats": 1}
    first = chats.rows.left(selection, {}, 100).first
    with chats.rows.transaction() as connection:
        assert chats.rows.take(connection, selection, first, 100).rows == 10
    assert chats.rows.left(selection, {}, 100).rows == 0


def numbers(keys):
    """Read keys of one number, which may be written as texts."""
    return [int(number) for (number,) in keys]


@pytest.mark.parametrize("form", [Form.CONTENDED, Form.LOCKED])
def test_a_spared_row_is_passed_by_and_the_nearest_is_the_next_one(chats, form):
    selection = replace(chats.select(POLICIES[form]), form=form)
    assert numbers(chats.rows.nearest(selection, {})) == [23]
    spared = replace(selection, spared=((23,), (21,)))
    assert numbers(chats.rows.nearest(spared, {}, 3)) == [22, 20, 19]
    assert chats.sweep(spared, limit=4) == {"chats": 9}
    assert chats.ids("chats") == [*range(13), 21, 23]
    assert chats.rows.nearest(spared, {}) == []


def test_a_key_of_two_columns_can_be_spared(yard):
    yard.run("CREATE TABLE chats (room {text}, id {number}, seen_at {time}, PRIMARY KEY (room, id))", INDEXES[1])
    yard.fill("chats", *[{"room": room, "id": n, "seen_at": age} for room in "ab" for n, age in enumerate(HOURS)])
    selection = replace(yard.select(POLICIES[Form.CONTENDED]), spared=(("a", 23), ("b", 22)))
    assert yard.sweep(selection) == {"chats": 20}


@pytest.mark.parametrize("key", ["id {number} PRIMARY KEY", "id INTEGER PRIMARY KEY", "id TEXT NOT NULL PRIMARY KEY"])
def test_sqlite_finds_locked_rows_by_their_key_and_not_by_reading_all_that_expired(sqlite_yard, key):
    sqlite_yard.run(f"CREATE TABLE notes ({key}, at {{time}})", "CREATE INDEX notes_at ON notes (at)")
    sqlite_yard.fill("notes", *({"id": str(n), "at": DAY} for n in range(2000)))
    plans = []

    def explain(connection, _cursor, statement, parameters, *_rest):
        if statement.startswith("DELETE"):
            driver = connection.connection.driver_connection
            plans.extend(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    sa.event.listen(sqlite_yard.link.engine, "before_cursor_execute", explain)
    selection = replace(sqlite_yard.select(Policy("notes", "at", HALF_A_DAY)), form=Form.LOCKED)
    assert sqlite_yard.sweep(selection, 1000) == {"notes": 2000}
    assert plans
    assert not any("notes_at" in plan for plan in plans)


def test_sqlite_finds_a_key_with_a_nul_in_it_and_not_what_it_begins_with(sqlite_yard):
    sqlite_yard.run("CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, at {time})")
    sqlite_yard.fill("notes", {"id": "a", "at": timedelta(0)}, {"id": "a\0b", "at": DAY}, {"id": "c", "at": DAY})
    selection = replace(sqlite_yard.select(Policy("notes", "at", HALF_A_DAY)), form=Form.LOCKED)
    assert sqlite_yard.sweep(selection) == {"notes": 2}
    assert sqlite_yard.ids("notes") == ["a"]
