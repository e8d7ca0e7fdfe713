"""Rows that stay and are changed: cleared, or anonymized once and never again, on every database."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from nightcrew.database import Form
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Action, Policy, Sql

DAY = timedelta(days=1)
USERS = (
    "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time}, born_at {time} NOT NULL, email {text},"
    " name {text} NOT NULL, age {number})"
)
INDEXES = ("CREATE INDEX users_left ON users (left_at)", "CREATE INDEX users_born ON users (born_at)")
PSEUDONYM = {"sqlite": "'anon-' || id", "postgresql": "'anon-' || id", "mysql": "CONCAT('anon-', id)"}


@pytest.fixture
def users(yard):
    """Eight people, of whom six left one to six days ago."""
    yard.run(USERS, *INDEXES)
    people = [{"left_at": n * DAY if n < 7 else None, "name": f"Ann {n}", "age": n} for n in range(1, 9)]
    yard.fill("users", *[{"id": n, "born_at": n * DAY, "email": f"a{n}@b"} | who for n, who in enumerate(people, 1)])
    return yard


def anonymize(yard, column="left_at", **values):
    given = {"email": Sql(PSEUDONYM[yard.kind]), "name": "gone", "age": None} | values
    return Policy("users", column, 2 * DAY, action=Action.ANONYMIZE, set=given)


def rows(yard, *columns):
    source = sa.table("users", *(sa.column(name) for name in columns))
    with yard.link.transaction(writes=False) as connection:
        return [tuple(row) for row in connection.execute(sa.select(*source.c).order_by(sa.text("id")))]


@pytest.mark.parametrize("column", ["left_at", "born_at"])
@pytest.mark.parametrize("where", [None, "id IN (SELECT u.id FROM users u)"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_an_anonymized_row_stays_with_its_time_and_is_not_taken_again(users, column, where, limit):
    before = rows(users, "left_at", "born_at")
    policy = anonymize(users, column)
    policy = Policy(policy.table, column, 2 * DAY, where, action=policy.action, set=policy.set)
    gone = range(3, 7) if column == "left_at" else range(3, 9)
    selection = users.select(policy)
    assert selection.form is (Form.LOCKED if where else Form.CONTENDED)
    assert users.rows.survey(selection).rows == len(gone)
    assert users.sweep(selection, limit) == {"users": len(gone)}
    expected = [(f"anon-{n}", "gone", None) if n in gone else (f"a{n}@b", f"Ann {n}", n) for n in range(1, 9)]
    assert rows(users, "email", "name", "age") == expected
    assert rows(users, "left_at", "born_at") == before
    assert users.sweep(selection, limit) == {}
    assert users.rows.survey(selection).rows == 0


def test_a_row_that_lacks_one_of_the_values_is_taken_again(users):
    users.sweep(anonymize(users))
    users.run("UPDATE users SET age = 5 WHERE id = 3", "UPDATE users SET name = 'GONE' WHERE id = 4")
    assert users.sweep(anonymize(users)) == {"users": 2}


def test_many_rows_of_one_time_are_all_anonymized(users):
    users.run("UPDATE users SET left_at = '2024-01-01 00:00:00.000000'")
    assert users.sweep(anonymize(users), limit=1) == {"users": 8}
    assert users.sweep(anonymize(users), limit=1) == {}


@pytest.mark.parametrize("value", ["1.50", 2.5, True, 7, "anyone", None])
def test_a_constant_is_known_again_as_the_column_stores_it(yard, value):
    kinds = {"sqlite": "NUMERIC", "postgresql": "numeric(6,2)", "mysql": "DECIMAL(6,2)"}
    kind = "{text}" if value == "anyone" else kinds[yard.kind]
    if yard.kind == "postgresql" and value is True:
        kind = "boolean"
    yard.run(f"CREATE TABLE users (id {{number}} PRIMARY KEY, left_at {{time}}, v {kind})")
    yard.fill("users", {"id": 1, "left_at": DAY}, {"id": 2, "left_at": DAY})
    yard.run("UPDATE users SET v = '0'" if value is None else "UPDATE users SET v = NULL")
    policy = Policy("users", "left_at", action=Action.ANONYMIZE, set={"v": value})
    assert yard.sweep(policy, limit=1) == {"users": 2}
    assert yard.sweep(policy, limit=1) == {}


def test_a_text_is_not_taken_for_a_number(users):
    users.run("UPDATE users SET age = NULL")
    assert users.sweep(Policy("users", "left_at", action=Action.ANONYMIZE, set={"name": 0})) == {"users": 6}
    assert {name for (name,) in rows(users, "name")[:6]} == {"0"}


def test_a_time_that_updates_stamp_stays(mysql_yard):
    mysql_yard.run(
        "CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(9),"
        " at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, KEY (at))",
        "INSERT INTO users VALUES (1, 'Ann', '2024-01-01 00:00:00')",
    )
    assert mysql_yard.sweep(Policy("users", "at", action=Action.ANONYMIZE, set={"name": "gone"})) == {"users": 1}
    assert str(rows(mysql_yard, "at")[0][0]) == "2024-01-01 00:00:00"


NOW = {"sqlite": "datetime('now')", "postgresql": "now()", "mysql": "NOW(6)"}
CHANCE = {"sqlite": "abs(random())", "postgresql": "random() * 1e9", "mysql": "RAND() * 1e9"}


def test_what_changes_by_itself_is_set_but_marks_nothing(users):
    policy = anonymize(users, born_at=Sql(NOW[users.kind]), age=Sql(CHANCE[users.kind]))
    assert users.select(policy).marks == ("email", "name")
    assert users.sweep(policy, limit=1) == {"users": 4}
    assert users.sweep(policy, limit=1) == {}


@pytest.mark.parametrize("where", [None, "id IN (SELECT u.id FROM users u)"])
@pytest.mark.parametrize("kind", ["self", "chance"])
def test_a_value_that_never_is_what_was_set_stops_the_job_and_changes_nothing(users, kind, where):
    """Chance that no word gives away, and a column made of itself."""
    grows = "CONCAT(email, 'x')" if users.kind == "mysql" else "email || 'x'"
    hidden = {"sqlite": "hex(randomblob(8))", "postgresql": "dice()", "mysql": "dice()"}
    if users.kind == "postgresql":
        users.run("CREATE FUNCTION dice() RETURNS float LANGUAGE sql VOLATILE AS 'SELECT random()'")
    if users.kind == "mysql":
        users.run("CREATE FUNCTION dice() RETURNS DOUBLE NOT DETERMINISTIC NO SQL RETURN RAND()")
    if users.kind == "sqlite" and kind == "chance":
        pytest.skip("SQLite has no functions but those that are known by name")
    policy = anonymize(users, email=Sql(grows if kind == "self" else hidden[users.kind]))
    policy = Policy("users", "left_at", where=where, action=policy.action, set=policy.set)
    before = rows(users, "email", "name", "age")
    with pytest.raises(PolicyError, match=r"values that they do not have afterwards.*\(email, name, age\)"):
        users.sweep(policy)
    assert rows(users, "email", "name", "age") == before


def test_an_expression_that_is_made_of_itself_and_comes_to_rest_is_taken(users):
    cut = "SUBSTR(email, 1, 1)"
    assert users.sweep(Policy("users", "left_at", action=Action.ANONYMIZE, set={"email": Sql(cut)})) == {"users": 6}
    assert {email for (email,) in rows(users, "email")[:6]} == {"a"}


def test_clearing_takes_expressions_too(users):
    policy = Policy("users", "left_at", 2 * DAY, action=Action.CLEAR, set={"email": Sql(PSEUDONYM[users.kind])})
    assert users.sweep(policy) == {"users": 4}
    assert [email for email, left in rows(users, "email", "left_at") if left is None][:4] == [
        f"anon-{n}" for n in range(3, 7)
    ]


def test_pipes_that_mean_or_are_refused(mysql_yard):
    mysql_yard.run(USERS)
    with pytest.raises(PolicyError, match=r"'email' .*where \|\| means OR: write CONCAT"):
        mysql_yard.sweep(anonymize(mysql_yard, email=Sql("'anon-' || id")))


def test_signs_that_drivers_give_a_meaning_pass_through(users):
    hostile = "100% :of %s ? %(x)s ::a"
    assert users.sweep(Policy("users", "left_at", action=Action.ANONYMIZE, set={"name": Sql(f"'{hostile}'")})) == {
        "users": 6
    }
    assert rows(users, "name")[0] == (hostile,)


def test_kinds_without_an_equality_are_compared_as_written(postgresql_yard):
    postgresql_yard.run("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    postgresql_yard.run(
        "CREATE TABLE users (id int PRIMARY KEY, at timestamptz, doc json, docb jsonb, mood mood, key uuid, f real,"
        " short varchar(3), host inet, tags text[])"
    )
    postgresql_yard.fill("users", {"id": 1, "at": DAY})
    key = "00000000-0000-0000-0000-000000000001"
    given = {"doc": "{}", "docb": '{"a":  1}', "mood": "ok", "key": key, "f": 0.1, "short": "abc", "host": "10.0.0.1"}
    policy = Policy("users", "at", action=Action.ANONYMIZE, set=given | {"tags": Sql("ARRAY['x']")})
    assert postgresql_yard.sweep(policy) == {"users": 1}
    assert postgresql_yard.sweep(policy) == {}


def test_a_value_too_long_is_the_databases_own_error(users):
    if users.kind == "sqlite":
        pytest.skip("SQLite bounds no text")
    users.run("ALTER TABLE users ADD COLUMN short VARCHAR(3)")
    with pytest.raises(DatabaseError):
        users.sweep(anonymize(users, short="a long text"))
