"""Servers of the tests' own, in a temporary folder and on a free port, that may be restarted at will.

`python -m tests.servers pytest …` runs a command beside one of each kind that there is, which `quick` ones are: their
files lie in memory and no commit waits for a disk. Most of what thousands of tests wait for is tables being made.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import CREATE, administrator

NAME = "lent"
PROGRAMS = {"postgresql": ("pg_ctl", "initdb"), "mysql": ("mariadbd", "mariadb-install-db")}
_MEMORY = Path("/dev/shm")
_QUICK = {
    "postgresql": "-c fsync=off -c full_page_writes=off",
    "mysql": ("--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite", "--loose-innodb-flush-method=nosync"),
}


@contextmanager
def postgresql(*, quick: bool = False) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a PostgreSQL, and lend an empty database with the verb that restarts it as after a crash."""
    control, initialise = (_program("postgresql", name) for name in PROGRAMS["postgresql"])
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with _folder(user.get("user"), quick=quick) as folder:
        port = _free_port()
        data, log = folder / "data", folder / "log"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 {_QUICK['postgresql'] if quick else ''}"
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
def mysql(*, quick: bool = False) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a MariaDB, and lend the same."""
    server, initialise = (_program("mysql", name) for name in PROGRAMS["mysql"])
    with _folder(None, quick=quick) as folder:
        port, data = _free_port(), folder / "data"
        user = ["--user=root"] if os.geteuid() == 0 else []
        made = [initialise, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        line = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
        line += [f"--socket={folder}/socket", f"--log-error={folder}/log", *user, *(_QUICK["mysql"] if quick else ())]
        line += ["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"]
        apart = {"start_new_session": True, "stderr": subprocess.DEVNULL}  # a terminal's Ctrl-C is not for it
        running = [subprocess.Popen(line, **apart)]
        url = sa.make_url(f"mysql://root@127.0.0.1:{port}/")
        _wait_for("mysql", url)
        _let_nobody_in_unnamed(url)

        def restart() -> None:
            running[0].kill()
            running[0].wait()
            running[0] = subprocess.Popen(line, **apart)
            _wait_for("mysql", url)

        try:
            yield _database("mysql", url), restart
        finally:
            running[0].kill()
            running[0].wait()


def main(command: Sequence[str]) -> int:
    """Run a command beside quick servers of its own; those that the environment names are taken as they are."""
    environment = dict(os.environ)
    with ExitStack() as servers:
        for kind, start in KINDS.items():
            variable = f"NIGHTCREW_TEST_{kind.upper()}"
            if variable not in environment and all(_found(kind, name) for name in PROGRAMS[kind]):
                environment[variable], _ = servers.enter_context(start(quick=True))
        child = subprocess.Popen(command, env=environment)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command hears of it, too, and ends in its own time
        signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())
        return child.wait()


def _program(kind: str, name: str) -> str:
    if (found := _found(kind, name)) is None:
        pytest.skip(f"NO {name.upper()} ON THIS MACHINE, so no server was started, and none restarted under a riot")
    return found


def _found(kind: str, name: str) -> str | None:
    """Look a program up where distributions put it; PostgreSQL's are not on every path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if kind == "postgresql" else [Path("/usr/sbin")]
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


@contextmanager
def _folder(owner: str | None, *, quick: bool) -> Iterator[Path]:
    memory = _MEMORY if quick and os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="nightcrew-server-", dir=memory) as name:
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


def _let_nobody_in_unnamed(url: sa.URL) -> None:
    """Drop the users without a name that come with a fresh MariaDB: at localhost they stand before any at '%'."""
    with administrator(url, "mysql").connect() as connection:
        for host in connection.exec_driver_sql("SELECT host FROM mysql.user WHERE user = ''").scalars().all():
            connection.exec_driver_sql(f"DROP USER ''@'{host}'")


def _database(kind: str, url: sa.URL | str) -> str:
    url = sa.make_url(url)
    with administrator(url, kind).connect() as connection:
        connection.exec_driver_sql(CREATE[kind].format(NAME))
    return url.set(database=NAME).render_as_string(hide_password=False)


KINDS = {"postgresql": postgresql, "mysql": mysql}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
