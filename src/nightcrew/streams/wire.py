"""Wire: one connection on which all that a process appends goes out at once.

A pool's pipeline costs a process several times what the server's answer does, for each token of each answer.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Unconnected
from redis.exceptions import ResponseError

_TIMEOUT = 5.0  # seconds that all answers to what is sent at once may take
_IDLE = 30.0  # seconds after which somebody between may have forgotten a connection

Command = Sequence[Any]


class Wire:
    """Asks by a connection that `connect` makes, whoever's turn it is; where it has broken, by another."""

    def __init__(self, connect: Callable[[], AbstractConnection]) -> None:
        self._connect = connect
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._used = 0.0

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send them, and return their answers, refusals among them; what is asked may be done, and asked again.

        Raises a RedisError or an OSError, a TimeoutError among them, where no answer came.
        """
        async with self._turn, asyncio.timeout(_TIMEOUT):
            if (connection := self._rested()) is not None:
                try:
                    return await self._exchange(connection, commands)
                except (Unconnected, OSError):
                    pass  # it was closed while nobody used it
            return await self._exchange(await self._open(), commands)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect()

    def _rested(self) -> AbstractConnection | None:
        fresh = asyncio.get_running_loop().time() - self._used < _IDLE
        return self._connection if fresh and self._connection is not None and self._connection.is_connected else None

    async def _open(self) -> AbstractConnection:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        connection = self._connect()
        connection.socket_timeout = None  # there is one for all that is sent at once, and none for each answer
        await connection.connect()  # type: ignore[no-untyped-call]
        self._connection = connection
        return connection

    async def _exchange(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        try:
            await connection.send_packed_command(b"".join(map(_packed, commands)), check_health=False)
            answers = [await _answer(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # an answer may be on its way that nobody waits for
            raise
        self._used = asyncio.get_running_loop().time()
        return answers


def _packed(command: Command) -> bytes:
    """Write a command as the server reads it (RESP): redis-py's own way takes ten times as long."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as refusal:
        return refusal
