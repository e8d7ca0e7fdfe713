"""Room: what a process has of streams in one event loop: its producers, its viewers, and how what it writes ends."""

import asyncio
import math
from collections.abc import AsyncIterable, Coroutine
from contextlib import suppress
from typing import Any

from nightcrew.clock import Clock
from nightcrew.errors import StreamClosed, StreamError
from nightcrew.hub import Hub
from nightcrew.producer import Producer
from nightcrew.producers import Producers
from nightcrew.reaper import Persist, Reaper, final, said
from nightcrew.stream import Backend, Info, Listed, Message, State

_PATIENCE = 30.0  # seconds that a stream which is to end waits for the backend
_UNWILLING = 5.0  # seconds that whoever writes may take to end once it is cancelled


class Room:
    """A way to the backend, and all that goes on by it. Made in the event loop that it belongs to."""

    def __init__(
        self, backend: Backend, persist: Persist | None, clock: Clock, *, lease: float, longest: float, window: float
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.backend = backend
        self.reaper = Reaper(backend, persist, self.soon)
        self.producers = Producers(backend, clock, self._tell, lease=lease, window=window)
        self.hub = Hub(backend, clock, self.producers, self.reaper.bury, lease)
        self._lease = lease
        self._longest = longest
        self._patience = _PATIENCE
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def here(self, chat: str, stream: str | None = None) -> Info | None:
        """Return the live stream of a chat, if this process writes it, as it has it."""
        one = self.producers.live_in(chat, stream)
        if one is None or one.over:
            return None
        begun = one.opening
        return Info(
            one.ref, State.LIVE, one.epoch, one.readable, begun.user, begun.owner, one.started, lease=self._lease,
            stop=one.stopped_by, saved=begun.saved, meta=begun.meta,
        )  # fmt: skip

    async def drive(self, producer: Producer, parts: AsyncIterable[Any]) -> None:
        """Write the parts until they are over, or the stream is to end."""
        pump = asyncio.create_task(_pump(producer, parts))
        halt = asyncio.create_task(producer.halted())
        state, error = State.STOPPED, ""
        try:
            await asyncio.wait({pump, halt}, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                state, error = _outcome(pump)
            elif not producer.stopping:
                state, error = State.FAILED, f"it took longer than {self._longest:g} s"
        finally:
            halt.cancel()
            if not pump.done():
                pump.cancel()
                await asyncio.wait({pump}, timeout=_UNWILLING)
            await asyncio.shield(self.end(producer, state, error))

    async def end(self, producer: Producer, state: State, error: str = "") -> None:
        """End a stream by its producer's hand, and save it; whoever else ended it saves it, if the backend has it."""
        try:
            await self._end(producer, state, error)
        finally:
            if self._closed:  # it came late, and opened the way anew
                await self.backend.close()

    def soon(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something beside, which nobody waits for.

        An application's fault in it is told as that of any task is that nobody waits for; the next look tries again.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    async def drain(self, seconds: float) -> None:
        """End what is written here, as stopped, within so many seconds."""
        self._patience = min(_PATIENCE, seconds / 2)  # a backend that is away must not take the time to save
        for producer in self.producers.all:
            producer.halt("shutdown")
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Let go of all."""
        for producer in self.producers.all:  # somebody's own task still writes it: its next word is refused
            producer.sealed = True
        self._closed = True
        await self.hub.close()
        await self.producers.close()
        await self.backend.close()

    async def _end(self, producer: Producer, state: State, error: str) -> None:
        try:
            ended = await self.producers.finish(producer, state, error, self._patience)
        except Exception:  # noqa: BLE001 - whatever keeps the backend from hearing of it, it is saved
            saved = False
            try:
                await self.reaper.save(final(producer, state, error))
                saved = True
            finally:
                if not self._closed:
                    self.soon(self._tell_later(producer, state, error, saved=saved))
            return
        await self._save(producer, ended, error)

    async def _save(self, producer: Producer, ended: State | None, error: str) -> None:
        if ended is not None and (producer.ended_it or not producer.kept):
            await self.reaper.save(final(producer, ended, error))
            await self._note(producer)

    async def _tell_later(self, producer: Producer, state: State, error: str, *, saved: bool) -> None:
        """Tell the backend, once it is back, how a stream ended meanwhile; save it, if that could not be done before.

        Where others have ended it as lost since, what is saved stands.
        """
        ended = await self.producers.finish(producer, state, error, math.inf)
        if not saved:
            await self._save(producer, ended, error)
        elif ended is not None:
            await self._note(producer)

    async def _note(self, producer: Producer) -> None:
        """Let the backend know that a stream is saved; where it is away, whoever looks saves it once more."""
        with suppress(StreamError):
            await self.backend.saved(producer.ref)
            await self.backend.forget([Listed(producer.ref, producer.opening.user)])

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not isinstance(fault, StreamError):
            told = "An answer could not be saved; whoever looks at the streams next tries again"
            self.loop.call_exception_handler({"message": told, "exception": fault, "task": task})

    def _tell(self, message: Message) -> None:
        self.hub.tell(message)


def _outcome(pump: asyncio.Task[None]) -> tuple[State, str]:
    """Say how a stream is to end whose parts are over; a cancellation that nobody asked for is a fault of theirs."""
    fault = asyncio.CancelledError() if pump.cancelled() else pump.exception()
    if isinstance(fault, StreamClosed):
        return State.STOPPED, ""
    return (State.DONE, "") if fault is None else (State.FAILED, said(fault))


async def _pump(producer: Producer, parts: AsyncIterable[Any]) -> None:
    try:
        async for part in parts:
            await producer.send(part)
    finally:
        await closed(parts)


async def closed(parts: AsyncIterable[Any]) -> None:
    """Close a generator, of which nothing more is read."""
    if (close := getattr(parts, "aclose", None)) is not None:
        await close()
