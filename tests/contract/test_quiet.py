"""A walk through a table's file knows for certain that nobody else wrote, or does not claim it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nightcrew.database import Cursor, Form
from nightcrew.policy import Policy

STALE = Policy("tokens", "expires_at", timedelta(hours=1))
BATCHES = 7
MAKE = """
CREATE TABLE tokens (id int PRIMARY KEY, expires_at timestamptz NOT NULL, pad text) WITH (autovacuum_enabled = off);
INSERT INTO tokens SELECT n, '2020-01-01', repeat('x', 100) FROM generate_series(1, 20000) AS n ORDER BY random();
CREATE INDEX tokens_expire ON tokens (expires_at);
CREATE TABLE lease (fence int) WITH (autovacuum_enabled = off);
CREATE TABLE elsewhere (n int) WITH (autovacuum_enabled = off);
INSERT INTO lease VALUES (0);
ANALYZE tokens
"""


@pytest.fixture
def walk(postgresql_yard) -> Iterator[Callable[..., list[Cursor | None]]]:
    """Walk through the table, calling what is to happen at a batch, and say where each batch is unsure."""
    yard = postgresql_yard
    with yard.link.transaction() as connection:
        connection.exec_driver_sql(MAKE)
    selection = yard.select(STALE)

    def walk(
        at: int = -1, happens: Callable[[sa.Connection], object] = lambda _other: None, batches: int = BATCHES
    ) -> list[Cursor | None]:
        cursor: Cursor = {}
        unsure: list[Cursor | None] = []
        with yard.link.engine.connect() as other:
            while True:
                with yard.link.transaction(repeatable=True) as connection:
                    connection.exec_driver_sql("UPDATE lease SET fence = fence + 1")
                    if len(unsure) == at:
                        happens(other)
                    taken = yard.rows.take(connection, selection, cursor, 42_000 // batches)
                unsure.append(taken.unsure)
                cursor = taken.cursor
                if taken.exhausted:
                    assert len(unsure) > at
                    return unsure

    return walk


def has_written(other: sa.Connection) -> None:
    other.exec_driver_sql("BEGIN; INSERT INTO elsewhere VALUES (1); COMMIT")


def is_writing(other: sa.Connection) -> None:
    other.exec_driver_sql("BEGIN; INSERT INTO elsewhere VALUES (1)")


def has_changed_its_mind(other: sa.Connection) -> None:
    other.exec_driver_sql("BEGIN; INSERT INTO elsewhere VALUES (1); ROLLBACK")


def reads(other: sa.Connection) -> None:
    other.exec_driver_sql("SELECT count(*) FROM elsewhere")


def quiet(walk, at: int = -1, happens: Callable[[sa.Connection], object] = reads) -> bool:
    """Walk a short way until it is quiet: other tests may be writing on the same server."""
    for _ in range(1000):
        if walk(at, happens, 2) == [None, None]:
            return True
        time.sleep(0.05)
    return False


def test_where_nobody_else_writes_nothing_is_unsure(walk):
    assert quiet(walk)


def test_readers_disturb_nobody(walk):
    assert quiet(walk, 1, reads)


@pytest.mark.parametrize("write", [has_written, is_writing, has_changed_its_mind])
@pytest.mark.parametrize("at", [0, 1, BATCHES // 2, BATCHES - 1])
def test_who_writes_meanwhile_makes_everything_unsure(walk, at, write):
    for _ in range(5):
        assert walk(at, write)[-1] == {}


def test_who_was_writing_before_makes_everything_unsure(walk, postgresql_yard):
    with postgresql_yard.link.engine.connect() as other:
        is_writing(other)
        for _ in range(5):
            found = walk()
            assert found == [{}] * BATCHES


def test_a_small_window_begins_on_the_first_page_of_the_file_where_that_holds_something(walk, postgresql_yard):
    """However quiet it is: nobody looks again at what a walk passes by."""
    with postgresql_yard.rows.transaction() as connection:
        taken = postgresql_yard.rows.take(connection, postgresql_yard.select(STALE), {}, 10)
        on_it = connection.exec_driver_sql("SELECT count(*) FROM tokens WHERE ctid < '(1,0)'").scalar_one()
    assert taken.cursor["page"] == 1
    assert on_it == 0


def test_in_windows_however_small_no_page_is_passed_by(walk, postgresql_yard):
    """What the walk itself has left, before anybody looks again."""
    walk(batches=84)
    with postgresql_yard.link.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tokens").scalar_one() == 0


def test_where_a_batch_may_change_what_it_leaves_everything_is_unsure(postgresql_yard):
    """A row that loses what it refers to moves to room on any page, and no other transaction is to blame."""
    yard = postgresql_yard
    with yard.link.transaction() as connection:
        connection.exec_driver_sql(MAKE)
        connection.exec_driver_sql("ALTER TABLE tokens ADD up int REFERENCES tokens ON DELETE SET NULL")
        connection.exec_driver_sql("CREATE INDEX tokens_up ON tokens (up)")
    selection = yard.select(replace(STALE, erase=True))
    assert selection.form is Form.LOCKED
    with yard.link.transaction(repeatable=True) as connection:
        connection.exec_driver_sql("UPDATE lease SET fence = fence + 1")
        assert yard.rows.take(connection, selection, {}, 100).unsure == {}
