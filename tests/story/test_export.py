"""The schedules are written for others, and what is written calls, or runs, a job."""

import io
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.console.line import run

PROGRAM = str(Path(sys.executable).with_name("nightcrew"))
SECRET = "0123456789abcdef0123456789abcdef"
CONFIG = """\
[nightcrew]
database = "${DATABASE_URL}"

[jobs.cleanup-pkce]
every  = "10 minutes"
table  = "oauth_pkce_states"
column = "expires_at"

[jobs.daily]
schedule = "0 3 * * *"
table  = "oauth_pkce_states"
column = "expires_at"
"""
TARGETS = {
    "vercel": ([], "vercel.json"),
    "github": (["--url", "https://app.example"], ".github/workflows/nightcrew.yml"),
    "crontab": (["--url", "https://app.example/"], "nightcrew.crontab"),
    "systemd": ([], "systemd/nightcrew-daily.timer"),
    "kubernetes": (["--image", "registry.example/acme:7"], "kubernetes/nightcrew.yml"),
}


@dataclass(frozen=True)
class Said:
    """What a command says."""

    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A folder with a database and a configuration."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**kept, "DATABASE_URL": f"sqlite:///{self.folder}/acme.db", "CRON_SECRET": SECRET}

    def nightcrew(self, *words: str, code: int = 0) -> Said:
        out, err = io.StringIO(), io.StringIO()
        env = patch.dict(os.environ, self.environ, clear=True)
        with chdir(self.folder), env, redirect_stdout(out), redirect_stderr(err):
            found = run(nightcrew, words, Desk())
        assert found == code, out.getvalue() + err.getvalue()
        return Said(out.getvalue(), err.getvalue())

    def shell(self, line: str, shell: str = "sh", **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**self.environ, **environ}
        return subprocess.run([shell, "-c", line], env=env, capture_output=True, text=True, timeout=60, check=False)

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    @property
    def files(self) -> dict[Path, bytes]:
        """All but the database."""
        found = (file for file in self.folder.rglob("*") if file.is_file() and file.suffix != ".db")
        return {file: file.read_bytes() for file in found}

    @property
    def runs(self) -> list[str]:
        return [run["job"] for run in json.loads(self.nightcrew("--json", "runs").stdout)["runs"]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    with closing(sqlite3.connect(tmp_path / "acme.db")) as database, database:
        database.execute("CREATE TABLE oauth_pkce_states (state TEXT PRIMARY KEY, expires_at TIMESTAMP)")
    (tmp_path / "nightcrew.toml").write_text(CONFIG, encoding="utf-8")
    found = Place(tmp_path)
    found.nightcrew("migrate")
    return found


@pytest.fixture
def served(place: Place) -> Iterator[str]:
    """The address of a service whose ticker is off, so that only whoever calls runs a job."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**place.environ, "NIGHTCREW_TICKER": "off"}
    line = [PROGRAM, "-q", "serve", "--port", str(port)]
    with subprocess.Popen(line, cwd=place.folder, env=environ, stdout=subprocess.DEVNULL) as process:
        for _ in range(200):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_written_twice_is_the_same_and_in_step_until_a_schedule_is_changed(place: Place, target: str) -> None:
    options, path = TARGETS[target]
    export = ["export", target, *options]
    missing = place.nightcrew(*export, "--check", code=1)
    assert missing.stdout.startswith("--- /dev/null\n")
    place.nightcrew(*export, "--write")
    first = place.files
    assert place.nightcrew(*export, "--write").stdout == "nothing to do: the files are as they are to be\n"
    assert place.files == first
    assert place.nightcrew(*export, "--check").stdout == "in step with the jobs\n"

    (place.folder / "nightcrew.toml").write_text(CONFIG.replace("0 3 * * *", "7 4 * * *"), encoding="utf-8")
    drifted = place.nightcrew(*export, "--check", code=1)
    assert re.search(rf"^--- .*{re.escape(Path(path).name)}$", drifted.stdout, re.MULTILINE)
    assert re.search(r"^\+.*(7 4 \* \* \*|04:07:00)", drifted.stdout, re.MULTILINE)
    remedy = re.search(r"remedy: (.+)", drifted.stderr)
    assert remedy
    subprocess.run(
        ["sh", "-c", remedy[1].replace("nightcrew", PROGRAM, 1)], cwd=place.folder, env=place.environ, check=True
    )
    assert place.nightcrew(*export, "--check").stdout == "in step with the jobs\n"


def test_comments_and_entries_of_others_survive(place: Place) -> None:
    place.nightcrew("export", "github", "--url", "https://app.example", "--write")
    path = place.folder / ".github/workflows/nightcrew.yml"
    path.write_text(f"# ours, by hand\n{path.read_text()}  deploy:\n    runs-on: ubuntu-latest # and a job of ours\n")
    place.nightcrew("export", "github", "daily", "--url", "https://app.example", "--write")
    written = path.read_text()
    assert written.startswith("# ours, by hand\n")
    assert written.endswith("  deploy:\n    runs-on: ubuntu-latest # and a job of ours\n")
    assert list(yaml.safe_load(written)["jobs"]) == ["job-daily", "deploy"]


def line_of(place: Place, job: str) -> str:
    """What cron(8) hands to the shell for a job."""
    row = next(
        row for row in place.text("nightcrew.crontab").splitlines() if re.search(rf"\b{job}\b", row) and "\t" in row
    )
    return row.split("\t")[2].replace(r"\%", "%")


def test_the_line_of_a_crontab_calls_the_job_and_says_nothing_unless_it_fails(place: Place, served: str) -> None:
    said = place.nightcrew("export", "crontab", "--url", served, "--write")
    assert SECRET not in said.stdout + said.stderr + place.text("nightcrew.crontab")
    keep = re.search(r"note: (printf .*) \| sudo tee", said.stderr)
    assert keep
    kept = place.folder / "curl"
    line = line_of(place, "cleanup-pkce").replace("/etc/nightcrew/curl", str(kept))

    kept.write_text(place.shell(keep[1]).stdout)
    done = place.shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.runs == ["cleanup-pkce"]

    kept.write_text(place.shell(keep[1], CRON_SECRET="f" * 32).stdout)
    refused = place.shell(line)
    assert refused.returncode == 1
    assert '"error"' in refused.stdout


def test_the_line_of_a_crontab_runs_the_command(place: Place) -> None:
    place.nightcrew("export", "crontab", "--program", PROGRAM, "--folder", str(place.folder), "--write")
    done = place.shell(line_of(place, "daily"))
    assert (done.returncode, done.stderr) == (0, "")
    assert place.runs == ["daily"]


def test_the_step_of_a_workflow_and_the_container_of_a_cronjob_call_the_job(place: Place, served: str) -> None:
    place.nightcrew("export", "github", "--url", served, "--write")
    place.nightcrew("export", "kubernetes", "--url", served, "--write")
    workflow = yaml.safe_load(place.text(".github/workflows/nightcrew.yml"))
    step = workflow["jobs"]["job-cleanup-pkce"]["steps"][0]
    assert place.shell(step["run"], "bash").returncode == 0
    cronjobs = yaml.safe_load_all(place.text("kubernetes/nightcrew.yml"))
    cronjob = next(each for each in cronjobs if each["spec"]["schedule"] == "0 3 * * *")
    words = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    called = subprocess.run(words, env=place.environ, capture_output=True, text=True, check=True)
    assert json.loads(called.stdout)["job"] == "daily"
    assert sorted(place.runs) == ["cleanup-pkce", "daily"]


def test_units_of_jobs_that_are_gone_are_named(place: Place) -> None:
    place.nightcrew("export", "systemd", "--write")
    (place.folder / "nightcrew.toml").write_text(CONFIG.partition("[jobs.daily]")[0], encoding="utf-8")
    checked = place.nightcrew("export", "systemd", "--check", code=1)
    assert checked.stdout.splitlines() == ["systemd/nightcrew-daily.service", "systemd/nightcrew-daily.timer"]
    assert "nightcrew-daily.timer is of a job that is gone" in checked.stderr
    place.nightcrew("export", "systemd", "cleanup-pkce", "--check")  # nobody asked about the others


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["vercel", "--write", "--check"], "drop one of the two"),
        (["vercel", "--schedules", "--hobby"], "drop one of the two"),
        (["vercel", "nobody"], "no job is called 'nobody'"),
        (["github"], "--image IMAGE runs them"),
        (["github", "--url", "http://app.example"], "for all to read"),
        (["github", "--url", "https://me:secret@app.example"], "no address of an application"),
        (["github", "--url", "https://app.example/$(id)"], "holds a character"),
        (["crontab", "--user", "a b"], "holds a character"),
        (["crontab", "--folder", "/srv/a b"], "holds a character"),
        (["crontab", "--timezone", "Paris"], "did you mean 'Europe/Paris'"),
        (["kubernetes", "--image", "a\nb"], "holds a character"),
        (["vercel", "--to", "nightcrew.toml", "--write"], "nightcrew.toml is no JSON"),
        (["crontab", "--to", "nightcrew.toml", "--write"], "nightcrew has not written it"),
        (["crontab", "--to", "nightcrew.toml/x", "--write"], "cannot be"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_changes_nothing(place: Place, words: list[str], reason: str) -> None:
    before = place.files
    done = place.nightcrew("export", *words, code=2)
    assert reason in done.stderr
    assert done.stderr.startswith("nightcrew: ")
    assert "Traceback" not in done.stderr
    assert {
        file: file.read_bytes() for file in place.folder.rglob("*") if file.suffix != ".db" and file.is_file()
    } == before
