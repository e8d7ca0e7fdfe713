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
from nightcrew.demo import writers
from nightcrew.demo.answers import Answers, streams_at
from nightcrew.demo.database import Data, folder_of, prepare
from nightcrew.demo.desk import Desk
from nightcrew.demo.files import STORE, Files
from nightcrew.demo.mails import Mails, mail
from nightcrew.demo.people import PASSWORD
from nightcrew.demo.rota import CREW, FILES, ROTA
from nightcrew.demo.seed import seed
from nightcrew.demo.site import DESK, site
from nightcrew.demo.workspace import Workspace
from nightcrew.demo.writers import Model
from nightcrew.errors import UsageError
from nightcrew.settings import Settings, variable
from nightcrew.streams import MEMORY
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
        settings, folder, letters = _settings(), folder_of(url, "files"), folder_of(url, "mail")
        base = _address(host, listener)
        model, place = writers.chosen(), variable("REDIS_URL") or MEMORY
        put = uploads or partial(_made, folder)
        app = stack.enter_context(workspace(url, settings, put, letters, base, model, place))
        data = "your database, which is kept" if database else _TEMPORARY
        files = "your store, where they stay" if uploads else f"{folder}, which is kept" if database else _TEMPORARY
        post = f"{letters}, which is kept" if database else _TEMPORARY
        click.echo(_greeting(base, settings.secret or "", data, files, post))
        sys.stdout.flush()
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            click.echo("The demo has ended.", err=True)


@contextmanager
def workspace(
    url: str, settings: Settings, uploads: str | Callable[[], str], letters: Path, base: str, model: Model, place: str
) -> Iterator[ASGIApp]:
    """Open the demo over a database and the URL of a store, and give its application, with the job routes before it.

    What it mails goes to the folder `letters`, with links to `base`; `model` writes the answers, whose streams are kept
    at `place`.
    """
    clock = SystemClock()
    data = Data(url)
    stores = {STORE: {"url": uploads, "columns": [str(each) for each in FILES], "orphans": "remove"}}
    jobs = [job for job, _ in ROTA]
    streams, posted = streams_at(place, data), mail(base, letters)
    crew = Nightcrew(url, settings=settings, jobs=jobs, blobs=stores, mail=posted, streams=streams, clock=clock)
    assert crew.mail is not None  # noqa: S101 - it was given
    files, mails = Files(crew), Mails.of(crew.mail, letters, clock)
    try:
        new = prepare(data, clock.now(), partial(seed, put=files.put))
        crew.migrate()
        if new:
            with data.writing() as connection:
                mails.enroll_newest(connection)
        desk = Desk(crew, mails, {job.name: about for job, about in ROTA} | CREW)
        answers = Answers(crew, streams, model)
        # The demo's people are invented, and whoever sits before it is its operator.
        operator = crew.dashboard(lambda _request: ("all", "you"))
        yield doors(site(Workspace(data, desk, files, mails, answers, clock), operator), crew)
    finally:
        crew.close()
        data.close()


def _made(folder: Path) -> str:
    """Return the URL of a folder, which is made when the first file comes: a refused database leaves none behind."""
    folder.mkdir(exist_ok=True)
    return folder.as_uri()


def _settings() -> Settings:
    """Take the secret and the keys of the environment, or make them; the demo is the same everywhere else.

    Outside of development no route opens without the secret, and that is what the demo is to show. The key of erasures
    is not made: whoever gives none gets no receipts.
    """
    given = Settings.read()
    fit = given.secret if given.secret and usable(given.secret) else secrets.token_urlsafe(24)
    return Settings(
        environment="production",
        secret=fit,
        erasure_key=given.erasure_key,
        unsubscribe_key=given.unsubscribe_key or secrets.token_urlsafe(24),
        previous_unsubscribe_key=given.previous_unsubscribe_key,
        cloud_deploy=True,
    )


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


def _greeting(base: str, secret: str, data: str, files: str, post: str) -> str:
    paths = [(job.path or job.route) for job, _ in ROTA if job.name in _SHOWN]
    calls = "\n".join(f"  curl -H 'Authorization: Bearer {secret}' {base}{path}" for path in paths)
    return (
        f"\n  Night desk   {base}/night\n  The crew     {base}{DESK}/\n"
        f"  The app      {base}/sign-in   (everybody's password: {PASSWORD})\n"
        f"  Data         {data}\n  Files        {files}\n  Mail         {post}\n\n"
        f"  CRON_SECRET={secret}\n\n{calls}\n\n  Ctrl-C ends it.\n"
    )
