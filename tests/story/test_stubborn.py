"""Rows that should go and cannot: they are counted and named, visited again, and never stop the rest."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings, plan
from nightcrew.databases.tables import entries as entry_table

ROWS = 2_000
REFUSING = {
    "postgresql": (
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RAISE EXCEPTION ''tokens under audit stay''; END'"
        ),
        "CREATE TRIGGER refuse BEFORE DELETE ON tokens FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()",
    ),
    "mysql": (
        (
            "CREATE TRIGGER refuse BEFORE DELETE ON tokens FOR EACH ROW"
            " IF {} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'tokens under audit stay'; END IF"
        ),
    ),
    "sqlite": (
        (
            "CREATE TRIGGER refuse BEFORE DELETE ON tokens WHEN {}"
            " BEGIN SELECT RAISE(ABORT, 'tokens under audit stay'); END"
        ),
    ),
}
KEEPING = {
    "postgresql": (
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON tokens FOR EACH ROW WHEN ({}) EXECUTE FUNCTION keep()",
    ),
    "sqlite": ("CREATE TRIGGER keep BEFORE DELETE ON tokens WHEN {} BEGIN SELECT RAISE(IGNORE); END",),
}
FORMS = {"range": "expires_at", "contended": "revoked_at", "locked": "revoked_at"}


@pytest.fixture
def crew(database_url) -> Iterator[Nightcrew]:
    yield from _crew(database_url)


@pytest.fixture
def server_crew(server_url) -> Iterator[Nightcrew]:
    yield from _crew(server_url)


def _crew(url: str) -> Iterator[Nightcrew]:
    crew = Nightcrew(url, settings=Settings())
    for form, column in FORMS.items():
        where = {"where": "id IN (SELECT t.id FROM tokens t)"} if form == "locked" else {}
        crew.expire(form, "tokens", column=column, every="1 day", max_fraction=1, **where)
    crew.migrate()
    metadata = sa.MetaData()
    tokens = sa.Table(
        "tokens",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
        sa.Column("revoked_at", sa.DateTime, index=True),
    )
    with crew._station.link.transaction() as connection:
        metadata.create_all(connection)
        old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
        ages = [old - timedelta(seconds=number) for number in range(ROWS)]
        rows = [{"id": number, "expires_at": age, "revoked_at": age} for number, age in enumerate(ages)]
        connection.execute(sa.insert(tokens), rows)
    yield crew
    crew.close()


def refuse(crew: Nightcrew, when: str) -> None:
    link = crew._station.link
    with link.transaction() as connection:
        for statement in REFUSING[link.engine.dialect.name]:
            connection.exec_driver_sql(statement.format(when))


def keep(crew: Nightcrew, when: str) -> None:
    link = crew._station.link
    if link.engine.dialect.name not in KEEPING:
        pytest.skip("a MySQL trigger cannot keep a row without an error")
    with link.transaction() as connection:
        for statement in KEEPING[link.engine.dialect.name]:
            connection.exec_driver_sql(statement.format(when))


def left(crew: Nightcrew) -> list[int]:
    with crew._station.link.transaction(writes=False) as connection:
        return list(connection.exec_driver_sql("SELECT id FROM tokens ORDER BY id").scalars())


@contextmanager
def held(crew: Nightcrew, number: int, seconds: float | None = None, table: str = "tokens") -> Iterator[None]:
    """Hold a row's lock in another transaction, for a while or to the end of the block."""
    connection = crew._station.link.engine.connect().execution_options(isolation_level="READ COMMITTED")
    connection.exec_driver_sql(f"UPDATE {table} SET id = id WHERE id = {number}")
    release = threading.Timer(seconds or 60, connection.rollback)
    release.start()
    yield
    if seconds is None:
        release.cancel()
        connection.rollback()
    release.join()
    connection.close()


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_the_database_will_not_let_go_are_named_and_all_others_leave(crew, form):
    refuse(crew, "OLD.id IN (0, 700, 701, 1999)")
    report = crew.run(form, trigger="cli")
    assert left(crew) == [0, 700, 701, 1999]
    assert (report.outcome, report.deleted, report.remaining) == ("failed", ROWS - 4, 4)
    assert report.message.startswith(f"Deleted {ROWS - 4:,} rows of tokens; 4 rows cannot be removed (id 1999: ")
    assert "tokens under audit stay" in report.message
    named = [entry["facts"]["key"] for entry in crew.entries(report.run) if entry["kind"] == "undeletable"]
    assert named == ["id 1999", "id 701", "id 700", "id 0"]
    assert [line.partition(":")[0] for line in crew.runs()[0].error.splitlines()] == named


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_a_trigger_keeps_without_a_word_are_counted_and_some_are_named(crew, form):
    keep(crew, "OLD.id - OLD.id / 2 * 2 = 0")
    with crew._station.link.transaction() as connection:  # of one time, and more than a batch
        connection.exec_driver_sql("UPDATE tokens SET expires_at = '2024-01-01', revoked_at = '2024-01-01'")
    report = crew.run(form, trigger="cli")
    assert left(crew) == list(range(0, ROWS, 2))
    assert (report.outcome, report.deleted, report.remaining) == ("succeeded", ROWS // 2, ROWS // 2)
    assert report.message.endswith("held by others or kept by a trigger (id 0, id 2, id 4, …).")
    (named,) = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "kept"]
    assert len(named["keys"]) == 20
    assert "look for a trigger" in named["reason"]


@pytest.mark.parametrize("form", FORMS)
def test_every_batch_of_a_run_with_undeletable_rows_is_accounted_for_once(crew, form):
    refuse(crew, f"OLD.id IN ({', '.join(str(number) for number in range(17, ROWS, 300))})")
    report = crew.run(form, trigger="cli")
    batches = [entry["facts"]["rows"] for entry in crew.entries(report.run) if entry["kind"] == "batch"]
    assert sum(batches) == report.deleted == ROWS - len(left(crew)) == ROWS - 7


def test_where_no_row_may_go_the_run_gives_up_and_says_so(crew):
    refuse(crew, "OLD.id >= 0")
    report = crew.run("contended", trigger="cli")
    assert (report.outcome, report.deleted) == ("failed", 0)
    assert "tokens under audit stay" in report.message
    assert len(left(crew)) == ROWS
    assert sum(entry["kind"] == "undeletable" for entry in crew.entries(report.run)) == 101


def test_an_error_that_is_no_rows_fault_is_not_looked_for_row_by_row(crew):
    crew.expire("misspelt", "tokens", column="expires_at", every="1 day", where="no_such_function(id)")
    report = crew.run("misspelt", trigger="cli")
    assert report.outcome == "failed"
    with crew._station.link.transaction(writes=False) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(entry_table)).scalar_one() == 0


@pytest.mark.parametrize("form", ["contended", "locked"])
def test_a_row_that_somebody_held_when_the_sweep_came_by_is_visited_again(server_crew, form):
    with held(server_crew, 1000, seconds=0.3):
        report = server_crew.run(form, trigger="cli")
    assert (report.outcome, report.deleted, report.remaining) == ("succeeded", ROWS, 0)
    assert left(server_crew) == []


def test_a_batch_of_more_than_a_thousand_keys_waits_for_no_row_outside_it(server_crew):
    database = server_crew._station.database
    selection = plan.compile(server_crew.jobs["contended"].policy, database.now(), database)
    with held(server_crew, 0), database.transaction() as connection:
        assert database.take(connection, selection, {}, 1500).rows == 1500


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_somebody_holds_all_the_time_is_counted_and_the_run_ends(server_crew, form):
    with held(server_crew, 1000):
        report = server_crew.run(form, trigger="cli")
        assert (report.outcome, report.deleted, report.remaining) == ("succeeded", ROWS - 1, 1)
    assert report.message.endswith("; 1 expired row stayed, held by others or kept by a trigger.")
    assert left(server_crew) == [1000]
    assert server_crew.run(form, trigger="cli", now=True).deleted == 1


def test_a_parent_whose_child_somebody_holds_is_left_for_later_and_the_others_leave(server_crew):
    link, number = server_crew._station.link, ROWS // 2
    with link.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE uses (id INTEGER PRIMARY KEY, token_id INTEGER,"
            " FOREIGN KEY (token_id) REFERENCES tokens (id) ON DELETE CASCADE)"
        )
        connection.exec_driver_sql("CREATE INDEX uses_token ON uses (token_id)")
        connection.exec_driver_sql("INSERT INTO uses SELECT id, id FROM tokens")
    with held(server_crew, number, table="uses"):
        report = server_crew.run("range", trigger="cli")
        assert (report.outcome, report.deleted, report.remaining) == ("succeeded", ROWS - 1, 1)
        assert left(server_crew) == [number]
    assert server_crew.run("range", trigger="cli", now=True).counts == {"tokens": 1, "uses": 1}


def test_a_run_that_was_left_open_is_named_by_the_call_that_finishes_it(crew):
    first = crew.run("contended", now=True, deadline=timedelta(0))
    assert (first.outcome, 0 < first.deleted < ROWS) == ("partial", True)
    report = crew.run("contended", now=True)
    assert report.run != first.run
    assert report.deleted == 0
    assert f"run {first.run} was left open, and is finished: " in report.note
    assert str(ROWS) in report.note.replace(",", "")
