"""Each fault made for real: it is found, with what to do about it, and is gone once that is done."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest
import sqlalchemy as sa
from tests.conftest import Yard, administrator, server

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.alarming import SECRET
from nightcrew.checks.check import Finding, Severity
from nightcrew.policy import Policy

OLD, NEW = datetime(2020, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)
BOGOTA = "America/Bogota"
GOOD = "0123456789abcdef0123456789abcdef"
SESSIONS = "CREATE TABLE sessions (id INTEGER PRIMARY KEY, expires_at TIMESTAMP NULL, kind VARCHAR(20))"
INDEX = "CREATE INDEX sessions_expires ON sessions (expires_at)"


def crew_on(url: str, *jobs: Job, **settings: object) -> Nightcrew:
    return Nightcrew(url, jobs=jobs, settings=Settings(**{"secret": GOOD, **settings}))


def sweep(**terms: object) -> Job:
    policy = Policy("sessions", "expires_at", **terms)
    return Job("end-sessions", every("1 hour"), policy=policy)


def found(crew: Nightcrew, code: str, folder: Path | None = None) -> tuple[Finding, ...]:
    (result,) = crew.examine(code, folder=folder)
    assert result.unable is None, result.unable
    return result.findings


def unable(crew: Nightcrew, code: str) -> str:
    (result,) = crew.examine(code)
    assert not result.findings
    return result.unable or ""


# ── no database is asked ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "is not set"),
        ("short", "has 5 characters"),
        (f"{GOOD}\n", "begins or ends with"),
        (f'"{GOOD}"', "begins or ends with"),
        ("pässword-pässword", "cannot carry"),
        ("changeme-changeme-1", "is an example"),
        ("a" * 32, "over and over"),
        (f"{GOOD}%", "has % in it"),
    ],
)
def test_a_secret_that_cannot_work_is_named_and_never_shown(secret: str | None, says: str) -> None:
    (finding,) = found(Nightcrew("sqlite://", settings=Settings(secret=secret)), "NC201")
    assert says in finding.says
    assert "nightcrew secret new" in finding.remedy or finding.severity is Severity.WARNING
    assert len(secret or "") < 8 or str(secret).strip('"\n') not in str(finding)
    assert found(Nightcrew("sqlite://", settings=Settings(secret=GOOD)), "NC201") == ()


def test_a_ticker_that_is_off_and_a_crew_without_jobs_are_told() -> None:
    off = Nightcrew("sqlite://", settings=Settings(secret=GOOD, ticker=False))
    assert [finding.remedy for finding in found(off, "NC101")] == ["unset NIGHTCREW_TICKER"]
    assert [finding.says for finding in found(off, "NC102")] == ["no job is enabled, so nothing is looked after"]
    test = crew_on("sqlite://", sweep(), environment="test")
    assert ["test" in finding.says for finding in found(test, "NC101")] == [True]
    assert found(test, "NC102") == found(crew_on("sqlite://", sweep()), "NC101") == ()


def test_files_of_other_schedulers_are_held_against_the_jobs(tmp_path: Path) -> None:
    crew = crew_on("sqlite://", Job("daily", cron("0 3 * * *"), function=lambda run: 0))
    vercel, crontab = tmp_path / "vercel.json", tmp_path / "nightcrew.crontab"
    vercel.write_text('{"crons": [{"path": "/api/internal/jobs/daily", "schedule": "0 4 * * *"}]}')
    crontab.write_text("5 3 * * *\tacme\tcurl https://app.example/api/internal/jobs/daily\n")
    says = [finding.says for finding in found(crew, "NC205", tmp_path)]
    assert says == [
        "vercel.json says '0 4 * * *' (UTC) of job 'daily', and the job '0 3 * * *' (UTC)",
        "nightcrew.crontab says '5 3 * * *' of job 'daily', and the job '0 3 * * *' (UTC)",
    ]
    vercel.write_text('{"crons": [{"path": "/api/internal/jobs/gone", "schedule": "0 3 * * *"}, 7]}')
    crontab.write_text("0 3 * * *  acme  cd /srv && /usr/local/bin/nightcrew -q run daily\n")
    (finding,) = found(crew, "NC205", tmp_path)
    assert finding.remedy == "nightcrew export vercel --write"
    assert "no such job" in finding.says
    vercel.write_text("{no json")
    assert found(crew, "NC205", tmp_path) == ()


def test_the_same_words_in_another_zone_are_another_time(tmp_path: Path) -> None:
    crew = crew_on("sqlite://", Job("daily", cron("0 3 * * *", BOGOTA), function=lambda run: 0))
    vercel, path = tmp_path / "vercel.json", "/api/internal/jobs/daily"
    for entry, drifts in (
        (f'{{"crons": [{{"path": "{path}", "schedule": "0 3 * * *"}}]}}', True),
        (f'{{"crons": [{{"path": "{path}", "schedule": "0 8 * * *"}}]}}', False),
        (f'{{"schedules": {{"a": {{"path": "{path}", "schedule": "0 3 * * *", "timezone": "Asia/Tokyo"}}}}}}', True),
        (
            f'{{"schedules": {{"a": {{"path": "{path}", "schedule": "0 3 * * *", "timezone": "America/Bogota"}}}}}}',
            False,
        ),
    ):
        vercel.write_text(entry)
        assert bool(found(crew, "NC205", tmp_path)) is drifts, entry


def test_a_secret_in_a_file_is_found_and_a_variable_is_none(tmp_path: Path) -> None:
    crew, crontab = crew_on("sqlite://", sweep()), tmp_path / "crontab"
    crontab.write_text(f'0 3 * * * curl -H "Authorization: Bearer {GOOD}" https://app.example\n')
    (finding,) = found(crew, "NC206", tmp_path)
    assert finding.says.startswith("line 1 of crontab")
    assert GOOD not in str(finding)
    crontab.write_text('0 3 * * * curl -H "Authorization: Bearer $CRON_SECRET" https://app.example\n')
    assert found(crew, "NC206", tmp_path) == ()


def test_a_time_that_clocks_leap_over_is_told_with_its_night() -> None:
    crew = crew_on("sqlite://", Job("early", cron("30 2 * * *", "Europe/Paris"), function=lambda run: 0))
    (finding,) = found(crew, "NC210")
    assert re.search(r"on 20\d\d-03-\d\d it runs at 01:00Z", finding.cause)
    utc = crew_on("sqlite://", Job("early", cron("30 2 * * *"), function=lambda run: 0))
    assert found(utc, "NC210") == ()


def test_static_checks_ask_no_database() -> None:
    crew = crew_on("postgresql://nobody@127.0.0.1:1/none", sweep())
    assert all(result.check.static and result.unable is None for result in crew.examine(static=True))


def test_a_database_that_is_away_is_no_finding_and_asked_once() -> None:
    results = crew_on("postgresql://nobody@127.0.0.1:1/none", sweep()).examine("NC3")
    assert len(results) > 3
    assert all("127.0.0.1" in (result.unable or "") for result in results)
    assert len({result.unable for result in results}) == 1


def test_no_file_is_made_for_a_database_that_is_not_there(tmp_path: Path) -> None:
    results = crew_on(f"sqlite:///{tmp_path}/none.db", sweep()).examine("NC4")
    assert all("none.db" in (result.unable or "") for result in results if not result.check.static)
    assert not (tmp_path / "none.db").exists()


# ── on every database ────────────────────────────────────────────────────────────────────────────────────────────────


def test_tables_of_ours_that_are_missing(yard: Yard) -> None:
    yard.run(SESSIONS)
    crew = crew_on(yard.url, sweep())
    (finding,) = found(crew, "NC304")
    assert finding.remedy == "nightcrew migrate"
    assert "nightcrew migrate" in unable(crew, "NC401")
    crew.migrate()
    assert found(crew, "NC304") == found(crew, "NC401") == ()


def test_an_index_that_is_missing_is_found_and_its_statement_mends_it(yard: Yard) -> None:
    yard.run(SESSIONS)
    crew = crew_on(yard.url, sweep())
    (finding,) = found(crew, "NC301")
    assert finding.remedy.startswith("CREATE INDEX")
    yard.run(finding.remedy)
    assert found(crew, "NC301") == ()


def test_a_child_without_an_index_is_found_and_its_statement_mends_it(yard: Yard) -> None:
    child = "CREATE TABLE visits (id INTEGER PRIMARY KEY, session_id INTEGER, at TIMESTAMP NULL)"
    yard.run(SESSIONS, INDEX, child)
    crew = crew_on(yard.url, sweep(links=("visits.session_id",), allow_unindexed=True))
    (finding,) = found(crew, "NC302")
    assert "visits" in finding.remedy
    yard.run(finding.remedy)
    assert found(crew, "NC302") == ()


def test_a_policy_that_does_not_fit_is_a_problem_with_its_remedy(yard: Yard) -> None:
    child = "CREATE TABLE visits (id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, {})".format(
        "FOREIGN KEY (session_id) REFERENCES sessions (id)"
    )
    yard.run(SESSIONS, INDEX, child, "CREATE INDEX visits_session ON visits (session_id)")
    (finding,) = found(crew_on(yard.url, sweep()), "NC404")
    assert finding.severity is Severity.PROBLEM
    assert "visits" in finding.says
    assert "erase = true" in finding.remedy
    assert found(crew_on(yard.url, sweep(erase=True)), "NC404") == ()
    missing = Job("none", every("1 hour"), policy=Policy("sesions", "expires_at"))
    assert "did you mean 'sessions'?" in str(found(crew_on(yard.url, missing), "NC404"))


def test_an_empty_table_may_be_another_database(yard: Yard) -> None:
    yard.run(SESSIONS, INDEX)
    crew = crew_on(yard.url, sweep())
    (finding,) = found(crew, "NC402")
    assert "has no row at all in" in finding.says
    yard.fill("sessions", {"id": 1, "expires_at": NEW})
    assert found(crew, "NC402") == ()


@pytest.mark.parametrize(
    ("rows", "terms", "cause", "mended"),
    [
        ([{"id": 1, "expires_at": None}], {}, "NULL in every row", {"id": 2, "expires_at": OLD}),
        ([{"id": 1, "expires_at": NEW}], {}, "no row is old enough: expires_at is from 2037-01-01", None),
        (
            [{"id": n, "expires_at": OLD, "kind": "web"} for n in range(1, 4)],
            {"where": "kind = 'desktop'"},
            "3 rows are old enough, and where keeps every one",
            {"id": 9, "expires_at": OLD, "kind": "desktop"},
        ),
        (
            [{"id": n, "expires_at": OLD, "kind": "web"} for n in range(1, 3)],
            {"hold": "kind = 'web'"},
            "2 rows are old enough, and hold keeps every one",
            {"id": 9, "expires_at": OLD, "kind": "desktop"},
        ),
        (
            [{"id": 1, "expires_at": OLD, "kind": "web"}, {"id": 2, "expires_at": OLD, "kind": "tv"}],
            {"where": "kind = 'web'", "hold": "kind = 'web'"},
            "2 rows are old enough, and where and hold together keep them",
            None,
        ),
    ],
)
def test_a_job_that_runs_and_never_removes_a_row_is_told_why(
    yard: Yard, rows: list[dict[str, object]], terms: dict[str, object], cause: str, mended: dict[str, object] | None
) -> None:
    yard.run(SESSIONS, INDEX)
    yard.fill("sessions", *rows)
    crew = crew_on(yard.url, sweep(max_fraction=1, **terms))
    crew.migrate()
    assert found(crew, "NC403") == ()  # it has never run
    for _ in range(3):
        assert crew.run("end-sessions", now=True).deleted == 0
    (finding,) = found(crew, "NC403")
    assert "never removed a row" in finding.says
    assert cause in finding.cause
    if mended is not None:
        yard.fill("sessions", mended)
        assert crew.run("end-sessions", now=True).deleted == 1
        assert found(crew, "NC403") == ()


def test_an_error_is_no_zero(yard: Yard) -> None:
    def breaks(run: object) -> int:
        raise ValueError("no such bucket")

    crew = crew_on(yard.url, Job("breaks", every("1 hour"), function=breaks))
    crew.migrate()
    crew.run("breaks", now=True)
    (finding,) = found(crew, "NC401")
    assert "no such bucket" in finding.says
    assert finding.remedy == "nightcrew runs breaks --failed -v"
    assert found(crew, "NC403") == ()


def test_what_is_paused_is_told_with_who_and_why(yard: Yard) -> None:
    crew = crew_on(yard.url, Job("daily", cron("0 3 * * *"), function=lambda run: 0))
    crew.migrate()
    crew.pause("daily", by="ada", reason="a migration")
    (finding,) = found(crew, "NC107")
    assert "paused by ada: a migration" in finding.says
    assert finding.remedy == "nightcrew resume daily"
    crew.resume("daily")
    assert found(crew, "NC107") == ()


def test_a_slot_that_nobody_runs_is_told_and_who_ran_it_last(yard: Yard) -> None:
    crew = crew_on(yard.url, Job("often", every("1 minute"), function=lambda run: 0))
    crew.migrate()
    crew.status()
    assert found(crew, "NC103") == ()
    yard.run("UPDATE nightcrew_jobs SET epoch_at = :then", then=OLD)
    (finding,) = found(crew, "NC103")
    assert "no process has ever run it" in finding.cause
    assert "crew.lifespan" in finding.remedy
    crew.run("often", trigger="cli")
    assert found(crew, "NC103") == ()


def test_the_previous_secret_is_known_by_who_uses_it(yard: Yard) -> None:
    crew = crew_on(yard.url, sweep(), previous_secret="fedcba9876543210fedcba9876543210")
    crew.migrate()
    (finding,) = found(crew, "NC203")
    assert finding.remedy == "unset CRON_SECRET_PREVIOUS"
    crew._station.alarms.saw(SECRET, "github-actions")
    (finding,) = found(crew, "NC203")
    assert "github-actions called with CRON_SECRET_PREVIOUS" in finding.says
    assert found(crew_on(yard.url, sweep()), "NC203") == ()


def test_clocks_that_differ_are_told(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.run(SESSIONS)
    crew = crew_on(yard.url, sweep())
    assert found(crew, "NC501") == ()
    ahead = crew.clock.now() + timedelta(hours=2)
    monkeypatch.setattr(crew.clock, "now", lambda: ahead, raising=False)
    if not yard.url.startswith("sqlite"):  # whose clock is this machine's
        (finding,) = found(crew, "NC501")
        assert "2 h ahead of that of the database" in finding.says


def test_what_a_doctor_looks_at_is_not_changed(yard: Yard) -> None:
    yard.run(SESSIONS)
    yard.fill("sessions", {"id": 1, "expires_at": OLD})
    crew = crew_on(yard.url, sweep())
    crew.examine()
    assert yard.ids("sessions") == [1]
    assert not sa.inspect(yard.link.engine).has_table("nightcrew_jobs")


# ── on one of them ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_index_that_was_broken_off_is_made_anew(postgresql_yard: Yard) -> None:
    yard = postgresql_yard
    yard.run(SESSIONS, INDEX)
    yard.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sessions_expires'::regclass")
    crew = crew_on(yard.url, sweep())
    (finding,) = found(crew, "NC303")
    assert finding.remedy == 'REINDEX INDEX CONCURRENTLY "public"."sessions_expires";'
    with yard.link.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(finding.remedy)
    assert found(crew, "NC303") == ()


def test_a_transaction_that_has_been_open_for_long(postgresql_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = postgresql_yard
    yard.run(SESSIONS)
    monkeypatch.setattr("nightcrew.checks.schema._LONG", timedelta(0))
    crew = crew_on(yard.url, sweep())
    with yard.link.transaction() as connection:
        connection.execute(sa.text("SELECT 1"))
        (finding,) = found(crew, "NC306")
        assert "has been open" in finding.says
    assert found(crew, "NC306") == ()


def test_a_database_that_cannot_be_written(postgresql_yard: Yard) -> None:
    yard = postgresql_yard
    yard.run(SESSIONS, INDEX)
    yard.fill("sessions", {"id": 1, "expires_at": NEW})
    name = sa.make_url(yard.url).database
    yard.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    crew = crew_on(yard.url, sweep())
    (finding,) = found(crew, "NC402")
    assert "cannot be written" in finding.says
    assert "DATABASE_URL" in finding.remedy
    with yard.link.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert found(crew_on(yard.url, sweep()), "NC402") == ()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_reading_role_suffices_and_is_told_what_it_may_not_do(kind: str, request: pytest.FixtureRequest) -> None:
    yard: Yard = request.getfixturevalue(f"{kind}_yard")
    yard.run(SESSIONS, INDEX)
    yard.fill("sessions", {"id": 1, "expires_at": NEW})
    url, role = sa.make_url(yard.url), f"reader_{token_hex(4)}"
    whole = f"`{url.database}`.*" if kind == "mysql" else "ALL TABLES IN SCHEMA public"
    made = (
        f"CREATE USER {role} IDENTIFIED BY 'reads'" if kind == "mysql" else f"CREATE ROLE {role} LOGIN PASSWORD 'reads'"
    )
    with administrator(server(kind).set(database=url.database), kind).connect() as connection:
        connection.exec_driver_sql(made.format(role))
        if kind == "postgresql":
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON {whole} TO {role}")
        try:
            theirs = url.set(username=role, password="reads").render_as_string(hide_password=False)
            crew = crew_on(theirs, sweep())
            (finding,) = found(crew, "NC406")
            assert "may not DELETE in sessions" in finding.says
            assert finding.remedy == "GRANT DELETE ON sessions TO …;"
            assert found(crew, "NC301") == found(crew, "NC404") == ()
            crew.close()
            connection.exec_driver_sql(f"GRANT DELETE ON {whole if kind == 'mysql' else 'sessions'} TO {role}")
            crew = crew_on(theirs, sweep())
            assert found(crew, "NC406") == ()
            crew.close()
        finally:
            if kind == "postgresql":
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP {'USER' if kind == 'mysql' else 'ROLE'} {role}")


def test_rows_that_are_hidden_from_this_role(postgresql_yard: Yard) -> None:
    yard = postgresql_yard
    yard.run(SESSIONS, INDEX, "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY")
    yard.fill("sessions", {"id": 1, "expires_at": OLD})
    url, role = sa.make_url(yard.url), f"reader_{token_hex(4)}"
    with administrator(server("postgresql").set(database=url.database), "postgresql").connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'reads'")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, DELETE ON sessions TO {role}")
        try:
            crew = crew_on(url.set(username=role, password="reads").render_as_string(hide_password=False), sweep())
            (finding,) = found(crew, "NC405")
            assert "row-level security hides rows of sessions" in finding.says
            connection.exec_driver_sql(f"ALTER ROLE {role} BYPASSRLS")
            assert found(crew, "NC405") == ()
            crew.close()
        finally:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


def test_what_cannot_be_told_is_not_taken_for_well(yard: Yard) -> None:
    yard.run(SESSIONS)
    (result,) = crew_on(yard.url, sweep()).examine("NC306")
    if yard.url.startswith("sqlite"):
        assert "is not told for how long" in (result.unable or "")
    else:
        assert result.unable is None


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_job_that_changes_rows_needs_the_right_to(kind: str, request: pytest.FixtureRequest) -> None:
    yard: Yard = request.getfixturevalue(f"{kind}_yard")
    yard.run(SESSIONS, INDEX)
    url, role = sa.make_url(yard.url), f"reader_{token_hex(4)}"
    whole = f"`{url.database}`.*" if kind == "mysql" else "sessions"
    made = "CREATE USER {} IDENTIFIED BY 'reads'" if kind == "mysql" else "CREATE ROLE {} LOGIN PASSWORD 'reads'"
    clearing = sweep(action="clear", set={"kind": None})
    with administrator(server(kind).set(database=url.database), kind).connect() as connection:
        connection.exec_driver_sql(made.format(role))
        if kind == "postgresql":
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, DELETE ON {whole} TO {role}")
        try:
            for granted in (False, True):
                crew = crew_on(url.set(username=role, password="reads").render_as_string(hide_password=False), clearing)
                says = [finding.says for finding in found(crew, "NC406")]
                assert says == ([] if granted else ["job 'end-sessions' may not UPDATE in sessions"])
                crew.close()
                connection.exec_driver_sql(f"GRANT UPDATE ON {whole} TO {role}")
        finally:
            if kind == "postgresql":
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP {'USER' if kind == 'mysql' else 'ROLE'} {role}")


def test_how_a_file_of_sqlite_is_written(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "acme.db")) as database, database:
        database.execute(SESSIONS)
    crew = crew_on(f"sqlite:///{tmp_path}/acme.db", sweep())
    (finding,) = found(crew, "NC310")
    assert finding.remedy == f'sqlite3 {tmp_path}/acme.db "PRAGMA journal_mode = WAL;"'
    with closing(sqlite3.connect(tmp_path / "acme.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
    assert found(crew, "NC310") == ()
