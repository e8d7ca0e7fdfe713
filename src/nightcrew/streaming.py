"""Streaming: the verbs about the streams of chats: begin, follow, stop, list, save what is left, erase."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightcrew.clock import Clock, SystemClock
from nightcrew.errors import ConfigurationError, StreamClosed, StreamError, StreamRefused, UsageError, did_you_mean
from nightcrew.frame import CODECS, SSE, plain
from nightcrew.hub import Hub
from nightcrew.producer import Producer, Producers
from nightcrew.reaper import Persist, Reaped, Reaper, final, said
from nightcrew.stream import (
    LEASE,
    Backend,
    Conflict,
    Data,
    Ended,
    Gone,
    Info,
    Listed,
    Message,
    Opened,
    Opening,
    Ref,
    State,
    Stopped,
    new_id,
)
from nightcrew.streams import way

Connect: TypeAlias = Callable[[str], Backend]
"""Returns a process's own way to the backend, by the name of the process."""
LONGEST = 200
"""Characters that the name of a chat, a user or a request may have."""
_PATIENCE = 30.0  # seconds that a stream which is to end waits for the backend
_UNWILLING = 5.0  # seconds that whoever writes may take to end once it is cancelled


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
            raise ConfigurationError(f"codec is {self.codec!r}{did_you_mean(self.codec, CODECS)}")
        for name in ("lease", "longest", "max_bytes"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; write a number above 0")


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
        self._room: _Room | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that these streams live in, once anything was asked of them."""
        return None if self._room is None else self._room.loop

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
        opening = self._opening(chat, user, Conflict(conflict), request, meta or {})
        try:
            start = await room.backend.start(opening)
        except StreamError:
            return self._alone(room, opening)
        if start.ended is not None:
            self._soon(room.reaper.salvage(start.ended))
        if start.how is Opened.REJECTED:
            raise StreamRefused(f"chat {chat[:60]!r} has a stream that is live: {start.info.ref.id}")
        if start.how is not Opened.BEGUN:
            return None, start.info
        info = start.info
        return room.producers.add(opening, info, self.terms.codec, self.terms.max_bytes, info.started), info

    def _alone(self, room: "_Room", opening: Opening) -> tuple[Producer | None, Info]:
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
        producer, info = await self.begin(chat, user, **asked)
        if producer is None:
            raise StreamRefused(f"chat {chat[:60]!r} has a stream that is live: {info.ref.id}")
        try:
            yield producer
        except BaseException as error:
            stopped = producer.stopping or isinstance(error, asyncio.CancelledError)
            ending = self._end(producer, State.STOPPED) if stopped else self._end(producer, State.FAILED, said(error))
            await asyncio.shield(ending)
            raise
        await self._end(producer, State.STOPPED if producer.stopping else State.DONE)

    async def run(self, chat: str, user: str, parts: AsyncIterable[Any], **asked: Any) -> Info:
        """Write all `parts` in a task of its own, which goes on when whoever asked has gone; return the stream.

        When it is asked to stop, `parts` is cancelled at its next await. Where another stream is joined, or this one is
        refused, `parts` is closed unread.
        """
        try:
            producer, info = await self.begin(chat, user, **asked)
        except BaseException:
            await _closed(parts)
            raise
        if producer is None:
            await _closed(parts)
        else:
            self._soon(self._drive(producer, parts))
        return info

    # ── to follow ────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(self, ref: Ref, after: int = 0) -> AsyncGenerator[Data | Ended | Gone, None]:
        """Yield what a stream has from `after` on, as it grows, and then how it ended.

        A Data without bytes says that what was read before is not what the log has: it begins anew.
        """
        reading = self._ready().hub.read(ref, after)
        try:
            async for one in reading:
                yield one
        finally:
            await reading.aclose()

    async def active(self, chat: str) -> Info | None:
        """Return the live stream of a chat; one whose producer is lost is ended on the way."""
        room = self._ready()
        found = await room.backend.active(chat)
        if found is None or not found.stale:
            return found
        return None if await room.reaper.bury(found) else await room.backend.active(chat)

    async def info(self, ref: Ref) -> Info | None:
        """Return how a stream stands."""
        return await self._ready().backend.info(ref)

    async def live(self, user: str | None = None) -> list[Info]:
        """Return the live streams, of a user or all, the oldest first; the lost are ended on the way."""
        looked_at = self._ready().reaper.examined(user)
        return [info async for info, _ in looked_at if info.state is State.LIVE]

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

    async def _stop(self, room: "_Room", chat: str, stream: str | None, by: str, wait: float) -> Stopped:
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
                self._soon(room.reaper.salvage(ref))
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
        if (room := self._room) is None:
            return
        for producer in room.producers.all:
            producer.halt("shutdown")
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=drain)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._room = None  # not before: what ends needs it
        await room.close()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self) -> "_Room":
        loop = asyncio.get_running_loop()
        if self._room is None or self._room.loop is not loop:
            backend = self._connect(self._name)
            reaper = Reaper(backend, self._persist, self._soon)
            self._room = _Room(loop, backend, reaper, self._clock, self.terms)
        return self._room

    def _opening(self, chat: str, user: str, conflict: Conflict, request: str, meta: Mapping[str, Any]) -> Opening:
        if not chat or any(len(text) > LONGEST for text in (chat, user, request)):
            raise UsageError(f"a chat, its user and a request are texts of at most {LONGEST} characters")
        if any(plain(text) != text for text in (chat, user, request)):
            raise UsageError("a chat, its user and a request are texts without half a surrogate pair")
        ref = Ref(chat, new_id(self._clock.now(), self._clock.token()))
        spans = self.terms.lease, self.terms.longest, self._persist is None
        return Opening(ref, user, self._name, conflict, request, *spans, json.dumps(dict(meta)))

    async def _drive(self, producer: Producer, parts: AsyncIterable[Any]) -> None:
        """Write the parts until they are over, or the stream is to end."""
        pump = asyncio.create_task(_pump(producer, parts))
        halt = asyncio.create_task(producer.halted())
        state, error = State.STOPPED, ""
        try:
            await asyncio.wait({pump, halt}, timeout=self.terms.longest, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                fault = pump.exception()
                state, error = (State.DONE, "") if fault is None else (State.FAILED, said(fault))
                if isinstance(fault, StreamClosed):
                    state, error = State.STOPPED, ""
            elif not producer.stopping:
                state, error = State.FAILED, f"it took longer than {self.terms.longest:g} s"
        finally:
            halt.cancel()
            if not pump.done():
                pump.cancel()
                await asyncio.wait({pump}, timeout=_UNWILLING)
            await asyncio.shield(self._end(producer, state, error))

    async def _end(self, producer: Producer, state: State, error: str = "") -> None:
        """End a stream by its producer's hand, and save it; whoever else ended it saves it, if the backend has it."""
        room = self._ready()
        try:
            ended = await room.producers.finish(producer, state, error, _PATIENCE)
        except StreamError:
            saved = False
            try:
                await room.reaper.save(final(producer, state, error))
                saved = True
            finally:
                self._soon(self._tell_later(producer, state, error, saved=saved))
            return
        await self._save(producer, ended, error)

    async def _save(self, producer: Producer, ended: State | None, error: str) -> None:
        if ended is not None and (producer.ended_it or not producer.kept):
            await self._ready().reaper.save(final(producer, ended, error))
            await self._note(producer)

    async def _tell_later(self, producer: Producer, state: State, error: str, *, saved: bool) -> None:
        """Tell the backend, once it is back, how a stream ended meanwhile; save it, if that could not be done before.

        Where others have ended it as lost since, what is saved stands.
        """
        ended = await self._ready().producers.finish(producer, state, error, math.inf)
        if not saved:
            await self._save(producer, ended, error)
        elif ended is not None:
            await self._note(producer)

    async def _note(self, producer: Producer) -> None:
        """Let the backend know that a stream is saved; where it is away, whoever looks saves it once more."""
        backend = self._ready().backend
        with suppress(StreamError):
            await backend.saved(producer.ref)
            await backend.forget([Listed(producer.ref, producer.opening.user)])

    def _soon(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something beside, which nobody waits for; an application's fault in it is found by the next look."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


class _Room:
    """What a process has in one event loop: its way to the backend, its producers, its viewers."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, backend: Backend, reaper: Reaper, clock: Clock, terms: Terms
    ) -> None:
        self.loop = loop
        self.backend = backend
        self.reaper = reaper
        self.producers = Producers(backend, clock, self._tell, lease=terms.lease, window=terms.window)
        self.hub = Hub(backend, clock, self.producers, reaper.bury, terms.lease)

    def _tell(self, message: Message) -> None:
        self.hub.tell(message)

    async def close(self) -> None:
        """Let go of all."""
        await self.hub.close()
        await self.producers.close()
        await self.backend.close()


async def _pump(producer: Producer, parts: AsyncIterable[Any]) -> None:
    try:
        async for part in parts:
            await producer.send(part)
    finally:
        await _closed(parts)


async def _closed(parts: AsyncIterable[Any]) -> None:
    if (close := getattr(parts, "aclose", None)) is not None:
        await close()
