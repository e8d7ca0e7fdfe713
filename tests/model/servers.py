"""Servers of a test's own, in a temporary folder and on a free port, that may be restarted at will."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import CREATE, administrator

NAME = "riot"


@contextmanager
def postgresql() -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a PostgreSQL, and lend an empty database with the verb that restarts it as after a crash."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([*map(str, binaries), os.environ["PATH"]])
    control, initialise = (_program(name, path) for name in ("pg_ctl", "initdb"))
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with _folder(user.get("user")) as folder:
        port = _free_port()
        data, log = folder / "data", folder / "log"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
        made = [initialise, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(made, check=True, **quiet)

        def pg_ctl(verb: str) -> None:
            line = [control, verb, "-D", data, "-l", log, "-o", options, "-m", "immediate", "-w"]
            subprocess.run(line, check=True, **quiet)

        pg_ctl("start")
        try:
            yield _database("postgresql", f"postgresql://postgres@127.0.0.1:{port}/"), lambda: pg_ctl("restart")
        finally:
            pg_ctl("stop")


@contextmanager
def mysql() -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a MariaDB, and lend the same."""
    path = os.pathsep.join(["/usr/sbin", os.environ["PATH"]])
    server, initialise = _program("mariadbd", path), _program("mariadb-install-db", path)
    with _folder(None) as folder:
        port, data = _free_port(), folder / "data"
        user = ["--user=root"] if os.geteuid() == 0 else []
        made = [initialise, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        line = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
        line += [f"--socket={folder}/socket", f"--log-error={folder}/log", *user]
        running = [subprocess.Popen(line)]
        url = sa.make_url(f"mysql://root@127.0.0.1:{port}/")
        _wait_for("mysql", url)

        def restart() -> None:
            running[0].kill()
            running[0].wait()
            running[0] = subprocess.Popen(line)
            _wait_for("mysql", url)

        try:
            yield _database("mysql", url), restart
        finally:
            running[0].kill()
            running[0].wait()


def _program(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"NO {name.upper()} ON THIS MACHINE, so no server was started, and none restarted under a riot")
    return found


@contextmanager
def _folder(owner: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nightcrew-riot-") as name:
        if owner is not None:
            shutil.chown(name, owner, owner)
        yield Path(name)


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _wait_for(kind: str, url: sa.URL) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            administrator(url, kind).connect().close()
        except sa.exc.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _database(kind: str, url: sa.URL | str) -> str:
    url = sa.make_url(url)
    with administrator(url, kind).connect() as connection:
        connection.exec_driver_sql(CREATE[kind].format(NAME))
    return url.set(database=NAME).render_as_string(hide_password=False)


KINDS = {"postgresql": postgresql, "mysql": mysql}
