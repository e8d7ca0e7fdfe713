"""Tables as the live catalog knows them, on every database."""

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
import sqlalchemy as sa
from tests.bench.web import web_job, web_of_tables
from tests.conftest import DRIVERS, opened

from nightcrew import Job, Nightcrew, Settings, cron, plan
from nightcrew.database import ForeignKey
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Policy

MOMENT = datetime(2024, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def shop(yard):
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, email {text} NOT NULL, left_at {time}, made_at {time} NOT NULL)",
        "CREATE INDEX users_made ON users (made_at, email)",
        "CREATE UNIQUE INDEX users_email ON users (email)",
        "CREATE TABLE orders (user_id {number}, id {number}, PRIMARY KEY (user_id, id),"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)",
        "CREATE TABLE items (id {number} PRIMARY KEY, user_id {number}, order_id {number},"
        " FOREIGN KEY (user_id, order_id) REFERENCES orders (user_id, id))",
        "CREATE VIEW recent AS SELECT * FROM users",
    )
    return yard


def test_a_table_has_its_columns_keys_and_indexes(shop):
    users = shop.table("users")
    assert users.name == "users"
    assert list(users.columns) == ["id", "email", "left_at", "made_at"]
    assert users.columns["left_at"].nullable
    assert not users.columns["made_at"].nullable
    assert users.columns["made_at"].kind.lower() in {"datetime", "datetime(6)", "timestamp with time zone"}
    assert users.primary_key == ("id",)
    assert {("made_at", "email"), ("email",), ("id",)} <= set(users.indexes)
    assert users.leads("made_at")
    assert not users.leads("left_at")


def test_keys_that_point_at_a_table_are_found_with_their_rules(shop):
    (orders,) = shop.children("users")
    key = {"sqlite": "sqlite_autoindex_orders_1", "postgresql": "orders_pkey", "mysql": "PRIMARY"}[shop.kind]
    assert orders == ForeignKey("orders", ("user_id",), "users", ("id",), "CASCADE", key)
    (items,) = shop.children("orders")
    assert (items.table, items.columns, items.parent_columns) == ("items", ("user_id", "order_id"), ("user_id", "id"))
    assert items.on_delete in {"NO ACTION", "RESTRICT"}
    assert items.indexed == (shop.kind == "mysql")  # which makes an index of its own
    assert shop.children("items") == ()
    shop.run("CREATE INDEX items_order ON items (order_id, user_id)")
    assert shop.children("orders")[0].index == "items_order"


@pytest.mark.parametrize("wrong", ["user", "Users", "USERS", "usres"])
def test_a_wrong_name_is_answered_with_the_nearest(shop, wrong):
    if wrong.lower() == "users" and shop.kind == "sqlite":
        assert shop.table(wrong).name == "users"
        return
    with pytest.raises(PolicyError, match=rf"table '{wrong}' is not in the database; did you mean 'users'\?"):
        shop.table(wrong)


@pytest.mark.parametrize("name", ["app.users", "nosuch", "no%such", ":x"])
def test_a_name_that_is_near_nothing_is_an_error_all_the_same(shop, name):
    with pytest.raises(PolicyError, match=f"'{name}' is not in the database"):
        shop.table(name)


def test_a_view_is_not_a_table(shop):
    with pytest.raises(PolicyError, match="'recent' is a view, not a table"):
        shop.table("recent")


def test_a_schema_that_is_implied_is_left_out(shop):
    schema = {"sqlite": "main", "postgresql": "public", "mysql": shop.link.engine.url.database}[shop.kind]
    assert shop.table(f"{schema}.users").name == "users"
    assert [key.table for key in shop.children(f"{schema}.users")] == ["orders"]


@pytest.mark.parametrize("every_table_hangs_on_it", [True, False])
def test_every_one_of_two_hundred_tables_is_planned_for(yard, every_table_hangs_on_it):
    yard.run(*web_of_tables(200, star=every_table_hangs_on_it))
    yard.fill("users", {"id": 1, "made_at": timedelta(days=9)}, {"id": 2, "made_at": timedelta(0)})
    yard.run(*(f"INSERT INTO t{index} VALUES (1, 1)" for index in range(200)))
    drawn = plan.draw_up(web_job(), MOMENT, yard.rows)
    assert [step.rows for step in drawn.steps] == [1] * 201


@pytest.mark.parametrize("every_table_hangs_on_it", [True, False])
def test_a_plan_asks_few_questions_and_the_catalog_no_more_of_them_for_many_tables(yard, every_table_hangs_on_it):
    few, *many = batched(web_of_tables(40, star=every_table_hangs_on_it), 9)
    yard.run(*few)
    with heard(yard) as of_few:
        assert len(yard.rows.catalog(["users"]).references) in (1, 2)
    yard.run(*chain(*many), "CREATE TABLE apart (id {number} PRIMARY KEY)")
    with heard(yard) as of_many:
        catalog = yard.rows.catalog(["users"])
    assert sum(map(len, catalog.references.values())) == 40
    assert len(of_many) == len(of_few) <= 12
    with heard(yard) as of_plan:
        plan.draw_up(web_job(), MOMENT, yard.rows)
    assert len(of_plan) <= 20


def batched(statements, size):
    return [statements[start : start + size] for start in range(0, len(statements), size)]


@contextmanager
def heard(yard):
    """Yield the list of the statements that reach the driver."""
    statements = []

    def hear(_connection, _cursor, statement, *_):
        statements.append(statement)

    sa.event.listen(yard.link.engine, "before_cursor_execute", hear)
    yield statements
    sa.event.remove(yard.link.engine, "before_cursor_execute", hear)


def test_a_key_from_another_database_of_the_server_is_found(mysql_yard, lend):
    with lend("mysql") as other:
        name = sa.make_url(other).database
        mysql_yard.run(
            "CREATE TABLE users (id BIGINT PRIMARY KEY, at DATETIME NOT NULL, KEY (at))",
            f"CREATE TABLE `{name}`.users (id BIGINT PRIMARY KEY)",
            f"CREATE TABLE `{name}`.apart (id BIGINT PRIMARY KEY, FOREIGN KEY (id) REFERENCES users (id))",
        )
        assert mysql_yard.children("users") == ()
        mysql_yard.run(
            f"CREATE TABLE `{name}`.orders (id BIGINT PRIMARY KEY, user_id BIGINT,"
            f" FOREIGN KEY (user_id) REFERENCES `{mysql_yard.link.engine.url.database}`.users (id) ON DELETE CASCADE)",
            f"CREATE TABLE `{name}`.items (id BIGINT PRIMARY KEY,"
            f" FOREIGN KEY (id) REFERENCES `{name}`.orders (id) ON DELETE CASCADE)",
        )
        mysql_yard.fill("users", *[{"id": n, "at": timedelta(days=n)} for n in range(1, 9)])
        mysql_yard.run(f"INSERT INTO `{name}`.orders SELECT id, id FROM users")
        mysql_yard.run(f"INSERT INTO `{name}`.items SELECT id FROM users")
        (key,) = mysql_yard.children("users")
        assert key.table == f"{name}.orders"
        swept = mysql_yard.sweep(Policy("users", "at", timedelta(days=5)))
        assert swept == {"users": 3, f"{name}.orders": 3, f"{name}.items": 3}
        mysql_yard.run(f"DROP TABLE `{name}`.items, `{name}`.orders, `{name}`.apart")


# ── PostgreSQL only ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_index_that_cannot_find_every_row_is_no_index(postgresql_yard):
    yard = postgresql_yard
    yard.run("CREATE TABLE t (id int PRIMARY KEY, a timestamptz, b text, c int)", "INSERT INTO t VALUES (1), (2)")
    yard.run(
        "CREATE INDEX ON t (a) WHERE b IS NULL",
        "CREATE INDEX ON t USING brin (a)",
        "CREATE INDEX ON t USING hash (a)",
        "CREATE INDEX ON t (lower(b), a)",
        "CREATE INDEX ON t (b, lower(b), c) INCLUDE (a)",
    )
    with yard.link.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("UPDATE t SET c = 1")
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY ON t (c)")
    table = yard.table("t")
    assert table.indexes == {("id",): "t_pkey", ("b",): "t_b_lower_c_a_idx"}
    assert not table.leads("a")
    assert not table.leads("c")


def test_a_key_of_a_partitioned_child_counts_once(postgresql_yard):
    yard = postgresql_yard
    yard.run(
        "CREATE TABLE users (id int PRIMARY KEY, at timestamptz)",
        "CREATE TABLE events (id int, user_id int REFERENCES users ON DELETE CASCADE) PARTITION BY HASH (id)",
        "CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "CREATE INDEX ON events (user_id)",
    )
    (key,) = yard.children("users")
    assert (key.table, key.on_delete, key.indexed) == ("events", "CASCADE", True)


def test_tables_in_other_schemas_are_named_with_theirs(postgresql_yard):
    yard = postgresql_yard
    yard.run(
        "CREATE SCHEMA app",
        "CREATE TABLE app.users (id int PRIMARY KEY, at timestamptz)",
        "CREATE TABLE users (id int PRIMARY KEY)",
        "CREATE TABLE app.orders (id int, user_id int REFERENCES app.users ON DELETE SET NULL)",
        "CREATE TABLE bills (id int, user_id int REFERENCES app.users ON DELETE SET DEFAULT)",
    )
    assert [(key.table, key.on_delete) for key in yard.children("app.users")] == [
        ("app.orders", "SET NULL"),
        ("bills", "SET DEFAULT"),
    ]
    assert yard.children("users") == ()
    with pytest.raises(PolicyError, match=r"table 'app.user' is not in the database; did you mean 'users'"):
        yard.table("app.user")


@pytest.mark.parametrize("schema", ["app", 'My "own", schema'])
def test_prismas_schema_is_where_every_table_is_looked_for_and_made(postgresql_yard, schema):
    quoted = '"' + schema.replace('"', '""') + '"'
    postgresql_yard.run(
        "CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz)",
        f"CREATE SCHEMA {quoted}",
        f"CREATE TABLE {quoted}.t (id int PRIMARY KEY, at timestamptz, here int)",
        f"INSERT INTO {quoted}.t VALUES (1, '2020-01-01')",
        "INSERT INTO public.t VALUES (1, '2020-01-01'), (2, '2020-01-01')",
    )
    url = postgresql_yard.link.engine.url.update_query_dict({"schema": schema, "connection_limit": "5"})
    crew = Nightcrew(url.render_as_string(hide_password=False).replace("+psycopg", ""), settings=Settings())
    crew.expire("t", "t", column="at", every="1 day")
    assert crew.migrate()
    assert not crew.migrate()
    assert crew.run("t", trigger="http").deleted == 1
    crew.close()
    with postgresql_yard.link.transaction(writes=False) as connection:
        made = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'nightcrew%'"
        assert connection.execute(sa.text(made)).scalars().all() == [schema]
    assert postgresql_yard.ids("t") == [1, 2]


def test_a_schema_that_is_not_there_is_no_other_one(postgresql_yard):
    url = postgresql_yard.link.engine.url.update_query_dict({"schema": "nope"})
    crew = Nightcrew(url.render_as_string(hide_password=False).replace("+psycopg", ""), settings=Settings())
    with pytest.raises(DatabaseError, match="no schema has been selected"):
        crew.migrate()
    crew.close()


@pytest.mark.parametrize("engine", ["MyISAM", "MEMORY", "Aria"])
def test_a_table_that_can_lock_no_row_and_take_nothing_back_is_refused(mysql_yard, engine):
    with mysql_yard.link.transaction(writes=False) as connection:
        known = connection.execute(sa.text("SELECT engine FROM information_schema.engines")).scalars().all()
    if engine not in known:
        pytest.skip(f"this server has no {engine}")
    mysql_yard.run(f"CREATE TABLE `order` (id int PRIMARY KEY, at DATETIME) ENGINE = {engine}")
    with pytest.raises(PolicyError, match=r"ALTER TABLE (`.*`.`order` ENGINE = InnoDB)") as refused:
        mysql_yard.table("order")
    mysql_yard.run(str(refused.value).partition(": ")[2])
    assert mysql_yard.table("order").primary_key == ("id",)


def test_a_child_that_others_inherit_from_is_refused_unless_it_stays(postgresql_yard):
    postgresql_yard.run(
        "CREATE TABLE users (id int PRIMARY KEY, at timestamptz)",
        "CREATE TABLE events (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE)",
        "CREATE TABLE old_events () INHERITS (events)",
    )
    with pytest.raises(PolicyError, match="'events', which is a table that others inherit from and not a plain table"):
        postgresql_yard.select(Policy("users", "at"))
    postgresql_yard.run(
        "ALTER TABLE events DROP CONSTRAINT events_user_id_fkey",
        "ALTER TABLE events ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL",
    )
    assert postgresql_yard.select(Policy("users", "at")).cascades == ()


@pytest.mark.parametrize("made", ["CREATE MATERIALIZED VIEW {} AS SELECT 1 AS id", "CREATE VIEW {} AS SELECT 1 AS id"])
def test_nothing_but_a_table_is_a_table(postgresql_yard, made):
    postgresql_yard.run(made.format("things"))
    with pytest.raises(PolicyError, match="view, not a table"):
        postgresql_yard.table("things")


# ── SQLite only ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_large_tables_that_the_planner_knows_nothing_of_are_warned_of_with_the_statement_to_paste(postgresql_yard):
    kept = "WITH (autovacuum_enabled = false)"
    postgresql_yard.run(
        "CREATE SCHEMA app",
        f"CREATE TABLE app.users (id int PRIMARY KEY, at timestamptz) {kept}",
        f'CREATE TABLE "Notes" (id int PRIMARY KEY, user_id int REFERENCES app.users, text text) {kept}',
        f"CREATE TABLE small (id int PRIMARY KEY, user_id int REFERENCES app.users) {kept}",
        f"CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES app.users ON DELETE SET NULL) {kept}",
        "INSERT INTO app.users SELECT n, '2024-01-01' FROM generate_series(1, 40000) AS n",
        """INSERT INTO "Notes" SELECT n, n, 'a few words' FROM generate_series(1, 40000) AS n""",
        "INSERT INTO small VALUES (1, 1)",
        "INSERT INTO orders SELECT n, n FROM generate_series(1, 40000) AS n",
        *(f"CREATE INDEX ON {table} (user_id)" for table in ('"Notes"', "small", "orders")),
        "CREATE INDEX ON app.users (at)",
    )

    def warned():
        job = Job("a", cron("0 3 * * *"), policy=Policy("app.users", "at", erase=True))
        said = plan.draw_up(job, MOMENT, postgresql_yard.rows).warnings
        return [warning.partition(": ")[2] for warning in said if "was never analysed" in warning]

    assert warned() == ["ANALYZE app.users;", 'ANALYZE "Notes";']
    postgresql_yard.run(*warned())
    assert warned() == []


def test_a_key_without_columns_means_the_primary_key_and_names_have_no_case(sqlite_yard):
    sqlite_yard.run(
        "CREATE TABLE Chats (Room TEXT, Id INTEGER, at DATETIME, PRIMARY KEY (Id, Room))",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, c INTEGER, r TEXT,"
        " FOREIGN KEY (c, r) REFERENCES CHATS ON DELETE CASCADE)",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, r TEXT, c INTEGER,"
        " FOREIGN KEY (r, c) REFERENCES chats (ROOM, id))",
        "CREATE INDEX notes_chat ON notes (R, C)",
        "CREATE INDEX messages_part ON messages (c, r) WHERE id > 5",
    )
    table = sqlite_yard.table("chats")
    assert (table.name, table.primary_key) == ("Chats", ("Id", "Room"))
    messages, notes = sqlite_yard.children("chats")
    assert (messages.columns, messages.parent_columns, messages.indexed) == (("c", "r"), ("Id", "Room"), False)
    assert (notes.columns, notes.parent_columns, notes.indexed) == (("r", "c"), ("Room", "Id"), True)


@pytest.mark.parametrize(("own", "above"), [("BINARY", "NOCASE"), ("NOCASE", "BINARY"), ("RTRIM", "NOCASE")])
def test_a_key_of_two_collations_is_refused(sqlite_yard, own, above):
    """SQLite's cascade would take rows that were never copied, or a delete of ours those of another parent."""
    sqlite_yard.run(
        f"CREATE TABLE people (name TEXT COLLATE {above} PRIMARY KEY)",
        f"CREATE TABLE teams (id INTEGER PRIMARY KEY, lead TEXT COLLATE {above} REFERENCES people (name))",
        f"CREATE TABLE chats (id INTEGER PRIMARY KEY, owner TEXT COLLATE {own} REFERENCES people (name))",
    )
    with pytest.raises(PolicyError, match=rf"'owner' of table 'chats' .* {own}, and people.name.* COLLATE {above}"):
        sqlite_yard.children("people")
    sqlite_yard.run("DROP TABLE chats")
    assert [key.table for key in sqlite_yard.children("people")] == ["teams"]


def test_a_rowid_alias_is_an_index(sqlite_yard):
    sqlite_yard.run("CREATE TABLE t (at INTEGER PRIMARY KEY)", "CREATE TABLE u (k TEXT PRIMARY KEY) WITHOUT ROWID")
    assert sqlite_yard.table("t").leads("at")
    assert sqlite_yard.table("u").leads("k")


ODD = ["order", "rows", "offset", "end", "User", "50%", "größe", "a-b"]


@pytest.mark.parametrize("name", ODD)
def test_the_index_to_paste_is_taken_by_the_databases_own_clients(yard, database_url, name):
    """Whatever the sessions of ours are set to: MySQL's clients take double quotes for a text."""
    yard.run(f'CREATE TABLE "{name}" (id {{number}} PRIMARY KEY, "{name}" {{time}})')
    line = pasted(yard, Policy(name, name))
    with client(database_url).connect() as connection:
        connection.execute(sa.text(line))
    assert yard.rows.catalog([name]).table(name).leads(name)


def test_the_index_to_paste_names_the_schema_where_the_table_has_one(postgresql_yard, mysql_yard, lend):
    postgresql_yard.run('CREATE SCHEMA "app"', 'CREATE TABLE app."Logs" (id int PRIMARY KEY, at timestamptz)')
    line = pasted(postgresql_yard, Policy("app.Logs", "at"))
    assert line == 'CREATE INDEX "Logs_at_idx" ON app."Logs" (at);'
    postgresql_yard.run(line)
    with lend("mysql") as url, opened(url) as other:
        other.run("CREATE TABLE logs (id {number} PRIMARY KEY, at {time})")
        schema = sa.make_url(url).database
        line = pasted(mysql_yard, Policy(f"{schema}.logs", "at"))
        assert line == f"CREATE INDEX logs_at_idx ON {schema}.logs (at);"
        mysql_yard.run(line)


def test_the_index_to_paste_names_the_file_where_sqlite_wants_it(sqlite_yard, tmp_path):
    line = sqlite_yard.rows.catalog([]).create_index("other.logs", ("at",))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        connection.execute("CREATE TABLE other.logs (at)")
        connection.execute(line)
        made = connection.execute("SELECT sql FROM other.sqlite_master WHERE type = 'index'").fetchall()
    assert len(made) == 1


def pasted(yard, policy: Policy) -> str:
    """Return the statement in a plan's only warning."""
    job = Job("clean", cron("0 0 * * *"), policy)
    (warning,) = plan.draw_up(job, MOMENT, yard.rows).warnings
    return "CREATE INDEX" + warning.partition("CREATE INDEX")[2]


def client(url: str) -> sa.Engine:
    """Return the database as anybody finds it, with none of our settings."""
    plain = sa.make_url(url)
    return sa.create_engine(
        plain.set(drivername=DRIVERS.get(plain.get_backend_name(), plain.drivername)),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
    )
