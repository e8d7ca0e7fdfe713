"""A person at a terminal sees how far a sweep is, in one line that is gone when it ends; a log gets a line at times."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("nightcrew"))
CONFIG = """\
[nightcrew]
database = "${DATABASE_URL}"

[jobs.sweep]
max_fraction = 1
every    = "1 hour"
table    = "notes"
column   = "at"
where    = "id >= 0"
pace     = "gentle"
throttle = ["file:%s/stop"]
"""
ROWS = 15_000
IN_A_FILE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Terminal:
    """A command on a terminal of its own, and what has been written there."""

    def __init__(self, folder, url, *args, columns=110, **environ):
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        env = {**kept, "DATABASE_URL": url, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "25", **environ}
        self.ours, theirs = pty.openpty()
        self.running = subprocess.Popen(
            [COMMAND, *args], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(self.ours, False)
        self.written = ""

    def read(self):
        try:
            while part := os.read(self.ours, 65_536):
                self.written += part.decode()
        except OSError:  # nothing more yet, or the other end has closed
            pass
        return self.written

    def await_words(self, words, seconds=20):
        until = time.monotonic() + seconds
        while words not in self.read():
            assert time.monotonic() < until, self.written
            assert self.running.poll() is None, self.written
            time.sleep(0.02)

    def end(self):
        code = self.running.wait(300)  # a gentle sweep takes its time
        self.read()
        os.close(self.ours)
        return code

    @property
    def screen(self):
        """What stands there, once every line has been drawn over as a terminal does."""
        lines = []
        for line in self.written.replace("\r\n", "\n").split("\n"):
            cells = ""
            for drawn in line.split("\r"):
                cells = drawn + cells[len(drawn) :]
            lines.append(cells.rstrip())
        return lines

    @property
    def drawn(self):
        """Every line that was drawn of progress."""
        return [part.rstrip() for part in re.split(r"[\r\n]", self.written) if part.startswith("sweep ")]


@pytest.fixture
def shop(yard, database_url, tmp_path):
    """Expired rows, and a job that a file called stop holds back."""
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time})", "CREATE INDEX notes_at ON notes (at)")
    for first in range(0, ROWS, 5000):
        yard.fill("notes", *({"id": first + n, "at": "2020-01-01 00:00:00"} for n in range(5000)))
    (tmp_path / "nightcrew.toml").write_text(CONFIG % tmp_path)
    migrate = [COMMAND, "migrate"]
    subprocess.run(migrate, cwd=tmp_path, env=os.environ | {"DATABASE_URL": database_url}, check=True)
    (tmp_path / "stop").touch()
    yield tmp_path
    (tmp_path / "stop").unlink(missing_ok=True)


@contextmanager
def at_a_terminal(*args, **options):
    terminal = Terminal(*args, **options)
    try:
        yield terminal
    finally:
        terminal.running.kill()
        terminal.running.wait()


@pytest.mark.parametrize(
    ("command", "database_url"),
    [(("run", "sweep", "--now"), kind) for kind in ("sqlite", "postgresql", "mysql")] + [(("tick",), "sqlite")],
    indirect=["database_url"],
)
def test_a_person_sees_why_it_waits_how_far_it_is_and_in_the_end_only_what_came_of_it(
    shop, yard, database_url, command
):
    if command == ("tick",):
        yard.run("UPDATE nightcrew_jobs SET epoch_at = '2020-01-01 00:00:00'")
        subprocess.run([COMMAND, "status"], cwd=shop, env=os.environ | {"DATABASE_URL": database_url}, check=True)
        yard.run("UPDATE nightcrew_jobs SET epoch_at = '2020-01-01 00:00:00'")
    with at_a_terminal(shop, database_url, *command) as terminal:
        terminal.await_words(f"waits: file:{shop}/stop"[:40])
        terminal.await_words(f"0 of about {ROWS:,} rows   0%")
        (shop / "stop").unlink()
        code = terminal.end()
    assert code == 0
    assert len(terminal.screen) == 2
    assert f"Deleted {ROWS:,} rows of notes." in terminal.screen[0]
    assert yard.ids("notes") == []
    progress = [line for line in terminal.drawn if "of about" in line]
    assert all(len(line) < 110 for line in terminal.drawn)
    assert len({line.index("rows/s") for line in progress}) == 1
    assert re.search(r"[1-9][\d,]* of about 15,000 rows +\d+%  +[\d,]+ rows/s", terminal.written)


@IN_A_FILE
def test_ctrl_c_hands_over_and_leaves_a_clean_screen(shop, yard, database_url):
    with at_a_terminal(shop, database_url, "run", "sweep", "--now", NO_COLOR="1") as terminal:
        terminal.await_words("of about")
        os.write(terminal.ours, b"\x03")
        terminal.await_words("^C")  # with which the terminal throws away what has not been read yet
        os.killpg(terminal.running.pid, signal.SIGINT)
        code = terminal.end()
    assert code == 130
    said = [line.removeprefix("^C") for line in terminal.screen if line]
    assert said[0] == "stopping after this batch; once more stops at once"
    assert said[1].startswith("▸ Job sweep")
    assert f"0 rows so far, {ROWS:,} left (asked to stop)" in said[1]
    assert len(said) == 2
    assert "\x1b" not in terminal.written


@IN_A_FILE
@pytest.mark.parametrize(
    ("args", "environ"),
    [(["--json"], {}), (["-q"], {}), ([], {"TERM": "dumb"})],
    ids=["--json", "--quiet", "a dumb terminal"],
)
def test_who_wants_none_of_it_sees_none(shop, yard, database_url, args, environ):
    with at_a_terminal(shop, database_url, *args, "run", "sweep", "--now", "--deadline", "1s", **environ) as terminal:
        assert terminal.end() == 0
    assert len([line for line in terminal.screen if line]) == 1
    assert terminal.drawn == []
    assert "\r" not in terminal.written.replace("\r\n", "\n")


@IN_A_FILE
def test_a_pipe_gets_a_line_every_ten_seconds(shop, database_url):
    line, environ = [COMMAND, "run", "sweep", "--now"], os.environ | {"DATABASE_URL": database_url}
    pipes, began = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}, time.monotonic()
    with subprocess.Popen(line, cwd=shop, env=environ, **pipes) as running:
        try:
            first = running.stderr.readline()
            assert 10 <= time.monotonic() - began < 20
            assert re.fullmatch(rf"sweep +0 of about {ROWS:,} rows +0% +0 rows/s +waits: file:/.+: is there\n", first)
            (shop / "stop").unlink()
            answer, said = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 0
    assert all("rows/s" in line for line in said.splitlines())
    assert len(answer.splitlines()) == 1


@IN_A_FILE
def test_a_narrow_terminal_gets_one_line_all_the_same(shop, database_url):
    with at_a_terminal(shop, database_url, "run", "sweep", "--now", "--deadline", "2s", columns=40) as terminal:
        assert terminal.end() == 0
    assert terminal.drawn
    assert max(map(len, terminal.drawn)) < 40


APP = """\
import time
from pathlib import Path
from nightcrew import Nightcrew

crew = Nightcrew()

@crew.job("0 0 * * *")
def mail(run):
    run.count(300)
    run.progress(300, 1_000)
    run.checkpoint("ada@example.com")
    while not Path("go").exists():
        run.progress(300, 1_000)
        time.sleep(0.02)
    raise ValueError("the mailbox\\x1b[2J is full")
"""


def test_how_far_a_function_is_can_be_seen_beside_it_and_from_elsewhere_and_later_why_it_failed(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    url = f"sqlite:///{tmp_path}/shop.db"

    def asked(*command):
        line = [COMMAND, "--app", "shop:crew", *command]
        environ = os.environ | {"DATABASE_URL": url}
        return subprocess.run(line, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True).stdout

    asked("migrate")
    with at_a_terminal(tmp_path, url, "--app", "shop:crew", "run", "mail") as terminal:
        terminal.await_words("mail    300 of 1,000  30%        0.0/s")
        assert re.search(r"\nmail .*  ▸ running [a-z0-9, ]+, 300 of 1,000 \(30 %\)  ", asked("status"))
        assert re.search(r"▸ running +0 +- +cli +300 of 1,000 \(30 %\)\n", asked("runs"))
        (tmp_path / "go").touch()
        assert terminal.end() == 1
    assert "300 of" not in asked("status")
    told = asked("runs", "-v")
    assert re.search(r"✗ failed +300 .*the mailbox \[2J is full; 300 counted before\n\nmail\.\d+T000000Z:\n  Tra", told)
    assert re.search(r'\n    File ".*/shop.py", line 15, in mail\n      raise ValueError\(', told)
    assert "Traceback" not in asked("runs")
