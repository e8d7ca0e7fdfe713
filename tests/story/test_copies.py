"""In a copy of the database, or by a clock that cannot be right, nothing runs until somebody agrees."""

import json
import shutil
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import administrator
from tests.conftest import server as server_of

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock
from nightcrew.databases.tables import place

TABLES = "nightcrew_schema", "nightcrew_jobs", "nightcrew_runs", "nightcrew_entries", "nightcrew_place", "notes"


class Shifted(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, by):
        self.by = by

    def now(self):
        return super().now() + self.by


@pytest.fixture
def shop(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)", "CREATE INDEX notes_at ON notes (at)")
    return yard


def address(shop):
    return shop.link.engine.url.render_as_string(hide_password=False)


def hired(url, clock=None, called=None):
    crew = Nightcrew(url, settings=Settings(), clock=clock)
    crew.expire("sweep", "notes", column="at", every="1 hour")
    crew.job(every="1 hour", name="call")(lambda: len(called.append(1) or called) if called is not None else 0)
    crew.migrate()
    return crew


def run(url, name="sweep", **options):
    with closing(hired(url, **options)) as crew:
        return crew.run(name, trigger="cli", now=True)


def fill(shop, *ages):
    first = len(shop.ids("notes"))
    at = [(datetime.now(UTC) - age).strftime("%Y-%m-%d %H:%M:%S.%f") for age in ages]
    shop.fill("notes", *({"id": first + n, "at": each} for n, each in enumerate(at)))


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def copied(shop):
    """Copy the whole database to another place, as a person would who wants a copy of production."""
    url = shop.link.engine.url
    if shop.kind == "sqlite":
        file = Path(url.database).with_name("copy.db")
        shutil.copy(url.database, file)
        yield f"sqlite:///{file}"
        return
    name, source = f"{url.database}_copy", url.database
    server = server_of(shop.kind)
    shop.link.close()
    with administrator(server, shop.kind).connect() as connection:
        try:
            if shop.kind == "postgresql":
                connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
            else:
                connection.exec_driver_sql(f"CREATE DATABASE `{name}`")
                for table in (*TABLES, "nightcrew_policies", "nightcrew_plans"):
                    connection.exec_driver_sql(f"CREATE TABLE `{name}`.{table} LIKE `{source}`.{table}")
                    connection.exec_driver_sql(f"INSERT INTO `{name}`.{table} SELECT * FROM `{source}`.{table}")
                connection.exec_driver_sql(
                    f"ALTER TABLE `{name}`.nightcrew_entries"
                    f" ADD FOREIGN KEY (run) REFERENCES `{name}`.nightcrew_runs (id) ON DELETE CASCADE"
                )
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            force = " WITH (FORCE)" if shop.kind == "postgresql" else ""
            quote = '"' if shop.kind == "postgresql" else "`"
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote}{name}{quote}{force}")


def test_a_copy_of_the_database_runs_nothing_until_somebody_agrees_and_the_original_goes_on(shop):
    fill(shop, *[timedelta(days=1)] * 3)
    assert run(address(shop)).deleted == 3
    fill(shop, *[timedelta(days=1)] * 3)
    with copied(shop) as url:
        called = []
        for name in ("sweep", "call"):
            report = run(url, name, called=called)
            assert (report.outcome, report.deleted, report.outcome.exit_code) == ("refused", 0, 3)
            assert "the database is not the one that these jobs ran in" in report.message
            assert f"if that is right, agree with 'nightcrew ack {name}'" in report.message
        assert called == []
        with closing(hired(url)) as crew:
            (why,) = crew.plan("sweep").refusals
            assert "as after a restore, or in a copy" in why
            crew.ack("sweep", by="alice")
            assert crew.run("sweep", trigger="cli", now=True).deleted == 3
            assert crew.run("call", trigger="cli", now=True).outcome == "nothing_to_do"
    assert run(address(shop)).deleted == 3


def test_a_file_that_was_moved_or_put_back_is_the_same(sqlite_yard):
    shop = sqlite_yard
    shop.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)")
    run(address(shop))
    file = Path(shop.link.engine.url.database)
    shop.link.close()
    moved = file.rename(file.with_name("moved.db"))
    assert run(f"sqlite:///{moved}").outcome == "nothing_to_do"
    shutil.copy(moved, back := file.with_name("backup.db"))
    moved.unlink()
    shutil.copy(back, moved)
    assert run(f"sqlite:///{moved}").outcome == "nothing_to_do"


def remember(shop, *marks):
    with shop.link.transaction() as connection:
        connection.execute(sa.update(place).values(marks=list(marks)))


def test_a_replica_that_takes_over_is_known_by_the_server_that_it_replicated(mysql_yard):
    """Its own name is another one; which servers it has replicated stands in its position."""
    shop = mysql_yard
    shop.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)")
    run(address(shop))
    here = f", database {shop.link.engine.url.database}"
    with shop.link.transaction() as connection:
        if not connection.dialect.is_mariadb:
            pytest.skip("MySQL's own positions cannot be set for a test")
    lost = "server of-the-lost-primary" + here, "source 0-77" + here
    remember(shop, *lost)
    assert run(address(shop)).outcome == "refused"
    with administrator(server_of("mysql"), "mysql").connect() as connection:
        connection.exec_driver_sql("SET GLOBAL gtid_slave_pos = '0-77-1234'")
        try:
            assert run(address(shop)).outcome == "nothing_to_do"
        finally:
            connection.exec_driver_sql("SET GLOBAL gtid_slave_pos = ''")
    assert run(address(shop)).outcome == "nothing_to_do", "by now it is known by its own name"


def test_what_a_database_does_not_tell_is_held_against_nobody(shop):
    run(address(shop))
    with shop.link.transaction() as connection:
        connection.execute(sa.update(place).values(marks=None))
    assert run(address(shop)).outcome == "nothing_to_do"
    with shop.link.transaction() as connection:
        assert json.dumps(connection.execute(sa.select(place.c.marks)).scalar_one()) != "null"


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("minutes", [-11, 11])
def test_two_clocks_that_are_far_apart_are_both_named_and_nothing_runs(server_yard, minutes):
    server_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)")
    fill(server_yard, timedelta(days=1))
    report = run(address(server_yard), clock=Shifted(timedelta(minutes=minutes)))
    assert report.outcome == "refused"
    assert "the database's clock says 20" in report.message
    assert "and this machine's 20" in report.message
    assert server_yard.ids("notes") == [0]


def test_a_clock_that_was_put_back_is_noticed_and_agreed_to(shop):
    fill(shop, timedelta(days=1))
    with closing(hired(address(shop))) as crew:
        crew.status()
        for minutes, outcome in ((9, "succeeded"), (11, "refused")):
            with shop.link.transaction() as connection:
                connection.execute(sa.update(place).values(clock_at=datetime.now(UTC) + timedelta(minutes=minutes)))
            report = crew.run("sweep", trigger="cli", now=True)
            assert report.outcome == outcome
        assert "and it had come to 20" in report.message
        crew.ack("sweep", by="alice")
        assert crew.run("sweep", trigger="cli", now=True).outcome == "nothing_to_do"


def test_a_row_that_one_of_two_clocks_takes_for_alive_stays(server_yard):
    server_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)")
    fill(server_yard, timedelta(minutes=5), timedelta(minutes=12))
    assert run(address(server_yard), clock=Shifted(timedelta(minutes=-8))).deleted == 1
    assert server_yard.ids("notes") == [0]
    assert run(address(server_yard), clock=Shifted(timedelta(minutes=8))).deleted == 1
