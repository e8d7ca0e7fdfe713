"""Streams and the event loop that they live in: what becomes of an answer where that ends, or another one comes."""

import asyncio
import gc
import os
import secrets
import threading
from itertools import product

import pytest

from nightcrew.errors import ConfigurationError, StreamClosed, StreamError, UsageError
from nightcrew.stream import State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.memory import Memory, Vault
from nightcrew.streams.redis import Redis

# Where an event loop ends with streams that are open, so do their connections: by the garbage collector, which says so.
abandoned = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"


@pytest.fixture(params=["memory", "redis"])
def place(request):
    """Return what connects a process to the backend."""
    vault, prefix = Vault(), f"nightcrew-test-{secrets.token_hex(6)}"

    def connect(owner):
        return Memory(owner, vault) if request.param == "memory" else Redis(URL, owner, prefix=prefix)

    return connect


@pytest.fixture
def saved():
    return []


@pytest.fixture
def streams(place, saved):
    """Return streams whose answers go to `saved`."""

    async def keep(final):
        saved.append(final)

    return Streams(place, persist=keep)


async def endless(pause=0.0):
    while True:
        yield "word"
        await asyncio.sleep(pause)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@abandoned
def test_an_application_that_ends_without_closing_its_streams_ends_and_has_the_answer_saved(streams, saved):
    async def play():
        await streams.run("c", "ada", endless())
        await asyncio.sleep(0.1)

    running = threading.Thread(target=lambda: asyncio.run(play()), daemon=True)
    running.start()
    running.join(10)
    gc.collect()
    assert not running.is_alive()
    assert [(one.state, set(one.events)) for one in saved] == [(State.STOPPED, {"word"})]


@abandoned
def test_another_event_loop_is_refused_while_the_first_one_runs_and_takes_over_after_it(streams, saved):
    async def begin(chat):
        return await streams.run(chat, "ada", endless(0.01))

    async def play():
        await begin("c")
        with pytest.raises(UsageError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(begin("d")))

    async def after():
        await begin("e")
        await streams.close()

    asyncio.run(play())
    asyncio.run(after())
    gc.collect()
    assert [(one.chat, one.state) for one in saved] == [("c", State.STOPPED), ("e", State.STOPPED)]


@abandoned
def test_streams_whose_event_loop_is_closed_can_be_closed_in_another(streams):
    async def play():
        await streams.run("c", "ada", endless(0.01))

    asyncio.run(play())
    asyncio.run(streams.close())
    gc.collect()


def test_a_body_that_goes_on_when_all_is_closed_writes_nothing_more_and_leaves_nothing_open(streams, saved):
    async def write():
        async with streams.start("c", "ada") as stream:
            while True:
                await stream.send("word " * 1000)
                await asyncio.sleep(0.001)

    async def play():
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.1)
        await streams.close(drain=0.1)
        async with asyncio.timeout(5):
            with pytest.raises(StreamClosed):
                await writing
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
    assert [(one.state, one.stop) for one in saved] == [(State.STOPPED, "shutdown")]


def test_saving_that_takes_longer_than_closing_opens_nothing_anew(place):
    saved = []

    async def keep(final):
        await asyncio.sleep(0.3)
        saved.append(final.state)

    async def play():
        streams = Streams(place, persist=keep)
        await streams.run("c", "ada", endless(0.01))
        await asyncio.sleep(0.05)
        await streams.close(drain=0.1)
        await until(lambda: saved)
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
    assert saved == [State.STOPPED]


def test_an_answer_that_is_cancelled_by_its_own_hand_has_failed(streams, saved):
    async def given_up():
        yield "word"
        raise asyncio.CancelledError

    async def play():
        await streams.run("c", "ada", given_up())
        await until(lambda: saved)
        await streams.close()

    asyncio.run(play())
    assert [(one.state, one.error) for one in saved] == [(State.FAILED, "CancelledError")]


def test_an_answer_that_cannot_be_saved_is_told_of_at_once(place):
    told = []

    async def refuse(final):
        raise KeyError("messages")

    async def play():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        streams = Streams(place, persist=refuse)
        async with asyncio.timeout(5):
            info = await streams.run("c", "ada", endless(0.01))
            await streams.stop("c", info.ref.id, by="ada")
        await until(lambda: told)
        await streams.close()

    asyncio.run(play())
    assert [(one["message"].split(";")[0], repr(one["exception"])) for one in told] == [
        ("An answer could not be saved", "KeyError('messages')")
    ]


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"chat": 7}, "the chat of a stream is a text, and not of type int"),
        ({"user": 42}, "the user of a stream is a text, and not of type int"),
        ({"user": None}, "the user of a stream is a text, and not of type NoneType"),
        ({"request": b"1"}, "the request of a stream is a text, and not of type bytes"),
        ({"conflict": "joni"}, "conflict is 'joni'; did you mean 'join'?"),
        ({"meta": {"a": {1}}}, "meta of a stream is what JSON can say: Object of type set is not JSON serializable"),
    ],
)
def test_what_cannot_begin_a_stream_is_refused_in_a_sentence(streams, asked, fault):
    async def play():
        with pytest.raises(UsageError) as refused:
            await streams.run(**{"chat": "c", "user": "ada", "parts": endless()} | asked)
        await streams.close()
        return str(refused.value)

    assert asyncio.run(play()) == fault


@pytest.mark.parametrize("parts", [["a"], endless])
def test_what_is_no_async_generator_is_refused(streams, parts):
    async def play():
        with pytest.raises(UsageError, match="is an async generator, and not a"):
            await streams.run("c", "ada", parts)
        assert await streams.active("c") is None
        await streams.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    "terms",
    [{"lease": "15 seconds"}, {"lease": 0}, {"longest": float("inf")}, {"longest": 7 * 86_400 + 1}, {"window": -1},
     {"window": "a"}, {"max_bytes": float("nan")}, {"max_bytes": True}, {"lease": 1e300}, {"codec": None}],
)  # fmt: skip
def test_terms_that_no_backend_can_keep_are_refused(terms):
    with pytest.raises(ConfigurationError, match=next(iter(terms))):
        Terms(**terms)


def test_what_this_process_writes_can_be_found_and_stopped_while_the_backend_is_away(saved):
    class Away(Memory):
        async def start(self, *asked):
            raise StreamError("away")

        resurrect = active = info = request_stop = finish = append = start

    async def keep(final):
        saved.append(final)

    async def play():
        streams = Streams(Away, persist=keep)
        info = await streams.run("c", "ada", endless(0.01), meta={"a": 1})
        found = await streams.active("c")
        assert (found.ref, found.user, found.meta) == (info.ref, "ada", '{"a": 1}')
        assert (await streams.info(info.ref)).ref == info.ref
        with pytest.raises(StreamError):
            await streams.active("d")
        await streams.stop("c", info.ref.id, by="ada")
        async with asyncio.timeout(5):
            await streams.close(drain=2)
        assert [(one.state, one.stop) for one in saved] == [(State.STOPPED, "ada")]

    asyncio.run(play())


def test_an_answer_is_saved_whatever_the_backend_answers_at_its_end(saved, monkeypatch):
    monkeypatch.setattr("nightcrew.room._PATIENCE", 0.2)

    class Odd(Memory):
        async def finish(self, *asked):
            raise TypeError("int() argument must be a string, not 'NoneType'")

    async def keep(final):
        saved.append(final)

    async def words():
        yield "word"

    async def play():
        streams = Streams(Odd, persist=keep)
        await streams.run("c", "ada", words())
        await until(lambda: saved)
        await streams.close(drain=0.1)

    asyncio.run(play())
    assert [(one.state, one.events) for one in saved] == [(State.DONE, ("word",))]


def test_whoever_comes_as_the_only_other_reader_leaves_hears_every_word_at_once(place):
    """As a page that is mounted twice: it asks, gives up within a moment, and asks again."""

    async def waited(streams, ref):
        longest, before = 0.0, asyncio.get_running_loop().time()
        async for _ in streams.read(ref):
            now = asyncio.get_running_loop().time()
            longest, before = max(longest, now - before), now
        return longest

    async def some():
        for _ in range(8):
            yield "word"
            await asyncio.sleep(0.01)

    async def turns(number):
        for _ in range(number):
            await asyncio.sleep(0)

    async def play():
        writes, reads = Streams(place), Streams(place)
        await reads.active("c")
        await asyncio.sleep(0.2)
        for stays, pause in product(range(2, 14), (1, 2)):
            info = await writes.run(f"{stays} {pause}", "ada", some())
            first = asyncio.create_task(waited(reads, info.ref))
            await turns(stays)
            first.cancel()
            await turns(pause)
            assert await waited(reads, info.ref) < 2
        await writes.close()
        await reads.close()

    asyncio.run(play())


def test_a_call_that_is_cancelled_as_it_begins_a_stream_leaves_no_chat_stuck(streams, saved):
    async def word():
        yield "word"

    async def play():
        await streams.active("c")
        for ticks in range(30):
            asking = asyncio.create_task(streams.run(f"{ticks}", "ada", word(), request="1"))
            for _ in range(ticks):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking})
            async with asyncio.timeout(2):
                info = await streams.run(f"{ticks}", "ada", word(), request="1")
                assert [one async for one in streams.read(info.ref)][-1].state is State.DONE
        await streams.close()

    asyncio.run(play())
    assert [(one.chat, one.events) for one in saved] == [(f"{ticks}", ("word",)) for ticks in range(30)]


def test_who_is_cancelled_as_their_answer_begins_leaves_the_chat_free(streams):
    async def play():
        async def begin():
            async with streams.start("chat", "ada"):
                await asyncio.sleep(60)

        await streams.active("chat")  # connected
        for turns in range(12):
            task = asyncio.create_task(begin())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(2):
                while await streams.active("chat") is not None:
                    await asyncio.sleep(0.01)
        await streams.close()

    asyncio.run(play())


def test_a_backend_that_is_away_is_told_of_once(saved):
    class Away(Memory):
        away = False

        async def append(self, appends, lease):
            """Refuse."""
            if self.away:
                raise StreamError("nobody there")
            return await super().append(appends, lease)

    async def play():
        told, vault = [], Vault()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        streams = Streams(lambda owner: Away(owner, vault), persist=saved.append)
        async with streams.start("chat", "ada") as producer:
            for number in (1, 2):
                streams._room.backend.away = True
                await producer.send("word")
                await asyncio.sleep(1)
                assert len(told) == number - 1, "a moment is nothing to speak of"
                await until(lambda number=number: len(told) == number)
                await asyncio.sleep(1)  # it is tried again meanwhile
                streams._room.backend.away = False
                await until(lambda: producer.written == len(producer.text))
        await streams.close()
        return told

    told = asyncio.run(play())
    assert [str(one["exception"]) for one in told] == ["nobody there"] * 2
    assert "Answers cannot be written to" in told[0]["message"]
