"""A server that crashes under a sweep undoes its last batches, whose commits await no disk; they are done again."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests import servers

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock

ROWS = 20_000


class Crashing(SystemClock):
    """A clock in whose `number`th rest between two batches the server crashes, and is back when the rest is over."""

    def __init__(self, number, crash):
        self.left, self.crash, self.walker = number, crash, threading.current_thread()

    def wait(self, event, seconds):
        """Rest, or let it happen."""
        if threading.current_thread() is self.walker and seconds:
            self.left -= 1
            if self.left == 0:
                self.crash()
        return super().wait(event, min(seconds, 0.01))


@pytest.fixture(scope="module")
def lent():
    """A server whose log stays in memory for as long as no commit waits for the disk."""
    with servers.postgresql() as (url, restart):
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
        engine.dispose()
        restart()
        yield url, restart


@pytest.mark.parametrize("number", [1, 2, 5])
def test_batches_that_a_crash_has_undone_are_done_again_though_nobody_saw_the_connection_break(lent, number):
    url, restart = lent
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS notes")
        connection.exec_driver_sql("CREATE TABLE notes (id int PRIMARY KEY, created_at timestamptz)")
        rows = f"SELECT n, '2020-01-01'::timestamptz FROM generate_series(1, {ROWS}) AS n"
        connection.exec_driver_sql(f"INSERT INTO notes {rows}")
        connection.exec_driver_sql("CREATE INDEX ON notes (created_at)")
    clock = Crashing(number, restart)
    crew = Nightcrew(url, settings=Settings(), clock=clock)
    crew.expire("sweep", "notes", column="created_at", older_than=timedelta(days=1), every="1 hour", max_fraction=1)
    crew.migrate()
    report = crew.run("sweep", now=True)
    assert clock.left <= 0, "nothing crashed"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
    assert (str(report.outcome), report.deleted) == ("succeeded", ROWS)
    crew.close()
    engine.dispose()
