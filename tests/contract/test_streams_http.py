"""The streams of chats over HTTP: what every route answers, and what a reader is sent, byte by byte."""

import asyncio
import json

import pytest

from nightcrew.errors import StreamError, UsageError
from nightcrew.frame import AI_SDK, SSE, events
from nightcrew.stream import State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.memory import Memory, Vault
from nightcrew.web.streams import EventStream
from nightcrew.web.streams import streams as routes

CHAT = "/api/chat/c/stream"


class Client:
    """An ASGI server and its client, in one: it asks, and reads what is sent until it has enough."""

    def __init__(self, app):
        self.app = app

    async def ask(self, method, path, *, headers=(), body=b"", enough=None, **scope):
        """Return status, headers and body; go away once the body is `enough`."""
        left, sent, start = asyncio.Event(), [], {}
        asked = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if asked:
                return asked.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                sent.append(message["body"])
                if enough is not None and enough(b"".join(sent)):
                    left.set()

        said = {"type": "http", "method": method, "path": path, "headers": list(headers), **scope}
        async with asyncio.timeout(10):
            await self.app(said, receive, send)
        return start["status"], dict(start["headers"]), b"".join(sent)


def chat(test, *, codec=SSE, heartbeat=15.0, lease=15.0, **more):
    """Play a test that takes streams and a client of their routes."""

    async def play():
        vault, saved = Vault(), []

        async def keep(final):
            saved.append(final)

        streams = Streams(lambda owner: Memory(owner, vault), persist=keep, terms=Terms(codec=codec, lease=lease))
        allowed = more.get("authorize", lambda scope, chat: "ada")
        try:
            client = Client(routes(streams, authorize=allowed, heartbeat=heartbeat))
            client.vault = vault
            await test(streams, client, saved)
        finally:
            await streams.close(drain=0.2)

    asyncio.run(play())


async def spoken(*said, then=None):
    for one in said:
        if isinstance(one, Exception):
            raise one
        yield one
    if then is not None:
        await then.wait()


def last(text):
    return [(b"last-event-id", text.encode("latin-1"))]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 204),
        ("HEAD", CHAT, 405),
        ("POST", CHAT, 405),
        ("DELETE", "/api/chat/c/stop", 405),
        ("GET", "/api/chat/c/stop", 405),
        ("POST", "/api/chat/c/stop", 404),
        ("GET", "/api/chat/streams", 200),
        ("POST", "/api/chat/streams", 405),
        ("GET", "/api/chat/", 404),
        ("GET", "/api/chat//stream", 404),
        ("GET", "/api/chat/c", 404),
        ("GET", "/api/chat/c/stream/", 404),
        ("GET", "/", 404),
        ("GET", "/api/chatter/c/stream", 404),
        ("GET", f"/api/chat/{'x' * 201}/stream", 404),
        ("GET", f"/api/chat/{'x' * 200}/stream", 204),
        ("GET", "/api/chat/../../etc/passwd/stream", 204),
        ("GET", "/api/chat/{c}:m:*\n\0é/stream", 204),
    ],
)
def test_every_path_and_method_has_its_answer(method, path, status):
    async def play(streams, client, saved):
        answer, headers, body = await client.ask(method, path)
        assert answer == status
        assert headers[b"cache-control"] == b"no-store"
        assert (b"allow" in headers) == (status == 405)
        assert body == b"" if status == 204 else isinstance(json.loads(body), dict)

    chat(play)


def test_whoever_may_not_learns_nothing_and_the_application_is_asked_for_every_chat():
    asked = []

    async def authorize(scope, chat):
        asked.append(chat)
        return {"c": "eve"}.get(chat)

    async def play(streams, client, saved):
        await streams.run("c", "ada", spoken("secret", then=asyncio.Event()))
        assert (await client.ask("GET", CHAT))[0] == 204, "it is another one's"
        assert (await client.ask("POST", "/api/chat/c/stop"))[0] == 404
        assert (await client.ask("GET", "/api/chat/other/stream"))[0] == 404
        assert (await client.ask("GET", "/api/chat/streams"))[0] == 404
        assert (await client.ask("GET", "/app/api/chat/c/stream", root_path="/app"))[0] == 204
        assert asked == ["c", "c", "other", "", "c"]
        assert await streams.active("c") is not None

    chat(play, authorize=authorize)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"7", b'"x"', b'{"streamId": 7}', b'{"streamId": "\\ud800"}', b'{"streamId": ""}', b"\xff\xfe",
     b"x" * 10_001, b'{"streamId": "' + b"a" * 90 + b'"}'],
)  # fmt: skip
def test_a_body_that_names_no_stream_is_refused_and_stops_none(body):
    async def play(streams, client, saved):
        await streams.run("c", "ada", spoken("a", then=asyncio.Event()))
        status, _, said = await client.ask("POST", "/api/chat/c/stop", body=body)
        assert (status, list(json.loads(said))) == (400, ["error"])
        assert await streams.active("c") is not None

    chat(play)


def test_stop_stops_the_stream_that_is_named_and_no_other():
    async def play(streams, client, saved):
        old = await streams.run("c", "ada", spoken("a"))
        await asyncio.sleep(0.05)
        new = await streams.run("c", "ada", spoken("a", then=asyncio.Event()))
        path = "/api/chat/c/stop"
        said = [await client.ask("POST", path, body=json.dumps({"streamId": one}).encode())
                for one in (old.ref.id, "00000000-0000-7000-8000-000000000000", new.ref.id)]  # fmt: skip
        assert [(status, json.loads(body)["outcome"]) for status, _, body in said] == [
            (200, "already_final"), (404, "not_found"), (200, "stopped"),
        ]  # fmt: skip
        await streams.run("c", "ada", spoken("a", then=asyncio.Event()))
        assert json.loads((await client.ask("POST", path))[2])["outcome"] == "stopped"

    chat(play)


def test_the_list_shows_what_is_live_of_whoever_asks():
    async def play(streams, client, saved):
        mine = await streams.run("c/d", "ada", spoken("a", then=asyncio.Event()))
        await streams.run("other", "eve", spoken("a", then=asyncio.Event()))
        (row,) = json.loads((await client.ask("GET", "/api/chat/streams"))[2])["streams"]
        assert (row["chat"], row["streamId"], row["startedAt"]) == ("c/d", mine.ref.id, mine.started)

    chat(play)


def test_a_reader_who_comes_back_with_any_cursor_gets_the_rest_or_all_of_it():
    async def play(streams, client, saved):
        info = await streams.run("c", "ada", spoken("one", "two\nlines", "thrée"))
        await asyncio.sleep(0.05)
        log = saved[0].data
        end = b'event: end\ndata: {"state": "done"}\n\n'
        reset = f"id: {info.ref.id}:0\nevent: reset\ndata: \n\n".encode()
        for cursor in range(len(log) + 40):
            status, headers, body = await client.ask("GET", CHAT, headers=last(f"{info.ref.id}:{cursor}"))
            if cursor >= len(log):
                assert status == 204, "there is nothing more to be read"
                continue
            assert headers[b"content-type"].startswith(b"text/event-stream")
            assert headers[b"cache-control"] == b"no-cache, no-transform"
            assert body.startswith(b"retry: 1000\n\n")
            rest = body.removeprefix(b"retry: 1000\n\n")
            between = cursor == 0 or log[cursor - 2 : cursor] == b"\n\n"
            assert rest == (log[cursor:] if between else reset + log) + end

    chat(play)


@pytest.mark.parametrize(
    "header",
    ["", ":", "x:1", "00000000-0000-7000-8000-000000000000:5", "{sid}:-1", "{sid}:1e3", "{sid}:99999999999999999999",
     "{sid}:٣", "{sid}: 7", "{sid}", "\xff\xfe:7", "a" * 10_000 + ":1", "x}:act:1"],
)  # fmt: skip
def test_a_hostile_cursor_is_none(header):
    async def play(streams, client, saved):
        go = asyncio.Event()
        info = await streams.run("c", "ada", spoken("one", "two", then=go))
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().call_later(0.1, go.set)
        said = header.replace("{sid}", info.ref.id).encode("utf-8", "replace")
        status, _, body = await client.ask("GET", CHAT, headers=[(b"last-event-id", said)])
        assert status == 200
        assert list(events(body))[-3:] == ["one", "two", '{"state": "done"}']

    chat(play)


def test_a_cursor_of_an_earlier_stream_of_the_chat_gets_the_one_that_is_live_from_its_beginning():
    async def play(streams, client, saved):
        old = await streams.run("c", "ada", spoken("old", "er"))
        await asyncio.sleep(0.05)
        go = asyncio.Event()
        await streams.run("c", "ada", spoken("new", then=go))
        asyncio.get_running_loop().call_later(0.1, go.set)
        _, _, body = await client.ask("GET", CHAT, headers=last(f"{old.ref.id}:5"))
        assert list(events(body))[-2:] == ["new", '{"state": "done"}']
        assert "old" not in list(events(body))

    chat(play)


def test_a_reader_who_is_ahead_of_the_log_is_told_to_begin_anew_once_it_has_ended():
    async def play(streams, client, saved):
        go = asyncio.Event()
        info = await streams.run("c", "ada", spoken("one", then=go))
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().call_later(0.2, go.set)
        _, _, body = await client.ask("GET", CHAT, headers=last(f"{info.ref.id}:5000"))
        assert body.count(b"event: reset") == 1
        assert list(events(body[body.index(b"event: reset") :]))[-2:] == ["one", '{"state": "done"}']

    chat(play)


def test_a_client_that_goes_away_stops_nothing_and_leaves_nothing_behind():
    async def play(streams, client, saved):
        go = asyncio.Event()
        await streams.run("c", "ada", spoken("one", "two", then=go))
        for _ in range(20):
            await client.ask("GET", CHAT, enough=lambda body: b"one" in body)
        cancelled = asyncio.create_task(client.ask("GET", CHAT))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        before = len(asyncio.all_tasks())
        assert streams._room.hub._channels == {}
        assert before < 12, "readers who left are still at work"
        go.set()
        await asyncio.sleep(0.05)
        assert saved[0].state is State.DONE

    chat(play)


def test_heartbeats_come_between_events_and_never_within_one():
    async def play(streams, client, saved):
        async def slowly():
            for each in range(8):
                await asyncio.sleep(0.03)
                yield f"{each}\n" * 20_000

        await streams.run("c", "ada", slowly())
        _, _, body = await client.ask("GET", CHAT)
        parts = body.removeprefix(b"retry: 1000\n\n").split(b"\n\n")
        beats = [part for part in parts if part.startswith(b":")]
        assert beats, "there was time for some"
        assert set(beats) == {b": hb"}
        clean = b"\n\n".join(part for part in parts if part != b": hb")
        assert clean == saved[0].data + b'event: end\ndata: {"state": "done"}\n\n'

    chat(play, heartbeat=0.01)


@pytest.mark.parametrize("how", ["done", "failed", "stopped", "replaced", "lost", "erased"])
@pytest.mark.parametrize("codec", [SSE, AI_SDK])
def test_every_end_is_told_as_the_protocol_has_it(how, codec):
    async def play(streams, client, saved):
        go = asyncio.Event()
        ends = {"stopped": lambda: streams.stop("c", by="ada"), "erased": lambda: streams.erase("c"),
                "replaced": lambda: streams.run("c", "ada", spoken("x", then=go), conflict="replace")}  # fmt: skip

        async def said():
            yield {"type": "text-delta"}
            await go.wait()
            if how == "failed":
                raise ValueError("secret")

        if how == "lost":
            other = Streams(lambda owner: Memory(owner, client.vault), terms=streams.terms)
            producer, _ = await other.begin("c", "ada")
            await producer.send({"type": "text-delta"})
            await asyncio.sleep(0.05)
            for task in other._room.producers._tasks:  # as where its process is frozen
                task.cancel()
        else:
            await streams.run("c", "ada", said())
        asked = asyncio.create_task(client.ask("GET", CHAT))
        await asyncio.sleep(0.05)
        await ends[how]() if how in ends else go.set()
        _, headers, body = await asked
        assert b"secret" not in body
        assert (headers.get(b"x-vercel-ai-ui-message-stream") == b"v1") == (codec == AI_SDK)
        if codec == SSE:
            state = "gone" if how == "erased" else how
            assert body.endswith(f'event: end\ndata: {{"state": "{state}"}}\n\n'.encode())
            assert body.count(b"event: end") == 1
            return
        told = list(events(body))
        assert told[0] == '{"type":"text-delta"}'
        assert told[-1] == "[DONE]"
        kinds = [json.loads(one)["type"] for one in told[1:-1]]
        assert kinds == {"done": [], "failed": ["error"], "lost": ["error"]}.get(how, ["abort"])
        assert b"id: " not in body

    chat(play, codec=codec, lease=0.5)


def test_a_backend_that_is_away_is_said_with_503_and_what_to_do():
    class Away(Memory):
        async def active(self, chat):
            raise StreamError("redis redis://10.0.0.7:6379 does not answer: refused")

    async def play():
        streams = Streams(Away, terms=Terms())
        client = Client(routes(streams, authorize=lambda scope, chat: "ada"))
        for method, path in (("GET", CHAT), ("POST", "/api/chat/c/stop")):
            status, headers, body = await client.ask(method, path)
            assert (status, headers[b"retry-after"]) == (503, b"1")
            assert "does not answer" in json.loads(body)["error"]
        await streams.close()

    asyncio.run(play())


def test_the_answer_to_the_post_that_begins_it_is_the_same_stream():
    async def play(streams, client, saved):
        async def app(scope, receive, send):
            info = await streams.run("c", "ada", spoken("one", "two"))
            await EventStream(streams, info.ref)(scope, receive, send)

        _, _, body = await Client(app).ask("POST", "/api/chat")
        assert list(events(body))[-3:] == ["one", "two", '{"state": "done"}']

    chat(play)


@pytest.mark.parametrize("said", [True, False, 42, b"ada"])
def test_an_authorize_that_says_no_text_is_a_fault_of_the_application_and_opens_nothing(said):
    async def play(streams, client, saved):
        info = await streams.run("c", "ada", spoken("a", then=asyncio.Event()))
        for method, path in (("GET", CHAT), ("POST", "/api/chat/c/stop"), ("GET", "/api/chat/streams")):
            with pytest.raises(UsageError, match="authorize"):
                await client.ask(method, path)
        assert (await streams.active("c")).ref == info.ref

    chat(play, authorize=lambda scope, chat: said)


def test_a_request_to_stop_that_is_cut_short_stops_nothing():
    async def play(streams, client, saved):
        info = await streams.run("c", "ada", spoken("a", then=asyncio.Event()))
        sent = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/chat/c/stop", "headers": []}
        await client.app(scope, receive, send)
        assert sent[0]["status"] == 400
        assert (await streams.active("c")).ref == info.ref

    chat(play)
