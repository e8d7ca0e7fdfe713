"""The stream of a chat, by whichever backend: what one process writes, others read, stop, find lost and save."""

import asyncio
import os
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count

import pytest

from nightcrew.errors import StreamClosed, StreamRefused, UsageError
from nightcrew.frame import events
from nightcrew.stream import Data, Ended, Gone, Ref, State, Stopped
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.memory import Memory, Vault
from nightcrew.streams.redis import Redis

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"
LEASE = 1.0


@pytest.fixture(params=["memory", "redis"])
def place(request):
    """Return what connects a process to the backend."""
    vault, prefix = Vault(), f"nightcrew-test-{secrets.token_hex(6)}"

    def connect(owner):
        return Memory(owner, vault) if request.param == "memory" else Redis(URL, owner, prefix=prefix)

    return connect


class Process:
    """What a process of an application has."""

    def __init__(self, place, **terms):
        self.saved = []
        self.streams = Streams(place, persist=self.keep, terms=Terms(**{"lease": LEASE} | terms))

    async def keep(self, final):
        self.saved.append(final)


@asynccontextmanager
async def processes(place, number=2, **terms):
    some = [Process(place, **terms) for _ in range(number)]
    try:
        yield [one.streams for one in some], [one.saved for one in some]
    finally:
        for one in some:
            await one.streams.close(drain=0.5)


async def words(number, pause=0.002):
    for each in range(number):
        await asyncio.sleep(pause)
        yield f"word {each}"


async def endless():
    for each in count():
        await asyncio.sleep(0.005)
        yield f"word {each}"


async def read(streams, ref, after=0):
    """Read a stream to its end: the log from there on, and how it ended."""
    log = b""
    async for one in streams.read(ref, after):
        if not isinstance(one, Data):
            return log, one
        log = log + one.data if one.data else b""
    raise AssertionError("it ended without saying how")


async def until(met, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


def run(test):
    asyncio.run(test)


def test_what_one_process_writes_all_read_and_the_application_saves_once(place):
    async def play():
        async with processes(place, 3) as ((a, b, c), saved):
            info = await a.run("chat", "ada", words(100))
            logs = await asyncio.gather(*(read(one, info.ref) for one in (a, a, b, b, c)))
            assert {end.state for _, end in logs} == {State.DONE}
            assert len({log for log, _ in logs}) == 1
            told = list(events(logs[0][0]))
            assert told == [f"word {each}" for each in range(100)]
            await until(lambda: saved[0])
            assert [(one.id, one.chat, one.user, one.state, list(one.events)) for one in saved[0]] == [
                (info.ref.id, "chat", "ada", State.DONE, told)
            ]
            assert saved[1:] == [[], []]
            assert await b.active("chat") is None
            assert await b.live() == []

    run(play())


def test_a_reader_who_comes_back_goes_on_where_they_were(place):
    async def play():
        async with processes(place) as ((a, b), _):
            info = await a.run("chat", "ada", words(40))
            log, _ = await read(b, info.ref)
            ends = [at + 2 for at in range(len(log)) if log[at : at + 2] == b"\n\n"]
            for end in [*ends[::7], len(log)]:
                for one in (a, b):
                    assert await read(one, info.ref, end) == (log[end:], Ended(info.ref, State.DONE, len(log)))
            ahead, _ = await read(b, info.ref, len(log) + 100)
            assert ahead == log, "who is ahead of the log begins anew"

    run(play())


def test_a_stream_stops_wherever_it_is_written_and_what_there_is_is_saved(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            info = await a.run("chat", "ada", endless())
            reading = asyncio.create_task(read(b, info.ref))
            await asyncio.sleep(0.1)
            assert await b.stop("chat", "another", by="eve") is Stopped.NOT_FOUND
            assert await b.stop("chat", info.ref.id, by="ada") is Stopped.STOPPED
            log, end = await reading
            assert end.state is State.STOPPED
            await until(lambda: saved[0])
            (final,) = saved[0]
            assert (final.state, final.stop, final.data) == (State.STOPPED, "ada", log)
            assert await b.stop("chat", info.ref.id, by="ada") is Stopped.ALREADY_FINAL
            assert await b.stop("chat", by="ada") is Stopped.NOT_FOUND

    run(play())


def test_a_source_that_fails_is_told_and_what_there_is_is_saved(place):
    async def broken():
        yield "so far"
        raise ValueError("no such model")

    async def play():
        async with processes(place) as ((a, b), saved):
            info = await a.run("chat", "ada", broken())
            log, end = await read(b, info.ref)
            assert (end.state, list(events(log))) == (State.FAILED, ["so far"])
            await until(lambda: saved[0])
            assert (saved[0][0].state, saved[0][0].error) == (State.FAILED, "ValueError: no such model")

    run(play())


def test_a_chat_has_one_stream_and_a_request_one_however_often_it_is_made(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            first = await a.run("chat", "ada", endless(), request="once")
            again = await asyncio.gather(*(one.run("chat", "ada", endless(), request="once") for one in (a, b, a, b)))
            assert {one.ref for one in again} == {first.ref}
            with pytest.raises(StreamRefused, match=first.ref.id):
                await b.run("chat", "ada", endless())
            assert (await b.run("chat", "ada", endless(), conflict="join")).ref == first.ref
            other = await b.run("chat", "ada", words(3), conflict="replace")
            assert other.ref != first.ref
            assert (await read(a, first.ref))[1].state is State.REPLACED
            assert (await read(a, other.ref))[1].state is State.DONE
            await until(lambda: len(saved[0] + saved[1]) == 2)
            assert Counter(one.state for one in saved[0] + saved[1]) == {State.REPLACED: 1, State.DONE: 1}

    run(play())


def test_many_who_begin_at_once_get_one_stream(place):
    async def play():
        async with processes(place, 4) as (some, _):

            async def begin(one):
                try:
                    return (await one.run("chat", "ada", endless())).ref
                except StreamRefused:
                    return None

            begun = await asyncio.gather(*(begin(one) for one in some * 10))
            assert len([ref for ref in begun if ref is not None]) == 1
            assert len(await some[0].live("ada")) == 1

    run(play())


def test_a_producer_that_is_not_heard_of_is_lost_and_shut_out(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            producer, info = await a.begin("chat", "ada")
            await producer.send("so far")
            reading = asyncio.create_task(read(b, info.ref))
            await asyncio.sleep(0.1)
            for task in a._room.producers._tasks:  # as where its process is frozen
                task.cancel()
            async with asyncio.timeout(LEASE + 1):
                log, end = await reading
            assert (end.state, list(events(log))) == (State.LOST, ["so far"])
            await until(lambda: saved[1])
            assert [(one.state, one.events) for one in saved[1]] == [(State.LOST, ("so far",))]
            assert await b.active("chat") is None
            await asyncio.sleep(0.05)
            with pytest.raises(StreamClosed):
                await producer.send("and more")
            assert (await b.run("chat", "ada", words(1))).ref != info.ref

    run(play())


def test_what_is_erased_is_gone_for_who_writes_and_who_reads(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            info = await a.run("chat", "ada", endless())
            reading = asyncio.create_task(read(b, info.ref))
            await asyncio.sleep(0.1)
            assert await b.erase("chat") == 1
            assert (await reading)[1] == Gone(info.ref)
            await asyncio.sleep(0.1)
            assert saved == [[], []]
            assert (await read(a, info.ref))[1] == Gone(info.ref)
            assert await a.live() == []

    run(play())


def test_what_could_not_be_saved_is_by_whoever_looks_next(place):
    async def play():
        async with processes(place) as ((a, b), saved):

            async def refuses(final):
                raise OSError("the database is away")

            a._persist = refuses
            info = await a.run("chat", "ada", words(3))
            await read(b, info.ref)
            await asyncio.sleep(0.05)
            report = await b.reap()
            assert (report.looked_at, report.saved, report.unsaved) == (1, 1, 0)
            assert [(one.id, one.state) for one in saved[1]] == [(info.ref.id, State.DONE)]
            assert (await b.reap()).looked_at == 0

    run(play())


def test_a_stream_that_would_be_too_long_fails(place):
    async def play():
        async with processes(place, max_bytes=1000) as ((a, b), _):
            info = await a.run("chat", "ada", endless())
            log, end = await read(b, info.ref)
            assert end.state is State.FAILED
            assert len(log) <= 1000
            assert "longer than 1,000 bytes" in (await b.info(info.ref)).error

    run(play())


@pytest.mark.parametrize("chat", ["a/b", "{x}", "é \n", "{", "a:b:c", "%", "x" * 200])
def test_a_chat_may_be_called_anything(place, chat):
    async def play():
        async with processes(place) as ((a, b), _):
            info = await a.run(chat, "{ada}", words(2))
            assert (await read(b, Ref(chat, info.ref.id)))[1].state is State.DONE
            assert [one.ref.chat for one in await b.live("{ada}")] == []

    run(play())


@pytest.mark.parametrize("chat", ["", "x" * 201])
def test_a_chat_has_a_name_that_is_no_book(place, chat):
    async def play():
        async with processes(place, 1) as ((a,), _):
            with pytest.raises(UsageError, match="at most 200 characters"):
                await a.run(chat, "ada", words(1))

    run(play())


def test_a_log_ends_with_an_event_however_long_that_is(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            producer, info = await a.begin("chat", "ada")
            sent = ["x" * size for size in (10, 70_000, 65_000, 200_000, 5, 300_000)] + ["y" * 900] * 40
            ends = []
            reading = asyncio.create_task(read(b, info.ref))
            for text in sent:
                await producer.send(text)
                for _ in range(5):
                    await asyncio.sleep(0.0005)
                    ends.append((await b._ready().backend.read(info.ref, 0, 2_000_000)).data[-2:])
            await a._room.end(producer, State.DONE)
            log, end = await reading
            assert set(ends) <= {b"", b"\n\n"}
            assert (list(events(log)), end.state) == (sent, State.DONE)
            assert [one.data for one in saved[0]] == [log]

    run(play())


def test_hundreds_that_nobody_saved_are_found_by_one_look(place):
    async def play():
        async with processes(place, lease=30.0) as ((a, b), saved):
            producers = [(await a.begin(f"chat {each}", "ada"))[0] for each in range(450)]
            assert len(await b.live("ada")) == len(await b.live()) == 450
            assert await b.live("eve") == []

            async def refuses(final):
                raise OSError("the database is away")

            a._persist = a._room.reaper._persist = refuses
            ended = [a._room.end(producer, State.DONE) for producer in producers]
            await asyncio.gather(*ended, return_exceptions=True)
            report = await b.reap()
            assert (report.looked_at, report.saved) == (450, 450)
            assert {one.id for one in saved[1]} == {producer.id for producer in producers}
            assert (await b.reap()).looked_at == 0

    run(play())


def test_a_lost_stream_that_nobody_wants_saved_is_counted_all_the_same(place):
    async def play():
        one, other = (Streams(place, terms=Terms(lease=0.5)) for _ in range(2))
        await one.begin("chat", "ada")
        for part in (one._room.producers, one._room.hub, one._room.backend):
            await part.close()  # as of one that is killed
        await asyncio.sleep(0.7)
        found, again = await other.reap(), await other.reap()
        await other.close()
        assert (found.lost, found.saved, again.looked_at) == (1, 0, 0)

    run(play())


def test_a_failure_that_no_text_can_say_is_told_all_the_same(place):
    async def broken():
        yield "so far"
        raise ValueError("no file \udcff, whoever \ud800 named it")

    async def play():
        async with processes(place) as ((a, b), saved):
            info = await a.run("chat", "ada", broken())
            assert (await read(b, info.ref))[1].state is State.FAILED
            await until(lambda: saved[0])
            assert saved[0][0].error == "ValueError: no file ?, whoever ? named it"
            for chat, user, request in (("\ud800", "ada", ""), ("chat", "\ud800", ""), ("chat", "ada", "\ud800")):
                with pytest.raises(UsageError, match="half a surrogate pair"):
                    await a.run(chat, user, words(1), request=request)

    run(play())


def test_a_local_reader_is_told_when_another_process_ends_the_stream(place):
    async def play():
        async with processes(place) as ((a, b), saved):
            producer, info = await a.begin("chat", "ada")
            await producer.send("so far")
            reading = asyncio.create_task(read(a, info.ref))
            await asyncio.sleep(0.1)
            a._room.hub._listener.cancel()  # what is told of it is not heard
            assert await b.stop("chat", by="ada", wait=0.05) is Stopped.FORCED
            async with asyncio.timeout(LEASE + 1):
                log, end = await reading
            assert (end.state, list(events(log))) == (State.STOPPED, ["so far"])
            with pytest.raises(StreamClosed):
                await producer.send("and more")
            await until(lambda: saved[1])
            assert saved[0] == []

    run(play())
