"""Servers that are set up otherwise: what a sweep refuses to run on, and how long it lets a statement take."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock
from nightcrew.databases import mysql, postgresql
from nightcrew.databases.connect import Link
from nightcrew.errors import DatabaseError, SafetyStop

SLOW = {"postgresql": "SELECT pg_sleep(0.4)", "mysql": "SELECT sleep(0.4)"}
SHORTER = {"postgresql": "SET LOCAL statement_timeout = '200ms'", "mysql": "SET SESSION max_statement_time = 0.2"}


@pytest.fixture
def statement_logger(tmp_path: Path) -> Iterator[str]:
    """The URL of a MariaDB of our own, whose binary log is in STATEMENT format."""
    install, daemon = shutil.which("mariadb-install-db"), shutil.which("mariadbd")
    if not install or not daemon:
        pytest.skip("no mariadbd here to start with another binary log")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    common = [f"--datadir={tmp_path}/data", *["--user=root"] * (os.geteuid() == 0)]
    subprocess.run([install, "--no-defaults", *common], check=True, capture_output=True)
    logs = ["--log-bin=changes", "--binlog-format=STATEMENT", "--skip-grant-tables", "--innodb-buffer-pool-size=16M"]
    place = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={tmp_path}/socket", f"--log-error={tmp_path}/log"]
    with subprocess.Popen([daemon, "--no-defaults", *common, *logs, *place]) as server:
        try:
            yield answering(f"mysql+pymysql://root@127.0.0.1:{port}/test")
        finally:
            server.terminate()


def answering(url: str) -> str:
    engine = sa.create_engine(url.removesuffix("/test"), poolclass=sa.NullPool)
    for _ in range(150):
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("CREATE DATABASE IF NOT EXISTS test")
            return url
        except sa.exc.OperationalError:
            time.sleep(0.1)
    pytest.fail("the server did not answer within 15 s")


def test_a_log_of_statements_is_refused_before_anything_is_deleted_and_a_log_of_rows_is_not(statement_logger):
    engine = sa.create_engine(statement_logger, poolclass=sa.NullPool)
    expired = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tokens (id INT PRIMARY KEY, expires_at DATETIME, KEY (expires_at))")
        connection.execute(sa.text("INSERT INTO tokens VALUES (1, :at)"), {"at": expired})
    crew = Nightcrew(statement_logger, settings=Settings())
    crew.expire("sweep", "tokens", column="expires_at", every="1 day")
    with pytest.raises(
        SafetyStop, match=r"STATEMENT format, by which a replica might lose .*: set binlog_format to ROW"
    ):
        crew.run("sweep", trigger="cli")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET GLOBAL binlog_format = 'ROW'")
    crew.migrate()
    assert crew.run("sweep", trigger="cli").deleted == 1
    crew.close()


def test_a_statement_of_a_batch_is_cut_and_the_next_transaction_of_the_connection_is_not(server_url):
    link = Link(server_url, SystemClock())
    kind = link.engine.dialect.name
    with pytest.raises(DatabaseError) as cut:
        wait_too_long(link, kind)
    assert cut.value.transient
    with link.transaction() as connection:
        assert longest(connection, kind) == 0
    link.close()


def wait_too_long(link: Link, kind: str) -> None:
    with link.transaction(repeatable=True) as connection:
        assert longest(connection, kind) == 10
        connection.exec_driver_sql(SHORTER[kind])
        connection.exec_driver_sql(SLOW[kind])


def longest(connection: sa.Connection, kind: str) -> float:
    if kind == "postgresql":
        return float(connection.exec_driver_sql("SHOW statement_timeout").scalar_one().removesuffix("s"))
    return float(connection.exec_driver_sql("SELECT @@max_statement_time").scalar_one())


def test_who_stands_still_in_a_transaction_is_cut_off_and_lets_its_rows_go(server_url, monkeypatch):
    monkeypatch.setattr(mysql, "_SESSION", mysql._SESSION.replace("timeout = 30", "timeout = 1"))
    monkeypatch.setattr(postgresql, "_BEGIN", postgresql._BEGIN.replace("timeout = '30s'", "timeout = '1s'"))
    still, other = Link(server_url, SystemClock()), Link(server_url, SystemClock())
    with other.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE tokens (id INT PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO tokens VALUES (1)")

    def stand_still():
        with still.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM tokens")
            time.sleep(1.5)
            with other.transaction() as meanwhile:
                assert meanwhile.exec_driver_sql("SELECT id FROM tokens FOR UPDATE").all() == [(1,)]
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(DatabaseError) as cut:
        stand_still()
    assert cut.value.away
    still.close()
    other.close()
