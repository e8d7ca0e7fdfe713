"""Whoever follows an unsubscribe link over HTTP: looking changes nothing, pressing the button does."""

import asyncio
import re
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from nightcrew import Nightcrew, Settings
from nightcrew.errors import DatabaseError
from nightcrew.unsubscribe import link, token
from nightcrew.web.asgi import App, asgi, doors
from nightcrew.web.starlette import router

KEY, OTHER = "correct-horse-battery-staple", "another-horse-battery-staple"
SITE = "https://app.example.org"
LINK = link(SITE, KEY, "42", "welcome")
ONE_CLICK = {"content": b"List-Unsubscribe=One-Click", "headers": {"content-type": "application/x-www-form-urlencoded"}}


@dataclass
class Mail:
    """What a crew does for whoever leaves; it remembers what it was asked for."""

    unsubscribe_keys: tuple[str, ...] = (KEY,)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    meanwhile: Callable[[], object] = lambda: None

    def opt_out(self, person: str, topic: str) -> None:
        self._hear("out", person, topic)

    def opt_in(self, person: str, topic: str) -> None:
        self._hear("in", person, topic)

    def _hear(self, way: str, person: str, topic: str) -> None:
        self.meanwhile()
        self.threads.add(threading.get_ident())
        self.asked.append((way, person, topic))


@pytest.fixture
def mail() -> Mail:
    return Mail()


@pytest.fixture
def crew(tmp_path, mail):
    crew = Nightcrew(f"sqlite:///{tmp_path}/crew.db", settings=Settings(secret="a-secret-of-enough-characters"))
    crew.job(name="nightly", every="1 day")(print)
    crew.mail = mail
    yield crew
    crew.close()


def call(app: App, method: str, url: str, **more: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=SITE) as client:
            return await client.request(method, url, **more)

    return asyncio.run(once())


class Forms(HTMLParser):
    """The forms of a page: each with its method and where it goes."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.found: list[tuple[str | None, str]] = []
        self._at = str(answer.url)
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "form":
            said = dict(attributes)
            self.found.append((said["method"], urljoin(self._at, said["action"] or "")))


def press(app: App, answer: httpx.Response) -> httpx.Response:
    """Press the one button of a page."""
    [(method, url)] = Forms(answer).found
    return call(app, method.upper(), url)


def test_looking_changes_nothing_and_offers_a_button_that_does(crew, mail):
    seen = call(asgi(crew), "GET", LINK)
    assert (seen.status_code, mail.asked) == (200, [])
    assert "No more “<bdi>welcome</bdi>” mail?" in seen.text
    assert press(asgi(crew), seen).status_code == 200
    assert mail.asked == [("out", "42", "welcome")]


def test_who_clicked_by_mistake_can_come_back_and_leave_once_more(crew, mail):
    app = asgi(crew)
    left = call(app, "POST", LINK)
    back = press(app, left)
    again = press(app, back)
    assert [way for way, *_ in mail.asked] == ["out", "in", "out"]
    assert "You are unsubscribed" in left.text
    assert "You are subscribed again" in back.text
    assert "You are unsubscribed" in again.text


@pytest.mark.parametrize(
    "more",
    [
        {},
        ONE_CLICK,
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"\0" * 5_000_000},
        {"json": [1]},
    ],
)
def test_a_post_acts_whatever_it_carries_as_often_as_it_comes(crew, mail, more):
    for _ in range(2):
        answer = call(asgi(crew), "POST", LINK, **more)
        assert (answer.status_code, answer.is_redirect) == (200, False)
    assert mail.asked == [("out", "42", "welcome")] * 2


def test_a_post_is_answered_before_its_body_has_come(crew, mail):
    """Who sends a body without an end keeps nobody waiting."""
    sent: list[Any] = []

    async def drive() -> None:
        async def never() -> Any:
            raise AssertionError("the body is read")

        async def send(message: Any) -> None:
            sent.append(message)

        path = LINK.removeprefix(SITE)
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "client": None}
        await asgi(crew)(scope, never, send)

    asyncio.run(drive())
    assert sent[0]["status"] == 200
    assert mail.asked


@pytest.mark.parametrize("query", ["?utm_source=mail&undone=1", "?undo=0", "?", "?%00", "?undo=&" + "x=1&" * 5_000])
def test_what_others_append_to_a_link_is_no_wish(crew, mail, query):
    back = "in" if query.startswith("?undo=&") else "out"
    assert call(asgi(crew), "POST", LINK + query).status_code == 200
    assert mail.asked == [(back, "42", "welcome")]


FORGED = {
    "of another key": token(OTHER, "42", "welcome"),
    "cut off": token(KEY, "42", "welcome")[:-1],
    "altered": token(KEY, "42", "welcome").replace("A", "B", 1),
    "longer": token(KEY, "42", "welcome") + "A",
    "none": "",
    "huge": "A" * 50_000,
    "of other letters": "é%00<script>",
    "with a part more": token(KEY, "42", "welcome") + "/x",
}


def test_every_other_token_gets_the_same_page_and_changes_nothing(crew, mail):
    app = asgi(crew)
    answers = [
        call(app, method, f"/api/emails/unsubscribe/{forged}{query}")
        for forged in FORGED.values()
        for method, query in (("GET", ""), ("POST", ""), ("POST", "?undo"))
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert "This link does not work" in answers[0].text
    assert mail.asked == []


def test_the_key_before_is_still_known_and_without_keys_no_link_is(crew, mail):
    app, old = asgi(crew), f"/api/emails/unsubscribe/{token(OTHER, '42', 'welcome')}"
    mail.unsubscribe_keys = (KEY, OTHER)
    assert call(app, "POST", old).status_code == 200
    mail.unsubscribe_keys = ()
    assert [call(app, "POST", each).status_code for each in (old, LINK)] == [404, 404]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_do_nothing_and_tell_no_genuine_link_from_a_forged_one(crew, mail, method):
    answers = [call(asgi(crew), method, url) for url in (LINK, LINK[:-1])]
    assert {(each.status_code, each.headers["allow"], each.text) for each in answers} == {
        (405, "GET, HEAD, POST", answers[0].text)
    }
    assert mail.asked == []


def test_head_is_get_without_its_page(crew, mail):
    get, head = (call(asgi(crew), method, LINK) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)
    assert mail.asked == []


@pytest.mark.parametrize(("method", "url"), [("GET", LINK), ("POST", LINK), ("GET", LINK[:-1]), ("PUT", LINK)])
def test_no_page_runs_loads_keeps_or_tells_anything(crew, method, url):
    answer = call(asgi(crew), method, url)
    headers = answer.headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-robots-tag"] == "noindex, nofollow, noarchive"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert int(headers["content-length"]) == len(answer.content)
    assert "set-cookie" not in headers
    style = re.search(r"<style>(.*)</style>", answer.text, re.DOTALL)[1]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert not re.search(r"<script|src=|href=|url\(|42", answer.text.replace(style, ""))


@pytest.mark.parametrize("topic", ["<script>alert(1)</script>", "{x}{topic}%s", "\u202eabc", "'\"&amp;", "ü" * 32])
def test_a_topic_is_text_whatever_it_holds(crew, mail, topic):
    app, url = asgi(crew), link(SITE, KEY, "42", topic)
    seen = call(app, "GET", url)
    left = press(app, seen)
    assert press(app, left).status_code == 200
    assert [asked[2] for asked in mail.asked] == [topic] * 2
    escaped = topic.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;")
    assert f"<h1>No more “<bdi>{escaped.replace(chr(34), '&quot;')}</bdi>” mail?</h1>" in seen.text
    assert "<script" not in seen.text + left.text


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [(DatabaseError("it is away"), 503, "Not just now"), (ZeroDivisionError("secret"), 500, "Something broke")],
)
@pytest.mark.parametrize("query", ["", "?undo"])
def test_who_could_not_leave_is_told_so_and_may_try_again(crew, mail, caplog, error, status, title, query):
    def fail() -> None:
        raise error

    mail.meanwhile, app = fail, asgi(crew)
    failed = call(app, "POST", LINK + query)
    assert (failed.status_code, mail.asked) == (status, [])
    assert title in failed.text
    assert str(error) not in failed.text
    assert ("retry-after" in failed.headers) == (status == 503)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "somebody's wish about mail of welcome is not kept: " in caplog.text
    mail.meanwhile = lambda: None
    assert press(app, failed).status_code == 200
    assert mail.asked == [("in" if query else "out", "42", "welcome")]


def test_the_event_loop_does_not_wait_for_the_database(crew, mail):
    call(asgi(crew), "POST", LINK)
    assert threading.get_ident() not in mail.threads


def beside(app: App) -> App:
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("home")), Mount("/", app)])


def fast(crew: Nightcrew) -> App:
    app = FastAPI()
    app.include_router(router(crew), prefix="/ops")
    return app


@pytest.mark.parametrize(
    ("host", "under"),
    [
        (asgi, ""),
        (lambda crew: beside(asgi(crew)), ""),
        (lambda crew: Starlette(routes=[Mount("/a/b", asgi(crew))]), "/a/b"),
        (lambda crew: doors(PlainTextResponse("home"), crew), ""),
        (lambda crew: Starlette(routes=[Mount("/", router(crew))]), ""),
        (fast, "/ops"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_pages_are_served_wherever_the_job_routes_are(crew, mail, host, under, slash):
    app, url = host(crew), link(SITE + under, KEY, "42", "welcome") + slash
    left = press(app, call(app, "GET", url))
    assert press(app, left).status_code == 200
    assert [way for way, *_ in mail.asked] == ["out", "in"]
    assert call(app, "GET", f"{SITE}{under}/api/internal/jobs/nightly").status_code == 401


def test_without_mail_the_path_is_the_applications_own(crew):
    crew.mail = None
    app = doors(PlainTextResponse("mine"), crew)
    assert call(app, "GET", LINK).text == "mine"
    assert call(asgi(crew), "POST", LINK).json() == {"error": "Not found."}
