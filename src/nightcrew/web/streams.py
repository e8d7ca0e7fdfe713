"""The streams of chats over HTTP: resumed, stopped and listed; plain ASGI, no framework.

A client that goes away stops nothing, and one that reads slowly is sent no more than it takes: both are what ASGI's
`send` and `receive` say. What tells an end is not in the log, so that it is told of a producer that died, too.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from nightcrew.errors import StreamError, UsageError
from nightcrew.frame import AI_SDK, is_id, place
from nightcrew.stream import Data, Ended, Gone, Info, Ref, State
from nightcrew.streaming import LONGEST, Streams
from nightcrew.web.asgi import App, Receive, Scope, Send

Authorize: TypeAlias = Callable[[Scope, str], Awaitable[str | None] | str | None]
"""Says on whose behalf somebody asks about a chat, whose name it was begun with; None for whoever may not."""
_Read: TypeAlias = Data | Ended | Gone
HEARTBEAT = 15.0  # seconds without an event, after which a comment shows that the line is alive
_RETRY = b"retry: 1000\n\n"
_BETWEEN = b"\n\n"  # an event ends with it, and has none within
_PATIENCE = 0.25  # seconds for a first event, or for the news that there will be none
_LONGEST_BODY = 10_000  # bytes of a request to stop
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx hands it on at once
)
_AI_HEADER = (b"x-vercel-ai-ui-message-stream", b"v1")
_ABORTED = {State.STOPPED, State.REPLACED}
_AWAY = "Streams cannot be resumed now: where they are kept does not answer."
_SAYS = {State.FAILED: "The answer failed.", State.LOST: "The answer was interrupted."}


class EventStream:
    """A response that is a stream's events, from `after` on, as they come."""

    def __init__(self, streams: Streams, ref: Ref, after: int = 0, *, heartbeat: float = HEARTBEAT) -> None:
        self._streams = streams
        self._ref = ref
        self._after = after
        self._heartbeat = heartbeat
        self._ai = streams.terms.codec == AI_SDK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it has ended or the client is gone. Raises StreamError where nothing can be read at all."""
        async with aclosing(self._read()) as reading:
            coming = asyncio.ensure_future(_next(reading))
            gone = asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait({coming}, timeout=_PATIENCE)
                if coming.done() and coming.exception() is not None:
                    coming.result()
                await send({"type": "http.response.start", "status": 200, "headers": [*self.headers]})
                await _part(send, b"" if self._ai else _RETRY)
                await self._send(coming, reading, send, gone)
            finally:
                coming.cancel()
                gone.cancel()
                await asyncio.gather(coming, gone, return_exceptions=True)

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The response's headers."""
        return (*_HEADERS, _AI_HEADER) if self._ai else _HEADERS

    async def _read(self) -> AsyncGenerator[_Read, None]:
        """Read from the cursor on, or anew where no event ends there: the two bytes before it are looked at."""
        before = 2 if self._after else 0
        head = b"" if before else _BETWEEN
        async with aclosing(self._streams.read(self._ref, max(self._after - before, 0))) as reading:
            async for one in reading:
                if isinstance(one, Data) and one.data and len(head) < before:
                    head += one.data
                    if _BETWEEN.startswith(head):
                        continue
                    if head.startswith(_BETWEEN):
                        yield Data(self._ref, self._after, head[before:])
                        continue
                elif len(head) < before and not isinstance(one, Ended):
                    head = _BETWEEN
                if not head.startswith(_BETWEEN):
                    break
                yield one
            else:
                return
        yield Data(self._ref, 0, b"")
        async with aclosing(self._streams.read(self._ref)) as reading:
            async for one in reading:
                yield one

    async def _send(
        self, coming: asyncio.Future[_Read], reading: AsyncIterator[_Read], send: Send, gone: asyncio.Task[None]
    ) -> None:
        """Send what comes, and what tells its end; where nothing more can be read, leave it to the client to ask.

        So it is where an event that is half sent turns out to be none: nothing may come after that on this line.
        """
        sent = _BETWEEN
        try:
            while await self._come(coming, send, gone, between=sent.endswith(_BETWEEN)):
                one = coming.result()
                whole = isinstance(one, Data) and one.data
                if not whole and (not sent.endswith(_BETWEEN) or (self._ai and isinstance(one, Data))):
                    break
                if not isinstance(one, Data):
                    await send({"type": "http.response.body", "body": self._end(one), "more_body": False})
                    return
                await _part(send, one.data or self._reset())
                sent = sent[-1:] + one.data[-2:] if one.data else _BETWEEN
                coming = asyncio.ensure_future(_next(reading))
        except StreamError:
            pass
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        if not gone.done():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _come(
        self, coming: asyncio.Future[_Read], send: Send, gone: asyncio.Task[None], *, between: bool
    ) -> bool:
        """Wait for what comes, with comments meanwhile where no event is under way; False once the client is gone."""
        while not coming.done():
            either: set[asyncio.Future[Any]] = {coming, gone}
            await asyncio.wait(either, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return False
            if not coming.done() and between:
                await _part(send, b": hb\n\n")
        return not gone.done()

    def _reset(self) -> bytes:
        """Say that what was read is not what there is: a reader begins anew."""
        return f"id: {self._ref.id}:0\nevent: reset\ndata: \n\n".encode()

    def _end(self, one: Ended | Gone) -> bytes:
        """Say how it ended, as the client's protocol has it."""
        state = one.state if isinstance(one, Ended) else None
        if not self._ai:
            return f"event: end\ndata: {json.dumps({'state': state or 'gone'})}\n\n".encode()
        said = b""
        if state in _SAYS:
            said = _ai_event({"type": "error", "errorText": _SAYS[state]})
        elif state in _ABORTED or state is None:
            said = _ai_event({"type": "abort"})
        return said + b"data: [DONE]\n\n"


def streams(streams: Streams, *, authorize: Authorize, prefix: str = "/api/chat", heartbeat: float = HEARTBEAT) -> App:
    """Return the routes of streams as an ASGI application.

    `GET {prefix}/CHAT/stream` resumes the stream of a chat (204 where none is live), after what `Last-Event-ID` names.
    `POST {prefix}/CHAT/stop` stops it, the one that `{"streamId": …}` names if the body does. `GET {prefix}/streams`
    lists the live streams of whoever asks, for whom `authorize` is asked about the chat "".
    """
    return _Routes(streams, authorize, prefix.rstrip("/"), heartbeat)


class _Routes:
    """The three routes."""

    def __init__(self, streams: Streams, authorize: Authorize, prefix: str, heartbeat: float) -> None:
        self._streams = streams
        self._authorize = authorize
        self._prefix = prefix
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"the routes of streams speak HTTP, and not {scope['type']!r}")
        asked = self._asked(scope)
        if asked is None:
            await _answer(send, 404, {"error": "Not found."})
            return
        verb, chat = asked
        method = "POST" if verb == "stop" else "GET"
        if scope["method"] != method:
            await _answer(send, 405, {"error": f"Use {method}."}, (b"allow", method.encode()))
            return
        user = self._authorize(scope, chat)
        user = await user if inspect.isawaitable(user) else user
        if user is None:
            await _answer(send, 404, {"error": "Not found."})
            return
        if not isinstance(user, str):
            raise UsageError(f"authorize says for whom somebody asks as a text, or None, and not {type(user).__name__}")
        try:
            await getattr(self, f"_{verb}")(scope, receive, send, chat, user)
        except StreamError:  # where they are kept is nobody's business who asks from outside
            await _answer(send, 503, {"error": _AWAY}, (b"retry-after", b"1"))
        except UsageError as wrong:
            await _answer(send, 400, {"error": str(wrong)})

    def _asked(self, scope: Scope) -> tuple[str, str] | None:
        """Read a path: what is asked, and of which chat."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(f"{root}/"):
            path = path[len(root) :]
        if not path.startswith(f"{self._prefix}/"):
            return None
        chat, _, verb = path[len(self._prefix) + 1 :].rpartition("/")
        if (chat, verb) == ("", "streams"):
            return "list", ""
        return (verb, chat) if 0 < len(chat) <= LONGEST and verb in ("stream", "stop") else None

    async def _stream(self, scope: Scope, receive: Receive, send: Send, chat: str, user: str) -> None:
        found, after = await self._found(chat, scope)
        if found is None or found.user != user:
            await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"no-store")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await EventStream(self._streams, found.ref, after, heartbeat=self._heartbeat)(scope, receive, send)

    async def _found(self, chat: str, scope: Scope) -> tuple[Info | None, int]:
        """Return which stream is meant, and from where on: the one last read, while it goes on, or the live one."""
        last = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"").decode("latin-1")
        live = await self._streams.active(chat)
        known = None if self._streams.terms.codec == AI_SDK else place(last)
        if known is None:
            return live, 0
        stream, after = known
        if live is not None and live.ref.id == stream:
            return live, after
        former = None if live is not None else await self._streams.info(Ref(chat, stream))
        if former is not None and (after < former.end or former.state is State.LIVE):
            return former, after
        return live, 0

    async def _stop(self, scope: Scope, receive: Receive, send: Send, chat: str, user: str) -> None:
        stream = _stream_id(await _body(receive))
        meant = await (self._streams.active(chat) if stream is None else self._streams.info(Ref(chat, stream)))
        if meant is None or meant.user != user:
            await _answer(send, 404, {"outcome": "not_found"})
            return
        outcome = await self._streams.stop(chat, meant.ref.id, by=user)
        await _answer(send, 200, {"outcome": outcome, "streamId": meant.ref.id})

    async def _list(self, scope: Scope, receive: Receive, send: Send, chat: str, user: str) -> None:
        found = await self._streams.live(user)
        rows = [{"chat": one.ref.chat, "streamId": one.ref.id, "startedAt": one.started} for one in found]
        await _answer(send, 200, {"streams": rows})


async def _next(reading: AsyncIterator[_Read]) -> _Read:
    return await anext(reading)


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _part(send: Send, data: bytes) -> None:
    if data:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _body(receive: Receive) -> bytes:
    """Read a body; raises UsageError for one that is too long."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":  # what had not come may have named another stream
            raise UsageError("the body was cut short")
        body += bytes(message.get("body", b""))
        if len(body) > _LONGEST_BODY:
            raise UsageError("the body is too long: send the stream's ID")
        if not message.get("more_body", False):
            return body


def _stream_id(body: bytes) -> str | None:
    """Read which stream is meant; none says the live one. Raises UsageError for what is no such body."""
    if not body.strip():
        return None
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    stream = said.get("streamId") if isinstance(said, dict) else said
    if stream is None and isinstance(said, dict):
        return None
    if not isinstance(stream, str) or not is_id(stream):
        raise UsageError('the body is no {"streamId": "…"}')
    return stream


def _ai_event(said: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


async def _answer(send: Send, status: int, body: dict[str, Any], *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
