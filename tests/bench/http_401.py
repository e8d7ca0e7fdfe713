"""How fast a stranger is sent away: calls per second, ours against a bare ASGI function that answers 401.

Over sockets each application has a server process of its own, and one client asks both in turn; in the process the
two callables are called in turn, which leaves nothing but the price of the decision itself.
"""

import asyncio
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from nightcrew.clock import SystemClock
from nightcrew.settings import Settings
from nightcrew.web.asgi import asgi

PATH = "/api/internal/jobs/cleanup-pkce"
ROUNDS = 25  # short and many, in turn, so that a busy neighbour spoils some rounds and not the median
SECONDS = 0.2
CONNECTIONS = 16
_BODY = b'{"error": "Unauthorized"}'
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_BODY)),
    (b"www-authenticate", b"Bearer"),
]


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least that is still a 401 by RFC 9110."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 401, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _BODY})


ours = asgi(
    SimpleNamespace(  # a stranger sees no more of a crew than this
        settings=Settings(secret="correct-horse-battery-staple"),
        clock=SystemClock(),
        jobs={},
        tell=lambda *_, **__: None,
    )
)


def measure() -> dict[str, Any]:
    """Return calls per second of both and their ratio, in the process and, where uvicorn is installed, over sockets."""
    found: dict[str, Any] = {
        "in_process": _compare(lambda name: asyncio.run(_calls(globals()[name])), ("bare", "ours"))
    }
    if find_spec("uvicorn"):
        with ExitStack() as stack:
            ports = {name: stack.enter_context(_server(name)) for name in ("bare", "ours")}
            found["over_sockets"] = _compare(lambda name: _requests(ports[name]), ("bare", "ours"))
    for where, figures in found.items():
        price = 1e6 / figures["ours"] - 1e6 / figures["bare"]
        print(
            f"401 {where.replace('_', ' ')}: bare {figures['bare']:,.0f}/s, nightcrew {figures['ours']:,.0f}/s,"
            f" ratio {figures['ratio']:.2f}; the decision and its headers cost {price:.0f} µs a call"
        )
    return found


def _compare(rate: Any, names: tuple[str, str]) -> dict[str, float]:
    first, second = names
    pairs = [(rate(first), rate(second)) for _ in range(ROUNDS)]
    return {
        first: statistics.median(one for one, _ in pairs),
        second: statistics.median(two for _, two in pairs),
        "ratio": statistics.median(two / one for one, two in pairs),
    }


async def _calls(app: Any) -> float:
    async def send(_: Any) -> None: ...

    headers = [(b"host", b"app.example"), (b"user-agent", b"curl/8.5.0"), (b"accept", b"*/*")]
    begun, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < SECONDS / 4:
        for _ in range(200):
            scope = {
                "type": "http", "method": "GET", "path": PATH, "root_path": "", "query_string": b"",
                "headers": [*headers, (b"authorization", b"Bearer wrong-wrong-wrong")], "client": ("203.0.113.9", 1),
            }  # fmt: skip
            await app(scope, None, send)
        count += 200
    return count / spent


def _requests(port: int) -> float:
    """Keep every connection busy with one request at a time for a while, and return answers per second."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong-wrong-wrong\r\n\r\n".encode()
    length = _answer_length(port, request)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        waiting: dict[socket.socket, int] = {}
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.sendall(request)
            waiting[connection] = length
        begun, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < SECONDS:
            for key, _ in selector.select(timeout=5):
                waiting[key.data] -= len(key.data.recv(65_536))
                if waiting[key.data] == 0:
                    count += 1
                    waiting[key.data] = length
                    key.data.sendall(request)
        return count / spent


def _answer_length(port: int, request: bytes) -> int:
    """Ask once, so that the loop need not parse: every answer of one application has the same length."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 401"), answer
    return len(answer)


@contextmanager
def _server(name: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", f"tests.bench.http_401:{name}", "--port", str(port)]
    with subprocess.Popen([*command, "--log-level", "error", "--no-access-log", "--lifespan", "off"]) as process:
        try:
            yield _opened(port, process)
        finally:
            process.terminate()


def _opened(port: int, process: "subprocess.Popen[bytes]") -> int:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return port
    raise RuntimeError("uvicorn did not start within 10 s")


if __name__ == "__main__":
    measure()
