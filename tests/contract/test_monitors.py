"""What Healthchecks, Sentry and Cronitor are told of runs, by servers that keep every request; and what that costs."""

import asyncio
import json
import logging
import time
from contextlib import contextmanager
from uuid import UUID

import pytest
from click.testing import CliRunner
from tests.outside import serving

from nightcrew import Job, Nightcrew, Settings, config, cron, every
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.errors import ConfigurationError
from nightcrew.listeners import monitors
from nightcrew.listeners.checkin import CheckIn, Stage, slug
from nightcrew.listeners.cronitor import Cronitor
from nightcrew.listeners.healthchecks import Healthchecks
from nightcrew.listeners.sentry import Sentry

KEY = "ping-key-that-nobody-may-see"
DAILY = cron("30 2 * * *", "Europe/Paris")


@pytest.fixture
def service():
    with serving() as service:
        yield service


@contextmanager
def crew_of(tmp_path, *told, function=lambda run: 7, schedule=DAILY, **of_job):
    heard = []
    crew = Nightcrew(
        f"sqlite:///{tmp_path}/x.db", settings=Settings(ticker=False), monitors=told, listeners=[heard.append]
    )
    crew.add(Job("daily", schedule, function=function, **of_job))
    crew.migrate()
    begin(crew)
    try:
        yield crew, heard
    finally:
        crew.close()


def begin(crew):
    """Let the job be known for long, so that its latest slot is due."""
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("UPDATE nightcrew_jobs SET epoch_at = '2020-01-01 00:00:00.000000'")


def kinds(heard):
    return [entry.kind for entry in heard if entry.kind.startswith("monitor")]


def fail(run):
    raise ValueError(f"the disk is full, says {KEY}")


# ── the exact requests ───────────────────────────────────────────────────────────────────────────────────────────────


def test_healthchecks_hears_of_the_beginning_and_the_end_by_one_rid(tmp_path, service):
    with crew_of(tmp_path, Healthchecks(KEY, service.url)) as (crew, _):
        assert crew.run("daily").outcome == "succeeded"
        begun, ended = service.wait(2)
    assert [(method, path) for method, path, *_ in (begun, ended)] == [
        ("POST", f"/{KEY}/daily/start"),
        ("POST", f"/{KEY}/daily"),
    ]
    assert begun[2] == ended[2]
    assert begun[2]["create"] == ["1"]
    assert str(UUID(begun[2]["rid"][0])) == begun[2]["rid"][0]
    assert (begun[4], ended[4]) == ("", "Job daily ran and counted 7.")
    assert ended[3]["user-agent"] == "nightcrew"


def test_healthchecks_hears_of_a_failure_without_a_secret_in_it_and_of_no_more_than_it_keeps(tmp_path, service):
    with crew_of(tmp_path, Healthchecks(KEY, service.url), function=fail) as (crew, _):
        crew.settings.censor.learn(KEY)
        assert crew.run("daily").outcome == "failed"
        _, ended = service.wait(2)
    assert ended[1] == f"/{KEY}/daily/fail"
    assert "the disk is full" in ended[4]
    assert len(Healthchecks(KEY).ping(CheckIn(Stage.WELL, "a", "a.1", "é" * 9000)).body) == 10_000


def test_sentry_is_told_the_schedule_and_each_check_in_has_the_same_id(tmp_path, service):
    dsn = f"{service.url.replace('://', '://pubkey@')}/42"
    with crew_of(tmp_path, Sentry(dsn, environment="staging")) as (crew, _):
        report = crew.run("daily")
        begun, ended = service.wait(2)
    assert {(method, path) for method, path, *_ in (begun, ended)} == {("POST", "/api/42/cron/daily/pubkey/")}
    assert begun[3]["content-type"] == "application/json"
    first, last = json.loads(begun[4]), json.loads(ended[4])
    assert first == {
        "check_in_id": CheckIn(Stage.BEGUN, "daily", report.run).id.hex,
        "status": "in_progress",
        "environment": "staging",
        "monitor_config": {
            "schedule": {"type": "crontab", "value": "30 2 * * *"},
            "timezone": "Europe/Paris",
            "checkin_margin": 10,
            "max_runtime": 60,
        },
    }
    assert (last["check_in_id"], last["status"]) == (first["check_in_id"], "ok")
    assert last["duration"] >= 0
    assert "monitor_config" not in last


@pytest.mark.parametrize(
    ("period", "told"),
    [
        ("2 days", {"type": "interval", "value": 2, "unit": "day"}),
        ("36 hours", {"type": "interval", "value": 36, "unit": "hour"}),
        ("10 minutes", {"type": "interval", "value": 10, "unit": "minute"}),
        ("90 seconds", None),
    ],
)
def test_sentry_is_told_of_intervals_that_it_knows(period, told):
    sentry = Sentry("https://pubkey@o1.ingest.sentry.io/42")
    said = json.loads(sentry.ping(CheckIn(Stage.BEGUN, "a", "a.1", schedule=every(period))).body)
    assert said.get("monitor_config", {}).get("schedule") == told


def test_cronitor_hears_of_a_series_with_figures(tmp_path, service):
    with crew_of(tmp_path, Cronitor(KEY, "staging", service.url), function=fail) as (crew, _):
        report = crew.run("daily")
        begun, ended = service.wait(2)
    assert {(method, path) for method, path, *_ in (begun, ended)} == {("GET", f"/p/{KEY}/daily")}
    series = str(CheckIn(Stage.BEGUN, "daily", report.run).id)
    assert begun[2] == {"state": ["run"], "series": [series], "env": ["staging"]}
    assert (ended[2]["state"], ended[2]["series"]) == (["fail"], [series])
    assert ended[2]["message"][0].startswith("Job daily failed: ")
    assert ended[2]["metric"][:2] == ["count:0", "error_count:1"]
    assert ended[2]["metric"][2].startswith("duration:")


# ── who is told, and of what ─────────────────────────────────────────────────────────────────────────────────────────


def test_only_who_wins_a_slot_tells_and_runs_by_hand_are_nobodys_slot(tmp_path, service):
    told = Healthchecks(KEY, service.url)
    with crew_of(tmp_path, told) as (crew, _):
        crew.run("daily")
        assert crew.run("daily").outcome == "already_done"
        crew.run("daily", now=True)
        service.wait(2)
    assert len(service.asked) == 2


def test_a_run_that_is_handed_over_has_begun_once_and_ends_once_whoever_ends_it(tmp_path, service):
    told = Healthchecks(KEY, service.url)
    fails = [True]

    def twice(run):
        if fails:
            fails.clear()
            raise ConnectionError("no rates today")
        return 3

    with crew_of(tmp_path, told, function=twice, attempts=2, backoff="1 second") as (crew, _):
        first = crew.run("daily")
        assert first.retry_at is not None
        time.sleep(1.5)
        assert crew.run("daily").outcome == "succeeded"
        service.wait(2)
    assert [path for _, path, *_ in service.asked] == [f"/{KEY}/daily/start", f"/{KEY}/daily"]
    assert len({query["rid"][0] for _, _, query, *_ in service.asked}) == 1


def test_a_name_that_is_too_long_for_a_service_is_cut_and_stays_one_of_its_own():
    one, other = (f"{'a' * 60}-{end}" for end in "xy")
    assert len(slug(one, 50)) == 50
    assert slug(one, 50) != slug(other, 50)
    assert slug("daily", 50) == "daily"


# ── what it costs, and what becomes of a service that is away ────────────────────────────────────────────────────────


def took(crew):
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        assert crew.run("daily", now=False).outcome in ("succeeded", "already_done")
        times.append(time.perf_counter() - begun)
        with crew._station.link.transaction() as connection:
            connection.exec_driver_sql("UPDATE nightcrew_jobs SET mark = NULL")
            connection.exec_driver_sql("DELETE FROM nightcrew_entries")
            connection.exec_driver_sql("DELETE FROM nightcrew_runs")
    return min(times)


def test_a_service_that_hangs_costs_a_run_less_than_50_ms(tmp_path, service, monkeypatch):
    monkeypatch.setattr(monitors, "_AT_THE_END", 0.2)
    with crew_of(tmp_path) as (crew, _):
        alone = took(crew)
    service.go.clear()
    (tmp_path / "x.db").unlink()
    with crew_of(tmp_path, Healthchecks(KEY, service.url), Cronitor(KEY, url=service.url)) as (crew, _):
        watched = took(crew)
        assert service.asked, "it was asked, and has not answered"
        begun = time.perf_counter()
    assert time.perf_counter() - begun < 2, "the end of a process waits for a moment, and no longer"
    assert watched - alone < 0.05


@pytest.mark.parametrize("status", [500, 302])
def test_a_service_that_fails_costs_a_run_less_than_50_ms_and_changes_nothing(tmp_path, service, monkeypatch, status):
    monkeypatch.setattr(monitors, "_AT_THE_END", 0.2)
    with crew_of(tmp_path) as (crew, _):
        alone = took(crew)
    service.status = [status] * 100
    (tmp_path / "x.db").unlink()
    with crew_of(tmp_path, Healthchecks(KEY, service.url), Cronitor(KEY, url=service.url)) as (crew, _):
        assert took(crew) - alone < 0.05
        report = crew.run("daily")
        assert (report.outcome, crew.run("daily").outcome) == ("succeeded", "already_done")
        service.wait(2)


def test_an_application_that_ends_tells_of_its_last_run_first(tmp_path, service):
    with crew_of(tmp_path, Healthchecks(KEY, service.url)) as (crew, _):

        async def live():
            async with crew.lifespan(None):
                crew.run("daily")

        asyncio.run(live())
        assert [path for _, path, *_ in service.asked] == [f"/{KEY}/daily/start", f"/{KEY}/daily"]


def test_a_service_that_fails_is_asked_three_times_in_all_and_told_of_once(tmp_path, service, monkeypatch, caplog):
    monkeypatch.setattr(monitors, "_REST", 0.01)
    service.status = [500, 503, 429, 500, 500, 500]
    with crew_of(tmp_path, Healthchecks(KEY, service.url)) as (crew, heard), caplog.at_level(logging.DEBUG):
        assert crew.run("daily").outcome == "succeeded"
        service.wait(6)
    assert len(service.asked) == 6
    assert kinds(heard) == ["monitor_failed"]
    (failed,) = [entry for entry in heard if entry.kind == "monitor_failed"]
    assert failed.facts == {"monitor": "Healthchecks", "error": "it answered 429"}
    assert "Healthchecks was not told of run daily." in caplog.text
    assert KEY not in caplog.text


def test_what_a_service_refuses_is_not_asked_again_and_its_recovery_is_told(tmp_path, service):
    service.status = [404]
    with crew_of(tmp_path, Healthchecks(KEY, service.url)) as (crew, heard):
        crew.run("daily")
        service.wait(2)
    assert kinds(heard) == ["monitor_failed", "monitor_recovered"]
    assert len(service.asked) == 2


def test_a_redirect_is_not_followed_and_nobody_there_is_no_failure_of_a_run(tmp_path, service, monkeypatch):
    monkeypatch.setattr(monitors, "_REST", 0.01)
    service.status = [302]
    with crew_of(tmp_path, Healthchecks(KEY, service.url), Cronitor(KEY, url="http://127.0.0.1:9")) as (crew, heard):
        assert crew.run("daily").outcome == "succeeded"
        service.wait(2)
    said = {entry.facts["monitor"]: entry.facts["error"] for entry in heard if entry.kind == "monitor_failed"}
    assert said["Healthchecks"] == "it answered 302"
    assert "/elsewhere" not in [path for _, path, *_ in service.asked]
    assert said["Cronitor"].startswith("it does not answer (")
    assert KEY not in str(heard)


def test_too_many_that_wait_are_left_out_and_nobody_waits(tmp_path, service):
    service.go.clear()
    audience = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings())
    courier = monitors._Courier(Healthchecks(KEY, service.url), audience.clock, audience._audience)
    begun = time.perf_counter()
    for number in range(1000):
        courier.take(CheckIn(Stage.WELL, "daily", f"daily.{number}"))
    assert time.perf_counter() - begun < 1
    assert len(courier._waiting) == monitors._MOST
    courier._waiting.clear()
    audience.close()


# ── what is said of them ─────────────────────────────────────────────────────────────────────────────────────────────

JOB = '[jobs.cleanup]\nevery = "10 minutes"\ntable = "users"\ncolumn = "left_at"\n'


def written(tmp_path, text):
    path = tmp_path / "nightcrew.toml"
    path.write_text(JOB + text)
    return path


def test_a_file_names_monitors_whose_secrets_are_looked_at_when_there_is_something_to_tell(tmp_path, service):
    path = written(
        tmp_path,
        '[monitors.healthchecks]\nkey = "${PING_KEY}"\nurl = "https://hc.acme.example/ping/"\n'
        '[monitors.sentry]\ndsn = "https://pubkey@o1.ingest.sentry.io/42"\nmax_runtime = "90 minutes"\n'
        '[monitors.cronitor]\nkey = "${CRONITOR}"\nenvironment = "staging"\n',
    )
    healthchecks, sentry, cronitor = config.read(path, {"PING_KEY": KEY}).monitors
    checkin = CheckIn(Stage.WELL, "cleanup", "cleanup.1")
    assert healthchecks.ping(checkin).url.startswith(f"https://hc.acme.example/ping/{KEY}/cleanup?")
    assert sentry.max_runtime.total_seconds() == 5400
    with pytest.raises(ConfigurationError, match="environment variable CRONITOR is not set"):
        cronitor.ping(checkin)
    assert KEY not in repr((healthchecks, sentry, cronitor, Healthchecks(KEY), healthchecks.ping(checkin)))


def test_a_check_warns_of_a_variable_that_is_not_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    monkeypatch.delenv("PING_KEY", raising=False)
    written(tmp_path, '[monitors.healthchecks]\nkey = "${PING_KEY}"\n')
    told = CliRunner().invoke(nightcrew, ["check"], obj=Desk())
    assert told.exit_code == 0
    assert (
        "monitor 'healthchecks' cannot be used: nightcrew.toml:6: environment variable PING_KEY is not set"
        in told.stdout
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[monitors.healthcheck]\nkey = "a"', "there is no monitor 'healthcheck'"),
        ("[monitors.sentry]", "dsn is missing; write dsn ="),
        ('[monitors.cronitor]\nkey = "a"\nkye = "b"', "unknown key 'kye'; did you mean 'key'"),
        (f'[monitors.sentry]\ndsn = "{KEY}"', "dsn is no DSN of Sentry's (it is not shown)"),
        (f'[monitors.healthchecks]\nkey = "{KEY}/x"', "key is empty, or has signs that no such key has"),
        (
            '[monitors.healthchecks]\nkey = "a"\nurl = "http://hc.acme.example"',
            "would send a secret for all to read; write https://hc.acme.example",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line_and_no_secret(tmp_path, text, said):
    with pytest.raises(ConfigurationError) as caught:
        config.read(written(tmp_path, text), {})
    assert said in str(caught.value)
    assert "nightcrew.toml:" in str(caught.value)
    assert KEY not in str(caught.value)
