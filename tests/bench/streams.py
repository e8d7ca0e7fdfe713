"""Streams of chats, beside npm's resumable-stream on the same Redis: written at once, paced, resumed, and by a crowd.

Who writes and who reads are processes of their own, told what to do by the same words on either side; `python -m
tests.bench.streams ROLE SCENARIO ID URL` is ours. What a stream says is a line of 32 bytes with the time in it.
"""

import asyncio
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis

from nightcrew.frame import AI_SDK
from nightcrew.stream import Data, Ref
from nightcrew.streaming import Streams, Terms
from nightcrew.streams import way

ROUNDS = int(os.environ.get("NIGHTCREW_BENCH_ROUNDS", "5"))
FIGURES = """chunks/s: from the first that is written to the last that a follower reads; cpu, redis: µs of the
producer's and the server's processor for a chunk; own, p50, p99: ms until the producer's own reader and others have it;
in: bytes that the server was sent; open: connections to it, one of them ours; first, all: ms until a resumed reader has
the first byte and all of them"""
SCRIPT = Path(__file__).with_name("resumable_stream.mjs")
PEER = "resumable-stream@2.2.13", "redis@5"
_LATE = re.compile(r"data: +([\d.]+)")
Told = dict[str, Any]

BURST = {"streams": 1, "chunks": 20_000, "pause": 0}
MANY = {"streams": 100, "chunks": 500, "pause": 0}
PACED = {"streams": 20, "chunks": 200, "pause": 0.02}
CROWD = {"streams": 1, "chunks": 300, "pause": 0.01}


# ── our side, in a process of its own ────────────────────────────────────────────────────────────────────────────────


def _now() -> float:
    return time.time() * 1000


def _say(told: object) -> None:
    print(json.dumps(told), flush=True)


def _chunk() -> str:
    return f"{_now():24.3f}"


async def _heard() -> None:
    await asyncio.to_thread(sys.stdin.readline)


async def _produce(streams: Streams, name: str, said: Told) -> None:
    made = [(await streams.begin(f"{name}-{each}", "u"))[0] for each in range(said["streams"])]
    late: list[float] = []

    def heard(data: bytes) -> None:
        now = _now()
        late.extend(now - float(each) for each in _LATE.findall(data.decode()) if said["pause"])

    own = [asyncio.create_task(_drain(streams, one.ref, heard)) for one in made]
    _say([one.id for one in made])
    await _heard()
    before, began = resource.getrusage(resource.RUSAGE_SELF), _now()

    async def write(one: Any) -> None:
        clock, pause = asyncio.get_running_loop().time, said["pause"]
        start = clock() + pause * made.index(one) / len(made)  # no two of them in step, nor do they fall into it
        for each in range(said["chunks"]):
            if pause:
                await asyncio.sleep(max(start + each * pause - clock(), 0))
            await one.send(_chunk())
        await streams._room.end(one, "done")

    await asyncio.gather(*map(write, made), *own)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    _say({"began": began, "cpu": used, "own": statistics.median(late or [0.0])})


async def _drain(streams: Streams, ref: Ref, heard: Any) -> None:
    async for one in streams.read(ref):
        if isinstance(one, Data):
            heard(one.data)


async def _follow(streams: Streams, name: str, said: Told, viewers: int) -> None:
    refs = [Ref(f"{name}-{each}", found) for each, found in enumerate(said["ids"])]
    late: list[float] = []
    size = [0]

    def heard(data: bytes) -> None:
        size[0] += len(data)
        if said["pause"]:
            now = _now()
            late.extend(now - float(each) for each in _LATE.findall(data.decode()))

    reading = [asyncio.create_task(_drain(streams, ref, heard)) for ref in refs for _ in range(viewers)]
    await asyncio.sleep(0.3)
    _say("ready")
    await asyncio.gather(*reading)
    late = sorted(late) or [0.0]
    _say({"ended": _now(), "bytes": size[0], "p50": statistics.median(late), "p99": late[int(len(late) * 0.99)]})


async def _hold(streams: Streams, name: str, said: Told) -> None:
    one, _ = await streams.begin(f"{name}-0", "u")
    for _ in range(said["chunks"]):
        await one.send(_chunk())
    await asyncio.sleep(0.3)
    _say([one.id])
    await _heard()
    await streams._room.end(one, "done")
    _say({})


async def _resume(streams: Streams, name: str, said: Told) -> None:
    after = said.get("after", 0)
    await streams.active("warm")  # connected, as the other side is
    began, first, size = _now(), 0.0, 0
    async for one in streams.read(Ref(f"{name}-0", said["ids"][0]), after):
        first = first or _now()
        size += len(one.data)
        if size >= said["chunks"] * 32 - after:
            break
    _say({"first": first - began, "all": _now() - began, "bytes": size})


async def _ours(role: str, said: Told, name: str, url: str) -> None:
    terms = Terms(codec=AI_SDK, window=said.get("window", 0.0))
    streams = Streams(way(url, prefix=name), terms=terms)
    if role in ("follow", "crowd"):
        await _follow(streams, name, said, 100 if role == "crowd" else 1)
    else:
        await {"produce": _produce, "hold": _hold, "resume": _resume}[role](streams, name, said)
    await streams.close(drain=0)


# ── both sides, measured ─────────────────────────────────────────────────────────────────────────────────────────────


class Role:
    """A process that plays a role."""

    def __init__(self, side: list[str], role: str, said: Told, name: str, url: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([*side, role, json.dumps(said), name, url], **pipes)

    def hear(self) -> Any:
        """Return the next thing that it says."""
        return json.loads(self._process.stdout.readline() or '"it has ended"')

    def go(self) -> None:
        """Let it begin."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Wait for its end."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@contextmanager
def _roles(side: list[str], said: Told, url: str, *names: str) -> Iterator[list[Role]]:
    """Start the first, and then the others, which are told what it has begun."""
    name, made = f"nightcrew-bench-{uuid4().hex[:12]}", []
    try:
        made.append(Role(side, names[0], said, name, url))
        ids = made[0].hear()
        made.extend(Role(side, each, said | {"ids": ids}, name, url) for each in names[1:])
        yield made
    finally:
        for each in made:
            each.close()
        with redis.Redis.from_url(url) as client:
            client.flushdb()


def _spent(client: Any) -> tuple[int, float]:
    """Return what the server has been sent so far, in bytes, and the seconds of its processor."""
    told = client.info("cpu")
    return int(client.info("stats")["total_net_input_bytes"]), told["used_cpu_user"] + told["used_cpu_sys"]


def _written(side: list[str], said: Told, url: str, reader: str = "follow") -> Told:
    """Let streams be written and read along, and say how it went."""
    with redis.Redis.from_url(url) as client, _roles(side, said, url, "produce", reader) as (producer, follower):
        follower.hear()
        (sent, busy), open_ = _spent(client), client.info("clients")["connected_clients"]
        producer.go()
        wrote, read = producer.hear(), follower.hear()
        seconds, chunks = (read["ended"] - wrote["began"]) / 1000, said["streams"] * said["chunks"]
        sent_then, busy_then = _spent(client)
        return {
            "chunks/s": chunks / seconds,
            "cpu": 1e6 * wrote["cpu"] / chunks,
            "redis": 1e6 * (busy_then - busy) / chunks,
            "own": wrote["own"],
            "p50": read["p50"],
            "p99": read["p99"],
            "in": sent_then - sent,
            "open": open_,
            "bytes": read["bytes"],
        }


def _resumed(side: list[str], said: Told, url: str) -> Told:
    with _roles(side, said, url, "hold", "resume") as (holder, reader):
        found: Told = reader.hear()
        holder.go()
        holder.hear()
        return found


def _kept(url: str, payload: int) -> str:
    """Say how much memory the server has for the keys there are, for each byte that was written."""
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter())
        used = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
    return f"{used / payload:.2f} bytes for each that was written, in {len(keys)} keys"


def _memory(side: list[str], said: Told, url: str) -> None:
    with _roles(side, said, url, "hold") as (holder,):
        live = _kept(url, said["chunks"] * 32)
        holder.go()
        holder.hear()
        ended = _kept(url, said["chunks"] * 32)
    print(f"what the server keeps of 20,000, ours:\n  live      {live}\n  ended     {ended}", flush=True)


@contextmanager
def _server() -> Iterator[str]:
    """Start a Redis that nobody else asks anything, and keeps nothing; return its URL."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    line = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as server, redis.Redis(port=port) as client:
        try:
            for _ in range(100):
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.05)
                else:
                    break
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@contextmanager
def _peer() -> Iterator[list[str] | None]:
    """Install the other side in a folder of its own; None where there is no Node, or nobody to install it from."""
    if not (shutil.which("node") and shutil.which("npm")):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        line = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *PEER]
        if subprocess.run(line, check=False, capture_output=True).returncode:
            yield None
            return
        shutil.copy(SCRIPT, folder)
        yield ["node", f"{folder}/{SCRIPT.name}"]


def measure() -> None:
    """Play each scenario on either side in turn, and print medians and their ratios."""
    ours = [sys.executable, "-m", "tests.bench.streams"]
    with _server() as url, _peer() as theirs:
        compare = partial(_compare, url)
        sides = {"nightcrew": ours, **({"resumable-stream": theirs} if theirs else {})}
        print(FIGURES)
        if theirs is None:
            print("no Node here, or no npm registry: nightcrew alone")
        tail = BURST | {"after": (BURST["chunks"] - 100) * 32}
        speed, delay = ("chunks/s", "cpu", "redis"), ("own", "p50", "p99", "cpu", "redis")
        compare("burst, one stream of 20,000 and a follower", sides, BURST, speed)
        compare("burst, a hundred of 500 and a follower each", sides, MANY, speed)
        compare("the same, ours with a window of 5 ms", sides, MANY | {"window": 0.005}, speed)
        compare("paced, twenty at 50/s and a follower each", sides, PACED, delay)
        compare("paced, one at 100/s and 100 viewers", sides, CROWD, ("p50", "p99", "in", "open"), "crowd")
        compare("resume of 20,000 that go on", sides, BURST, ("first", "all"), play=_resumed)
        compare("resume of the last hundred of them", sides, tail, ("first", "all"), play=_resumed)
        _memory(ours, BURST, url)


def _compare(
    url: str,
    what: str,
    sides: dict[str, list[str]],
    said: Told,
    figures: tuple[str, ...],
    reader: str = "follow",
    play: Any = None,
) -> None:
    found: dict[str, list[Told]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, line in sides.items():
            found[side].append(play(line, said, url) if play else _written(line, said, url, reader))
    print(f"{what}:")
    for figure in figures:
        medians = {side: statistics.median(one[figure] for one in rounds) for side, rounds in found.items()}
        own, *other = medians.values()
        ratio = f"  ({own / other[0]:.2f} times)" if other and other[0] else ""
        print(f"  {figure:9}", "  ".join(f"{side} {value:,.2f}" for side, value in medians.items()), ratio, flush=True)


if __name__ == "__main__":
    asyncio.run(_ours(sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:5]))
