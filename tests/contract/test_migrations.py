"""nightcrew's own tables: how they come to be, and what is said where they are not there, or not all of them."""

import re
import threading

import pytest

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.databases import migrations
from nightcrew.databases.steps import MIGRATIONS, VERSION
from nightcrew.errors import SchemaError


def daily(url: str) -> Nightcrew:
    """Return a crew with one job, which asks for nothing yet."""
    return Nightcrew(url, jobs=[Job("daily", cron("0 0 * * *"), function=lambda run: 1)], settings=Settings())


@pytest.fixture
def crew(database_url):
    """A crew whose database was migrated."""
    crew = daily(database_url)
    crew.migrate()
    yield crew
    crew.close()


def test_a_database_that_was_not_migrated_says_which_command_to_run(database_url):
    crew = daily(database_url)
    if crew._station.link.dialect.migrates_itself:
        assert crew.run("daily", trigger="http").outcome == "succeeded"
    else:
        with pytest.raises(SchemaError, match="nightcrew migrate"):
            crew.run("daily", trigger="http")
    crew.close()


def test_migrating_twice_applies_nothing_twice(crew):
    assert crew.migrate() == []


@pytest.mark.parametrize(
    "gone", [["jobs"], ["ranges", "entries", "runs"], ["place", "policies", "plans"]], ids="-".join
)
def test_tables_that_have_gone_are_named_and_made_anew_by_a_migration_alone(database_url, crew, gone):
    assert crew.run("daily", trigger="http").outcome == "succeeded"
    with crew._station.link.transaction() as connection:
        for table in gone:
            connection.exec_driver_sql(f"DROP TABLE nightcrew_{table}")
    names = "|".join(f"nightcrew_{table}" for table in gone)
    later = daily(database_url)
    for ask in (lambda: later.run("daily", now=True), later.status, lambda: later.plan("daily")):
        with pytest.raises(SchemaError, match=f"has lost the tables? (({names})(, )?){{{len(gone)}}} of .*migrate'"):
            ask()
    (line,) = later.migrate()
    assert set(re.findall(r"nightcrew_\w+", line)) == set(names.split("|"))
    assert later.migrate() == []
    assert later.run("daily", now=True).outcome == "succeeded"
    later.close()


def test_what_stands_in_the_tables_of_an_older_version_is_kept(database_url, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[:2])
        daily(database_url).migrate()
    crew = daily(database_url)
    with crew._station.link.transaction() as connection:
        runs = "id, job, state, `trigger`, attempt, fence, moment, deleted, counts".replace(
            "`", crew._station.link.dialect.quote
        )
        values = "'daily.1', 'daily', 'done', 'http', 1, 1, '2024-01-01 00:00:00', 7, '{}'"
        connection.exec_driver_sql(f"INSERT INTO nightcrew_runs ({runs}) VALUES ({values})")
    assert [line.partition(":")[0] for line in crew.migrate()] == [f"version {n}" for n in range(3, VERSION + 1)]
    assert [(run.id, run.deleted) for run in crew.runs()] == [("daily.1", 7)]
    assert crew.run("daily", trigger="http").outcome == "succeeded"
    crew.close()


def test_tables_of_a_newer_nightcrew_are_left_alone(database_url, crew):
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("UPDATE nightcrew_schema SET version = 99 WHERE version = 2")
    older = daily(database_url)
    for ask in (older.migrate, older.status):
        with pytest.raises(SchemaError, match=r"by a newer nightcrew .*: upgrade nightcrew here too"):
            ask()
    older.close()


def test_migrating_from_many_threads_at_once_ends_well(database_url):
    crews = [Nightcrew(database_url, settings=Settings()) for _ in range(4)]
    errors = []

    def migrate(crew):
        try:
            crew.migrate()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=migrate, args=[crew]) for crew in crews]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert crews[0]._station.migrations.current
    for crew in crews:
        crew.close()


def test_the_sql_of_a_migration_names_every_table(crew):
    sql = crew.migration()
    for table in ("schema", "jobs", "runs", "entries", "place", "policies", "plans", "ranges"):
        assert f"CREATE TABLE IF NOT EXISTS nightcrew_{table}" in sql or f"CREATE TABLE nightcrew_{table}" in sql
