"""What a Redis that keeps streams is asked, by how many connections, and what its URL may be."""

import asyncio
import os
import secrets

import pytest
import redis
from redis.asyncio.connection import ConnectionPool

from nightcrew.errors import ConfigurationError, StreamError
from nightcrew.frame import events
from nightcrew.stream import Answer, State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.memory import Memory, Vault
from nightcrew.streams.redis import Redis
from nightcrew.streams.wire import Wire
from nightcrew.web.streams import streams as routes

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"


@pytest.fixture
def prefix():
    return f"nightcrew-test-{secrets.token_hex(6)}"


@pytest.fixture
def named():
    """A name by which the server knows the connections of a test, and their URL with it."""
    name = f"test-{secrets.token_hex(6)}"
    return name, f"{URL}?client_name={name}"


def clients(name):
    with redis.Redis.from_url(URL) as client:
        return sum(one["name"] == name for one in client.client_list())


def test_hundreds_who_ask_at_once_share_a_connection_and_each_has_their_own_answer(named):
    async def play():
        name, url = named
        wire = Wire(ConnectionPool.from_url(url, protocol=2).make_connection)
        asked = [asyncio.create_task(wire.ask([("ECHO", each), ("NO-SUCH",), ("ECHO", -each)])) for each in range(500)]
        await asyncio.sleep(0)
        for one in asked[::7]:
            one.cancel()
        heard = await asyncio.gather(*asked, return_exceptions=True)
        open_ = clients(name)
        await wire.close()
        for each, answers in enumerate(heard):
            if each % 7 == 0:
                assert isinstance(answers, asyncio.CancelledError)
            else:
                first, refused, last = answers
                assert (first, last) == (b"%d" % each, b"%d" % -each)
                assert "unknown command" in str(refused)
        return open_

    assert asyncio.run(play()) == 1


def test_what_cannot_be_written_fails_whoever_asks_it_and_nobody_beside_them():
    async def play():
        wire = Wire(ConnectionPool.from_url(URL, protocol=2).make_connection)
        asked = [wire.ask([("ECHO", "\ud800" if each == 3 else each)]) for each in range(8)]
        heard = await asyncio.gather(*asked, return_exceptions=True)
        await wire.close()
        return heard

    heard = asyncio.run(play())
    assert isinstance(heard.pop(3), UnicodeEncodeError)
    assert heard == [[b"%d" % each] for each in range(8) if each != 3]


def test_hundreds_of_answers_that_are_stopped_at_once_end_by_three_connections(named, prefix):
    async def play():
        name, url = named
        saved = []

        async def keep(final):
            saved.append(final.state)

        async def endless():
            while True:
                yield "word"
                await asyncio.sleep(0.02)

        streams = Streams(lambda owner: Redis(url, owner, prefix=prefix), persist=keep)
        for each in range(300):
            await streams.run(f"chat-{each}", "ada", endless())
        await asyncio.gather(*(streams.stop(f"chat-{each}", by="ada") for each in range(300)))
        async with asyncio.timeout(20):
            while len(saved) < 300:
                await asyncio.sleep(0.02)
        open_ = clients(name)
        await streams.close()
        return saved, open_

    saved, open_ = asyncio.run(play())
    assert set(saved) == {State.STOPPED}
    assert open_ <= 3


class Forgetful(Memory):
    """A backend whose word that an answer has ended gets lost, until its producer has been heard of once more."""

    ended = heard = False

    async def finish(self, *arguments):
        """End it, and say nothing."""
        done = await super().finish(*arguments)
        self.ended = True
        if not self.heard:
            raise StreamError("cut after it was done")
        return done

    async def append(self, appends, lease):
        """Note that something came after the end."""
        answers = await super().append(appends, lease)
        self.heard = self.heard or (self.ended and answers[0].answer is Answer.CLOSED)
        return answers


def test_an_answer_that_ended_without_a_word_of_it_is_saved_by_who_wrote_it():
    async def play():
        saved = asyncio.Queue()
        vault = Vault()
        streams = Streams(lambda owner: Forgetful(owner, vault), persist=saved.put, terms=Terms(lease=0.3))

        async def words():
            yield "word"

        await streams.run("chat", "ada", words())
        async with asyncio.timeout(5):
            final = await saved.get()
        await streams.close()
        return final

    final = asyncio.run(play())
    assert final.state is State.DONE
    assert list(events(final.data)) == ["word"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:12/hunter2@localhost:6379/0",
        "redis://hunter2:x/y@localhost/0",
        "redis://localhost/hunter2",
        "redis://localhost:hunter2/0",
        "redis:///0",
        "http://hunter2@localhost",
    ],
)
def test_a_url_that_is_none_is_refused_and_nothing_of_it_shown(url):
    with pytest.raises(ConfigurationError) as refused:
        Redis(url, "me")
    assert "redis://localhost:6379/0" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_option_that_there_is_none_of_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="redis://localhost:6379/0 has an option in its URL"):
        Redis("redis://:hunter2@localhost:6379/0?bogus=1", "me")


def test_what_others_wrote_on_the_list_or_took_from_a_stream_keeps_nobody_from_looking(prefix):
    async def play():
        saved = []
        streams = Streams(lambda owner: Redis(URL, owner, prefix=prefix), persist=saved.append, terms=Terms(lease=0.5))
        whole, harmed = [(await streams.begin(chat, "ada"))[1].ref for chat in ("whole", "harmed")]
        with redis.Redis.from_url(URL) as client:
            client.zadd(f"{prefix}:live", {"garbage": 1, b"\xff/\xff": 2, "a/b/c/d": 3})
            client.hdel(f"{prefix}:{{harmed}}:m:{harmed.id}", "t0")
            for part in (streams._room.producers, streams._room.hub, streams._room.backend):
                await part.close()  # as of one that is killed
            await asyncio.sleep(0.7)
            others = Streams(lambda owner: Redis(URL, owner, prefix=prefix), persist=saved.append)
            found, again = await others.reap(), await others.reap()
            left = client.zrange(f"{prefix}:live", 0, -1)
            await others.close()
        assert [final.id for final in saved] == [whole.id]
        assert (found.lost, found.saved, again.looked_at, left) == (1, 1, 0, [])

    asyncio.run(play())


def test_a_web_socket_is_closed_and_nobody_is_asked():
    async def play():
        sent = []

        async def send(message):
            sent.append(message)

        def authorize(_request, _chat):
            raise AssertionError("nobody is to be asked")

        app = routes(Streams("memory://"), authorize=authorize)
        await app({"type": "websocket", "path": "/api/chat/one/stream"}, None, send)
        return sent

    assert asyncio.run(play()) == [{"type": "websocket.close", "code": 1000}]
