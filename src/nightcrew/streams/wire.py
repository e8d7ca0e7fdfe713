"""Wire: one connection on which whatever is asked at the same time goes out at once.

A pool's pipeline costs a process several times what the server's answer does, for each token of each answer, and a pool
that is asked by hundreds at once lets the last of them wait for all others.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Unconnected
from redis.exceptions import RedisError, ResponseError

_TIMEOUT = 5.0  # seconds that all answers to what is sent at once may take
_IDLE = 30.0  # seconds after which somebody between may have forgotten a connection
_MOST = 10  # commands that go out at once, if several ask: the server lets others wait for all of them

Command = Sequence[Any]


class _Asked:
    """What somebody asks, ready to be sent, and what came of it: what cannot be written harms nobody else."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.number = len(commands)
        self.packed = b"".join(map(_packed, commands))
        self.answers: list[Any] | Exception | None = None


class Wire:
    """Asks by a connection that `connect` makes; where it has broken, by another."""

    def __init__(self, connect: Callable[[], AbstractConnection]) -> None:
        self._connect = connect
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._waiting: dict[_Asked, None] = {}
        self._used = 0.0

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send them, and return their answers, refusals among them; what is asked may be done, and asked again.

        Raises a RedisError or an OSError, a TimeoutError among them, where no answer came.
        """
        asked = _Asked(commands)
        self._waiting[asked] = None
        try:
            async with self._turn:
                if asked.answers is None:  # nobody has taken it along
                    await self._send(self._together(asked))
        finally:
            self._waiting.pop(asked, None)
        if isinstance(asked.answers, Exception):
            raise asked.answers
        return asked.answers or []

    def _together(self, first: _Asked) -> list[_Asked]:
        some, count = [first], first.number
        for other in self._waiting:
            if other is not first:
                count += other.number
                if count > _MOST:
                    break
                some.append(other)
        return some

    async def _send(self, some: list[_Asked]) -> None:
        """Send what several ask; where whoever does it is cancelled, the others ask again."""
        try:
            answers = iter(await self._answers(b"".join(one.packed for one in some), sum(one.number for one in some)))
        except (RedisError, OSError) as error:
            for one in some:
                one.answers = error
        else:
            for one in some:
                one.answers = [next(answers) for _ in range(one.number)]
        for one in some:
            self._waiting.pop(one, None)

    async def _answers(self, packed: bytes, number: int) -> list[Any]:
        async with asyncio.timeout(_TIMEOUT):
            if (connection := self._rested()) is not None:
                try:
                    return await self._exchange(connection, packed, number)
                except (Unconnected, OSError):
                    pass  # it was closed while nobody used it
            return await self._exchange(await self._open(), packed, number)

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

    async def _exchange(self, connection: AbstractConnection, packed: bytes, number: int) -> list[Any]:
        try:
            await connection.send_packed_command(packed, check_health=False)
            answers = [await _answer(connection) for _ in range(number)]
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
