"""Tealight, served: the workspace at an address, browsers that fill in its forms, and what SQL says of it."""

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from html import unescape
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import httpx
import sqlalchemy as sa
import uvicorn

from nightcrew.clock import SystemClock
from nightcrew.demo.database import Data
from nightcrew.demo.files import ATTACHED, OF_PROJECTS
from nightcrew.demo.people import PASSWORD
from nightcrew.demo.schema import chats, message_sources, messages, project_sources, users
from nightcrew.demo.serve import workspace
from nightcrew.demo.writers import Drawer, Model
from nightcrew.settings import Settings
from nightcrew.stores import blob_store
from nightcrew.streams import MEMORY

ACCOUNTS = "/api/internal/jobs/delete-stale-deactivated-accounts"
SHELLS = "/api/internal/jobs/delete-stale-empty-chats"
PKCE = "/api/oauth/cleanup-pkce"
DRAIN = "/api/internal/jobs/drain-outbox"

File = tuple[str, bytes, str]
"""A name, bytes and a media type, as a browser sends them."""

SECRET = "a-secret-that-is-long-enough"
KEY = "a-key-for-the-links-in-mails"
AT_ONCE = Drawer(pace=0)
BEARER = {"Authorization": f"Bearer {SECRET}"}

WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # Not innodb_trx: it is a picture that stays as it is while somebody keeps looking at it.
    "mysql": "SELECT count(*) FROM information_schema.processlist"
    " WHERE db = database() AND command = 'Query' AND time >= 1",
}


class Browser:
    """A browser that fills in the forms it is shown."""

    def __init__(self, base: str) -> None:
        self.client = httpx.Client(base_url=base, follow_redirects=True, timeout=20)
        self.page = ""
        self.person = ""

    def open(self, path: str, status: int = 200) -> str:
        return self._shown(self.client.get(path), status)

    def send(self, action: str, *, status: int = 200, files: Sequence[File] = (), **fields: str) -> str:
        """Send the form of the page in hand that goes to `action`, with its hidden fields."""
        form = next(
            text for text in re.findall(r"<form.*?</form>", self.page, re.DOTALL) if f'action="{action}"' in text
        )
        hidden = dict(re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', form))
        filled = {name: unescape(value) for name, value in hidden.items()} | fields
        uploads = [("files", each) for each in files] or None
        return self.waited(self._shown(self.client.post(action, data=filled, files=uploads), status))

    def waited(self, page: str) -> str:
        """Reload the page in hand until no answer is being written there, and the last one is kept."""
        for _ in range(100):
            if not re.search(r"data-stream=|There is no answer yet", page):
                return page
            time.sleep(0.02)
            page = self.open(self.path)
        raise AssertionError("the answer does not come")

    def sign_up(self, name: str = "Ada Marin", email: str = "ada@example.com") -> "Browser":
        self.open("/sign-up")
        self.send("/sign-up", name=name, email=email, password=PASSWORD)
        return self

    def sign_in(self, email: str = "ada@example.com", status: int = 200) -> str:
        self.open("/sign-in")
        return self.send("/sign-in", email=email, password=PASSWORD, status=status)

    def new_chat(self) -> str:
        self.open("/chats")
        self.send("/chats")
        return self.path

    def new_project(self, name: str = "Thesis") -> str:
        """Open a project and return its key."""
        self.open("/projects")
        self.send("/projects", name=name)
        return self.path[-16:]

    def files(self) -> dict[str, str]:
        """Return the files that the page in hand links to: the key of each by its name."""
        found = re.findall(r'<a[^>]* href="/files/(\w+)">(.*?)</a>', self.page)
        return {unescape(name): key for key, name in found}

    @property
    def path(self) -> str:
        return self.answer.url.path

    def _shown(self, answer: httpx.Response, status: int) -> str:
        assert answer.status_code == status, answer.text
        self.answer, self.page = answer, answer.text
        return self.page


class Place:
    """A running workspace and what SQL says of it."""

    def __init__(self, base: str, data: Data, stack: ExitStack, uploads: str, letters: Path) -> None:
        self.base = base
        self.data = data
        self.stack = stack
        self.letters = letters
        self.store = blob_store(uploads, SystemClock())
        self._numbers = count()

    def browser(self) -> Browser:
        browser = Browser(self.base)
        self.stack.enter_context(browser.client)
        return browser

    def newcomer(self, name: str = "Ada") -> Browser:
        """Return the browser of somebody new, whom nobody else in the place knows of."""
        email = f"{name.lower()}.{next(self._numbers)}@example.org"
        browser = self.browser().sign_up(name, email)
        browser.person = str(self.value(users.c.id, users.c.email == email))
        return browser

    def settle(self, path: str = DRAIN) -> dict:
        """Run a job now; it has to succeed."""
        answer = httpx.post(f"{self.base}{path}?now", headers=BEARER, timeout=30)
        assert answer.json()["success"], answer.text
        return answer.json()

    def kept(self, browser: Browser) -> set[str]:
        """Return the keys of somebody's files in the store."""
        prefixes = (f"{folder}/{browser.person}/" for folder in (ATTACHED, OF_PROJECTS))
        return {blob.key for prefix in prefixes for blob in self.store.page(prefix=prefix).blobs}

    def named(self, browser: Browser) -> set[str]:
        """Return the keys of somebody's files that rows have."""
        columns = message_sources.c.blob_key, project_sources.c.blob_key
        with self.data.reading() as connection:
            found = [key for column in columns for key in connection.execute(sa.select(column)).scalars()]
        return {key for key in found if key.split("/")[1] == browser.person}

    def call(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.base + path, headers=headers or BEARER, timeout=30)

    def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        with self.data.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0

    def value(self, column: sa.Column, *where: sa.ColumnElement[bool]) -> object:
        with self.data.reading() as connection:
            return connection.scalar(sa.select(column).where(*where))

    def wait_for_waiting(self, number: int) -> None:
        """Wait until so many transactions wait for a lock that somebody holds."""
        for _ in range(200):
            with self.data.reading() as connection:
                if connection.exec_driver_sql(WAITING[connection.dialect.name]).scalar_one() >= number:
                    return
            time.sleep(0.05)
        raise AssertionError("nobody waits")

    def empty_chats(self) -> sa.ColumnElement[bool]:
        return ~sa.exists().where(messages.c.chat_id == chats.c.id)


@contextmanager
def served(
    url: str, uploads: str = "memory://", erasure_key: str | None = None, model: Model = AT_ONCE, streams: str = MEMORY
) -> Iterator[Place]:
    settings = Settings(
        environment="production", secret=SECRET, erasure_key=erasure_key, unsubscribe_key=KEY, cloud_deploy=True
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        TemporaryDirectory() as letters,
        workspace(url, settings, uploads, Path(letters) / "mail", _base(listener), model, streams) as app,
        closing(Data(url)) as data,
    ):
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="on", ws="none", timeout_graceful_shutdown=1)
        )
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with ExitStack() as browsers:
                yield Place(_base(listener), data, browsers, uploads, Path(letters) / "mail")
        finally:
            server.should_exit = True
            thread.join(20)


def _base(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
