"""Hub: how any number of viewers of a process read along.

A stream is heard once, however many read it. The end of its log is kept for all of them together, and whoever is behind
that reads pages from the backend: a slow viewer costs neither memory nor anybody else's time.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from nightcrew.clock import Clock
from nightcrew.errors import StreamError
from nightcrew.producer import Producer
from nightcrew.producers import Producers, cancel
from nightcrew.stream import PAGE, Backend, Data, Ended, Gone, Info, Message, Missed, Ref, State

_TAIL = 256 * 1024  # bytes of a log that are kept for those who are nearly there
_FIRST = 16 * 1024  # bytes of the first page: whoever comes sees something at once
_LOOK = 5.0  # seconds without a word, after which somebody asks
_SOON = 0.05  # seconds past a lease
_AGAIN = 0.5  # seconds until the backend is asked once more that was away


class Channel:
    """One stream, as the viewers of this process have it: from `base` on, its log is here.

    Of one that this process writes, its producer has all of it.
    """

    def __init__(self, ref: Ref, source: Producer | None) -> None:
        self.ref = ref
        self._source = source
        self.base = 0
        self.tail = bytearray()
        self.final: Ended | Gone | None = None
        self.viewers = 0
        self.opened = False
        self.opening = asyncio.Lock()
        self.listening: asyncio.Task[None] | None = None
        self.due = False
        self.looking = asyncio.Lock()
        self.known = False
        self.missed_at: float | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._part = 0, b""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def local(self) -> bool:
        """Whether this process writes it."""
        return self._source is not None

    @property
    def end(self) -> int:
        """Where the log ends, as far as is known here."""
        return self.base + len(self.tail)

    def part(self, start: int) -> bytes | None:
        """Return what comes next, nothing where nothing has yet, and None where it is not here."""
        if self._source is not None:
            return bytes(self._source.text[start : min(start + PAGE, self._source.readable)])
        if start < self.base:
            return None
        if start == self.end:
            return b""
        if start != self._part[0] or start + len(self._part[1]) != min(self.end, start + PAGE):
            self._part = start, bytes(self.tail[start - self.base : start - self.base + PAGE])
        return self._part[1]

    def leave(self, end: int) -> None:
        """Have it from the backend from now on, whose log has so much."""
        self._source = None
        self.restart(end)

    @property
    def left(self) -> bool:
        """Whether this process writes it no more, and it is not known here how it ended."""
        return self._source is not None and self._source.over and self.final is None

    def hear(self, message: Message) -> None:
        """Take a message; what is already here counts once, and over a gap it begins anew."""
        if isinstance(message, Data) and self._source is None:
            skipped = self.end - message.offset
            if skipped < 0:
                self.restart(message.offset)
            self.tail += message.data[max(skipped, 0) :]
            if len(self.tail) > 2 * _TAIL:
                cut = len(self.tail) - _TAIL
                del self.tail[:cut]
                self.base += cut
        elif isinstance(message, Ended | Gone) and self.final is None:
            self.final = message
            here = self.end if self._source is None else self._source.readable
            if isinstance(message, Ended) and message.end != here:  # some was missed, or some of what is here was lost
                self.leave(message.end)
        self.wake()

    def restart(self, base: int) -> None:
        """Keep nothing of what was before."""
        self.tail.clear()
        self.base, self._part = base, (0, b"")

    def wake(self) -> None:
        """Let all viewers look."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def changed(self) -> None:
        """Wait until something has come, or somebody is to look."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def look(self, seconds: float = 0.0) -> None:
        """Have somebody look in so long, and not before."""
        self.rest()
        if seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.look)
        else:
            self.due = True
            self.wake()

    def look_by(self, seconds: float) -> None:
        """Have somebody look in so long, if not before."""
        timer = self._timer
        if not self.due and (timer is None or timer.when() > asyncio.get_running_loop().time() + seconds):
            self.look(seconds)

    def rest(self) -> None:
        """Have nobody look."""
        self.due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Hub:
    """What a process hears of streams: `stale` is told of one whose producer is lost, and ends it."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        producers: Producers,
        stale: Callable[[Info], Awaitable[object]],
        lease: float,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._producers = producers
        self._stale = stale
        self._lease = lease
        self._channels: dict[Ref, Channel] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._listener = asyncio.create_task(self._listen())

    def tell(self, message: Message) -> None:
        """Pass on what this process writes itself."""
        if not isinstance(message, Missed) and (channel := self._channels.get(message.ref)) is not None:
            channel.hear(message)

    async def read(self, ref: Ref, after: int = 0) -> AsyncGenerator[Data | Ended | Gone, None]:
        """Yield the log from `after` on, as it grows, and then how it ended. Who is ahead of the log reads it anew.

        Raises StreamError where the backend is away and nothing can be read.
        """
        place = after
        async with self._joined(ref, after) as channel:
            while True:
                final = channel.final
                if isinstance(final, Gone):
                    yield final
                    return
                if final is not None and place > final.end:
                    yield Data(channel.ref, 0, b"")
                    place = 0
                if final is not None and place == final.end:
                    yield final
                    return
                if channel.left:
                    channel.leave(0)
                    channel.look()
                part = channel.part(place)
                if part is None:
                    part = await self._page(channel, place)
                    if not part and final is not None:  # it had its time, or was lost
                        yield Gone(channel.ref)
                        return
                if part:
                    yield Data(channel.ref, place, part)
                    place += len(part)
                    continue
                if not channel.due:
                    await channel.changed()
                if channel.due:
                    await self._look(channel)

    @asynccontextmanager
    async def _joined(self, ref: Ref, after: int) -> AsyncIterator[Channel]:
        """Be one of those who read a stream."""
        channel = self._channels.setdefault(ref, Channel(ref, self._producers.of(ref)))
        channel.viewers += 1
        try:
            await self._open(channel, after)
            yield channel
        finally:
            channel.viewers -= 1
            if not channel.viewers and self._channels.get(ref) is channel:
                channel.rest()
                del self._channels[ref]
                if channel.listening is not None:
                    leaving = asyncio.create_task(self._leave(ref, channel.listening))
                    self._leaving.add(leaving)
                    leaving.add_done_callback(self._leaving.discard)
                    await asyncio.shield(leaving)  # whoever is cancelled twice leaves nothing behind either

    async def _leave(self, ref: Ref, listening: asyncio.Task[None]) -> None:
        """Hear of a stream no more, unless somebody has come to read it meanwhile."""
        await cancel(listening)
        if ref not in self._channels:
            with suppress(StreamError):
                await self._backend.unfollow(ref)

    async def _page(self, channel: Channel, place: int) -> bytes:
        page = await self._backend.read(channel.ref, place)
        self._saw(channel, page.info)
        if not page.data and channel.final is None and place < channel.base:
            channel.look_by(_AGAIN)  # a tail that was lost is coming
            if not channel.due:
                await channel.changed()
        return page.data

    async def _open(self, channel: Channel, after: int) -> None:
        """Begin to listen and look at once; and look again once it listens, for what came in between."""
        async with channel.opening:
            if not channel.opened:
                await self._first(channel, after)
                channel.opened = True

    async def _first(self, channel: Channel, after: int) -> None:
        channel.look_by(_LOOK)
        if channel.local:
            return
        channel.listening = asyncio.create_task(self._begin_to_listen(channel))
        page = await self._backend.read(channel.ref, after, _FIRST)
        if channel.end == 0:
            end = 0 if page.info is None else page.info.end
            fits = bool(page.data) and end == after + len(page.data)
            channel.restart(after if fits else end)
            channel.tail += page.data if fits else b""
        self._saw(channel, page.info)

    async def _begin_to_listen(self, channel: Channel) -> None:
        """Listen, and have somebody look; where it takes too long, somebody looks now and then all the same."""
        with suppress(StreamError):
            await self._backend.follow(channel.ref)
        channel.look()

    async def _look(self, channel: Channel) -> None:
        """Ask how a stream stands of which nothing was heard; of all its viewers one does."""
        async with channel.looking:
            if not channel.due or channel.final is not None:
                return
            channel.look(_LOOK)
            if channel.local:
                return
            try:
                info = await self._backend.info(channel.ref)
                if info is not None and info.stale:
                    await self._stale(info)
                    info = await self._backend.info(channel.ref)
                self._saw(channel, info)
            except StreamError:
                channel.look(_AGAIN)

    def _saw(self, channel: Channel, info: Info | None) -> None:
        """Take how a stream stands by its facts."""
        if info is None:
            self._missing(channel)
            return
        channel.known, channel.missed_at = True, None
        if info.state is not State.LIVE:
            channel.hear(Ended(channel.ref, info.state, info.end))
            return
        if info.end > channel.end:
            channel.restart(info.end)
            channel.wake()
        channel.look_by(max(info.lease, 0.0) + _SOON)

    def _missing(self, channel: Channel) -> None:
        """Take it that nothing is kept of a stream: its producer may be about to give the backend what that lost."""
        now = self._clock.monotonic()
        channel.missed_at = now if channel.missed_at is None else channel.missed_at
        if channel.known and now < channel.missed_at + self._lease:
            channel.look_by(_AGAIN)
        else:
            channel.hear(Gone(channel.ref))

    async def _listen(self) -> None:
        """Listen for as long as the process does; whatever may have been missed is asked for."""
        while True:
            try:
                async for message in self._backend.messages():
                    if isinstance(message, Missed):
                        self._ask()
                    else:
                        self._producers.hear(message)
                        self.tell(message)
            except Exception:  # noqa: BLE001 - whatever it is, it is listened again, and what was missed is asked for
                await asyncio.sleep(_AGAIN * self._clock.jitter(0.5))
                self._ask()

    def _ask(self) -> None:
        for channel in self._channels.values():
            channel.look()

    async def close(self) -> None:
        """Listen no more."""
        await cancel(self._listener, *self._leaving)
