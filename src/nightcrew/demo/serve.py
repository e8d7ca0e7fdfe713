"""Serve: opens the database, fills it, puts the crew on duty, and says where everything is."""

import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import click
import uvicorn
from starlette.types import ASGIApp

from nightcrew.clock import SystemClock
from nightcrew.crew import Nightcrew
from nightcrew.demo.database import Data, folder_of, prepare
from nightcrew.demo.desk import Desk
from nightcrew.demo.files import STORE, Files
from nightcrew.demo.people import PASSWORD
from nightcrew.demo.rota import CREW, FILES, ROTA
from nightcrew.demo.seed import seed
from nightcrew.demo.site import site
from nightcrew.demo.workspace import Workspace
from nightcrew.errors import UsageError
from nightcrew.settings import Settings
from nightcrew.triggers.secret import usable
from nightcrew.web.asgi import doors

_TEMPORARY = "a temporary folder, removed at the end"
_SHOWN = ("delete-stale-deactivated-accounts", "delete-stale-empty-chats", "cleanup-pkce")


def serve(database: str | None = None, uploads: str | None = None, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the demo until it is interrupted; without `database`, over a new folder that is removed at the end.

    Files are kept in a folder beside the database, or where the URL `uploads` says, as that of any store of blobs.
    Raises SafetyStop for a database that holds tables of the demo's names which the demo did not make.
    """
    with ExitStack() as stack:
        stack.enter_context(_orderly_end())
        listener = stack.enter_context(_listen(host, port))
        url = database or f"sqlite:///{stack.enter_context(_folder()) / 'tealight.db'}"
        settings, folder = _settings(), folder_of(url)
        app = stack.enter_context(workspace(url, settings, uploads or partial(_made, folder)))
        data = "your database, which is kept" if database else _TEMPORARY
        files = "your store, where they stay" if uploads else f"{folder}, which is kept" if database else _TEMPORARY
        click.echo(_greeting(_address(host, listener), settings.secret or "", data, files))
        sys.stdout.flush()
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            click.echo("The demo has ended.", err=True)


@contextmanager
def workspace(url: str, settings: Settings, uploads: str | Callable[[], str]) -> Iterator[ASGIApp]:
    """Open the demo over a database and the URL of a store, and give its application, with the job routes before it."""
    clock = SystemClock()
    data = Data(url)
    stores = {STORE: {"url": uploads, "columns": [str(each) for each in FILES], "orphans": "remove"}}
    crew = Nightcrew(database=url, settings=settings, jobs=[job for job, _ in ROTA], blobs=stores, clock=clock)
    files = Files(crew)
    try:
        prepare(data, clock.now(), partial(seed, put=files.put))
        crew.migrate()
        desk = Desk(crew, {job.name: about for job, about in ROTA} | CREW)
        yield doors(site(Workspace(data, desk, files, clock)), crew)
    finally:
        crew.close()
        data.close()


def _made(folder: Path) -> str:
    """Return the URL of a folder, which is made when the first file comes: a refused database leaves none behind."""
    folder.mkdir(exist_ok=True)
    return folder.as_uri()


def _settings() -> Settings:
    """Take the secret of the environment, or make one, and the key of erasures; the demo is the same everywhere else.

    Outside of development no route opens without the secret, and that is what the demo is to show.
    """
    given = Settings.read()
    fit = given.secret if given.secret and usable(given.secret) else secrets.token_urlsafe(24)
    return Settings(environment="production", secret=fit, erasure_key=given.erasure_key)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nightcrew-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything else: to seed a database and then find the port taken would be rude."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # it would name host and port a second time
        raise UsageError(f"{host}:{port} cannot be served ({reason}): choose another with --port") from None
    with listener:
        yield listener


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Turn a termination into an exit that passes through every `finally`, so that the temporary folder goes."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _address(host: str, listener: socket.socket) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 - shown, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"


def _greeting(base: str, secret: str, data: str, files: str) -> str:
    paths = [(job.path or job.route) for job, _ in ROTA if job.name in _SHOWN]
    calls = "\n".join(f"  curl -H 'Authorization: Bearer {secret}' {base}{path}" for path in paths)
    return (
        f"\n  Night desk   {base}/night\n  The app      {base}/sign-in   (everybody's password: {PASSWORD})\n"
        f"  Data         {data}\n  Files        {files}\n\n  CRON_SECRET={secret}\n\n{calls}\n\n  Ctrl-C ends it.\n"
    )
