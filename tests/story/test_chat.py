"""Answers that are written word by word: kept once however they end, ended with their chat, nobody else's to read."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa
from tests.story.tealight import ACCOUNTS, DRAIN, Browser, Place, served

from nightcrew.demo import responder, writers
from nightcrew.demo.answers import keep
from nightcrew.demo.schema import chats, messages, users
from nightcrew.demo.writers import Drawer, Endpoint
from nightcrew.errors import ConfigurationError
from nightcrew.stream import Final, State

LONG = "Tell me everything you know"
WRITTEN = responder.answer(LONG)


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Iterator[Place]:
    """A workspace whose drawer speaks as to people."""
    with served(f"sqlite:///{tmp_path_factory.mktemp('chat')}/tealight.db", model=Drawer()) as place:
        yield place


def ask(browser: Browser, chat: str, text: str, way: str = "messages") -> str:
    """Send a question and return the page that comes at once."""
    if browser.path != chat:
        browser.open(chat)
    seal = re.search(r'name="csrf" value="(\w+)"', browser.page)[1]
    answer = browser.client.post(f"{chat}/{way}", data={"csrf": seal, "text": text})
    browser.page = answer.text
    return answer.text


def stream_of(page: str) -> str:
    """Return the stream that a page reads along."""
    return re.search(r'data-stream="([\w-]+)"', page)[1]


def said(place: Place, chat: str) -> list[tuple[str, str, str | None]]:
    """Return what is kept of a chat: who, what, and how an answer ended."""
    rows = sa.select(messages).where(messages.c.chat_id == chat[-16:])
    with place.data.reading() as connection:
        found = connection.execute(rows.order_by(messages.c.created_at, messages.c.role.desc())).all()
    return [(row.role, row.parts[0]["text"], row.state) for row in found]


def events(browser: Browser, chat: str, most: int = 10_000) -> Iterator[tuple[str, dict]]:
    """Read the live answer of a chat along."""
    with browser.client.stream("GET", f"/api/chat/{chat[-16:]}/stream") as answer:
        assert answer.status_code == 200, answer.status_code
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])
                name, most = "", most - 1
                if most == 0:
                    return


def until(look, patience: float = 10.0):
    """Wait until something is so, and return it."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found


def test_the_question_is_kept_before_its_answer_is_written_and_stop_keeps_what_there_is(slow):
    ada = slow.newcomer()
    chat = ada.new_chat()
    page = ask(ada, chat, LONG)
    assert said(slow, chat) == [("user", LONG, None)]
    read = [each["text"] for _, each in events(ada, chat, most=3)]
    assert WRITTEN.startswith("".join(read))
    assert "writing…" in ada.open("/chats").partition(chat)[2]
    marks = ada.client.get("/api/chat/streams").json()["streams"]
    assert [each["chat"] for each in marks] == [chat[-16:]]
    ada.open(chat)
    ada.send(f"{chat}/stop", stream=stream_of(page))
    assert "Stopped." in ada.page
    _, (who, text, state) = said(slow, chat)
    assert (who, state) == ("assistant", "stopped")
    assert WRITTEN.startswith(text)
    assert "".join(read) <= text < WRITTEN
    assert ada.client.get(f"/api/chat/{chat[-16:]}/stream").status_code == 204
    assert ada.client.get("/api/chat/streams").json()["streams"] == []


def test_another_question_cuts_an_answer_off_and_both_are_kept_in_their_place(slow):
    ada = slow.newcomer()
    chat = ada.new_chat()
    ask(ada, chat, LONG)
    list(events(ada, chat, most=2))
    ask(ada, chat, "My sourdough bubbles but the loaf stays flat")
    page = ada.waited(ada.open(chat))
    assert "Cut off by another question." in page
    until(lambda: len(said(slow, chat)) == 4)
    first, cut, second, answer = said(slow, chat)
    assert [first[1], second[1]] == [LONG, "My sourdough bubbles but the loaf stays flat"]
    assert cut[0::2] == ("assistant", "replaced")
    assert "Wait for the dough" in answer[1]
    assert answer[2] is None


def test_a_question_in_other_words_leaves_nothing_of_the_answer_to_the_first(slow):
    ada = slow.newcomer()
    chat = ada.new_chat()
    ask(ada, chat, LONG)
    list(events(ada, chat, most=2))
    ask(ada, chat, "My sourdough bubbles but the loaf stays flat", "edit")
    ada.waited(ada.open(chat))
    time.sleep(0.2)
    asked, answer = said(slow, chat)
    assert asked[1].startswith("My sourdough")
    assert "Wait for the dough" in answer[1]


def test_an_answer_that_fails_is_kept_with_the_reason(slow):
    ada = slow.newcomer()
    chat = ada.new_chat()
    ask(ada, chat, "My sourdough bubbles but the loaf stays flat. Get stuck in the middle!")
    heard = list(events(ada, chat))
    assert heard[-1] == ("end", {"state": "failed"})
    told = "The drawer was asked to get stuck in the middle, and did."
    assert heard[-2] == ("", {"problem": told})
    page = ada.waited(ada.open(chat))
    assert f"The answer failed. {told}" in page
    assert said(slow, chat)[1][2] == "failed"


def test_nobody_reads_stops_or_lists_what_is_written_for_others(slow):
    ada, eve = slow.newcomer(), slow.newcomer("Eve")
    chat = ada.new_chat()
    stream = stream_of(ask(ada, chat, LONG))
    key = chat[-16:]
    for stranger in (eve.client, slow.browser().client):
        assert stranger.get(f"/api/chat/{key}/stream").status_code == 404
        assert stranger.post(f"/api/chat/{key}/stop", json={"streamId": stream}).status_code == 404
    assert eve.client.get("/api/chat/streams").json()["streams"] == []
    elsewhere = {"Sec-Fetch-Site": "same-site"}
    foreign = ada.client.post(f"/api/chat/{key}/stop", json={"streamId": stream}, headers=elsewhere)
    assert foreign.status_code == 404, "a page that is not ours"
    assert next(events(ada, chat))[0] == "", "and it goes on"
    stopped = ada.client.post(f"/api/chat/{key}/stop", json={"streamId": stream})
    assert stopped.json()["outcome"] == "stopped"


@pytest.mark.parametrize("way", ["alone", "chosen", "project"])
def test_a_chat_that_is_deleted_takes_its_answer_along(slow, way):
    ada = slow.newcomer()
    chat = ada.new_chat()
    if way == "project":
        project = ada.new_project()
        ada.open(chat)
        ada.send(f"{chat}/project", project=project)
    ask(ada, chat, LONG)
    reading = events(ada, chat)
    next(reading)
    other = slow.browser()
    other.client.cookies = ada.client.cookies
    if way == "alone":
        other.open(chat)
        other.send(f"{chat}/delete")
    elif way == "chosen":
        other.open("/chats")
        other.send("/chats/delete", **{f"chat-{chat[-16:]}": "yes", "sure": "yes"})
        assert "1 chat deleted" in other.page
    else:
        other.open(f"/projects/{project}")
        other.send(f"/projects/{project}/delete", chats="too")
    assert list(reading)[-1] == ("end", {"state": "gone"})
    assert ada.client.get("/api/chat/streams").json()["streams"] == []
    assert said(slow, chat) == []
    slow.settle(DRAIN)


def test_an_erased_account_takes_what_is_written_for_it_along(tmp_path):
    with served(f"sqlite:///{tmp_path}/tealight.db", model=Drawer()) as place:
        ada = place.newcomer()
        chat = ada.new_chat()
        ask(ada, chat, LONG)
        reading = events(ada, chat)
        next(reading)
        with place.data.writing() as connection:
            gone = sa.select(users.c.created_at).where(users.c.id == ada.person).scalar_subquery()
            long_ago = sa.func.datetime(gone, "-60 days")
            connection.execute(
                users.update().where(users.c.id == ada.person).values(deactivated_at=long_ago, created_at=long_ago)
            )
        place.settle(ACCOUNTS)
        place.settle(DRAIN)
        assert list(reading)[-1] == ("end", {"state": "gone"})
        assert place.count(chats, chats.c.id == chat[-16:]) == 0


def test_an_answer_is_kept_once_however_often_it_is_handed_over(place):
    ada = place.newcomer()
    chat = ada.new_chat()
    with place.data.writing() as connection:
        moment = place.value(chats.c.created_at, chats.c.id == chat[-16:])
        row = {"id": "0" * 15 + "1", "chat_id": chat[-16:], "role": "user", "created_at": moment}
        connection.execute(messages.insert().values(**row, parts=[{"type": "text", "text": "Hello?"}]))
    told = ('{"text":"One "}', '{"text":"two"}')
    final = Final("0190-1", chat[-16:], ada.person, State.LOST, b"", told, 0.0, meta={"question": row["id"]})
    for _ in range(3):
        keep(place.data, final)
    assert said(place, chat)[1:] == [("assistant", "One two", "lost")]
    assert "Interrupted: whoever wrote this answer" in ada.open(chat)
    keep(place.data, Final("0190-2", "f" * 16, ada.person, State.DONE, b"", told, 0.0, meta={"question": row["id"]}))
    keep(place.data, Final("0190-3", chat[-16:], ada.person, State.DONE, b"", told, 0.0, meta={"question": "gone"}))
    assert len(said(place, chat)) == 2


def test_a_server_that_is_shut_down_keeps_what_was_written_and_redis_carries_it(tmp_path):
    url = f"sqlite:///{tmp_path}/tealight.db"
    with served(url, model=Drawer(), streams="redis://127.0.0.1:6379/0") as place:
        ada = place.newcomer()
        chat = ada.new_chat()
        ask(ada, chat, LONG)
        first = [each["text"] for _, each in events(ada, chat, most=3)]
    with served(url, model=Drawer(), streams="redis://127.0.0.1:6379/0") as place:
        _, (_, text, state) = said(place, chat)
        assert state == "stopped"
        assert text.startswith("".join(first))
        again = place.browser()
        again.client.cookies = {each.name: each.value for each in ada.client.cookies.jar}
        assert "Stopped. The server was shut down." in again.open(chat)


# ── a model behind an endpoint ───────────────────────────────────────────────────────────────────────────────────────


class Asked(BaseHTTPRequestHandler):
    """An endpoint that answers as its server's script says, and remembers what it was asked."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        status, lines = self.server.script
        self.send_response(status)
        self.end_headers()
        for line in lines:
            self.wfile.write(line.encode() + b"\n\n")
            self.wfile.flush()
            if line == "pause":
                self.server.hung_up.wait(20)

    def log_message(self, *_args: object) -> None:
        pass


def word(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}"


@contextmanager
def endpoint(status: int, *lines: str) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        server.script, server.asked, server.hung_up = (status, lines), [], threading.Event()
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.hung_up.set()
        server.shutdown()


@contextmanager
def answering(tmp_path, status: int, *lines: str) -> Iterator[tuple[Place, Browser, str, list]]:
    """A workspace whose answers come from an endpoint."""
    with endpoint(status, *lines) as server:
        model = Endpoint(f"http://127.0.0.1:{server.server_port}/v1/", "small", "the-key")
        with served(f"sqlite:///{tmp_path}/tealight.db", model=model) as place:
            ada = place.newcomer()
            yield place, ada, ada.new_chat(), server.asked


def test_an_endpoint_gets_the_whole_talk_and_its_words_are_streamed_and_kept(tmp_path):
    lines = [word("Let <b>it</b>"), ": a comment", word(" be."), 'data: {"choices": []}', "data: [DONE]"]
    with answering(tmp_path, 200, *lines) as (place, ada, chat, asked):
        assert "What you write is sent to 127.0.0.1, where small answers" in ada.page
        ada.open(chat)
        ada.send(f"{chat}/messages", text="First?")
        assert "Let &lt;b&gt;it&lt;/b&gt; be." in ada.send(f"{chat}/messages", text="Second?")
        path, key, body = asked[-1]
        assert (path, key) == ("/v1/chat/completions", "Bearer the-key")
        said_before = [("user", "First?"), ("assistant", "Let <b>it</b> be."), ("user", "Second?")]
        assert [(each["role"], each["content"]) for each in body["messages"]] == said_before
        assert (body["model"], body["stream"]) == ("small", True)
        assert [state for _, _, state in said(place, chat)] == [None] * 4


@pytest.mark.parametrize(
    ("status", "lines", "told"),
    [
        (401, ['{"error": {"message": "Incorrect API key."}}'], "127.0.0.1 answered 401: Incorrect API key."),
        (500, ["<html>"], "127.0.0.1 answered 500: Internal Server Error"),
        (200, [word("Half")], "127.0.0.1 broke off in the middle."),
        (200, [word("Half"), 'data: {"error": {"message": "Overloaded."}}'], "The model says: Overloaded."),
        (200, [word("Half"), "data: {nonsense"], "cannot be reached, or broke off"),
    ],
    ids=["refused", "broken", "cut", "late error", "nonsense"],
)
def test_an_endpoint_that_fails_is_told_in_a_clear_word(tmp_path, status, lines, told):
    with answering(tmp_path, status, *lines) as (place, ada, chat, _):
        ada.open(chat)
        page = ada.send(f"{chat}/messages", text="Well?")
        assert "The answer failed." in page
        assert told in page
        assert said(place, chat)[1][1:] == ("Half" if status == 200 else "", "failed")


def test_an_endpoint_that_nobody_is_at_is_told(tmp_path):
    model = Endpoint("http://127.0.0.1:9/v1", "small")
    with served(f"sqlite:///{tmp_path}/tealight.db", model=model) as place:
        ada = place.newcomer()
        chat = ada.new_chat()
        assert "127.0.0.1 cannot be reached" in ada.send(f"{chat}/messages", text="Well?")


def test_an_endpoint_that_is_silent_is_stopped_at_once(tmp_path):
    with answering(tmp_path, 200, word("Half"), "pause") as (place, ada, chat, _):
        page = ask(ada, chat, "Well?")
        assert next(events(ada, chat)) == ("", {"text": "Half"})
        begun = time.monotonic()
        ada.open(chat)
        ada.send(f"{chat}/stop", stream=stream_of(page))
        assert time.monotonic() - begun < 3
        assert said(place, chat)[1] == ("assistant", "Half", "stopped")
        until(lambda: not [each for each in threading.enumerate() if each.name == "model"])


def test_the_environment_names_the_endpoint_and_says_what_is_missing(monkeypatch):
    assert isinstance(writers.chosen(), Drawer)
    monkeypatch.setenv("NIGHTCREW_DEMO_OPENAI_URL", "localhost:11434/v1")
    with pytest.raises(ConfigurationError, match="NIGHTCREW_DEMO_OPENAI_URL is no address"):
        writers.chosen()
    monkeypatch.setenv("NIGHTCREW_DEMO_OPENAI_URL", "http://localhost:11434/v1")
    with pytest.raises(ConfigurationError, match="NIGHTCREW_DEMO_OPENAI_MODEL is missing"):
        writers.chosen()
    monkeypatch.setenv("NIGHTCREW_DEMO_OPENAI_MODEL", "small")
    assert "localhost, where small answers" in writers.chosen().about
