"""What the workspace does with what it cannot take: nothing is lost, nothing breaks, and the page says what to do."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from html import unescape
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from tests.story.tealight import Browser, served

from nightcrew.demo.accounts import LONGEST_REASON, SESSION_LIFE
from nightcrew.demo.conversations import LONGEST_MESSAGE
from nightcrew.demo.database import Data
from nightcrew.demo.files import LARGEST
from nightcrew.demo.people import PASSWORD
from nightcrew.demo.schema import chats, deactivation_feedback, messages, metadata, projects, sessions
from nightcrew.demo.visit import SESSION

# ── what was typed ───────────────────────────────────────────────────────────────────────────────────────────────────


def typed(page: str, name: str) -> str:
    """Return what a browser would show in a textarea."""
    held = re.search(rf'<textarea[^>]* (?:id|name)="{name}"[^>]*>(.*?)</textarea>', page, re.DOTALL)[1]
    return unescape(held).removeprefix("\n")


def test_a_message_that_is_refused_stands_in_the_form_again_with_the_reason_beside_it(place):
    ada = place.browser().sign_up("Ada", "ada.long@example.com")
    chat, text = ada.new_chat(), "\n<b>word</b>\r\n" * 700
    large = ("large.bin", bytes(LARGEST + 1), "application/octet-stream")
    page = ada.send(f"{chat}/messages", text=text, files=[large], status=422)
    assert typed(page, "text") == text.replace("\r\n", "\n")
    assert 'aria-describedby="wrong' in page
    assert "at most 5,242,880 bytes together; these have " in re.search(r'id="wrong".*?</p>', page, re.DOTALL)[0]
    assert "write something first" in ada.send(f"{chat}/messages", text=" \n ", status=422)


def test_a_message_has_as_many_characters_as_its_browser_counted(fresh_place):
    ada = fresh_place.browser().sign_up()
    chat = ada.new_chat()
    lines = "\r\n".join(["水は火に勝つ。" * 10] * 112)
    text = lines + "。" * (LONGEST_MESSAGE - len(lines.replace("\r\n", "\n")))
    ada.send(f"{chat}/messages", text=text)
    kept = fresh_place.value(messages.c.parts, messages.c.role == "user", messages.c.chat_id == chat[-16:])
    assert kept[0]["text"] == text.replace("\r\n", "\n")


def test_a_farewell_that_is_refused_keeps_its_words_and_its_choice(place):
    ada = place.browser().sign_up("Ada", "ada.farewell@example.com")
    ada.open("/settings")
    page = ada.send("/settings/deactivate", reason="\nToo quiet & too dark", status=422)
    assert typed(page, "reason") == "\nToo quiet & too dark"
    assert "Please choose" in re.search(r"<fieldset.*?</fieldset>", page, re.DOTALL)[0]
    page = ada.send("/settings/deactivate", category="privacy", reason="x" * (LONGEST_REASON + 1), status=422)
    assert len(typed(page, "reason")) == LONGEST_REASON + 1
    assert 'value="privacy" required checked' in page
    assert "at most 2000 characters; these are 2001" in page


def test_who_writes_after_the_session_has_ended_gets_the_words_back(place):
    ada = place.browser().sign_up("Ada", "ada.elsewhere@example.com")
    chat = ada.new_chat()
    mine = sessions.c.token_hash == sha256(ada.client.cookies[SESSION].encode()).hexdigest()
    with place.data.writing() as connection:
        connection.execute(sessions.delete().where(mine))
    page = ada.send(f"{chat}/messages", text="A long & careful question", status=403)
    assert typed(page, "typed") == "A long & careful question"
    assert '<a href="/sign-in">Sign in</a>' in page
    assert place.count(messages, messages.c.chat_id == chat[-16:]) == 0


def test_words_in_a_form_of_an_earlier_start_come_back_and_those_of_another_site_do_not(place):
    ada = place.browser().sign_up("Ada", "ada.restart@example.com")
    for origin, kept in (("same-origin", 1), ("cross-site", 0)):
        form = {"csrf": "of another start", "text": "A long & careful question"}
        answer = ada.client.post(f"{ada.new_chat()}/messages", data=form, headers={"Sec-Fetch-Site": origin})
        assert answer.status_code == 403
        assert answer.text.count("A long &amp; careful question") == kept


def test_a_project_without_a_name_or_with_a_long_one_is_told_which(place):
    ada = place.browser().sign_up("Ada", "ada.naming@example.com")
    ada.open("/projects")
    assert "give the project a name" in ada.send("/projects", name="  ", status=422)
    page = ada.send("/projects", name='"Very" ' * 30, status=422)
    assert 'value="' + "&#34;Very&#34; " * 30 + '"' in page
    assert "at most 120 characters; this one has 209" in page


# ── the wrong method, the wrong form ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path", "allowed", "page"),
    [
        ("GET", "/reactivate", "POST", "/sign-in"),
        ("GET", "/night/run", "POST", "/night"),
        ("GET", "/chats/0123456789abcdef/messages", "POST", "/chats/0123456789abcdef"),
        ("GET", "/settings/deactivate", "POST", "/settings"),
        ("GET", "/connections/0123456789abcdef/refresh", "POST", "/connections"),
        ("DELETE", "/sign-in", "GET, HEAD, POST", "/sign-in"),
        ("POST", "/night", "GET, HEAD", "/night"),
        ("BREW", "/chats", "GET, HEAD, POST", "/chats"),
    ],
)
def test_a_wrong_method_gets_a_page_that_leads_to_the_right_one(place, method, path, allowed, page):
    answer = httpx.request(method, place.base + path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert '<header class="top">' in answer.text
    assert "Nothing was changed" in answer.text
    assert f'<a href="{page}">Open that page</a>' in answer.text


def test_a_static_file_takes_no_form(place):
    answer = httpx.post(place.base + "/static/tealight.css")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}, b"--x--", 415),
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({}, iter([b"csrf=x"]), 411),
        ({}, b"x" * 200_000, 413),
        ({}, b"a=1&" * 90, 413),
        ({}, b"", 403),
    ],
    ids=["multipart", "json", "no length", "long", "many fields", "empty"],
)
def test_a_body_that_no_page_of_ours_sends_is_refused(place, headers, content, status):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert httpx.post(place.base + "/sign-in", content=content, headers=kind | headers).status_code == status


def test_a_form_that_ends_before_its_end_leaves_no_defect_behind(place, caplog):
    address = urlsplit(place.base)
    with socket.create_connection((address.hostname, address.port)) as caller:
        kind = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n"
        caller.sendall(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\n" + kind + b"\r\ncsrf=")
    assert httpx.get(place.base + "/sign-in").status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


# ── hostile input ────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = {
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "four bytes": "🕯" * 80,
    "long": "x" * 40_000,
    "number": "9" * 400,
    "nothing": "",
    "quotes": "'\"; --\\",
    "controls": "\x01\x1b\x7f\u202e\ufeff",
}
KEYS = ["%00", "%ED%A0%80", "9" * 400, "-1", "..%2F..", "%F0%9F%95%AF", "%FF", "%27%3B--", "{id}", "0123456789ABCDEF"]


class Stranger:
    """Sends what no page offers, with the seal of the browser it sits in; each answer is shown and forgotten."""

    def __init__(self, browser: Browser) -> None:
        self.client = browser.client
        self.client.follow_redirects = False
        self.seal = re.search(r'name="csrf" value="(\w+)"', browser.page)[1]
        self.cookies = dict(self.client.cookies)
        self.broken: list[str] = []

    def post(self, path: str, **fields: str) -> None:
        body = urlencode({"csrf": self.seal} | fields, errors="surrogatepass")
        self._note(
            self.client.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}), fields
        )

    def get(self, path: str) -> None:
        self._note(self.client.get(path), {})

    def _note(self, answer: httpx.Response, fields: dict[str, str]) -> None:
        if answer.status_code >= 500:
            self.broken.append(f"{answer.status_code} {answer.request.method} {answer.request.url.path} {fields}"[:200])
        self.client.cookies = httpx.Cookies(self.cookies)


def test_no_text_breaks_a_form(fresh_place):
    ada, guest = fresh_place.browser().sign_up(), fresh_place.browser()
    chat = ada.new_chat()
    guest.open("/sign-in")
    inside, outside = Stranger(ada), Stranger(guest)
    for text in HOSTILE.values():
        outside.post("/sign-in", email=text, password=text)
        outside.post("/sign-up", name=text, email="eve@example.com", password=PASSWORD)
        outside.post("/sign-up", name="Eve", email=f"{text}@example.com", password=PASSWORD)
        outside.post("/reactivate", email="ada@example.com", password=text)
        outside.post("/night/run", job=text)
        outside.post("/night/travel", leap=text)
        inside.post(f"{chat}/messages", text=text)
        inside.post("/chats", project=text)
        inside.post(f"{chat}/project", project=text)
        inside.post(f"{chat}/save", saved=text)
        inside.post("/projects", name=text)
        inside.post("/connections", tool=text)
        inside.post("/provider/authorize", state=text, redirect_uri=text, code_challenge=text, decision="allow")
        callback = f"{fresh_place.base}/oauth/callback"
        inside.post("/provider/authorize", state=text, redirect_uri=callback, code_challenge=text, decision="allow")
        inside.post("/settings/deactivate", category=text, reason=text)
        asked = dict.fromkeys(("state", "code", "page", "email"), text[:5000])
        query = urlencode(asked, errors="surrogatepass")
        for path in ("/oauth/callback", "/chats", "/sign-in", "/provider/authorize"):
            inside.get(f"{path}?{query}")
        inside.get(f"/oauth/callback?error=denied&{query}")
    inside.post("/settings/deactivate", category="other", reason="a\0b")
    assert not inside.broken + outside.broken
    assert fresh_place.value(deactivation_feedback.c.reason, deactivation_feedback.c.category == "other",
                             deactivation_feedback.c.reason.like("a%b")) == "a\N{REPLACEMENT CHARACTER}b"  # fmt: skip


def test_no_key_breaks_an_address(fresh_place):
    ada = fresh_place.browser().sign_up()
    ada.open("/settings")
    inside = Stranger(ada)
    for key in KEYS:
        for path in ("/chats/{}", "/projects/{}", "/static/{}", "/{}"):
            inside.get(path.format(key))
        for path in ("/chats/{}/messages", "/chats/{}/save", "/chats/{}/project", "/chats/{}/delete"):
            inside.post(path.format(key), text="hello")
            inside.get(path.format(key))
        for path in ("/projects/{}/delete", "/connections/{}/refresh", "/connections/{}/disconnect"):
            inside.post(path.format(key))
    assert not inside.broken


def test_a_host_header_that_names_no_host_is_sent_away(fresh_place):
    ada = fresh_place.browser().sign_up()
    ada.open("/connections")
    form = {"csrf": re.search(r'name="csrf" value="(\w+)"', ada.page)[1], "tool": "calendar"}
    for host in (
        "x" * 3000,
        "[",
        "[:::::]",
        "[::1]:port",
        "a b",
        "a/b?c#d",
        "user@evil.example",
        "h:999999",
        "ä.eu",
    ):
        raw = [(b"Host", host.encode())]
        for answer in (ada.client.get("/night", headers=raw), ada.client.post("/connections", data=form, headers=raw)):
            assert answer.status_code == 400, host
            assert "The Host header names no host" in answer.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "tea-light.example", "my_box:80"])
def test_a_host_header_that_names_one_is_served(place, host):
    assert httpx.get(place.base + "/night", headers={"Host": host}).status_code == 200


def test_an_error_of_the_database_shows_nothing_that_was_written(database_url):
    with closing(Data(database_url)) as data:
        metadata.create_all(data.engine)
        moment = datetime.now(UTC)
        row = {"token_hash": "a-token-nobody-may-see", "user_id": "nobody", "created_at": moment}
        with pytest.raises(sa.exc.IntegrityError) as caught, data.writing() as connection:
            connection.execute(sessions.insert().values(**row, expires_at=moment + SESSION_LIFE))
    assert "a-token-nobody-may-see" not in str(caught.value.with_traceback(None)).replace(str(caught.value.orig), "")


def test_who_writes_into_what_is_deleted_in_that_moment_is_told_so(server_url):
    with served(server_url) as place, ThreadPoolExecutor(1) as background:
        ada = place.browser().sign_up()
        ada.open("/projects")
        ada.send("/projects", name="Thesis")
        project = ada.path[-16:]
        with place.data.writing() as connection:
            connection.execute(projects.delete().where(projects.c.id == project))
            asked = background.submit(ada.send, "/chats", status=409)
            place.wait_for_waiting(1)
        assert "at the same moment, so nothing was written" in asked.result(20)
        assert place.count(chats, chats.c.project_id == project) == 0
