"""The command line as people and schedulers use it: the real command, in its own process."""

import json
import os
import pty
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.console.line import run

COMMAND = [str(Path(sys.executable).with_name("nightcrew"))]
KEPT = {"PATH", "HOME", "PYTHONPATH"}
EXAMPLES = "write it like '30 days', '15 minutes' or '1h30m'"
SECRET = "0123456789abcdef0123456789abcdef"
CONFIG = """\
[nightcrew]
database = "${DATABASE_URL}"

[jobs.cleanup-pkce]
every  = "10 minutes"
path   = "/api/oauth/cleanup-pkce"
table  = "oauth_pkce_states"
column = "expires_at"

[jobs.yearly]
schedule   = "0 0 1 1 *"
table      = "users"
column     = "left_at"
older_than = "30 days"
"""
APP = """\
import time
from pathlib import Path
from nightcrew import Nightcrew
from nightcrew.errors import SafetyStop

class Refusing(Nightcrew):
    def run(self, name, **_):
        raise SafetyStop(f"job {name!r} is over its cap: raise max_rows")

crew = Nightcrew()
refusing = Refusing(jobs=[])
number = 3

@crew.job("0 0 * * *")
def breaks(run):
    raise ValueError("no such bucket")

@crew.job("0 0 * * *")
def stubborn(run):
    Path("began").touch()
    time.sleep(30)
"""


@dataclass(frozen=True)
class Shop:
    """A folder with a database, a configuration and an application."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def nightcrew(self, *args: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        line, env = [*COMMAND, *args], self.environ | environ
        done = subprocess.run(line, cwd=self.folder, env=env, text=True, capture_output=True, timeout=30, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *args: str, code: int = 0, **environ: str) -> Any:
        return json.loads(self.nightcrew("--json", *args, code=code, **environ).stdout)

    def refusal(self, *args: str, code: int = 2, **environ: str) -> str:
        """What is said, having checked that it is one sentence on stderr and nothing else."""
        done = self.nightcrew(*args, code=code, **environ)
        assert done.stdout == ""
        assert re.fullmatch(r"nightcrew: [^\n]+\n", done.stderr), done.stderr
        return done.stderr

    def begin(self, *args: str) -> subprocess.Popen[str]:
        line, pipe = [*COMMAND, *args], subprocess.PIPE
        return subprocess.Popen(line, cwd=self.folder, env=self.environ, text=True, stdout=pipe, stderr=pipe)

    def write(self, text: str, name: str = "nightcrew.toml") -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def rows(self, table: str) -> int:
        with closing(sqlite3.connect(self.folder / "shop.db")) as database:
            return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE oauth_pkce_states (state TEXT PRIMARY KEY, expires_at TIMESTAMP)")
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, left_at TIMESTAMP)")
        states = [("a", "2020-01-01 00:00:00"), ("b", "2020-01-02 00:00:00"), ("c", "2999-01-01 00:00:00"), ("d", None)]
        database.executemany("INSERT INTO oauth_pkce_states VALUES (?, ?)", states)
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("COVERAGE")}
    shop = Shop(tmp_path, {**kept, "PYTHONWARNINGS": "error", "DATABASE_URL": f"sqlite:///{tmp_path}/shop.db"})
    shop.write(CONFIG)
    shop.write(APP, "shop.py")
    return shop


# ── a first evening ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_evening_from_init_to_the_run_that_is_already_done(tmp_path: Path, shop: Shop) -> None:
    (tmp_path / "nightcrew.toml").unlink()
    assert "write one with 'nightcrew init'" in shop.refusal("status")

    begun = shop.nightcrew("init", "--no-database")
    assert begun.stdout.splitlines() == ["nightcrew check", "nightcrew plan cleanup-pkce", "nightcrew serve"]
    assert begun.stderr.startswith("wrote nightcrew.toml")

    checked = shop.nightcrew("check").stdout
    assert re.search(r"cleanup-pkce +every 10 minutes +in .+ deletes rows of oauth_pkce_states once", checked)
    assert "CRON_SECRET is not set" in checked

    planned = shop.nightcrew("plan", "cleanup-pkce").stdout
    assert "CREATE INDEX" in planned
    assert planned.splitlines()[-1] == "next: nightcrew run cleanup-pkce --now"
    assert shop.rows("oauth_pkce_states") == 4

    assert shop.nightcrew("run", "cleanup-pkce").stdout == "✓ Deleted 2 rows of oauth_pkce_states.\n"
    assert shop.rows("oauth_pkce_states") == 2
    assert "ended as done by cli" in shop.nightcrew("run", "cleanup-pkce").stdout
    assert "Nothing to do" in shop.nightcrew("run", "cleanup-pkce", "--now").stdout

    status = shop.nightcrew("status").stdout.splitlines()
    assert status[0] == "✓ all quiet: 1 job on schedule"
    assert re.fullmatch(r"cleanup-pkce +every 10 minutes +✓ done (just now|.+ ago) +in .+ +0 +cli", status[2])
    assert len(shop.nightcrew("runs").stdout.splitlines()) == 3


def test_the_evening_is_the_same_on_every_database(shop: Shop, yard: Any) -> None:
    yard.run("CREATE TABLE oauth_pkce_states (state {text} PRIMARY KEY, expires_at {time})")
    yard.fill("oauth_pkce_states", {"state": "a", "expires_at": timedelta(days=1)}, {"state": "b", "expires_at": None})
    shop.environ["DATABASE_URL"] = yard.link.engine.url.render_as_string(hide_password=False)
    assert shop.json("migrate")["applied"]
    assert shop.json("plan", "cleanup-pkce")["rows"] == 1
    assert shop.json("run", "cleanup-pkce")["deletedCount"] == 1
    assert shop.json("run", "cleanup-pkce")["outcome"] == "already_done"
    assert shop.json("status")["jobs"][0]["lastRun"]["state"] == "done"
    assert yard.ids("oauth_pkce_states", "state") == ["b"]


def test_rows_are_anonymized_and_their_newest_kept_as_the_file_says(shop: Shop) -> None:
    shop.write(
        CONFIG
        + """
        [jobs.forget-logins]
        schedule    = "0 0 * * *"
        table       = "logins"
        column      = "at"
        action      = "anonymize"
        set         = { address = { sql = "'host ' || id" }, agent = { sql = "NULL" } }
        keep_latest = 1
        per         = ["user_id"]
        """
    )
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute(
            "CREATE TABLE logins (id INTEGER PRIMARY KEY, at TIMESTAMP, user_id, address TEXT, agent TEXT)"
        )
        database.execute("INSERT INTO logins SELECT value, '2020-01-0' || value, value % 2, 'x', 'y'"
                         " FROM json_each('[1,2,3,4,5]')")  # fmt: skip
    does = "anonymizes address, agent in rows of logins once at is past, never one of the latest 1 per user_id"
    assert shop.json("check")["jobs"][-1]["does"] == does
    assert does in shop.nightcrew("show", "forget-logins").stdout
    planned = shop.nightcrew("plan", "forget-logins").stdout
    assert re.search(r"^logins +3 .+anonymize$", planned, re.MULTILINE)
    assert "batches  rows are locked, then looked at again" in planned
    assert re.search(r"oldest +id \d+, \d+, \d+$", planned, re.MULTILINE)
    assert "CREATE INDEX logins_user_id_at_idx ON logins (user_id, at);" in planned
    assert "Anonymized 3 rows of logins." in shop.nightcrew("run", "forget-logins", "--now").stdout
    assert shop.json("run", "forget-logins", "--now")["outcome"] == "nothing_to_do"
    assert shop.rows("logins WHERE address LIKE 'host %' AND agent IS NULL AND id < 4") == 3


def test_init_proposes_what_the_database_gives_reason_for_and_enables_nothing(shop: Shop) -> None:
    begun = shop.nightcrew("--config", "new.toml", "init")
    assert "1 proposal for 2 tables, none of them enabled" in begun.stderr
    written = (shop.folder / "new.toml").read_text(encoding="utf-8")
    assert "no job is enabled" in shop.nightcrew("--config", "new.toml", "check").stdout
    assert shop.nightcrew("--config", "new.toml", "migrate")
    assert "no job is enabled" in shop.nightcrew("--config", "new.toml", "status").stdout
    block = re.sub(r"^# ", "", written, flags=re.MULTILINE)
    (shop.folder / "new.toml").write_text(block, encoding="utf-8")
    assert shop.json("--config", "new.toml", "plan", "expire-oauth-pkce-states")["rows"] == 2
    assert "no/such/folder.toml cannot be written" in shop.refusal("--config", "no/such/folder.toml", "init")


def test_init_never_overwrites_and_takes_another_name(shop: Shop) -> None:
    before = (shop.folder / "nightcrew.toml").read_text()
    assert "nightcrew.toml is there already" in shop.refusal("init")
    assert (shop.folder / "nightcrew.toml").read_text() == before
    following = shop.nightcrew("--config", "other.toml", "init", "--no-database").stdout.splitlines()
    assert following[0] == "nightcrew --config other.toml check"
    assert shop.json("--config", "other.toml", "check")["jobs"][0]["name"] == "cleanup-pkce"
    assert "name another" in shop.refusal("--config", "no/such/folder.toml", "init")


def test_a_paused_job_says_why_and_runs_again_when_resumed(shop: Shop) -> None:
    paused = shop.nightcrew("pause", "cleanup-pkce", "--reason", "a migration", "--until", "2h").stdout
    assert re.fullmatch(r"○ cleanup-pkce is paused until 20.+Z: a migration\n", paused)
    assert "a migration" in shop.nightcrew("run", "cleanup-pkce").stdout
    assert "1 paused or disabled" in shop.nightcrew("status").stdout
    shop.nightcrew("pause", "yearly", "--reason", "a migration")
    assert shop.nightcrew("status").stdout.startswith("! nothing runs: all 2 jobs are paused or disabled\n")
    standing = shop.json("status")["jobs"][0]
    assert (standing["paused"], standing["pausedReason"], standing["nextSlot"]) == (True, "a migration", None)
    shop.nightcrew("resume", "cleanup-pkce")
    assert shop.json("run", "cleanup-pkce", "--now")["deletedCount"] == 2


def test_a_stop_of_all_is_one_command_and_the_first_line_of_the_status(shop: Shop) -> None:
    stopped = shop.nightcrew("pause", "--all", "--reason", "an incident").stdout
    assert stopped == "○ every job is stopped until 'nightcrew resume --all': an incident\n"
    assert re.match(r"! every job is stopped by \w+: an incident\n", shop.nightcrew("status").stdout)
    assert shop.json("run", "cleanup-pkce", "--now")["outcome"] == "paused"
    assert {job["stoppedReason"] for job in shop.json("status")["jobs"]} == {"an incident"}
    assert shop.json("resume", "--all") == {"stopped": False}
    assert shop.json("run", "cleanup-pkce", "--now")["deletedCount"] == 2


def test_a_job_outside_of_its_window_says_until_when_and_runs_for_who_insists(shop: Shop) -> None:
    now = datetime.now(UTC)
    begin, end = now - timedelta(hours=3), now - timedelta(hours=1)
    window = f"{begin:%H:%M}-{end:%H:%M}"
    shop.write(CONFIG.replace('every  = "10 minutes"', f'every  = "10 minutes"\nwindow = "{window}"'))
    assert f"works only within {window}" in shop.nightcrew("show", "cleanup-pkce").stdout

    told = shop.nightcrew("run", "cleanup-pkce").stdout
    assert f"works only within {window}: what is due waits until {begin + timedelta(days=1):%Y-%m-%d %H:%M}Z" in told
    assert "nightcrew run cleanup-pkce --now" in told
    assert (shop.nightcrew("tick").stdout, shop.rows("oauth_pkce_states")) == ("nothing is due\n", 4)
    for command in ("jobs", "status"):  # though a slot is due within ten minutes
        assert re.search(rf"cleanup-pkce .* in 2\d h.*, within {window}", shop.nightcrew(command).stdout)

    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute("UPDATE nightcrew_jobs SET epoch_at = '2020-01-01 00:00:00.000000'")
    assert re.search(rf"cleanup-pkce .* in 2\d h.*, within {window}", shop.nightcrew("status").stdout)
    standing = shop.json("status")["jobs"][0]
    assert standing["window"] == window
    assert standing["waitsUntil"].startswith(f"{begin + timedelta(days=1):%Y-%m-%dT%H:%M}:00")

    assert "Deleted 2 rows" in shop.nightcrew("run", "cleanup-pkce", "--now").stdout


def test_tick_runs_what_is_due_and_says_so_when_nothing_is(shop: Shop) -> None:
    assert shop.nightcrew("tick").stdout == "nothing is due\n"
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute("UPDATE nightcrew_jobs SET epoch_at = '2020-01-01 00:00:00.000000'")
    reports = {report["job"]: report["outcome"] for report in shop.json("tick")["reports"]}
    assert reports["cleanup-pkce"] == "succeeded"


def test_a_list_of_failures_without_any_does_not_say_that_nothing_ran(shop: Shop) -> None:
    assert shop.nightcrew("runs").stdout == "no runs yet\n"
    shop.nightcrew("run", "cleanup-pkce", "--now")
    assert shop.nightcrew("runs", "--failed").stdout == "no run has failed or was missed\n"


def test_show_says_a_schedule_once_and_everything_of_the_policy(shop: Shop) -> None:
    shop.write(CONFIG + 'pace = "gentle"\nwhere = "id > 5"\naction = "anonymize"\nset = { id = { sql = "-id" } }\n')
    assert "  when      every 10 minutes\n" in shop.nightcrew("show", "cleanup-pkce").stdout
    assert "on day 1 of January [0 0 1 1 *]\n" in shop.nightcrew("show", "yearly").stdout
    shown = shop.json("show", "yearly")
    assert (shown["pace"], shown["throttle"]) == ("gentle", [])
    assert shown["policy"] == {
        "table": "users", "column": "left_at", "olderThan": "30 days", "where": "id > 5", "hold": None,
        "unlessExists": [], "erase": False, "links": [], "allowUnindexed": False, "action": "anonymize",
        "set": {"id": {"sql": "-id"}}, "keepLatest": None,
        "per": [], "maxRows": None, "maxFraction": 0.2, "archive": None, "blobsAfter": None, "traces": [], "keep": {},
    }  # fmt: skip


def test_next_merges_the_slots_of_all_jobs(shop: Shop) -> None:
    coming = shop.json("next", "-n", "3")["next"]
    assert [slot["job"] for slot in coming] == ["cleanup-pkce"] * 3
    assert coming == sorted(coming, key=lambda slot: slot["slot"])
    assert len(shop.nightcrew("next", "-n", "3").stdout.splitlines()) == 4


def test_migrate_prints_its_statements_before_it_runs_them(shop: Shop) -> None:
    assert "CREATE TABLE" in shop.nightcrew("migrate", "--sql").stdout
    assert shop.json("migrate")["applied"]
    assert shop.nightcrew("migrate").stdout == "nothing to do: the tables are of this version\n"


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_fails_ends_with_1_and_its_reason(shop: Shop) -> None:
    done = shop.nightcrew("--app", "shop:crew", "run", "breaks", code=1)
    assert done.stdout == "✗ Job breaks failed: job 'breaks' raised ValueError: no such bucket\n"
    assert "✗ 1 job needs attention: breaks" in shop.nightcrew("--app", "shop:crew", "status").stdout
    assert shop.json("--app", "shop:crew", "status")["attention"] == ["breaks"]
    assert [run["state"] for run in shop.json("--app", "shop:crew", "runs", "--failed")["runs"]] == ["failed"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_of_a_job_is_shown_with_v_and_only_then(shop: Shop, form: str) -> None:
    shop.environ["NIGHTCREW_LOG_FORMAT"] = form
    assert shop.nightcrew("--app", "shop:crew", "run", "breaks", code=1).stderr == ""
    shown = shop.nightcrew("--app", "shop:crew", "run", "breaks", "--now", "-v", code=1)
    assert shown.stdout == "✗ Job breaks failed: job 'breaks' raised ValueError: no such bucket\n"
    if form == "json":
        lines = [json.loads(line) for line in shown.stderr.splitlines()]
        shown.stderr = next(line["traceback"] for line in lines if "traceback" in line)
    assert re.search(r'shop.py", line \d+, in breaks\n +raise ValueError\("no such bucket"\)\n', shown.stderr)


LEAKY = """\
from nightcrew import Nightcrew
crew = Nightcrew("sqlite:///shop.db")

@crew.job("0 0 * * *")
def leaks(run):
    raise ValueError("redis://:hunter2@cache is away; tried 0123456789abcdef0123456789abcdef, password=swordfish")
"""


def test_no_secret_in_an_exceptions_text_reaches_the_screen_the_log_or_the_ledger(shop: Shop) -> None:
    shop.write(LEAKY, "leaky.py")
    shop.environ.update(CRON_SECRET=SECRET, NIGHTCREW_LOG_FORMAT="json")
    said = [shop.nightcrew("-v", "--app", "leaky:crew", "run", "leaks", "--now", code=1)]
    said += [shop.nightcrew("--app", "leaky:crew", *words) for words in (["runs"], ["runs", "--json"], ["status"])]
    shop.write(LEAKY + "\ncrew.status = lambda: leaks(None)", "leaky.py")
    said += [shop.nightcrew("--app", "leaky:crew", "status", *more, code=1) for more in ([], ["-v"], ["--json"])]
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database:
        ledger = [
            *database.execute("SELECT * FROM nightcrew_runs"),
            *database.execute("SELECT * FROM nightcrew_entries"),
        ]
    everything = repr([[done.stdout, done.stderr] for done in said]) + repr(ledger)
    assert everything.count("redis://:***@cache is away; tried ***, password=***") > 8
    assert not [secret for secret in (SECRET, "hunter2", "swordfish") if secret in everything]


def test_a_check_that_finds_a_problem_ends_with_1(shop: Shop) -> None:
    assert (
        "NC201 CRON_SECRET has 5 characters, and opens nothing"
        in shop.nightcrew("check", code=1, CRON_SECRET="short").stdout
    )


@pytest.mark.parametrize("line", ["check", "jobs", "show yearly", "next -n 1"])
@pytest.mark.parametrize("app", [[], ["--app", "shop:crew"]])
def test_what_needs_no_database_needs_no_url_of_one(shop: Shop, line: str, app: list[str]) -> None:
    del shop.environ["DATABASE_URL"]
    words = [*app, *(line if not app else line.replace("yearly", "breaks")).split()]
    said = shop.nightcrew(*words).stdout
    if line == "check":
        unset = "environment variable DATABASE_URL is not set; export it, or put it into .env beside this file"
        assert f"! warning  {'no database is configured: ' if app else f'nightcrew.toml:2: {unset}'}" in said
    assert "DATABASE_URL" in shop.refusal(*app, "status")


def test_a_check_tells_of_a_url_that_means_no_database(shop: Shop) -> None:
    said = shop.nightcrew("check", code=1, DATABASE_URL="sqlit:///shop.db").stdout
    assert "✗ problem  database URL begins with 'sqlit'" in said


DEEDS = ["status", "runs", "plan yearly", "run yearly", "tick", "pause yearly --reason x", "resume yearly"]


@pytest.mark.parametrize("line", DEEDS)
def test_a_database_file_that_is_not_there_is_named_and_not_made(
    inside: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///shob.db")
    assert run(nightcrew, line.split(), Desk()) == 4
    file = inside.folder / "shob.db"
    assert f"there is no file {file}; correct the path, or make it with 'nightcrew migrate'" in capsys.readouterr().err
    assert not file.exists()


def test_only_migrate_makes_a_database_file(shop: Shop) -> None:
    url = f"sqlite:///{shop.folder}/new.db"
    shop.nightcrew("migrate", "--sql", DATABASE_URL=url)
    assert "does not exist: there is no file" in shop.refusal("serve", code=4, DATABASE_URL=url)
    assert not (shop.folder / "new.db").exists()
    shop.nightcrew("migrate", DATABASE_URL=url)
    assert "all quiet" in shop.nightcrew("status", DATABASE_URL=url).stdout
    assert "unable to open" in shop.refusal("migrate", code=4, DATABASE_URL="sqlite:///no/such/folder.db")


def test_a_safety_stop_ends_with_3(shop: Shop) -> None:
    assert "over its cap: raise max_rows" in shop.refusal("--app", "shop:refusing", "run", "x", code=3)


@pytest.mark.parametrize("command", ["status", "runs", "tick", "plan cleanup-pkce", "run cleanup-pkce", "migrate"])
def test_a_database_that_is_away_ends_with_4_without_its_password(shop: Shop, command: str) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/shop?connect_timeout=2"
    said = shop.refusal(*command.split(), code=4, DATABASE_URL=url)
    assert "database postgresql://me:***@127.0.0.1:1/shop cannot be reached" in said
    assert "hunter2" not in said


def test_a_job_says_where_it_is_written(shop: Shop) -> None:
    assert "  written   in nightcrew.toml:10\n" in shop.nightcrew("show", "yearly").stdout
    assert "written" not in shop.nightcrew("--app", "shop:crew", "show", "breaks").stdout


def test_a_database_that_refuses_a_statement_is_not_away(shop: Shop) -> None:
    shop.nightcrew("migrate")
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute("ALTER TABLE nightcrew_runs RENAME COLUMN reason TO why")
    assert "refused a statement" in shop.refusal("runs", code=1)


def test_a_table_of_nightcrews_own_that_has_gone_is_named_until_migrate_makes_it_anew(shop: Shop) -> None:
    shop.nightcrew("migrate")
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute("DROP TABLE nightcrew_runs")
    assert "has lost the table nightcrew_runs of nightcrew's own" in shop.refusal("runs", code=4)
    assert shop.nightcrew("migrate").stdout == "made anew, and empty: the table nightcrew_runs\n"
    assert shop.nightcrew("run", "cleanup-pkce").stdout.startswith("✓ Deleted 2 rows")


def test_a_hint_names_no_table_of_nightcrews_own(shop: Shop) -> None:
    shop.nightcrew("migrate")
    shop.write(CONFIG.replace('"users"', '"x"'))
    assert shop.refusal("plan", "yearly").endswith("; there is 'oauth_pkce_states', 'users'\n")
    shop.write(CONFIG.replace('"users"', '"nightcrew_run"'))
    assert "did you mean 'nightcrew_runs'?" in shop.refusal("plan", "yearly")


def test_a_missing_table_fails_the_run_and_refuses_the_plan(shop: Shop) -> None:
    shop.write(CONFIG.replace('"users"', '"userz"'))
    assert "did you mean 'users'?" in shop.refusal("plan", "yearly")
    assert "did you mean 'users'?" in shop.nightcrew("run", "yearly", "--now", code=1).stdout


# ── bad input: one sentence each ─────────────────────────────────────────────────────────────────────────────────────

LINES = {
    "unknown command": ("stauts", "there is no command 'stauts'; did you mean 'status'?"),
    "unknown command, not asked twice": ("stauts", "did you mean 'status'?\n"),
    "unknown secret command": ("secret print", "there is no command 'print'; did you mean 'fingerprint'?"),
    "unknown option": ("status --nope", "No such option"),
    "no job": ("run", "Missing argument 'JOB'; see 'nightcrew run --help'"),
    "unknown job": ("run cleanup-pckes", "no job is called 'cleanup-pckes'; did you mean 'cleanup-pkce'?"),
    "unknown job to show": ("show cleanup", "no job is called 'cleanup'"),
    "unknown job to plan": ("plan x", "no job is called 'x'; there is 'cleanup-pkce', 'yearly'"),
    "unknown job of runs": ("runs x", "no job is called 'x'"),
    "unknown job to pause": ("pause x --reason y", "no job is called 'x'"),
    "unknown job to resume": ("resume x", "no job is called 'x'"),
    "deadline of no number": ("run yearly --deadline soon", "duration 'soon' is no length of time; write it like"),
    "deadline without unit": ("run yearly --deadline 50", "write it like '30 days', '15 minutes'"),
    "deadline of nothing": ("run yearly --deadline 0s", "is no time at all"),
    "slot in no zone": ("run yearly --slot 2026-01-01T00:00", "has no time zone; write it in UTC, as in 2026-01-31T12"),
    "slot of no time": ("run yearly --slot yesterday", "'yesterday' is no time; write it in UTC"),
    "slot as a length of time": ("run yearly --slot 2h", "'2h' is no time; write it in UTC"),
    "slot before time": ("run yearly --slot 0500-06-01T00:00Z", "lies before 1970"),
    "slot before the calendar": ("run yearly --slot 0001-01-01T00:00+14:00", "lies before 1970"),
    "slot after the calendar": ("run yearly --slot 9999-12-31T23:59-12:00", "lies in the future"),
    "until after the calendar": ("pause yearly --reason x --until 9999-12-31T23:59-12:00", "is no instant of UTC's"),
    "slot to come": ("run yearly --slot 2999-01-01T02:00+02:00", "slot 2999-01-01T00:00:00.000Z of job 'yearly' lies"),
    "slot before the job was there": ("run yearly --slot 2001-06-01T00:00Z", "slot 2001-01-01T00:00:00.000Z of job"),
    "job of odd letters": ("run a\x1b[2J\n;b", "no job is called 'a\\x1b[2J\\n;b'"),
    "job of no letters": ("run ../../etc/passwd", "no job is called '../../etc/passwd'"),
    "pause until the past": ("pause yearly --reason x --until 2020-01-01T00:00Z", "until 2020-01-01T00:00:00.000Z is"),
    "slot and now": ("run yearly --now --slot 2026-01-01T00:00Z", "not both"),
    "pause of nothing": ("pause --reason x", "name one JOB, or say --all for every job"),
    "resume of one and all": ("resume yearly --all", "name one JOB, or say --all for every job"),
    "stop until some time": ("pause --all --reason x --until 2h", "--until goes with a JOB"),
    "pause without reason": ("pause yearly", "Missing option '--reason'"),
    "pause with an empty reason": ("pause yearly --reason=", "--reason is empty; say why"),
    "pause until some time": ("pause yearly --reason x --until noon", "'noon' is no time; write it in UTC"),
    "number of nothing": ("next -n many", "'many' is not a valid integer"),
    "number too small": ("runs -n 0", "0 is not in the range"),
    "port of no number": ("serve --port http", "'http' is not a valid integer"),
    "no such file": ("--config gone.toml status", "gone.toml does not exist; write one with 'nightcrew init'"),
    "a folder": ("--config . status", "is a directory; name the file in it"),
    "app and config": ("--app a:b --config c status", "--app and --config each name a crew; drop one of the two"),
    "app of no form": ("--app shop status", "--app 'shop' is no MODULE:NAME; write it as in --app shop.main:crew"),
    "app of no module": ("--app shopp:crew status", "there is no module 'shopp' here; run from the folder that"),
    "app of no module in a package": ("--app shop.main:crew status", "there is no module 'shop.main'"),
    "app of no name": ("--app shop:crow status", "module 'shop' has no crew called 'crow'; did you mean 'crew'?"),
    "app of another type": ("--app shop:number status", "shop:number is of type int; name a variable"),
}  # fmt: skip


@pytest.fixture
def inside(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop around this very process, where a command line can be run without starting another."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("DATABASE_URL", shop.environ["DATABASE_URL"])
    monkeypatch.setenv("CRON_SECRET", SECRET)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return shop


@pytest.mark.parametrize(("line", "sentence"), LINES.values(), ids=LINES)
def test_a_line_that_makes_no_sense_is_told_so_in_one_sentence(
    inside: Shop, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert run(nightcrew, line.split(" "), Desk()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"nightcrew: [^\n]+\n", said.err)
    assert sentence in said.err


WRONG = {
    "table": ('"users"', '"userz"', 12, "table 'userz' is not in the database; did you mean 'users'?"),
    "column": ('"left_at"', '"left"', 13, "table 'users' has no column 'left'; did you mean 'left_at'?"),
    "no time": ('"left_at"', '"id"', 13, "column 'id' of table 'users'"),
    "child": ("older_than", 'unless_exists = ["gone.id"]\nolder_than', 14, "table 'gone' is not in the database"),
    "grammar": ("older_than", "where = 'id > > 5'\nolder_than", 14, "where 'id > > 5' cannot be used: database"),
    "name": ("older_than", "hold = 'held'\nolder_than", 14, "hold 'held' cannot be used: database"),
    "function": ("older_than", "where = 'no_such(id)'\nolder_than", 14, "where 'no_such(id)' cannot be used: database"),
    "quoted": ("older_than", "where = '\"held\" = 1'\nolder_than", 14, "SQL '\"held\" = 1': table 'users' has no"),
}


@pytest.mark.parametrize(("right", "wrong", "line", "sentence"), WRONG.values(), ids=WRONG)
def test_what_a_policy_names_wrongly_is_told_with_its_line_and_its_job(
    inside: Shop, yard: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], right: str,
    wrong: str, line: int, sentence: str,
) -> None:  # fmt: skip
    yard.run("CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})")
    yard.fill("users", {"id": 1, "left_at": timedelta(days=100)})
    monkeypatch.setenv("DATABASE_URL", yard.link.engine.url.render_as_string(hide_password=False))
    inside.write(CONFIG.replace(right, wrong))
    assert run(nightcrew, ["plan", "yearly"], Desk()) == 2
    place = f"nightcrew.toml:{line}: job 'yearly': {sentence}"
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"nightcrew: {place}")
    assert run(nightcrew, ["migrate"], Desk()) == 0
    assert run(nightcrew, ["run", "yearly", "--now"], Desk()) == 1
    assert f"✗ Job yearly failed: {place}" in capsys.readouterr().out
    assert yard.ids("users") == [1]


def test_every_mistake_of_a_configuration_is_a_line_of_its_own(shop: Shop) -> None:
    shop.write(CONFIG.replace("column", "colum").replace("30 days", "30"))
    done = shop.nightcrew("check", code=2)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "nightcrew: nightcrew.toml:8: job 'cleanup-pkce': unknown key 'colum'; did you mean 'column'?",
        "nightcrew: nightcrew.toml:13: job 'yearly': unknown key 'colum'; did you mean 'column'?",
        f"nightcrew: nightcrew.toml:14: job 'yearly': duration '30' has no unit after '30'; {EXAMPLES}",
    ]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("oracle://db/shop", "oracle"), ("shop.db", "shop.db"), ("", "DATABASE_URL is empty"), ("sqlit:///x", "sqlit")],
)
def test_a_url_that_means_no_database_is_told_so_in_one_sentence(shop: Shop, url: str, sentence: str) -> None:
    assert sentence in shop.refusal("status", DATABASE_URL=url)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_thing", "module 'broken' imports 'no_such_thing', which is not installed"),
        ("1 / 0", "module 'broken' fails when it is imported (ZeroDivisionError: division by zero); -v shows where"),
    ],
)
def test_an_application_that_cannot_be_imported_is_told_so(shop: Shop, text: str, sentence: str) -> None:
    shop.write(text, "broken.py")
    assert sentence in shop.refusal("--app", "broken:crew", "status")
    assert "Traceback" in shop.nightcrew("-v", "--app", "broken:crew", "status", code=2).stderr


def test_what_nobody_expected_is_one_sentence_and_a_traceback_on_demand(shop: Shop) -> None:
    shop.write(APP + "\ncrew.status = lambda: 1 / 0\n", "shop.py")
    assert "ZeroDivisionError: division by zero; -v shows where" in shop.refusal("--app", "shop:crew", "status", code=1)
    shown = shop.nightcrew("--app", "shop:crew", "status", "-v", code=1).stderr
    assert "Traceback" in shown
    assert shown.endswith("nightcrew: ZeroDivisionError: division by zero\n")


# ── secrets and the environment ──────────────────────────────────────────────────────────────────────────────────────


def test_a_new_secret_is_64_hex_digits_and_never_the_same(shop: Shop) -> None:
    first, second = (shop.nightcrew("secret", "new").stdout for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert first != second


def test_a_fingerprint_is_of_the_variable_or_its_file_and_shows_no_secret(shop: Shop) -> None:
    shop.write(SECRET + "\n", "secret")
    done = shop.nightcrew("secret", "fingerprint", CRON_SECRET_FILE="secret", CRON_SECRET_PREVIOUS="x" * 20)
    first, second = (sha256(secret.encode()).hexdigest()[:8] for secret in (SECRET, "x" * 20))
    assert done.stdout == f"CRON_SECRET           {first}\nCRON_SECRET_PREVIOUS  {second}\n"
    assert shop.json("secret", "fingerprint")["fingerprints"] == {"CRON_SECRET": None, "CRON_SECRET_PREVIOUS": None}


def test_the_env_file_beside_the_configuration_is_read_and_overrides_nothing(shop: Shop) -> None:
    url = shop.environ.pop("DATABASE_URL")
    (shop.folder / "conf").mkdir()
    shop.write(CONFIG, "conf/crew.toml")
    shop.write(f"DATABASE_URL={url}\nCRON_SECRET=short\n", "conf/.env")
    assert shop.json("--config", "conf/crew.toml", "run", "cleanup-pkce")["deletedCount"] == 2
    shop.nightcrew("--config", "conf/crew.toml", "check", code=1)
    assert shop.json("--config", "conf/crew.toml", "check", CRON_SECRET=SECRET)["problems"] == []


def test_an_env_file_that_cannot_be_read_is_named(shop: Shop) -> None:
    (shop.folder / ".env").write_bytes(b"A=\xff")
    assert ".env cannot be read" in shop.refusal("status")


# ── what goes where ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("check", "jobs"), ("jobs", "jobs"), ("show yearly", "name"), ("next", "next"), ("status", "jobs"),
        ("runs", "runs"), ("plan cleanup-pkce", "rows"), ("run cleanup-pkce", "outcome"), ("tick", "reports"),
        ("resume yearly", "paused"), ("pause yearly --reason x", "until"), ("migrate", "applied"),
        ("migrate --sql", "sql"), ("secret new", "secret"), ("secret fingerprint", "fingerprints"),
        ("--config new.toml init", "next"),
    ],
)  # fmt: skip
def test_every_command_gives_one_json_object(
    inside: Shop, capsys: pytest.CaptureFixture[str], line: str, key: str
) -> None:
    assert run(nightcrew, [*line.split(), "--json"], Desk()) == 0
    said = capsys.readouterr()
    assert key in json.loads(said.out)
    assert said.out.count("\n") == 1
    assert "init" in line or said.err == ""


def test_an_error_is_json_too(shop: Shop) -> None:
    done = shop.nightcrew("--json", "show", "x", code=2)
    assert json.loads(done.stdout) == {"error": "no job is called 'x'; there is 'cleanup-pkce', 'yearly'"}
    assert done.stderr == "nightcrew: no job is called 'x'; there is 'cleanup-pkce', 'yearly'\n"


def test_quiet_says_nothing_beside_the_data_and_verbose_says_more(shop: Shop) -> None:
    assert shop.nightcrew("-q", "--config", "a.toml", "init").stderr == ""
    assert shop.nightcrew("run", "cleanup-pkce").stderr == ""
    assert "[Cleanup pkce] nothing to do" in shop.nightcrew("run", "cleanup-pkce", "--now", "-v").stderr


LOST = "nightcrew: stdout cannot be written ({}): the command was carried out, its answer is lost\n"


def in_a_shell(shop: Shop, *args: str, ending: str, **environ: str) -> tuple[int, str]:
    """Return the code that a command ends with in a shell, and what it says on stderr."""
    line, env = f"{shlex.join([*COMMAND, *args])} {ending}; exit ${{PIPESTATUS[0]}}", shop.environ | environ
    done = subprocess.run(
        ["bash", "-c", line], cwd=shop.folder, env=env, stderr=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stderr


def test_a_reader_that_goes_away_changes_nothing(shop: Shop) -> None:
    running = shop.begin("run", "cleanup-pkce")
    assert running.stdout
    assert running.stderr
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(30) == 0
    assert shop.rows("oauth_pkce_states") == 2


@pytest.mark.parametrize("command", [("run", "cleanup-pkce"), ("--json", "run", "cleanup-pkce")])
def test_an_answer_that_finds_no_room_ends_with_1_and_says_that_the_work_was_done(
    shop: Shop, command: tuple[str, ...]
) -> None:
    assert in_a_shell(shop, *command, ending=">/dev/full") == (1, LOST.format("No space left on device"))
    assert shop.rows("oauth_pkce_states") == 2


@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [("--help",), ("jobs", "--help"), ("--version",), (), ("jobs",)], ids=" ".join)
def test_help_and_lists_that_find_no_room_say_so_too(shop: Shop, command: tuple[str, ...], buffered: str) -> None:
    environ = {"PYTHONUNBUFFERED": buffered}
    lost = LOST.format("No space left on device")
    assert in_a_shell(shop, *command, ending=">/dev/full", **environ) == (1, lost)
    assert in_a_shell(shop, *command, ending=">&-", **environ) == (1, LOST.format("Bad file descriptor"))
    assert in_a_shell(shop, *command, ending="| true", **environ) == (0, "")
    assert in_a_shell(shop, *command, ending=">/dev/null 2>&-", **environ) == (0, "")


def test_a_problem_that_finds_no_room_on_stdout_is_said_on_stderr_and_keeps_its_code(shop: Shop) -> None:
    assert in_a_shell(shop, "--json", "show", "nothing", ending=">/dev/full")[0] == 2
    code, said = in_a_shell(shop, "--json", "show", "nothing", ending=">&-")
    assert code == 2
    assert re.fullmatch(r"nightcrew: no job is called 'nothing'[^\n]+\n", said)


def test_a_terminal_without_unicode_gets_a_question_mark_not_an_error(shop: Shop) -> None:
    assert "? Deleted 2 rows" in shop.nightcrew("run", "cleanup-pkce", PYTHONIOENCODING="ascii").stdout


def on_a_terminal(shop: Shop, *args: str, **environ: str) -> str:
    """What a person sees."""
    theirs, ours = pty.openpty()
    env = shop.environ | {"TERM": "xterm", "COLUMNS": "70", "LINES": "25"} | environ
    with subprocess.Popen([*COMMAND, *args], cwd=shop.folder, env=env, stdout=ours, stderr=ours) as running:
        os.close(ours)
        seen = b""
        try:
            while part := os.read(theirs, 4096):
                seen += part
        except OSError:  # how Linux says that the other end has closed
            pass
    os.close(theirs)
    assert running.returncode == 0, seen
    return seen.decode()


def test_a_person_sees_colours_and_lines_that_fit(shop: Shop) -> None:
    seen = on_a_terminal(shop, "status")
    assert "\x1b[32m✓\x1b[0m all quiet" in seen
    seen = on_a_terminal(shop, "jobs")
    assert "…" in seen
    assert max(map(len, seen.splitlines())) <= 70


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=["NO_COLOR", "dumb", "--no-color"])
def test_colours_can_be_switched_off(shop: Shop, plain: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal(shop, "status", *([] if plain else ["--no-color"]), **plain)


def test_an_empty_no_color_is_as_good_as_none(shop: Shop) -> None:
    assert "\x1b[32m" in on_a_terminal(shop, "status", NO_COLOR="")


def test_a_pipe_gets_whole_lines_without_colours(shop: Shop) -> None:
    text = shop.nightcrew("jobs", COLUMNS="40", TERM="xterm").stdout
    assert "\x1b" not in text
    assert "…" not in text


def test_help_is_quick_because_heavy_rooms_stay_shut(shop: Shop) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "nightcrew", "--help"]
    done = subprocess.run(line, env=shop.environ, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: nightcrew")
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "nightcrew.cli" in imported
    assert not {"sqlalchemy", "uvicorn", "asyncio", "nightcrew.crew", "nightcrew.config", "zoneinfo"} & imported


def test_the_package_is_the_command_too(shop: Shop) -> None:
    line = [sys.executable, "-m", "nightcrew", "--version"]
    assert subprocess.run(line, env=shop.environ, capture_output=True, text=True, check=True).stdout.startswith(
        "nightcrew,"
    )


def test_the_bare_command_shows_its_help_and_the_version_is_told(shop: Shop) -> None:
    assert shop.nightcrew().stdout.startswith("Usage: nightcrew")
    assert re.fullmatch(r"nightcrew, version \d+\.\d+\.\d+\n", shop.nightcrew("--version").stdout)


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def wait_until(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def begun(shop: Shop, condition: Callable[[], bool], *args: str) -> Iterator[subprocess.Popen[str]]:
    running = shop.begin(*args)
    try:
        wait_until(condition, running)
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_hands_the_run_over_and_the_next_call_goes_on(shop: Shop, number: int) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database, database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000)"
            "INSERT INTO users SELECT i, '2020-01-01 00:00:00' FROM n"
        )
    shop.nightcrew("ack", "yearly")
    with begun(shop, lambda: shop.rows("users") < 150_000, "run", "yearly", "--now") as running:
        running.send_signal(number)
        data, talk = running.communicate(timeout=20)
    assert running.returncode == 130, data
    assert talk == "stopping after this batch; once more stops at once\n"
    assert re.match(r"▸ Job yearly stopped early: [\d,]+ rows so far, [\d,]+ left", data)
    left = shop.rows("users")
    assert 0 < left < 150_000
    further = shop.json("run", "yearly", "--now", "--deadline", "1s")
    assert shop.rows("users") < left
    assert further["outcome"] == "partial" or "was left open, and is finished: Deleted 150,000 rows" in further["note"]


def test_the_second_signal_ends_the_run_where_it_stands(shop: Shop) -> None:
    with begun(shop, (shop.folder / "began").exists, "--app", "shop:crew", "run", "stubborn", "--now") as running:
        running.send_signal(signal.SIGINT)
        assert running.stderr
        assert "stopping after this batch" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, talk = running.communicate(timeout=20)
    assert running.returncode == 130
    assert talk.strip() == "nightcrew: interrupted; what is done is kept, and the next call goes on"
    assert shop.json("--app", "shop:crew", "runs")["runs"][0]["state"] == "partial"


# ── serve ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def served_at(running: subprocess.Popen[str]) -> str:
    """The address that a server says it listens on."""
    assert running.stderr
    lines = iter(running.stderr.readline, "")
    return next(found[0] for line in lines if (found := re.search(r"http://[\d.:]+", line)))


@contextmanager
def serving(shop: Shop, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    running = shop.begin("serve", "--port", "0", *args)
    try:
        yield running, served_at(running)
    finally:
        running.kill()
        running.communicate()


def call(url: str, secret: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_answers_on_the_routes_until_a_signal_ends_it(shop: Shop, number: int, code: int) -> None:
    shop.environ["CRON_SECRET"] = SECRET
    with serving(shop) as (running, base):
        assert call(f"{base}/api/oauth/cleanup-pkce", "wrong")[0] == 401
        status, body = call(f"{base}/api/oauth/cleanup-pkce", SECRET)
        assert (status, body["deletedCount"]) == (200, 2)
        running.send_signal(number)
        running.communicate(timeout=20)
    assert running.returncode == code


STUBBORN = """\
from nightcrew import service
from nightcrew.cli import main
from nightcrew.triggers import ticker
service.PATIENCE, ticker._PATIENCE = 2.0, 1.0
main(["--app", "shop:crew", "serve", "--port", "0"])
"""


@pytest.mark.parametrize("by", ["http", "ticker"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_time_although_a_job_does_not_and_names_it(shop: Shop, by: str, number: int) -> None:
    shop.environ["CRON_SECRET"] = SECRET
    if by == "ticker":
        shop.write(APP.replace('"0 0 * * *")\ndef stubborn', '"0 0 * * *", on_start=True)\ndef stubborn'), "shop.py")
    line, pipe = [sys.executable, "-c", STUBBORN], subprocess.PIPE
    running = subprocess.Popen(line, cwd=shop.folder, env=shop.environ, text=True, stdout=pipe, stderr=pipe)

    def ask(url: str) -> None:
        with suppress(OSError):  # the process ends before it answers
            call(url, SECRET)

    try:
        base = served_at(running)
        if by == "http":
            threading.Thread(target=ask, args=[f"{base}/api/internal/jobs/stubborn"]).start()
        wait_until((shop.folder / "began").exists, running)
        begun = time.monotonic()
        running.send_signal(number)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 130
    assert time.monotonic() - begun < 10
    (told,) = [line for line in said.splitlines() if "would not hand over" in line]
    assert re.search(
        r"\[nightcrew\] ended although stubborn would not hand over in [12] s; the lease will run out$", told
    )


def test_serve_waits_for_a_database_that_is_away(shop: Shop) -> None:
    shop.environ.update(CRON_SECRET=SECRET, DATABASE_URL="postgresql://127.0.0.1:1/shop?connect_timeout=2")
    with serving(shop) as (_, base):
        assert call(f"{base}/api/oauth/cleanup-pkce", SECRET)[0] == 503


@pytest.mark.parametrize(("command", "what"), [("serve", "listened on"), ("demo", "served")])
def test_a_port_that_is_taken_is_named_once(shop: Shop, command: str, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = shop.refusal(command, "--port", str(port))
    assert f"127.0.0.1:{port} cannot be {what} (Address already in use)" in said
    assert said.count(str(port)) == 1


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("serve", "uvicorn", "serve"),
        ("demo", "starlette", "demo"),
        ("demo", "uvicorn", "demo"),
        ("status", "psycopg", "postgres"),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    shop: Shop, command: str, module: str, extra: str
) -> None:
    (shop.folder / module).mkdir()
    shop.write(f"raise ModuleNotFoundError('gone', name='{module}')", f"{module}/__init__.py")
    if module == "psycopg":
        shop.environ["DATABASE_URL"] = "postgresql://127.0.0.1:1/shop"
    said = shop.refusal(command, PYTHONPATH=os.pathsep.join([str(shop.folder), shop.environ.get("PYTHONPATH", "")]))
    assert module in said.lower()
    assert f"pip install 'nightcrew[{extra}]'" in said
