"""Producer: who writes the answer of a chat.

It keeps all that it has written: what the backend loses it is given again, and while the backend is away the viewers of
the same process read on. Others get what the backend has, and no more.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from nightcrew.errors import StreamClosed, StreamTooLong
from nightcrew.frame import frame
from nightcrew.stream import PAGE, Info, Opening, Ref, State

_UNWRITTEN = 256 * 1024  # bytes that may wait to be written before whoever sends waits, too


class Producer:
    """One stream, as whoever writes it has it."""

    def __init__(
        self, opening: Opening, info: Info | None, codec: str, most: int, started: float, wake: Callable[[], None]
    ) -> None:
        self.opening = opening
        self.epoch = 1 if info is None else info.epoch
        self.started = started
        self.known = info is not None
        self.text = bytearray()
        self.written = 0
        self.told = 0
        self.stopped_by = ""
        self.closed: State | None = None
        self.gone = False
        self.kept = True
        self.doubtful = False
        self.sealed = False
        self.ending = False
        self.ended_it = False
        self._codec = codec
        self._most = most
        self._wake = wake
        self._moved = asyncio.Event()
        self._halted = asyncio.Event()

    @property
    def ref(self) -> Ref:
        """Which stream it is."""
        return self.opening.ref

    @property
    def id(self) -> str:
        """Its ID."""
        return self.ref.id

    @property
    def readable(self) -> int:
        """Up to where viewers of this process may read: what is written, and more while the backend is away."""
        return max(self.written, self.told)

    @property
    def unwritten(self) -> bytes:
        """What is to be written next: whole events, so that no log ever ends within one."""
        end = self.written + PAGE
        if end < len(self.text):
            cut = self.text.rfind(b"\n\n", self.written, end)
            end = 2 + (cut if cut >= 0 else self.text.find(b"\n\n", end - 1))
        return bytes(self.text[self.written : end])

    @property
    def over(self) -> bool:
        """Whether another hand has ended it, or erased it."""
        return self.gone or self.closed is not None

    @property
    def stopping(self) -> bool:
        """Whether it is to end: because somebody asks it to, or somebody else has ended it."""
        return self._halted.is_set()

    async def halted(self) -> None:
        """Wait until it is to end."""
        await self._halted.wait()

    async def send(self, data: Any, event: str | None = None) -> None:
        """Add an event: a text, or what JSON can say. It waits while too much is not written yet.

        Raises StreamClosed where the stream has had its end, StreamTooLong where it would be too long.
        """
        self._check()
        said = frame(data, event, self.id, len(self.text), self._codec)
        if len(self.text) + len(said) > self._most:
            raise StreamTooLong(f"stream {self.id} would be longer than {self._most:,} bytes: raise max_bytes")
        self.text += said
        self._wake()
        while len(self.text) - self.readable > _UNWRITTEN and not self.over and not self.sealed:
            await self._moved.wait()
        self._check()

    def _check(self) -> None:
        if self.gone:
            raise StreamClosed(f"stream {self.id} was erased with its chat")
        if self.closed is not None:
            raise StreamClosed(f"stream {self.id} was ended by another hand: it is {self.closed}")
        if self.sealed:
            raise StreamClosed(f"stream {self.id} is about to end")

    def moved(self) -> None:
        """Let whoever waits look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def settled(self) -> None:
        """Wait until something about it has changed."""
        await self._moved.wait()

    def halt(self, by: str = "") -> None:
        """Ask it to end."""
        self.stopped_by = self.stopped_by or by
        self._halted.set()

    def end(self, state: State | None, *, kept: bool) -> None:
        """Note that it has had its end by another hand, a state, or with its chat; and whether the backend has it."""
        self.kept = kept
        if state is None:
            self.gone = True
        else:
            self.closed = state
        self.halt()
        self.moved()
