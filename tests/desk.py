"""A crew with a past, and a browser at its desk: it keeps its cookie, and sends the forms that it is shown."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from threading import Event, Thread
from typing import Any

import httpx
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.databases.tables import runs as run_table
from nightcrew.stream import Final
from nightcrew.streaming import Streams, Terms
from nightcrew.streams import way

_FORM = re.compile(r"<form[^>]*?(?P<method> method=\"post\")?[^>]*?>.*?</form>", re.DOTALL)
_FIELD = re.compile(r"<input[^>]*? name=\"(\w+)\"(?:[^>]*? value=\"([^\"]*)\")?")


class Browser:
    """Whoever looks at one desk, mounted at `root`."""

    def __init__(
        self, desk: Any, root: str = "", *, client: tuple[str, int] = ("127.0.0.1", 1234), host: str = "desk.test"
    ) -> None:
        self._transport = httpx.ASGITransport(_mounted(desk, root), client=client)
        self._base = f"https://{host}{root}"
        self.cookies: dict[str, str] = {}
        self.answer: httpx.Response | None = None

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request, and follow nothing."""

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, cookies=self.cookies) as client:
                address = path if path.startswith("https://") else f"{self._base}{path}"
                answer = await client.request(method, address, **options)
                self.cookies |= dict(client.cookies)
                return answer

        self.answer = asyncio.run(send())
        return self.answer

    def open(self, path: str, status: int = 200) -> str:
        """Return a page."""
        answer = self.ask("GET", path)
        assert answer.status_code == status, answer.text
        return answer.text

    def send(self, page: str, action: str, status: int = 303, **given: str) -> str:
        """Send the form of a page that goes to an address ending so, with what is given; return where that leads."""
        text = self.open(page)
        forms = (found[0] for found in _FORM.finditer(text))
        (form,) = [form for form in forms if re.search(f'action="[^"]*{re.escape(action)}"', form)]
        fields = {name: unescape(value or "") for name, value in _FIELD.findall(form)} | given
        address = unescape(re.search(r'action="([^"]+)"', form)[1])
        answer = self.ask("POST", f"https://{httpx.URL(self._base).host}{address}", data=fields)
        assert answer.status_code == status, answer.text
        return answer.headers.get("location", answer.text).removeprefix(httpx.URL(self._base).path.rstrip("/"))


def words(text: str) -> str:
    """Return what a person reads on a page."""
    without = re.sub(r"<(script|title|svg)\b.*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    return " ".join(unescape(without).split())


def hired(url: str, environment: str = "production", **more: Any) -> Nightcrew:
    """A crew with a policy and a function."""
    crew = Nightcrew(url, settings=Settings(environment=environment))
    crew.expire("purge-notes", "notes", column="created_at", every="10 minutes", owner="@notes", max_fraction=1, **more)
    crew.add(Job("daily", cron("30 2 * * *", "Europe/Paris"), function=lambda run: 7))
    return crew


@contextmanager
def staffed(yard: Any) -> Iterator[Nightcrew]:
    """Lend such a crew, whose policy has forty rows to remove."""
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    crew = hired(yard.link.engine.url.render_as_string(hide_password=False))
    crew.migrate()
    crew.status()
    yield crew
    crew.close()


def past(crew: Nightcrew, *rows: tuple[Any, ...]) -> None:
    """Write runs down that ended a while ago: (job, minutes ago, state), with what else is said of them."""
    now = datetime.now(UTC)
    written = []
    for number, (job, minutes, state, *more) in enumerate(rows):
        at = now - timedelta(minutes=minutes)
        row = {"id": f"{job}.{number:05}", "job": job, "slot": at, "state": state, "trigger": "ticker", "caller": None}
        row |= {"reason": None, "attempt": 1, "fence": 1, "owner": "w", "moment": at, "finished_at": at, "deleted": 3}
        written.append(row | {"counts": {}, "error": None} | (more[0] if more else {}))
    with crew._station.link.transaction() as connection:
        connection.execute(sa.insert(run_table), written)


@contextmanager
def answering(chats: Iterable[str]) -> Iterator[tuple[Streams, list[Final]]]:
    """Let these chats have an answer that goes on; also lend what was saved of those that ended."""
    saved, begun, over = list[Final](), Event(), Event()
    streams = Streams(way("memory://"), persist=saved.append, terms=Terms(lease=2.0))

    async def words_of() -> AsyncIterator[str]:
        while True:
            yield "word"
            await asyncio.sleep(0.05)

    async def live() -> None:
        for chat in chats:
            await streams.run(chat, "grace", words_of())
        begun.set()
        await asyncio.to_thread(over.wait)
        await streams.close()

    thread = Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert begun.wait(10)
    try:
        yield streams, saved
    finally:
        over.set()
        thread.join(20)


def letting_in(grant: object, actor: str = "ada") -> Callable[[Any], object]:
    """Return what lets everybody do one and the same."""
    return lambda _request: None if grant is None else (grant, actor)


def _mounted(desk: Any, root: str) -> Any:
    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await desk({**scope, "root_path": root}, receive, send)

    return app
