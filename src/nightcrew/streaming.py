"""Streaming: the verbs about the streams of chats: begin, follow, stop, list, save what is left, erase."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightcrew.clock import Clock, SystemClock
from nightcrew.errors import ConfigurationError, StreamError, StreamRefused, UsageError, did_you_mean
from nightcrew.frame import CODECS, SSE, plain
from nightcrew.producer import Producer
from nightcrew.reaper import Persist, Reaped, said
from nightcrew.room import Room, closed
from nightcrew.stream import (
    LEASE,
    Backend,
    Conflict,
    Data,
    Ended,
    Gone,
    Info,
    Opened,
    Opening,
    Ref,
    State,
    Stopped,
    new_id,
)
from nightcrew.streams import Way, way

Connect: TypeAlias = Callable[[str], Backend]
"""Returns a process's own way to the backend, by the name of the process."""
LONGEST = 200
"""Characters that the name of a chat, a user or a request may have."""
_LONGEST_SPAN = 7 * 86_400.0  # seconds: what has ended waits no longer to be saved


@dataclass(frozen=True, slots=True)
class Terms:
    """How streams are kept. Times are in seconds, sizes in bytes.

    A producer that was not heard of for its `lease` is lost. `longest` is the most that an answer may take, `max_bytes`
    the most that it may have. What is written goes out together with what comes within `window`.
    """

    codec: str = SSE
    lease: float = LEASE
    longest: float = 3600.0
    max_bytes: int = 4 * 1024 * 1024
    window: float = 0.0

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigurationError(f"codec is {self.codec!r}{did_you_mean(str(self.codec), CODECS)}")
        for name in ("lease", "longest", "max_bytes", "window"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (value > 0 or (value == 0 and name == "window")):
                raise ConfigurationError(f"{name} is {value!r}; write a number above 0")
            if value > _LONGEST_SPAN and name != "max_bytes":
                raise ConfigurationError(f"{name} is {value!r}; write at most {_LONGEST_SPAN:.0f}, which is a week")


class Streams:
    """The streams of an application's chats, in this process and, through the backend, in all of them.

    `place` is where they are kept: the URL of a Redis, "memory://", or what returns a process's way to a backend by the
    name of the process, such as `streams.way(…)`. `persist` saves what has ended; without it, nothing is kept once a
    stream has had its time. A process has one of these, and everything about it happens in one event loop.
    """

    def __init__(
        self, place: str | Connect, *, persist: Persist | None = None, terms: Terms | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.terms = terms or Terms()
        self._connect = place if callable(place) else way(place)
        self._persist = persist
        self._clock = clock or SystemClock()
        self._name = self._clock.token()
        self._room: Room | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that these streams live in, once anything was asked of them."""
        return None if self._room is None else self._room.loop

    @property
    def url(self) -> str | None:
        """The URL that they are kept at, with whatever password is in it; None where that is not known."""
        return self._connect.url if isinstance(self._connect, Way) else None

    def apart(self) -> "Streams":
        """Return the same streams for another event loop."""
        return Streams(self._connect, persist=self._persist, terms=self.terms, clock=self._clock)

    # ── to write ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(
        self, chat: str, user: str, *, conflict: Conflict | str = Conflict.REJECT, request: str = "",
        meta: Mapping[str, Any] | None = None,
    ) -> tuple[Producer | None, Info]:  # fmt: skip
        """Begin the stream of a chat; return its producer, or None where another one is to be joined.

        `request` tells a call from its repeat: one stream comes of both. Where the backend is away, the answer is still
        written for the viewers of this process. Raises StreamRefused where another one is live and `conflict` rejects.
        """
        room = self._ready()
        opening = self._opening(chat, user, _conflict(conflict), request, meta or {})
        try:
            start = await room.backend.start(opening)
        except StreamError:
            return self._alone(room, opening)
        if start.ended is not None:
            room.soon(room.reaper.salvage(start.ended))
        if start.how is Opened.REJECTED:
            raise StreamRefused(f"chat {chat[:60]!r} has a stream that is live: {start.info.ref.id}")
        if start.how is not Opened.BEGUN:
            return None, start.info
        info = start.info
        return room.producers.add(opening, info, self.terms.codec, self.terms.max_bytes, info.started), info

    def _alone(self, room: "Room", opening: Opening) -> tuple[Producer | None, Info]:
        """Begin a stream while the backend is away: of what is live in the chat, only this process's own is known."""
        other = room.producers.live_in(opening.ref.chat)
        now = round(self._clock.now().timestamp(), 3)
        producer = None
        if other is not None and opening.conflict is not Conflict.REPLACE:
            again = opening.request and opening.request == other.opening.request
            if opening.conflict is Conflict.REJECT and not again:
                raise StreamRefused(f"chat {opening.ref.chat[:60]!r} has a stream that is live: {other.id}")
            opening, now = other.opening, other.started
        else:
            producer = room.producers.add(opening, None, self.terms.codec, self.terms.max_bytes, now)
        return producer, Info(opening.ref, State.LIVE, 1, 0, opening.user, self._name, now, lease=self.terms.lease)

    @asynccontextmanager
    async def start(self, chat: str, user: str, **asked: Any) -> AsyncIterator[Producer]:
        """Write the stream of a chat in the body of an `async with`, as `begin` says; it ends as the body does.

        An exception of the body's makes it failed; one that was asked to stop is stopped.
        """
        room = self._ready()
        beginning = asyncio.create_task(self.begin(chat, user, **asked))
        try:
            producer, info = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            room.soon(_let_go(room, beginning))
            raise
        if producer is None:
            raise StreamRefused(f"chat {chat[:60]!r} has a stream that is live: {info.ref.id}")
        try:
            yield producer
        except BaseException as error:
            stopped = producer.stopping or isinstance(error, asyncio.CancelledError)
            ending = (State.STOPPED, "") if stopped else (State.FAILED, said(error))
            await asyncio.shield(room.end(producer, *ending))
            raise
        await room.end(producer, State.STOPPED if producer.stopping else State.DONE)

    async def run(self, chat: str, user: str, parts: AsyncIterable[Any], **asked: Any) -> Info:
        """Write all `parts` in a task of its own, which goes on when whoever asked has gone; return the stream.

        When it is asked to stop, `parts` is cancelled at its next await. Where another stream is joined, or this one is
        refused, `parts` is closed unread.
        """
        if not hasattr(parts, "__aiter__"):
            raise UsageError(f"what a stream is written from is an async generator, and not a {type(parts).__name__}")
        room = self._ready()
        beginning = asyncio.create_task(self._run(room, chat, user, parts, asked))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:  # whoever asked has gone a moment early: what may have begun is written
            room.soon(asyncio.wait({beginning}))
            raise

    async def _run(
        self, room: Room, chat: str, user: str, parts: AsyncIterable[Any], asked: Mapping[str, Any]
    ) -> Info:  # fmt: skip
        try:
            producer, info = await self.begin(chat, user, **asked)
        except BaseException:
            await closed(parts)
            raise
        if producer is None:
            await closed(parts)
        else:
            room.soon(room.drive(producer, parts))
        return info

    # ── to follow ────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, ref: Ref, after: int = 0) -> AsyncGenerator[Data | Ended | Gone, None]:
        """Yield what a stream has from `after` on, as it grows, and then how it ended.

        A Data without bytes says that what was read before is not what the log has: it begins anew.
        """
        return self._ready().hub.read(ref, after)

    async def active(self, chat: str) -> Info | None:
        """Return the live stream of a chat; one whose producer is lost is ended on the way.

        Where the backend is away, one that this process writes. Raises StreamError where that is not known.
        """
        room = self._ready()
        try:
            found = await room.backend.active(chat)
        except StreamError:
            if (here := room.here(chat)) is not None:
                return here
            raise
        if found is None or not found.stale:
            return found
        return None if await room.reaper.bury(found) else await room.backend.active(chat)

    async def info(self, ref: Ref) -> Info | None:
        """Return how a stream stands; where the backend is away, one that this process writes."""
        room = self._ready()
        try:
            return await room.backend.info(ref)
        except StreamError:
            if (here := room.here(ref.chat, ref.id)) is not None:
                return here
            raise

    async def live(self, user: str | None = None, *, limit: int | None = None) -> list[Info]:
        """Return the live streams, of a user or all, the oldest first; the lost are ended on the way.

        With a `limit`, so many at most, and no more are looked at than have to be.
        """
        found: list[Info] = []
        async with aclosing(self._ready().reaper.examined(user)) as looked_at:
            async for info, _ in looked_at:
                if len(found) == limit:
                    break
                if info.state is State.LIVE:
                    found.append(info)
        return found

    # ── to end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, chat: str, stream: str | None = None, *, by: str, wait: float = 5.0) -> Stopped:
        """Ask the stream of a chat to stop, wherever it is written, and wait until it has.

        Without `stream`, the one that is live; with it, no other one is touched. Who does not end within `wait` seconds
        is shut out. Where the backend is away, only one that this process writes can be stopped.
        """
        room = self._ready()
        try:
            return await self._stop(room, chat, stream, plain(by)[:100], wait)
        except StreamError:
            if (here := room.producers.live_in(chat, stream)) is None:
                raise
            here.halt(plain(by)[:100])
            return Stopped.STOPPED

    async def _stop(self, room: "Room", chat: str, stream: str | None, by: str, wait: float) -> Stopped:
        if stream is None:
            found = await self.active(chat)
            if found is None:
                return Stopped.NOT_FOUND
            stream = found.ref.id
        ref = Ref(chat, stream)
        asked = await room.backend.request_stop(ref, by)
        if asked is None:
            return Stopped.NOT_FOUND
        if asked.state is not State.LIVE:
            return Stopped.ALREADY_FINAL
        ended = await self._ended(ref, asked.end, wait)
        if ended is None and (seen := await room.backend.info(ref)) is not None:
            if await room.backend.force(seen, State.STOPPED, "its producer did not end"):
                room.soon(room.reaper.salvage(ref))
                return Stopped.FORCED
            seen = await room.backend.info(ref)
            ended = None if seen is None else seen.state
        return Stopped.STOPPED if ended is State.STOPPED else Stopped.ALREADY_FINAL

    async def _ended(self, ref: Ref, after: int, wait: float) -> State | None:
        """Return how a stream ends, if it does within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                async for one in self.read(ref, after):
                    if isinstance(one, Ended):
                        return one.state
        return None

    async def erase(self, chat: str) -> int:
        """Forget the streams of a chat: whoever writes one finds that it is gone, and so does who reads."""
        return await self._ready().backend.erase(chat)

    async def reap(self) -> Reaped:
        """End the streams whose producer is lost, save what is not saved yet, and say what was found."""
        return await self._ready().reaper.reap()

    async def close(self, drain: float = 5.0) -> None:
        """End what this process writes, as stopped, within `drain` seconds, and let go of all connections."""
        room = self._room
        if room is not None and room.loop is asyncio.get_running_loop():
            await room.drain(drain)
            await room.close()
        self._room = None

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self) -> "Room":
        loop = asyncio.get_running_loop()
        if self._room is not None and self._room.loop is not loop and self._room.loop.is_running():
            raise UsageError("these streams live in another event loop, which is running: make a Streams for each loop")
        if self._room is None or self._room.loop is not loop:
            terms = self.terms
            spans = {"lease": terms.lease, "longest": terms.longest, "window": terms.window}
            self._room = Room(self._connect(self._name), self._persist, self._clock, **spans)
        return self._room

    def _opening(self, chat: str, user: str, conflict: Conflict, request: str, meta: Mapping[str, Any]) -> Opening:
        for what, text in (("chat", chat), ("user", user), ("request", request)):
            if not isinstance(text, str):
                raise UsageError(f"the {what} of a stream is a text, and not of type {type(text).__name__}")
        if not chat or any(len(text) > LONGEST for text in (chat, user, request)):
            raise UsageError(f"a chat, its user and a request are texts of at most {LONGEST} characters")
        if any(plain(text) != text for text in (chat, user, request)):
            raise UsageError("a chat, its user and a request are texts without half a surrogate pair")
        ref = Ref(chat, new_id(self._clock.now(), self._clock.token()))
        spans = self.terms.lease, self.terms.longest, self._persist is None
        return Opening(ref, user, self._name, conflict, request, *spans, _written(meta))


async def _let_go(room: Room, beginning: asyncio.Task[tuple[Producer | None, Info]]) -> None:
    """End what somebody began who has gone meanwhile: the chat would be taken for as long as a lease."""
    with suppress(StreamRefused):
        producer, _ = await beginning
        if producer is not None:
            await room.end(producer, State.STOPPED)


def _conflict(given: Conflict | str) -> Conflict:
    try:
        return Conflict(given)
    except ValueError:
        known = [one.value for one in Conflict]
        raise UsageError(f"conflict is {given!r}{did_you_mean(str(given), known)}") from None


def _written(meta: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(meta))
    except (TypeError, ValueError) as error:
        raise UsageError(f"meta of a stream is what JSON can say: {error}") from None
