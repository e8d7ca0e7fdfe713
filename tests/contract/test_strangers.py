"""What an application's database may hold that nobody foresaw is refused or failed, and never deleted by mistake."""

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.errors import PolicyError


@pytest.fixture
def crew(database_url):
    crew = Nightcrew(database_url, settings=Settings())
    crew.migrate()
    yield crew
    crew.close()


def run(crew, *statements):
    with crew._station.link.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def count(crew, table):
    with crew._station.link.transaction(writes=False) as connection:
        return connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_seconds_since_2001_are_not_taken_for_seconds_since_1970(crew):
    run(crew, "CREATE TABLE notes (id INTEGER PRIMARY KEY, at DOUBLE PRECISION NOT NULL)")
    run(crew, "INSERT INTO notes VALUES (1, 800000000.5), (2, 800000001.5)")
    crew.expire("notes", "notes", column="at", every="1 day")
    report = crew.run("notes", trigger="http")
    assert (report.outcome, count(crew, "notes")) == ("failed", 2)


def test_a_misspelt_name_in_double_quotes_is_no_text_that_happens_to_differ(crew):
    run(crew, "CREATE TABLE notes (id INTEGER PRIMARY KEY, at TIMESTAMP, legal_hold INTEGER)")
    run(crew, "INSERT INTO notes VALUES (1, '2020-01-01 00:00:00', 1), (2, '2020-01-01 00:00:00', 0)")
    crew.expire("wrong", "notes", column="at", every="1 day", hold='"legal_hld" = 1')
    crew.expire("right", "notes", column="at", every="1 day", hold='"legal_hold" = 1')
    with pytest.raises(PolicyError, match="did you mean 'legal_hold'"):
        crew.plan("wrong")
    assert (crew.run("wrong", trigger="http").outcome, count(crew, "notes")) == ("failed", 2)
    with pytest.raises(PolicyError, match=r"the hold of job 'wrong' cannot be read: .* did you mean 'legal_hold'"):
        crew.plan("right")  # for that hold protects rows from every job, and nobody knows which
    del crew._jobs["wrong"]
    assert (crew.run("right", trigger="http").deleted, count(crew, "notes")) == (1, 1)


def test_rows_that_row_level_security_hides_are_not_taken_for_rows_that_are_not_there(crew, database_url):
    if not database_url.startswith("postgresql"):
        return  # it has no such thing
    run(
        crew,
        "CREATE TABLE chats (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE TABLE messages (id int PRIMARY KEY, chat_id int REFERENCES chats ON DELETE CASCADE)",
        "INSERT INTO chats SELECT n, '2020-01-01' FROM generate_series(1, 10) n",
        "INSERT INTO messages SELECT n, n FROM generate_series(1, 10) n",
        "ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE messages FORCE ROW LEVEL SECURITY",
        "CREATE POLICY own ON messages USING (id < 0)",
    )
    role = f"rls_{sa.make_url(database_url).database}"
    run(
        crew,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    url = sa.make_url(database_url).set(username=role).render_as_string(hide_password=False)
    tenant = Nightcrew(url, settings=Settings())
    tenant.expire("empty", "chats", column="at", every="1 day", unless_exists=["messages.chat_id"])
    try:
        report = tenant.run("empty", trigger="http")
        assert report.outcome == "failed"
        assert "row-level security" in report.error
    finally:
        tenant.close()
        run(crew, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert count(crew, "chats") == 10


def test_an_error_quotes_no_value_of_a_row(crew, database_url):
    if database_url.startswith("sqlite"):
        return  # it converts whatever it is given
    run(crew, "CREATE TABLE notes (id INTEGER PRIMARY KEY, at TIMESTAMP NULL, phone VARCHAR(50))")
    run(crew, "INSERT INTO notes VALUES (1, '2020-01-01 00:00:00', 'alice@example.com')")
    cast = "CAST(phone AS integer)" if database_url.startswith("postgresql") else "phone + 0"
    crew.expire("notes", "notes", column="at", every="1 day", where=f"{cast} > 5")
    report = crew.run("notes", trigger="http")
    assert count(crew, "notes") == 1
    assert "alice" not in str(report.json())
    assert "alice" not in str(crew.runs()[0])


@pytest.mark.parametrize(
    "text", ["2024-01-01 00:00:00 +0000 UTC", "2024-01-01T00:00:00+0000", "2024-01-01 12:00:00 PM"]
)
def test_texts_that_the_database_cannot_read_as_times_fail_the_run_and_are_no_zero(crew, database_url, text):
    if not database_url.startswith("sqlite"):
        return  # the others have a type for it
    run(crew, "CREATE TABLE notes (id INTEGER PRIMARY KEY, at TEXT NOT NULL)")
    run(crew, f"INSERT INTO notes VALUES (1, '{text}')")
    crew.expire("notes", "notes", column="at", every="1 day")
    report = crew.run("notes", trigger="http")
    assert (report.outcome, count(crew, "notes")) == ("failed", 1)
    assert "no times" in report.error


def test_a_table_that_others_inherit_from_and_a_child_with_a_dot_in_its_name_are_refused(crew, database_url):
    if not database_url.startswith("postgresql"):
        return  # it alone has both
    run(
        crew,
        "CREATE TABLE ev (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE TABLE ev_old () INHERITS (ev)",
        "CREATE TABLE owners (id int PRIMARY KEY, at timestamptz NOT NULL)",
        'CREATE TABLE "audit.log" (id int PRIMARY KEY, owner int REFERENCES owners ON DELETE CASCADE)',
    )
    crew.expire("ev", "ev", column="at", every="1 day")
    crew.expire("owners", "owners", column="at", every="1 day")
    with pytest.raises(PolicyError, match="others inherit from"):
        crew.plan("ev")
    with pytest.raises(PolicyError, match="has a dot in its name"):
        crew.plan("owners")
