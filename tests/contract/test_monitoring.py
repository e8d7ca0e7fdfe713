"""What machines ask over HTTP: who is let in, and that figures, words and pictures are those of the database."""

import json
import re
import shutil
import subprocess
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from tests.desk import Browser, hired, letting_in, past, words

from nightcrew import Job, Nightcrew, Settings, service
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import UsageError
from nightcrew.schedule import cron, every
from nightcrew.stores.memory import Memory
from nightcrew.vitals import Health, vitals
from nightcrew.web.monitoring import Monitoring

SECRET, MONITORS = "correct-horse-battery-staple", "look-but-never-touch-anything"
LET_IN = {"Authorization": f"Bearer {SECRET}"}
SHIPPED = Path(__file__).parents[2] / "docs" / "monitoring"
GUARDED = ["/metrics", "/status.json", "/badge.svg", "/badge/daily.svg", "/badge/nope.svg", "/nothing", "/"]


def crew_of(url: str, **settings) -> Nightcrew:
    crew = Nightcrew(url, settings=Settings(secret=SECRET, monitor_secret=MONITORS, **settings))
    crew.expire("purge-notes", "notes", column="created_at", every="10 minutes", max_fraction=1)
    crew.add(Job("daily", cron("30 2 * * *", "Europe/Paris"), function=lambda run: 7))
    return crew


@pytest.fixture
def crew(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    crew = crew_of(yard.link.engine.url.render_as_string(hide_password=False))
    crew.migrate()
    crew.status()
    yield crew
    crew.close()


@pytest.fixture
def monitor(crew):
    return Browser(crew.monitoring(), "/ops")


def asked(monitor, path, status=200):
    answer = monitor.ask("GET", path, headers=LET_IN)
    assert answer.status_code == status, answer.text
    return answer


def samples(text: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def stand(crew, job, **columns):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).where(job_table.c.name == job).values(**columns))


# ── who is let in ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", GUARDED)
def test_a_stranger_sees_nothing_and_the_database_is_not_asked(tmp_path, path):
    crew = crew_of(f"sqlite:///{tmp_path}/x.db")
    monitor = Browser(crew.monitoring())
    sent = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"}, {"X-Cron-Secret": "wrong"}]
    for headers in sent:
        answer = monitor.ask("GET", path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "daily" not in answer.text
        assert (answer.headers["cache-control"], answer.headers["x-robots-tag"][:7]) == ("no-store", "noindex")
    assert not (tmp_path / "x.db").exists()


def test_without_any_secret_the_pages_stay_closed(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        assert Browser(crew.monitoring()).ask("GET", "/metrics", headers=headers).status_code == 401


def test_the_monitors_own_secret_opens_these_pages_and_no_job(crew):
    app = service._whole(crew, lambda _text: None)
    own = {"Authorization": f"Bearer {MONITORS}"}
    assert Browser(app).ask("GET", "/metrics", headers=own).status_code == 200
    assert Browser(app).ask("POST", "/api/internal/jobs/daily", headers=own).status_code == 401
    assert MONITORS not in repr(crew.settings)
    assert crew.settings.censor(f"it was {MONITORS}") == "it was ***"


def test_an_application_decides_who_may_look(crew):
    def authorize(request):
        return "read_only" if request.path == "/badge.svg" else None

    monitor = Browser(crew.monitoring(authorize), "/ops")
    assert monitor.ask("GET", "/badge.svg").status_code == 200
    assert monitor.ask("GET", "/metrics", headers=LET_IN).status_code == 401


def test_in_development_whoever_sits_at_the_machine_may_look(crew):
    crew.settings = Settings(environment="development")
    monitoring = crew.monitoring()
    assert Browser(monitoring, host="localhost").ask("GET", "/status.json").status_code == 200
    assert Browser(monitoring, host="evil.example").ask("GET", "/status.json").status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/status.json", "/badge.svg", "/healthz", "/readyz"])
def test_only_looking_is_possible(monitor, path):
    answer = monitor.ask("POST", path, headers=LET_IN)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    head = monitor.ask("HEAD", path, headers=LET_IN)
    assert (head.status_code, head.content) == (200, b"")


# ── alive, and ready ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_lives_while_its_database_is_away_but_is_not_ready(tmp_path):
    crew = crew_of("postgresql://nobody:hunter2-hunter2@127.0.0.1:9/none")
    monitor = Browser(crew.monitoring())
    assert monitor.ask("GET", "/healthz").json() == {"status": "ok"}
    stranger, known = monitor.ask("GET", "/readyz"), asked(monitor, "/readyz", 503)
    assert (stranger.status_code, stranger.json()) == (503, {"status": "not ready"})
    assert known.json()["status"] == "not ready"
    assert known.json()["error"]
    assert "hunter2" not in known.text
    assert asked(monitor, "/metrics", 503).headers["retry-after"] == "5"
    crew.close()


def test_a_crew_is_ready_whose_tables_are_there(crew, monitor):
    assert monitor.ask("GET", "/readyz").json() == {"status": "ready"}
    assert monitor.ask("GET", "/healthz").json() == {"status": "ok"}


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_that_has_run_nothing_tells_what_another_has(crew, monitor):
    at = datetime.now(UTC) - timedelta(hours=3)
    row = {"moment": at, "finished_at": at + timedelta(seconds=90), "reason": "Job daily ran."}
    past(crew, ("daily", 180, "done", row), ("daily", 10, "running", {"finished_at": None}))
    stand(crew, "daily", last_ok_at=at, run="daily.00001", fail_streak=2)
    found = samples(asked(monitor, "/metrics").text)

    def figure(name):
        return found[f'nightcrew_{name}{{task="daily"}}']

    assert figure("job_last_success_timestamp_seconds") == pytest.approx(at.timestamp(), abs=0.01)
    assert figure("job_last_completion_timestamp_seconds") == pytest.approx(at.timestamp() + 90, abs=0.01)
    assert (figure("job_last_duration_seconds"), figure("job_max_runtime_seconds")) == (90, 180)
    assert 23 * 3600 <= figure("job_interval_seconds") <= 25 * 3600
    assert (figure("job_running"), figure("job_paused"), figure("job_fail_streak")) == (1, 0, 2)
    assert figure("job_next_slot_timestamp_seconds") > datetime.now(UTC).timestamp()
    assert 'nightcrew_job_last_success_timestamp_seconds{task="purge-notes"}' not in found
    assert found['nightcrew_job_max_runtime_seconds{task="purge-notes"}'] == 60
    assert found['nightcrew_build_info{version="0.1.0"}'] == 1


def test_a_pause_and_a_safety_rail_show(crew, monitor):
    crew.pause("daily", by="ada", reason="the books are closed")
    past(crew, ("purge-notes", 5, "failed", {"reason": "Job purge-notes was refused: 40 rows are too many"}))
    found = samples(asked(monitor, "/metrics").text)
    assert found['nightcrew_job_paused{task="daily"}'] == 1
    assert 'nightcrew_job_next_slot_timestamp_seconds{task="daily"}' not in found
    assert found['nightcrew_breaker_open{task="purge-notes"}'] == 1
    assert found['nightcrew_breaker_open{task="daily"}'] == 0


def test_runs_and_rows_of_this_process_are_counted_and_no_label_is_an_id(crew, monitor):
    run = crew.run("purge-notes", trigger="http", now=True).run
    crew.run("daily", trigger="somebody-else-entirely", now=True)
    crew.run("daily", trigger="dashboard", now=True)
    text = asked(monitor, "/metrics").text
    found = samples(text)
    assert found['nightcrew_rows_deleted_total{table="notes"}'] == 40
    ended = {name: number for name, number in found.items() if name.startswith("nightcrew_job_runs_total")}
    assert ended == {
        'nightcrew_job_runs_total{outcome="succeeded",task="purge-notes",trigger="http"}': 1,
        'nightcrew_job_runs_total{outcome="succeeded",task="daily",trigger="other"}': 1,
        'nightcrew_job_runs_total{outcome="succeeded",task="daily",trigger="dashboard"}': 1,
    }
    assert run not in text
    assert set(re.findall(r'[{,](\w+)="', text)) == {"task", "outcome", "trigger", "table", "version"}


def test_slots_that_others_had_are_counted(crew, monitor):
    other = crew_of(crew._station.link.engine.url.render_as_string(hide_password=False))
    stand(crew, "purge-notes", epoch_at=datetime.now(UTC) - timedelta(hours=1), mark=None)
    assert other.run("purge-notes", trigger="http").outcome == "succeeded"
    assert "nightcrew_slot_contended_total{" not in asked(monitor, "/metrics").text
    assert crew.run("purge-notes", trigger="http").outcome == "already_done"
    assert samples(asked(monitor, "/metrics").text)['nightcrew_slot_contended_total{task="purge-notes"}'] == 1
    other.close()


def test_blobs_that_went_and_time_that_gauges_took_are_counted(yard, tmp_path):
    yard.run("CREATE TABLE files (id {number} PRIMARY KEY, created_at {time}, name {text})")
    yard.fill("files", *({"id": n, "created_at": "2020-01-01 00:00:00", "name": f"f{n}"} for n in range(5)))
    flag, uploads = tmp_path / "stop", Memory()
    for number in range(5):
        uploads.put(f"f{number}", b"x")
    url = yard.link.engine.url.render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(secret=SECRET), blobs={"uploads": uploads}, gauges=[f"file:{flag}"])
    owed = [{"store": "uploads", "table": "files", "column": "name"}]
    crew.expire("purge-files", "files", column="created_at", every="1 day", max_fraction=1, blobs=owed)
    crew.migrate()
    monitor = Browser(crew.monitoring())
    flag.touch()
    report = crew.run("purge-files", trigger="http", now=True, deadline=timedelta(seconds=2))
    assert report.outcome == "partial"
    flag.unlink()
    crew.run("purge-files", trigger="http", now=True)
    assert yard.ids("files") == []
    assert crew.run("drain-outbox", now=True).outcome == "succeeded"
    assert [crew.run("purge-files", trigger="http").outcome for _ in range(2)] == ["nothing_to_do", "already_done"]
    text = asked(monitor, "/metrics").text
    found = samples(text)
    assert found['nightcrew_slot_contended_total{task="purge-files"}'] == 1
    if tool := shutil.which("promtool"):
        said = subprocess.run([tool, "check", "metrics"], input=text.encode(), capture_output=True, check=False)
        assert (said.returncode, said.stdout + said.stderr) == (0, b"")
    assert found['nightcrew_blobs_deleted_total{store="uploads"}'] == 5
    held = found['nightcrew_throttle_wait_seconds_total{task="purge-files"}']
    assert 0.1 < held < 5
    (written,) = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "waited"]
    assert 0.1 < written["seconds"] <= held + 0.01
    (gauge,) = written["by"]
    assert f"file:{flag}".startswith(gauge.rstrip("…")), "a long name is cut"
    page = words(Browser(crew.dashboard(letting_in("all"))).open(f"/runs/{report.run}"))
    assert f"in all, because of {gauge}" in page
    crew.close()


def test_a_command_leaves_the_same_figures_as_a_file_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    job = '[jobs.cleanup]\nevery = "10 minutes"\ntable = "users"\ncolumn = "left_at"\n'
    (tmp_path / "nightcrew.toml").write_text(job)
    (tmp_path / "out").mkdir()

    def command(*words):
        return CliRunner().invoke(nightcrew, words, obj=Desk())

    assert command("migrate").exit_code == 0
    printed, file = command("metrics"), tmp_path / "out" / "nightcrew.prom"
    assert samples(printed.stdout)['nightcrew_job_interval_seconds{task="cleanup"}'] == 600
    assert command("metrics", "--textfile", str(file)).exit_code == 0
    assert samples(file.read_text()).keys() == samples(printed.stdout).keys()
    assert [path.name for path in file.parent.iterdir()] == ["nightcrew.prom"]
    refused = command("metrics", "--textfile", str(tmp_path / "nowhere" / "x.prom")).exception
    assert isinstance(refused, UsageError)
    assert "name another with --textfile" in str(refused)


def test_whoever_lacks_prometheus_client_is_told_what_to_install(crew, monitor, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    monkeypatch.delitem(__import__("sys").modules, "nightcrew.web.exposition", raising=False)
    assert "pip install 'nightcrew[metrics]'" in asked(monitor, "/metrics", 501).json()["error"]
    assert asked(monitor, "/status.json").json()["status"] == "up"


# ── words and pictures ───────────────────────────────────────────────────────────────────────────────────────────────


def test_all_is_well(monitor):
    told = asked(monitor, "/status.json").json()
    assert (told["status"], told["message"]) == ("up", "all quiet: 2 jobs on schedule")
    assert {job["job"]: job["status"] for job in told["jobs"]} == {"purge-notes": "up", "daily": "up"}


def test_a_failure_is_down_a_paused_job_is_nobodys_concern_and_badges_say_the_same(crew, monitor):
    past(crew, ("purge-notes", 5, "failed", {"reason": "Job purge-notes failed: the disk is full"}))
    crew.pause("daily", by="ada", reason="the books are closed")
    told = asked(monitor, "/status.json").json()
    jobs = {job["job"]: job for job in told["jobs"]}
    assert (told["status"], jobs["purge-notes"]["status"], jobs["daily"]["status"]) == ("down", "down", "paused")
    assert jobs["purge-notes"]["message"] == "failed: the disk is full"
    assert jobs["purge-notes"]["lastState"] == "failed"
    for path, name, word in (
        ("/badge.svg", "nightcrew", "down"),
        ("/badge/purge-notes.svg", "purge-notes", "down"),
        ("/badge/daily.svg", "daily", "paused"),
    ):
        answer = asked(monitor, path)
        assert answer.headers["content-type"] == "image/svg+xml"
        picture = ET.fromstring(answer.text)
        assert picture.find("{http://www.w3.org/2000/svg}title").text == f"{name}: {word}"
    asked(monitor, "/badge/nope.svg", 404)


def test_a_job_that_is_due_is_late_after_a_minute_and_down_after_ten(crew):
    job = crew.job_named("purge-notes")
    slot = job.schedule.latest(datetime.now(UTC))
    stand(crew, "purge-notes", epoch_at=slot - timedelta(days=1), mark=slot - timedelta(minutes=10))
    found = crew.status("purge-notes")
    after = {
        minutes: vitals(found, {}, {}, slot + timedelta(minutes=minutes)).jobs[0].health for minutes in (0.5, 2, 9)
    }
    assert list(after.values()) == [Health.UP, Health.LATE, Health.LATE]
    daily = crew.job_named("daily")
    slot = daily.schedule.latest(datetime.now(UTC))
    stand(crew, "daily", epoch_at=slot - timedelta(days=9), mark=slot - timedelta(days=1))
    (one,) = vitals(crew.status("daily"), {}, {}, slot + timedelta(minutes=11)).jobs
    assert (one.health, one.says[:3]) == (Health.DOWN, "due")


@pytest.mark.parametrize(
    ("schedule", "at", "hours"),
    [
        (every("10 minutes"), "2026-03-03T12:03:00", 1 / 6),
        (cron("*/10 8-17 * * *"), "2026-03-03T12:03:00", 1 / 6),  # by day
        (cron("*/10 8-17 * * *"), "2026-03-03T03:00:00", 14 + 1 / 6),  # at night
        (cron("*/10 8-17 * * *"), "2026-03-03T08:05:00", 14 + 1 / 6),  # the night has only just ended
        (cron("0 9 * * 1-5"), "2026-03-03T12:00:00", 24),
        (cron("0 9 * * 1-5"), "2026-03-01T12:00:00", 72),  # a Sunday
    ],
)
def test_the_interval_is_that_of_the_slots_around_now(crew, schedule, at, hours):
    crew.add(Job("odd", schedule, function=print))
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    (odd,) = vitals(crew.status("odd"), {}, {}, now).jobs
    assert odd.interval == timedelta(hours=hours)


# ── what is shipped beside ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def promtool():
    if (tool := shutil.which("promtool")) is None:
        warnings.warn("promtool is not installed: metrics and alert rules are not checked", stacklevel=2)
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return tool


def test_prometheus_finds_nothing_to_say_about_the_metrics(crew, monitor, promtool):
    crew.run("purge-notes", trigger="http", now=True)
    text = asked(monitor, "/metrics").content
    said = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


def test_prometheus_takes_the_rules(promtool):
    said = subprocess.run([promtool, "check", "rules", SHIPPED / "alerts.yml"], capture_output=True, check=False)
    assert (said.returncode, b"4 rules found" in said.stdout) == (0, True)


ALERTED = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'nightcrew_build_info{{version="1",instance="a"}}', values: '1x300'}}
      - {{series: 'nightcrew_job_registered_timestamp_seconds{{task="new",instance="a"}}', values: '0x300'}}
      - {{series: 'nightcrew_job_registered_timestamp_seconds{{task="old",instance="a"}}', values: '-90000x300'}}
      - {{series: 'nightcrew_job_last_success_timestamp_seconds{{task="old",instance="a"}}', values: '0x300'}}
      - {{series: 'nightcrew_job_last_success_timestamp_seconds{{task="old",instance="b"}}', values: '0x300'}}
      - {{series: 'nightcrew_job_last_success_timestamp_seconds{{task="still",instance="a"}}', values: '0x300'}}
      - {{series: 'nightcrew_job_interval_seconds{{task="new",instance="a"}}', values: '3600x300'}}
      - {{series: 'nightcrew_job_interval_seconds{{task="old",instance="a"}}', values: '3600x300'}}
      - {{series: 'nightcrew_job_interval_seconds{{task="still",instance="a"}}', values: '3600x300'}}
      - {{series: 'nightcrew_job_max_runtime_seconds{{task="new",instance="a"}}', values: '600x300'}}
      - {{series: 'nightcrew_job_max_runtime_seconds{{task="old",instance="a"}}', values: '600x300'}}
      - {{series: 'nightcrew_job_max_runtime_seconds{{task="still",instance="a"}}', values: '600x300'}}
      - {{series: 'nightcrew_job_paused{{task="still",instance="a"}}', values: '1x300'}}
    alert_rule_test:
      - {{alertname: NightcrewJobWithoutSuccess, eval_time: 130m, exp_alerts: []}}
      - alertname: NightcrewJobWithoutSuccess
        eval_time: 133m
        exp_alerts:
          - exp_labels: {{severity: critical, task: new}}
            exp_annotations: {{summary: new has not succeeded for 2h 13m 0s, description: "{why} new' says why."}}
          - exp_labels: {{severity: critical, task: old}}
            exp_annotations: {{summary: old has not succeeded for 2h 13m 0s, description: "{why} old' says why."}}
"""


def test_the_alert_comes_after_twice_the_interval_and_a_run_once_for_all_processes(promtool, tmp_path):
    why = "That is more than twice its interval and what a run takes: 'nightcrew runs"
    (tmp_path / "test.yml").write_text(ALERTED.format(rules=SHIPPED / "alerts.yml", why=why))
    said = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_alerts_and_dashboard_use_only_metrics_that_there_are(monitor):
    there = set(re.findall(r"^# TYPE (\w+)", asked(monitor, "/metrics").text, re.MULTILINE))
    rules = yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"][0]["rules"]
    board = json.loads((SHIPPED / "grafana.json").read_text())
    asked_for = [rule["expr"] for rule in rules] + [
        target["expr"] for panel in board["panels"] for target in panel["targets"]
    ]
    assert len(asked_for) > 10
    for expression in asked_for:
        assert set(re.findall(r"nightcrew_\w+", expression)) <= there, expression


def test_mounted_by_the_service_beside_the_jobs(crew):
    app = Browser(service._whole(crew, lambda _text: None))
    assert app.ask("GET", "/healthz").status_code == 200
    assert app.ask("GET", "/metrics").status_code == 401
    assert app.ask("POST", "/api/internal/jobs/daily", headers=LET_IN).status_code == 200
    assert app.ask("GET", "/nothing").json() == {"error": "Not found."}
    assert isinstance(crew.monitoring(), Monitoring)
