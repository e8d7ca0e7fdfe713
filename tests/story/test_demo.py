"""The demo as it is made and ended: a year of data, the time machine, the real command."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from tests.conftest import CREDENTIALS
from tests.story.tealight import ACCOUNTS, PKCE, SHELLS

from nightcrew.demo import leftovers, timemachine
from nightcrew.demo.database import Data, prepare
from nightcrew.demo.people import PEOPLE
from nightcrew.demo.schema import TABLES, Utc, chats, marker, messages, metadata, users
from nightcrew.demo.seed import seed as written
from nightcrew.errors import SafetyStop
from nightcrew.stores.memory import Memory

seed = partial(written, put=Memory().put)
MOMENT = datetime(2024, 6, 15, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def filled(database_url):
    """The seeded tables alone, on each database there is."""
    with closing(Data(database_url)) as data:
        prepare(data, datetime.now(UTC), seed)
        yield data


# ── data, and time ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_year_is_written_quickly_and_is_the_same_every_time(database_url, tmp_path):
    stories = []
    for url in (database_url, f"sqlite:///{tmp_path}/again.db"):
        with closing(Data(url)) as data:
            began = time.monotonic()
            assert prepare(data, MOMENT, seed)
            assert time.monotonic() - began < 12, "twice what the slowest database needs on a small machine"
            with data.reading() as connection:
                told = sa.select(users.c.name, users.c.created_at, users.c.deactivated_at).order_by(users.c.id)
                stories.append(connection.execute(told).all())
            assert not prepare(data, MOMENT, seed), "a second start finds its data and keeps it"
    assert stories[0] == stories[1]


def test_the_year_grows_rests_at_weekends_and_never_runs_ahead_of_itself(filled):
    with filled.reading() as connection:
        joined = connection.execute(sa.select(users.c.created_at)).scalars().all()
        said = connection.execute(sa.select(messages.c.created_at)).scalars().all()
        texts = connection.execute(sa.select(messages.c.parts)).scalars().all()
        late = sa.select(sa.func.count()).select_from(messages.join(chats).join(users, users.c.id == chats.c.user_id))
        assert connection.scalar(late.where(messages.c.created_at > users.c.deactivated_at)) == 0
        assert connection.scalar(late.where(messages.c.created_at < users.c.created_at)) == 0
    moment = datetime.now(UTC)
    assert sum(moment - at < timedelta(days=182) for at in joined) > 1.5 * sum(
        moment - at > timedelta(days=183) for at in joined
    )
    assert len(said) > 5000
    assert max(said) <= moment
    workdays = sum(at.weekday() < 5 for at in said) / 5
    assert workdays > 1.5 * sum(at.weekday() >= 5 for at in said) / 2
    assert not [part for part in texts if re.search(r"\{[a-z]+\}", part[0]["text"])], "a gap nobody filled"


def snapshot(data: Data) -> dict[str, list[tuple[object, ...]]]:
    with data.reading() as connection:
        rows = {table.name: connection.execute(table.select().order_by(*table.primary_key)).all() for table in TABLES}
    return {name: [tuple(row) for row in found] for name, found in rows.items()}


def test_the_time_machine_moves_every_instant_of_the_app_and_nothing_else(filled):
    with filled.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE nightcrew_runs (finished_at VARCHAR(40))")
        connection.exec_driver_sql("INSERT INTO nightcrew_runs VALUES ('2024-06-15 12:00:00.000000')")
    span, before = timedelta(days=31, minutes=15), snapshot(filled)
    timeless = "user_email_preferences"
    assert timemachine.travel(filled, span) == sum(len(rows) for name, rows in before.items() if name != timeless)
    after = snapshot(filled)
    for table in TABLES:
        kinds = [isinstance(column.type, Utc) for column in table.c]
        moved = [
            tuple(value - span if at and value else value for value, at in zip(row, kinds, strict=True))
            for row in before[table.name]
        ]
        assert after[table.name] == moved, table.name
    with filled.reading() as connection:
        ran = connection.exec_driver_sql("SELECT finished_at FROM nightcrew_runs").scalar_one()
        assert ran == "2024-06-15 12:00:00.000000"
        assert connection.scalar(sa.select(marker.c.travelled_seconds)) == span.total_seconds()


def test_a_database_with_somebody_elses_tables_is_refused_and_left_as_it_is(database_url):
    with closing(Data(database_url)) as data:
        with data.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        with pytest.raises(SafetyStop, match="already has a table 'users' that the demo did not make"):
            prepare(data, MOMENT, seed)
        with data.reading() as connection:
            assert sa.inspect(connection).get_table_names() == ["users"]


def test_a_start_that_died_before_the_data_was_written_is_finished_by_the_next(database_url):
    with closing(Data(database_url)) as data:
        metadata.create_all(data.engine)
        assert prepare(data, MOMENT, seed)
        with data.reading() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(users)) == PEOPLE


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def command(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", *CREDENTIALS) if name in os.environ}
    environment = kept | {"TMPDIR": str(folder), "NIGHTCREW_ENV": "development"}
    line = [sys.executable, "-m", "nightcrew", "demo", "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=folder, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def greeting(process: subprocess.Popen[str]) -> str:
    """Read what the command says at its start."""
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            return said
    pytest.fail(f"the demo ended at once: {said}{process.stderr.read()}")


def test_the_command_prints_its_address_and_secret_and_its_curl_lines_work(tmp_path):
    file = tmp_path / "demo.db"
    began = time.monotonic()
    with command(tmp_path, "--database", f"sqlite:///{file}") as process:
        said = greeting(process)
        page = httpx.get(re.search(r"http://127\.0\.0\.1:\d+/night", said)[0])
        assert page.status_code == 200
        assert time.monotonic() - began < 15
        calls = re.findall(r"curl -H 'Authorization: (Bearer \S+)' (\S+)", said)
        assert [urlsplit(url).path for _, url in calls] == [ACCOUNTS, SHELLS, PKCE]
        assert calls[0][0] == f"Bearer {re.search(r'CRON_SECRET=(.+)', said)[1]}"
        for bearer, url in calls:
            assert httpx.get(url).status_code == 401
            assert httpx.get(url, headers={"Authorization": bearer}, timeout=30).json()["deletedCount"] > 0
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (PEOPLE - leftovers.LEFT_LONG_AGO,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_the_temporary_database_is_gone_when_the_demo_ends(tmp_path, number):
    with command(tmp_path) as process:
        base = re.search(r"http://127\.0\.0\.1:\d+", greeting(process))[0]
        assert httpx.get(f"{base}/night").status_code == 200
        assert list(tmp_path.glob("nightcrew-demo-*/tealight.db"))
        process.send_signal(number)
        assert process.wait(20) == (0 if number is signal.SIGINT else 128 + number)
        assert "Traceback" not in process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_files_are_kept_in_the_bucket_that_the_command_is_told_of(tmp_path, bucket):
    database, uploads = f"sqlite:///{tmp_path}/demo.db", bucket.url("/tealight")
    with command(tmp_path, "--database", database, "--uploads", uploads) as process:
        assert "your store, where they stay" in greeting(process)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    with closing(sqlite3.connect(tmp_path / "demo.db")) as connection:
        columns = "SELECT blob_key FROM message_sources UNION SELECT blob_key FROM project_sources"
        assert set(bucket.listed()) == {f"tealight/{key}" for (key,) in connection.execute(columns)}
    assert {path.name for path in tmp_path.iterdir()} == {"demo.db"}


def test_a_place_of_files_that_is_none_is_said_in_one_line(tmp_path):
    with command(tmp_path, "--uploads", "s3x://bucket") as process:
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 2
    assert complaint.count("\n") == 1
    assert "write 's3://bucket/prefix'" in complaint
    assert not list(tmp_path.iterdir())


def test_a_foreign_database_ends_the_command_with_code_3_and_one_sentence(tmp_path):
    file = tmp_path / "real.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    with command(tmp_path, "--database", f"sqlite:///{file}") as process:
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 3
    assert complaint.count("\n") == 1
    assert "already has a table 'users'" in complaint


def test_a_port_in_use_is_said_in_one_line_before_anything_is_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with command(tmp_path, "--port", str(taken.getsockname()[1])) as process:
            _, complaint = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "choose another with --port" in complaint
    assert not list(tmp_path.iterdir())
