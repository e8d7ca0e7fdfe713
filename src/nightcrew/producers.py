"""Producers: how those of a process write to the backend together, and are heard of."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from nightcrew.clock import Clock
from nightcrew.errors import StreamError
from nightcrew.producer import Producer
from nightcrew.stream import (
    Answer,
    Append,
    Appended,
    Backend,
    Data,
    Ended,
    Gone,
    Info,
    Message,
    Opening,
    Ref,
    State,
    Stop,
)

_GRACE = 2.0  # seconds that the backend may be away before viewers of this process read what it does not have
_PATIENCE = 60.0  # seconds after which whoever waits for an answer looks again whether it may come
_PAUSE = 0.05, 2.0  # seconds between two tries while it is away: the first, the longest
_UNHEARD = 0.1  # seconds after which a task is cancelled once more
_BEATS = 3  # times that a lease is renewed while it lasts


class Producers:
    """The producers of a process: what all of them have to write goes out together, and so do their signs of life."""

    def __init__(
        self, backend: Backend, clock: Clock, tell: Callable[[Message], None], *, lease: float, window: float
    ) -> None:
        self.fault: Exception | None = None
        self._backend = backend
        self._clock = clock
        self._tell = tell
        self._lease = lease
        self._window = window
        self._all: dict[Ref, Producer] = {}
        self._dirty: dict[Ref, Producer] = {}
        self._work = asyncio.Event()
        self._away_since: float | None = None
        self._pause = _PAUSE[0]
        self._awake = clock.monotonic()
        self._beating = self._complained = False
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._beat())]

    def of(self, ref: Ref) -> Producer | None:
        """Return the producer of a stream, if it is one of this process."""
        return self._all.get(ref)

    @property
    def all(self) -> Iterable[Producer]:
        """Those that are at work."""
        return tuple(self._all.values())

    def live_in(self, chat: str, stream: str | None = None) -> Producer | None:
        """Return the producer of a chat, of whichever stream or of that one, if it is one of this process."""
        some = (one for one in self._all.values() if one.ref.chat == chat and stream in (None, one.id))
        return next(some, None)

    def add(self, opening: Opening, info: Info | None, codec: str, most: int, started: float) -> Producer:
        """Begin to write a stream; without `info`, one that the backend does not know yet."""
        producer = Producer(opening, info, codec, most, started, lambda: self._touch(producer))
        self._all[opening.ref] = producer
        return producer

    def hear(self, message: Message) -> None:
        """Hear of a stream of this process: that it is to stop, or has been ended."""
        producer = self._all.get(message.ref) if isinstance(message, Stop | Ended | Gone) else None
        if producer is None:
            return
        if isinstance(message, Stop):
            producer.halt(message.by)
        else:
            self._end(producer, message.state if isinstance(message, Ended) else None)

    async def finish(self, producer: Producer, state: State, error: str, patience: float) -> State | None:
        """Write the rest, and end a stream; return its state, or None where its chat was erased.

        Where the backend is away for longer than `patience` seconds, the state stands in this process alone, and is
        told to the backend once that is there again; not where this process stood still, and others may know better.
        """
        producer.sealed = True
        until = self._clock.monotonic() + patience
        while not producer.over:
            try:
                if await self._finished(producer, state, error, until):
                    break
            except Exception:  # whatever it is, it is tried again
                self._look_back()
                if self._clock.monotonic() >= until and not producer.doubtful:
                    producer.told = len(producer.text)
                    self._tell(Ended(producer.ref, state, len(producer.text)))
                    raise
                await asyncio.sleep(self._longer())
        self._all.pop(producer.ref, None)
        self._dirty.pop(producer.ref, None)
        return None if producer.gone else producer.closed

    async def _finished(self, producer: Producer, state: State, error: str, until: float) -> bool:
        """Try once; return whether it has ended, by whichever hand."""
        while producer.written < len(producer.text) and not producer.over:
            if self._tasks[0].done():  # nobody writes beside any more: all was closed, or the event loop is ending
                await self._write_all([producer], self._lease)
                continue
            self._touch(producer)
            left = until - self._clock.monotonic()
            if self._away_since is not None and left <= 0:
                raise StreamError(f"{self._backend.place} cannot be written to") from self.fault
            try:
                async with asyncio.timeout(min(max(left, 0.1), _PATIENCE)):
                    await producer.settled()
            except TimeoutError:
                continue
        if producer.over:
            return True
        last = Append(producer.ref, producer.epoch, producer.written)
        self._look_back()
        producer.ending = True
        answer = await self._backend.finish(last, state, error, producer.stopped_by)
        self._look_back()
        if answer.answer is Answer.WRITTEN:
            producer.closed, producer.ended_it = state, True
            producer.stopped_by, producer.started = answer.stop, answer.started
            self._tell(Ended(producer.ref, state, answer.end))
            return True
        await self._answered(producer, answer, b"")
        return producer.over

    async def close(self) -> None:
        """Write nothing more."""
        await cancel(*self._tasks)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _touch(self, producer: Producer) -> None:
        self._dirty[producer.ref] = producer
        self._work.set()

    async def _write(self) -> None:
        """Write what there is, over and over; what comes while it is written goes with the next."""
        try:
            await self._write_on()
        finally:  # whoever waits finds that nobody writes any more
            for producer in self.all:
                producer.moved()

    async def _write_on(self) -> None:
        while True:
            await self._work.wait()
            if self._window:
                await asyncio.sleep(self._window)
            self._work.clear()
            some, self._dirty = list(self._dirty.values()), {}
            beating, self._beating = self._beating, False
            try:
                await self._write_all(some, self._lease if beating else 0.0)
                self._away_since, self._pause, self.fault, self._complained = None, _PAUSE[0], None, False
            except Exception as fault:  # noqa: BLE001 - whatever it is, the answers go on, and it is tried again
                self.fault, self._beating = fault, True
                self._away(some)
                await asyncio.sleep(self._longer())

    async def _write_all(self, some: list[Producer], lease: float) -> None:
        begun = [producer for producer in some if producer.known and not producer.over]
        self._look_back()
        for producer in some:
            if not producer.known and not producer.over:
                await self._anew(producer)
        parts = [producer.unwritten for producer in begun]
        appends = [
            Append(producer.ref, producer.epoch, producer.written, part)
            for producer, part in zip(begun, parts, strict=True)
        ]
        if appends:
            answers = await self._backend.append(appends, lease)
            self._look_back()
            for producer, answer, part in zip(begun, answers, parts, strict=True):
                if not (producer.ending and answer.answer is Answer.CLOSED):  # it may be this one who closed it
                    await self._answered(producer, answer, part)

    async def _answered(self, producer: Producer, said: Appended, part: bytes) -> None:
        """Take an answer: the log is as it says."""
        if producer.over:
            return
        if said.stop:
            producer.halt(said.stop)
        if said.answer is Answer.MISSING:
            await self._anew(producer)
        elif said.answer is Answer.GONE:
            self._end(producer, None)
        elif said.answer is Answer.CLOSED or said.end > len(producer.text):
            self._end(producer, said.state or State.LOST)
        else:
            producer.doubtful = False
            producer.written = said.end
            producer.told = max(producer.told, said.end if said.answer is Answer.WRITTEN else 0)
            if said.answer is Answer.WRITTEN and part:
                self._tell(Data(producer.ref, said.end - len(part), part))
            if producer.written < len(producer.text):
                self._touch(producer)
            producer.moved()

    async def _anew(self, producer: Producer) -> None:
        """Let the backend keep a stream that it knows nothing of; not where others may have ended and forgotten it."""
        if producer.doubtful:
            self._end(producer, State.LOST)
            return
        answer = await self._backend.resurrect(producer.opening, producer.epoch, producer.started)
        if producer.over:
            return
        if answer is Answer.WRITTEN:
            producer.written, producer.known = 0, True
            self._touch(producer)
        else:
            self._end(producer, None if answer is Answer.GONE else State.REPLACED, kept=False)

    def _look_back(self) -> None:
        """Find out whether this process stood still for so long that others may have ended its streams.

        It looks more often than a lease lasts, whatever the backend does.
        """
        now, before = self._clock.monotonic(), self._awake
        self._awake = now
        if now - before > self._lease:
            for producer in self.all:
                producer.doubtful = producer.known

    def _away(self, some: list[Producer]) -> None:
        """Go on without the backend: viewers here read what there is, once it has been away for a while."""
        now = self._clock.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        patient = now - self._away_since < _GRACE
        if not patient and not self._complained:
            self._complained = True
            told = f"Answers cannot be written to {self._backend.place}: their readers elsewhere wait until they can"
            asyncio.get_running_loop().call_exception_handler({"message": told, "exception": self.fault})
        for producer in some:
            if producer.over:
                continue
            self._touch(producer)
            if not patient or not producer.known:
                start, producer.told = producer.readable, len(producer.text)
                if start < producer.told:
                    self._tell(Data(producer.ref, start, bytes(producer.text[start:])))
            producer.moved()

    def _longer(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, _PAUSE[1])
        return pause * self._clock.jitter(0.3)

    def _end(self, producer: Producer, state: State | None, *, kept: bool = True) -> None:
        """Take it that another hand has ended a stream; viewers here are told, or ask the backend."""
        self._all.pop(producer.ref, None)
        self._dirty.pop(producer.ref, None)
        producer.end(state, kept=kept)
        if state is None:
            self._tell(Gone(producer.ref))
        elif kept:
            self._tell(Data(producer.ref, producer.readable, b""))
        else:
            producer.told = len(producer.text)
            self._tell(Ended(producer.ref, state, len(producer.text)))

    async def _beat(self) -> None:
        """Say that all of them are alive, whether they write or not."""
        while True:
            await asyncio.sleep(self._lease / _BEATS)
            self._look_back()
            self._beating = True
            for producer in self.all:
                self._touch(producer)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they are over: a client library may take one cancellation for an answer that came in time."""
    while left := {task for task in tasks if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_UNHEARD)
