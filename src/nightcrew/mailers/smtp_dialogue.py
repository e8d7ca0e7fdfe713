"""What is said and heard on one connection of SMTP: commands out, replies in, each within its time."""

import re
import socket
import ssl
from dataclasses import dataclass

from nightcrew.clock import Clock

_CHUNK = 65536
_LONGEST = 4096  # octets of a line; RFC 5321 4.5.3.1.5 allows 512, and some servers are chatty
_MOST = 100  # lines of a reply
_REPLY = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?\r?\n", re.DOTALL)
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


class Broken(Exception):
    """Nothing more can be said or heard here; its text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: a code, and lines of text."""

    code: int
    lines: tuple[str, ...]

    @property
    def status(self) -> str:
        """Return the enhanced code of RFC 3463 that it begins with, such as 5.1.1, or nothing."""
        found = _STATUS.match(self.lines[-1])
        return found[1] if found and found[1][0] == str(self.code)[0] else ""

    def __str__(self) -> str:
        """Write it as the server did, its lines behind each other."""
        return f"{self.code} {' '.join(self.lines)}".strip()


class Dialogue:
    """A connection to a server; whatever breaks it raises Broken. Spans are in seconds."""

    def __init__(self, connection: socket.socket, clock: Clock) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # every write is one that is waited for
        self._socket = connection
        self._clock = clock
        self._heard = bytearray()

    @property
    def here(self) -> str:
        """The address of this end."""
        return str(self._socket.getsockname()[0])

    def say(self, data: bytes, seconds: float) -> None:
        """Send it all."""
        until = self._clock.monotonic() + seconds
        for at in range(0, len(data), _CHUNK):
            left = memoryview(data)[at : at + _CHUNK]
            while left:
                self._wait_until(until)
                try:
                    left = left[self._socket.send(left) :]
                except OSError as error:
                    raise _broken(error) from error

    def hear(self, seconds: float) -> Reply:
        """Return the next reply."""
        until = self._clock.monotonic() + seconds
        lines: list[str] = []
        while len(lines) < _MOST:
            line = self._line(until)
            if (found := _REPLY.fullmatch(line)) is None:
                raise Broken(f"the server said {line[:40]!r}, which is no answer of SMTP")
            lines.append((found[3] or b"").decode("utf-8", "replace").rstrip())
            if found[2] != b"-":
                return Reply(int(found[1]), tuple(lines))
        raise Broken(f"the server answered at more than {_MOST} lines' length")

    @property
    def quiet(self) -> bool:
        """Whether the server has neither said anything unasked nor hung up; what it said is heard next."""
        if self._heard:
            return False
        try:
            self._socket.settimeout(0)
            self._heard += self._socket.recv(_CHUNK)
            return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def encrypt(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Go on encrypted, with whoever shows a certificate for the host; raises OSError where nobody does.

        What was said before in clear, as if it had been said after, is not heard.
        """
        if self._heard:
            raise Broken("the server spoke in clear when it was to be spoken to encrypted")
        self._socket.settimeout(seconds)
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _line(self, until: float) -> bytes:
        while (end := self._heard.find(b"\n")) < 0:
            if len(self._heard) > _LONGEST:
                raise Broken("the server answered in a line without end")
            self._wait_until(until)
            try:
                more = self._socket.recv(_CHUNK)
            except OSError as error:
                raise _broken(error) from error
            if not more:
                raise Broken("the server hung up")
            self._heard += more
        line = bytes(self._heard[: end + 1])
        del self._heard[: end + 1]
        return line

    def _wait_until(self, until: float) -> None:
        """Let the next call of the system wait no longer than until then."""
        left = until - self._clock.monotonic()
        if left <= 0:
            raise Broken("the server did not answer in time")
        self._socket.settimeout(left)


def _broken(error: OSError) -> Broken:
    if isinstance(error, TimeoutError):
        return Broken("the server did not answer in time")
    return Broken(f"the connection broke: {error.strerror or error}")
