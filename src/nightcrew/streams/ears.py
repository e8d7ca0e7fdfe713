"""Ears: one connection by which a process hears of any number of channels.

redis-py's own subscriber is for one task; here whoever wants to hear of a channel asks, while another task listens.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

_QUIET = 10.0  # seconds without a word, after which the server is asked whether it is there
_TIMEOUT = 5.0  # seconds that it may take to be heard of a channel


class Ears:
    """Listens at channels by a connection that `connect` makes; where it breaks, by another. At one, it always does."""

    def __init__(self, connect: Callable[[], AbstractConnection], always: bytes) -> None:
        self._connect = connect
        self._connection: AbstractConnection | None = None
        self._always = always
        self._wanted: dict[bytes, asyncio.Future[None]] = {}
        self._asked: Counter[bytes] = Counter()
        self._words = 0

    async def add(self, channel: bytes) -> None:
        """Return once what is published there from now on is heard; raises TimeoutError where that takes long."""
        if channel not in self._wanted:
            self._wanted[channel] = asyncio.get_running_loop().create_future()
            await self._subscribe(channel)
        async with asyncio.timeout(_TIMEOUT):
            await asyncio.shield(self._wanted[channel])

    async def remove(self, channel: bytes) -> None:
        """Listen there no more."""
        if self._wanted.pop(channel, None) is not None:
            await self._say("UNSUBSCRIBE", channel)

    async def heard(self) -> AsyncIterator[tuple[bytes, bytes] | None]:
        """Yield what is published, as channel and text, and None once all that was listened to before is again.

        It ends with a RedisError or an OSError where the line breaks, and may be called again after that.
        """
        connection = self._connect()
        connection.socket_timeout = None  # whether it is quiet for too long is watched for all that is heard
        watching = asyncio.create_task(self._watch(connection))
        try:
            async with asyncio.timeout(_TIMEOUT):
                await connection.connect()  # type: ignore[no-untyped-call]
            self._asked.clear()
            self._connection = connection
            for channel, ready in list(self._wanted.items()):
                if ready.done():
                    self._wanted[channel] = asyncio.get_running_loop().create_future()
            await self._subscribe(*self._wanted, self._always)
            while True:
                kind, channel, *rest = await connection.read_response(disable_decoding=True)
                self._words += 1
                if kind == b"message":
                    yield channel, rest[0]
                elif kind == b"subscribe":
                    self._ready(channel)
                    if channel == self._always:
                        yield None
        finally:
            watching.cancel()
            if self._connection is connection:
                self._connection = None
            await connection.disconnect(nowait=True)

    async def _watch(self, connection: AbstractConnection) -> None:
        """Ask of a line on which nothing is heard whether it is there, and break it where nobody answers."""
        heard = -1
        while heard != self._words:
            heard = self._words
            await asyncio.sleep(_QUIET)
            if heard == self._words:
                await self._say("PING")
                await asyncio.sleep(_QUIET)
        await connection.disconnect(nowait=True)

    def _ready(self, channel: bytes) -> None:
        """Hear that a channel is listened to: it is what was asked for last, once there is no answer still to come."""
        self._asked[channel] -= 1
        ready = self._wanted.get(channel)
        if self._asked[channel] <= 0:
            del self._asked[channel]
            if ready is not None and not ready.done():
                ready.set_result(None)

    async def _subscribe(self, *channels: bytes) -> None:
        if self._connection is not None:
            self._asked.update(channels)
        await self._say("SUBSCRIBE", *channels)

    async def _say(self, *words: Any) -> None:
        """Say it; where the line is broken, or is yet to be made, the next one begins with what is wanted then.

        Whoever gives up meanwhile does not break the line, which is everybody's.
        """
        if self._connection is not None and self._connection.is_connected:
            saying = asyncio.ensure_future(self._connection.send_command(*words, check_health=False))
            with suppress(RedisError, OSError):
                await asyncio.shield(saying)
