"""Streams in a Redis whose line is cut or falls silent, or whose server forgets all or goes: no byte is wrong."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
import redis
import uvicorn
from tests.contract.test_streams_http import Client
from tests.proxy import Proxy

from nightcrew.errors import StreamError
from nightcrew.frame import events
from nightcrew.stream import Data, Ended, Gone, State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.redis import Redis
from nightcrew.web.streams import streams as routes

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"
WRITER = """
import asyncio, itertools, sys
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.redis import Redis

async def words():
    for each in itertools.count():
        await asyncio.sleep(0.01)
        yield f"word {each}"

async def main(url, prefix, lease):
    async def keep(final):
        print("saved", final.state, flush=True)
    streams = Streams(lambda owner: Redis(url, owner, prefix=prefix), persist=keep, terms=Terms(lease=float(lease)))
    info = await streams.run("chat", "ada", words())
    print(info.ref.id, flush=True)
    while streams._room.producers.of(info.ref) is not None:
        await asyncio.sleep(0.01)
    print("over", flush=True)
    await streams.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True, scope="module")
def there():
    """Skip, loudly, where there is no Redis."""
    with redis.Redis.from_url(URL, socket_connect_timeout=2) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Redis at {URL}: {error}")


class Server:
    """A Redis of the test's own, which is killed and started again, empty."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = None

    def start(self):
        """Start it, and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with suppress(redis.ConnectionError), redis.Redis.from_url(self.url) as client:
                client.ping()
                return self
            time.sleep(0.02)
        raise AssertionError("it does not start")

    def kill(self):
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def tell(self, *command):
        """Tell it something."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*command)


@pytest.fixture
def server():
    """A Redis of its own."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on this machine")
    server = Server().start()
    yield server
    server.kill()


@asynccontextmanager
async def process(url, prefix, **terms):
    """Yield a process's streams, and what it has saved."""
    saved = []

    async def keep(final):
        saved.append(final)

    streams = Streams(lambda owner: Redis(url, owner, prefix=prefix, linger=5.0), persist=keep,
                      terms=Terms(**{"lease": 15.0} | terms))  # fmt: skip
    try:
        yield streams, saved
    finally:
        await streams.close(drain=0.2)


async def words(number, pause=0.01):
    for each in range(number):
        await asyncio.sleep(pause)
        yield f"word {each}"


class Reader:
    """Reads on and on, as a browser does: where the line breaks, it comes back with its cursor."""

    def __init__(self, streams, ref):
        self.log, self.end, self.anew = b"", None, 0
        self._task = asyncio.create_task(self._read(streams, ref))

    async def _read(self, streams, ref):
        while self.end is None:
            with suppress(StreamError):
                async for one in streams.read(ref, len(self.log)):
                    if not isinstance(one, Data):
                        self.end = one
                    elif one.data:
                        assert one.offset == len(self.log), "bytes were left out, or repeated"
                        self.log += one.data
                    else:
                        self.log, self.anew = b"", self.anew + 1
            await asyncio.sleep(0.05)

    async def done(self, seconds=20):
        """Wait until it was told the end."""
        async with asyncio.timeout(seconds):
            await self._task
        return self


def fresh():
    return f"nightcrew-fault-{secrets.token_hex(6)}"


async def until(met, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_line_that_is_cut_at_any_request_costs_no_byte_and_repeats_none(when, times):
    async def one(number):
        at, prefix = urlsplit(URL), fresh()
        async with Proxy(at.hostname, at.port or 6379) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}{at.path}"
            async with process(url, prefix) as (a, saved), process(URL, prefix) as (b, _):
                proxy.cut(when, number, times)
                info = await a.run("chat", "ada", words(12))
                readers = [Reader(streams, info.ref) for streams in (a, b, b)]
                await until(lambda: saved)
                (first, *more) = saved
                assert first.state is State.DONE
                assert all(one == first for one in more)
                await readers[0].done()
                for reader in readers[1:]:
                    if isinstance((await reader.done()).end, Gone):  # who asks before the stream is kept finds none
                        continue
                    assert (reader.log, reader.anew) == (first.data, 0)
                    assert reader.end == Ended(info.ref, State.DONE, len(first.data))
                assert list(events(first.data)) == [f"word {each}" for each in range(12)]
                assert await b.active("chat") is None

    async def play():
        for start in (1, 13, 25):
            await asyncio.gather(*(one(number) for number in range(start, start + 12)))

    asyncio.run(play())


def test_a_line_that_falls_silent_and_says_nothing_is_left_for_another():
    async def play():
        at, prefix = urlsplit(URL), fresh()
        async with Proxy(at.hostname, at.port or 6379) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}{at.path}"
            async with process(url, prefix) as (a, saved), process(url, prefix) as (b, _):
                info = await a.run("chat", "ada", words(300))
                readers = [Reader(streams, info.ref) for streams in (a, b)]
                await asyncio.sleep(0.5)
                proxy.deafen()
                for reader in readers:
                    assert (await reader.done(30)).end.state is State.DONE
                assert readers[0].log == readers[1].log == saved[0].data

    asyncio.run(play())


@pytest.mark.parametrize("fault", ["pubsub", "normal", "flush", "scripts", "restart"])
def test_whatever_the_server_does_meanwhile_viewers_read_every_byte_once(server, fault):
    async def play():
        prefix = fresh()
        async with process(server.url, prefix) as (a, saved), process(server.url, prefix) as (b, _):
            info = await a.run("chat", "ada", words(200))
            readers = [Reader(streams, info.ref) for streams in (a, b, b, b)]
            for _ in range(5):
                await asyncio.sleep(0.3)
                if fault == "restart":
                    server.kill()
                    await asyncio.sleep(0.1)
                    await asyncio.to_thread(server.start)
                else:
                    commands = {"flush": ("FLUSHALL",), "scripts": ("SCRIPT", "FLUSH")}
                    server.tell(*commands.get(fault, ("CLIENT", "KILL", "TYPE", fault)))
            for reader in readers:
                await reader.done()
                assert (reader.anew, reader.end.state) == (0, State.DONE)
            await until(lambda: saved)
            assert {reader.log for reader in readers} == {saved[0].data}
            assert list(events(saved[0].data)) == [f"word {each}" for each in range(200)]
            assert (await b.info(info.ref)).state is State.DONE

    asyncio.run(play())


def test_while_redis_is_away_the_answer_goes_on_here_and_is_saved(server, monkeypatch):
    monkeypatch.setattr("nightcrew.room._PATIENCE", 1.0)

    async def play():
        prefix = fresh()
        async with process(server.url, prefix) as (a, saved):
            client = Client(routes(a, authorize=lambda scope, chat: "ada"))
            info = await a.run("chat", "ada", words(40))
            reader = Reader(a, info.ref)
            await asyncio.sleep(0.1)
            server.kill()
            status, _, body = await client.ask("GET", "/api/chat/elsewhere/stream")
            assert (status, b"does not answer" in body) == (503, True)
            status, _, body = await client.ask("GET", "/api/chat/chat/stream", enough=lambda body: b"word 39" in body)
            assert (status, body.count(b"data: word")) == (200, 40)
            other = await a.run("another", "ada", words(3))
            assert list(events((await Reader(a, other.ref).done()).log)) == ["word 0", "word 1", "word 2"]
            await reader.done()
            await until(lambda: len(saved) == 2)
            assert list(events(reader.log)) == [f"word {each}" for each in range(40)]
            assert {(final.chat, final.state) for final in saved} == {
                ("chat", State.DONE), ("another", State.DONE),
            }  # fmt: skip
            await asyncio.to_thread(server.start)
            async with process(server.url, prefix) as (b, more):
                for ref in (info.ref, other.ref):
                    async with asyncio.timeout(10):
                        while (found := await b.info(ref)) is None or not found.saved:
                            await asyncio.sleep(0.05)
                    assert found.state is State.DONE
                assert (await Reader(b, info.ref).done()).log == reader.log
                assert (await b.reap()).looked_at == 0
                assert (more, len(saved)) == ([], 2)

    asyncio.run(play())


def test_a_log_that_is_lost_just_before_the_end_is_written_again(server):
    async def play():
        prefix, go = fresh(), asyncio.Event()

        async def parts():
            yield "all of it"
            await go.wait()

        async with process(server.url, prefix) as (a, saved), process(server.url, prefix) as (b, _):
            info = await a.run("chat", "ada", parts())
            await asyncio.sleep(0.1)
            server.tell("DEL", f"{prefix}:{{chat}}:l:{info.ref.id}")
            go.set()
            await until(lambda: saved)
            assert (await Reader(b, info.ref).done()).log == saved[0].data != b""

    asyncio.run(play())


def test_a_thousand_follow_by_four_connections(server):
    async def play():
        prefix = fresh()
        async with process(server.url, prefix) as (a, saved), process(server.url, prefix) as (b, _):
            info = await a.run("chat", "ada", words(100, 0.02))
            readers = [Reader(b, info.ref) for _ in range(1_000)]
            await asyncio.sleep(1)
            lines = len(server.tell("CLIENT", "LIST").splitlines()) - 1
            for reader in readers:
                await reader.done(60)
            assert {reader.log for reader in readers} == {saved[0].data}
            assert lines <= 2 * 4, f"{lines} connections of two processes"
            assert b._room.hub._channels == {}

    asyncio.run(play())


def test_who_reads_a_byte_a_second_slows_nobody_and_costs_no_memory(server):
    async def play():
        prefix, sent = fresh(), 0
        async with process(server.url, prefix) as (a, saved), process(server.url, prefix) as (b, _):
            app = routes(b, authorize=lambda scope, chat: "ada")

            async def counted(scope, receive, send):
                async def count_and_send(message):
                    nonlocal sent
                    sent += len(message.get("body", b""))
                    await send(message)

                await app(scope, receive, count_and_send)

            with socket.socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
                listening.bind(("127.0.0.1", 0))
                web = uvicorn.Server(uvicorn.Config(counted, log_level="error", lifespan="off"))
                serving = asyncio.create_task(web.serve([listening]))
                await until(lambda: web.started)

                async def much():
                    for each in range(200):
                        await asyncio.sleep(0.002)
                        yield f"{each:09}\n" * 1_000

                info = await a.run("chat", "ada", much())
                slow = socket.socket()
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                slow.connect(listening.getsockname())
                reader, writer = await asyncio.open_connection(sock=slow, limit=1)
                writer.write(b"GET /api/chat/chat/stream HTTP/1.1\r\nHost: x\r\n\r\n")
                began = time.monotonic()
                quick = Reader(b, info.ref)
                for _ in range(3):
                    await reader.read(1)
                    await asyncio.sleep(1)
                    for channel in b._room.hub._channels.values():
                        assert len(channel.tail) <= 600_000
                await quick.done()
                assert time.monotonic() - began < 15, "a slow reader slowed the others"
                assert quick.log == saved[0].data
                assert len(quick.log) > 4 * sent, "what nobody took was sent, and is kept by somebody"
                writer.close()
                web.should_exit = True
                await serving

    asyncio.run(play())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_producer_that_is_killed_or_frozen_is_lost_within_its_lease_and_a_second(how, record_property):
    lease = 1.5

    async def play():
        prefix = fresh()
        command = [sys.executable, "-c", WRITER, URL, prefix, str(lease)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                name = (await asyncio.to_thread(child.stdout.readline)).strip()
                async with process(URL, prefix, lease=lease) as (b, saved):
                    info = await b.active("chat")
                    assert info.ref.id == name
                    reader = Reader(b, info.ref)
                    await until(lambda: reader.log)
                    child.send_signal(how)
                    began = time.monotonic()
                    await until(lambda: reader.end and saved)
                    took = time.monotonic() - began
                    record_property(
                        f"figure: streams, from {how.name} to lost and saved", f"{took:.2f} s, lease {lease} s"
                    )
                    assert took < lease + 1
                    assert await b.active("chat") is None
                    assert (saved[0].state, saved[0].data) == (State.LOST, reader.log)
                    if how is signal.SIGSTOP:
                        other = await b.run("chat", "ada", words(50, 0.02))
                        child.send_signal(signal.SIGCONT)
                        assert await asyncio.to_thread(child.stdout.read) == "over\n", "a zombie saved what was not its"
                        assert (await Reader(b, info.ref).done()).log == saved[0].data, "a zombie wrote"
                        assert (await Reader(b, other.ref).done()).end.state is State.DONE
                    assert len([final for final in saved if final.id == name]) == 1
            finally:
                child.kill()

    asyncio.run(play())
