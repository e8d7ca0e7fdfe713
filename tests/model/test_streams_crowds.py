"""Many at once: who all begin the stream of a chat, and thousands whose process has died."""

import asyncio
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter

import pytest
import redis

from nightcrew.stream import State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.redis import Redis

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"
_PROCESSES = 8
_WRITER = """
import asyncio, json, sys
from nightcrew.errors import StreamRefused
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.redis import Redis

async def begun(streams, chat):
    try:
        producer, info = await streams.begin(chat, "ada")
    except StreamRefused:
        return None
    await producer.send("word")
    return info.ref.id

async def main(url, prefix, first, last, lease):
    way = lambda owner: Redis(url, owner, prefix=prefix)
    streams = Streams(way, persist=lambda final: None, terms=Terms(lease=float(lease)))
    await streams.active("nobody")  # connected
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    chats = [f"chat-{each}" for each in range(int(first), int(last))]
    print(json.dumps(await asyncio.gather(*(begun(streams, chat) for chat in chats))), flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def server():
    """The Redis of the tests."""
    with redis.Redis.from_url(URL, socket_connect_timeout=2) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Redis at {URL}: {error}")
        yield client


@pytest.fixture
def writers():
    """Start processes that each begin the streams of some chats when they are told to, and kill them at the end."""
    some = []

    def start(prefix, first, last, lease=15.0):
        arguments = [sys.executable, "-c", _WRITER, URL, prefix, *map(str, (first, last, lease))]
        some.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert some[-1].stdout.readline() == "ready\n"
        return some[-1]

    yield start
    for one in some:
        one.send_signal(signal.SIGKILL)
        one.communicate()


def go(writer):
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_of_all_who_begin_at_once_in_eight_processes_one_does(server, writers, figure, campaign):
    prefix, chats = f"nightcrew-test-{secrets.token_hex(6)}", 1_250 if campaign else 50
    some = [writers(prefix, 0, chats) for _ in range(_PROCESSES)]
    for one in some:
        go(one)
    told = [json.loads(one.stdout.readline()) for one in some]
    winners = [[name for name in names if name] for names in zip(*told, strict=True)]
    assert Counter(map(len, winners)) == {1: chats}
    for chat, (name,) in enumerate(winners):
        assert server.get(f"{prefix}:{{chat-{chat}}}:act").decode() == name
        assert server.zcard(f"{prefix}:{{chat-{chat}}}:all") == 1, "nobody else's was ever kept"
    figure(
        "streams begun at once", f"{_PROCESSES * chats:,} by {_PROCESSES} processes: one for each of {chats:,} chats"
    )


def test_all_that_a_dead_process_left_is_ended_and_saved_by_one_look(server, writers, figure, campaign):
    prefix, each, lease = f"nightcrew-test-{secrets.token_hex(6)}", 1_000 if campaign else 200, 2.0
    for number in range(10 if campaign else 1):
        one = writers(prefix, number * each, (number + 1) * each, lease)
        go(one)
        assert None not in json.loads(one.stdout.readline())
        time.sleep(0.3)  # each has said its word
        one.kill()
    count = each * (10 if campaign else 1)
    time.sleep(lease + 0.2)
    saved = Counter()

    async def keep(final):
        saved[final.chat, final.state] += 1

    async def play():
        streams = Streams(lambda owner: Redis(URL, owner, prefix=prefix), persist=keep, terms=Terms(lease=lease))
        alone = await _pinged(asyncio.sleep(0.5))
        began = time.monotonic()
        found = []
        beside = await _pinged(_noted(streams.reap(), found))
        took = time.monotonic() - began
        again = await streams.reap()
        await streams.close()
        return found[0], again, took, alone, beside

    found, again, took, alone, beside = asyncio.run(play())
    assert (found.looked_at, found.lost, found.saved, found.unsaved) == (count, count, count, 0)
    assert again.looked_at == 0
    assert saved == {(f"chat-{number}", State.LOST): 1 for number in range(count)}
    p99 = [statistics.quantiles(some, n=100)[98] * 1000 for some in (alone, beside)]
    others = f"another process's p99 {p99[0]:.1f} -> {p99[1]:.1f} ms"
    figure("streams of dead processes", f"{count:,} ended and saved in {took:.1f} s; {others}")


async def _noted(work, found):
    found.append(await work)


async def _pinged(work):
    """Ask, as another process does, for as long as some work goes on; return how long each answer took."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ping = await asyncio.create_subprocess_exec(sys.executable, "-c", _PINGER, URL, **pipes)
    await ping.stdout.readline()
    await work
    out, _ = await ping.communicate(b"\n")
    return json.loads(out)


_PINGER = """
import json, sys, threading, time, redis
client = redis.Redis.from_url(sys.argv[1])
client.ping()
print("ready", flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
took = []
while not over.is_set() or len(took) < 2:
    began = time.perf_counter()
    client.get("nobody")
    took.append(time.perf_counter() - began)
    time.sleep(0.002)
print(json.dumps(took))
"""
