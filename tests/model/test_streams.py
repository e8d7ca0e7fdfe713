"""The streams of chats, played with by processes that are cut, deaf, slow and frozen, and held to what is promised."""

import asyncio
import os
import random
import secrets
import time

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.places import InMemory, InRedis
from tests.model.stage import Stage
from tests.virtual import LoopClock, played

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"
_DAY = 86_400.0
numbers = st.integers(0, 23)
moves = st.lists(st.tuples(st.integers(0, 21), numbers, numbers, numbers), min_size=8, max_size=60)


async def in_memory(loop, seed, plot, harsh):
    place = InMemory(LoopClock(loop, seed))
    clocks = [LoopClock(loop, (seed, name).__repr__(), wrong) for name, wrong in enumerate((0, _DAY, -_DAY))]
    stage = Stage(place.connect, clocks.__getitem__, place, seed, lease=15.0, harsh=harsh)
    await stage.play(plot)


@pytest.mark.parametrize("harsh", [False, True], ids=["gentle", "harsh"])
def test_whatever_is_played_in_memory_everybody_is_told_the_truth(harsh, figure, campaign):
    many = 12_000 if campaign else 300
    count = 0

    @settings(max_examples=many, deadline=None)
    @given(st.integers(0, 1000), moves)
    def play(seed, plot):
        nonlocal count
        count += 1
        played(in_memory, seed, plot, harsh)

    began = time.monotonic()
    play()
    figure(f"streams in memory, {'harsh' if harsh else 'gentle'}", f"{count} plays in {time.monotonic() - began:.0f} s")


async def in_redis(seed, harsh):
    loop = asyncio.get_running_loop()
    place = InRedis(URL, f"nightcrew-model-{secrets.token_hex(6)}")
    clocks = [LoopClock(loop, repr((seed, name)), wrong) for name, wrong in enumerate((0, _DAY, -_DAY))]
    chance = random.Random(seed)
    plot = [(chance.randrange(22), *(chance.randrange(24) for _ in range(3))) for _ in range(chance.randrange(5, 70))]
    try:
        async with asyncio.timeout(240):
            await Stage(place.connect, clocks.__getitem__, place, seed, lease=1.0, harsh=harsh).play(plot)
    except Exception as fault:
        fault.add_note(f"this was seed {seed}")
        raise


@pytest.mark.parametrize("harsh", [False, True], ids=["gentle", "harsh"])
def test_whatever_is_played_in_redis_everybody_is_told_the_truth(harsh, request, figure, campaign):
    with redis.Redis.from_url(URL, socket_connect_timeout=2) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Redis at {URL}: {error}")
    first, many, at_once = request.config.getoption("--seed") or 0, 2_000 if campaign else 24, 12

    async def play():
        turns = asyncio.Semaphore(at_once)

        async def one(seed):
            async with turns:
                await in_redis(seed, harsh)

        async with asyncio.TaskGroup() as group:
            for seed in range(first, first + many):
                group.create_task(one(seed))

    began = time.monotonic()
    asyncio.run(play())
    figure(f"streams in Redis, {'harsh' if harsh else 'gentle'}", f"{many} plays in {time.monotonic() - began:.0f} s")
