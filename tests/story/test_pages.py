"""A large table in PostgreSQL whose rows lie in another order than their times is swept in the order of its file."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import fresh

from nightcrew import Nightcrew, Settings
from nightcrew.trust import Trust

ROWS = 30_000
JOBS = {
    "range": {"column": "expires_at"},
    "contended": {"column": "revoked_at"},
    "locked": {"column": "revoked_at", "where": "id IN (SELECT t.id FROM tokens t)"},
    "unindexed": {"column": "used_at"},
}
MAKE = f"""
CREATE TABLE tokens (id int PRIMARY KEY, expires_at timestamptz NOT NULL, revoked_at timestamptz, used_at timestamptz,
                     pad text);
INSERT INTO tokens SELECT n, at, at, at, repeat('x', 100) FROM (
    SELECT n, now() - (n - 3000) * interval '1 minute' AS at FROM generate_series(1, {ROWS}) AS n ORDER BY random()
) AS shuffled;
CREATE INDEX tokens_expire ON tokens (expires_at);
CREATE INDEX tokens_revoked ON tokens (revoked_at);
ANALYZE tokens
"""
REFILL = f"""
INSERT INTO tokens SELECT n, at, at, at, repeat('x', 100) FROM (
    SELECT n, now() - (n - 3000) * interval '1 minute' AS at FROM generate_series(1, {ROWS}) AS n
     WHERE mod(n, 1000) <> 7
) AS again
"""
REVIVE = "UPDATE tokens SET expires_at = now(), revoked_at = now(), used_at = now() WHERE id = {}"
MOVE = "UPDATE tokens SET pad = pad WHERE ctid > '(400,0)' RETURNING (CAST(CAST(ctid AS text) AS point))[0]"
NARROW = """
CREATE TABLE codes (id int PRIMARY KEY, day date NOT NULL) WITH (autovacuum_enabled = off);
CREATE TABLE uses (code_id int REFERENCES codes ON DELETE CASCADE) WITH (autovacuum_enabled = off);
INSERT INTO codes SELECT n, now() - interval '3 days' FROM generate_series(1, 60000) AS n;
INSERT INTO uses SELECT id FROM codes;
CREATE INDEX uses_code ON uses (code_id)
"""
EXPIRED = ROWS - 3000 - 60  # an hour is let pass
each_job = pytest.mark.parametrize("job", JOBS)


@pytest.fixture
def crew(tmp_path) -> Iterator[Nightcrew]:
    """Thirty thousand tokens on some five hundred pages, one a minute, nine of ten of them expired."""
    with fresh("postgresql", tmp_path) as url:
        crew = Nightcrew(url, settings=Settings())
        for name, policy in JOBS.items():
            terms = {"older_than": timedelta(hours=1), "pace": "fast", "max_fraction": 1}
            crew.expire(name, "tokens", every="1 day", **terms, **policy)
        crew.migrate()
        run(crew, MAKE)
        yield crew
        crew.close()


def run(crew: Nightcrew, *statements: str) -> None:
    with crew._station.link.transaction() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextmanager
def other(crew: Nightcrew) -> Iterator[sa.Connection]:
    """Open a connection of the application."""
    with crew._station.link.engine.connect() as connection:
        yield connection


def left(crew: Nightcrew, where: str = "true") -> int:
    with other(crew) as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM tokens WHERE {where}").scalar_one()


@contextmanager
def statements(crew: Nightcrew) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        seen.append(statement)

    sa.event.listen(crew._station.link.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(crew._station.link.engine, "before_cursor_execute", note)


def by_page(seen: list[str]) -> bool:
    return any("AS tid)" in statement and "DELETE" in statement for statement in seen) or any(
        ".ctid < CAST" in statement for statement in seen
    )


@each_job
def test_what_has_expired_leaves_page_by_page_and_the_rest_stays(crew, job):
    with statements(crew) as seen:
        report = crew.run(job, trigger="cli", now=True)
    assert by_page(seen)
    assert abs(report.deleted - EXPIRED) <= 2  # the clock goes on
    assert 0 <= left(crew) - left(crew, "expires_at >= now() - interval '1 hour'") <= 2


def test_a_file_that_begins_with_empty_pages_is_not_gone_through_page_by_page(crew):
    run(crew, "DELETE FROM tokens WHERE ctid < '(400,0)'")
    with statements(crew) as seen:
        assert crew.run("range", trigger="cli", now=True).deleted > 3000
    assert by_page(seen)
    assert len([statement for statement in seen if statement.startswith("DELETE")]) < 20
    assert left(crew, "expires_at < now() - interval '61 minutes'") == 0


def test_few_expired_rows_of_a_large_table_are_found_by_their_index(crew):
    run(crew, "UPDATE tokens SET expires_at = now() WHERE id < 29980", "ANALYZE tokens")
    with statements(crew) as seen:
        assert crew.run("range", trigger="cli", now=True).deleted == 21
    assert not by_page(seen)


def test_a_table_whose_trigger_may_keep_rows_is_not_walked_by_page(crew):
    run(
        crew,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON tokens FOR EACH ROW WHEN (OLD.id = 20000) EXECUTE FUNCTION keep()",
    )
    with statements(crew) as seen:
        report = crew.run("range", trigger="cli", now=True)
    assert not by_page(seen)
    assert report.remaining == 1
    assert left(crew, "id = 20000") == 1


@each_job
def test_rows_that_somebody_holds_are_left_said_and_taken_the_next_time(crew, job):
    with other(crew) as connection:
        connection.exec_driver_sql("BEGIN; SELECT FROM tokens WHERE id BETWEEN 20000 AND 20009 FOR UPDATE")
        report = crew.run(job, trigger="cli", now=True)
        assert report.remaining == 10
        assert left(crew, "expires_at < now() - interval '61 minutes'") == 10
    assert crew.run(job, trigger="cli", now=True).deleted >= 10
    assert left(crew, "id BETWEEN 20000 AND 20009") == 0


@each_job
def test_a_run_that_was_stopped_goes_on_at_its_page(crew, job):
    report = crew.run(job, trigger="cli", now=True, deadline=timedelta(milliseconds=1))
    assert str(report.outcome) == "partial"
    some = left(crew)
    assert 3000 < some < ROWS
    crew.run(job, trigger="cli", now=True)
    assert left(crew, "expires_at < now() - interval '61 minutes'") == 0


@pytest.mark.parametrize("job", ["range", "unindexed"])
def test_what_is_moved_to_the_end_of_the_file_meanwhile_leaves_too(crew, job):
    with other(crew) as connection:

        def move(_connection, _cursor, statement, *_rest) -> None:
            if "DELETE" in statement and not moved:
                pages = connection.exec_driver_sql("SELECT pg_relation_size('tokens')").scalar_one()
                moved.append(connection.exec_driver_sql("UPDATE tokens SET pad = repeat('y', 3000)").rowcount)
                assert connection.exec_driver_sql("SELECT pg_relation_size('tokens')").scalar_one() > 20 * pages

        moved: list[int] = []
        run(crew, "ALTER TABLE tokens ALTER pad SET STORAGE PLAIN")
        sa.event.listen(crew._station.link.engine, "before_cursor_execute", move)
        report = crew.run(job, trigger="cli", now=True)
    assert moved == [ROWS]
    assert report.remaining == 0
    assert left(crew, "expires_at < now() - interval '61 minutes'") == 0


def test_what_is_moved_to_room_behind_the_sweep_meanwhile_leaves_too(crew):
    with other(crew) as connection:

        def move(_connection, _cursor, statement, *_rest) -> None:
            if "DELETE" in statement:
                deletes.append(statement)
                moved.extend(connection.exec_driver_sql(MOVE).scalars() if len(deletes) == 2 else ())

        deletes: list[str] = []
        moved: list[float] = []
        run(crew, "DELETE FROM tokens WHERE ctid < '(100,0)'")
        connection.exec_driver_sql("VACUUM ANALYZE tokens")
        sa.event.listen(crew._station.link.engine, "before_cursor_execute", move)
        report = crew.run("range", trigger="cli", now=True)
    assert any(page < 100 for page in moved), "some of them came to lie behind the sweep"
    assert report.remaining == 0
    assert left(crew, "expires_at < now() - interval '61 minutes'") == 0


def test_the_first_batch_is_small_although_the_table_was_almost_empty_when_it_was_last_analysed(crew):
    run(crew, "ALTER TABLE tokens SET (autovacuum_enabled = off)", "DELETE FROM tokens WHERE mod(id, 1000) <> 7")
    with other(crew) as connection:
        connection.exec_driver_sql("VACUUM ANALYZE tokens")
    run(crew, REFILL)
    assert crew.run("unindexed", trigger="cli", now=True).deleted > 20_000
    with other(crew) as connection:
        first = "SELECT CAST(facts AS json)->>'rows' FROM nightcrew_entries WHERE kind = 'batch' ORDER BY id LIMIT 1"
        assert int(connection.exec_driver_sql(first).scalar_one()) < 5_000


def test_rows_so_narrow_that_a_page_holds_hundreds_are_taken_at_once_although_nobody_has_counted_them(
    crew, monkeypatch
):
    broken: list[Trust] = []
    lose = Trust.broken
    monkeypatch.setattr(Trust, "broken", lambda trust: (broken.append(trust), lose(trust)))
    run(crew, NARROW)
    terms = {"older_than": timedelta(days=1), "pace": "fast", "max_fraction": 1, "erase": True}
    crew.expire("narrow", "codes", column="day", every="1 day", **terms)
    assert crew.run("narrow", trigger="cli", now=True).deleted == 60_000
    assert len(broken) < 3, "a batch is not many times what it was to be; a machine may be slow now and then"


@each_job
def test_what_comes_back_to_life_meanwhile_stays(crew, job):
    revived: set[int] = set()
    over = threading.Event()

    def revive() -> None:
        with other(crew) as connection:
            for number in range(4000, ROWS, 37):
                if over.is_set():
                    break
                if connection.exec_driver_sql(REVIVE.format(number)).rowcount:
                    revived.add(number)
                time.sleep(0.0005)

    thread = threading.Thread(target=revive)
    thread.start()
    crew.run(job, trigger="cli", now=True)
    over.set()
    thread.join()
    assert revived
    with other(crew) as connection:
        found = set(connection.exec_driver_sql("SELECT id FROM tokens WHERE id >= 3100").scalars())
    assert found == revived
