"""What a crew does about streams: a job ends and saves the lost, and those of a chat that is deleted are erased."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from click.testing import CliRunner

from nightcrew import Job, Nightcrew, Settings
from nightcrew.cli import nightcrew
from nightcrew.config import read
from nightcrew.console.desk import Desk
from nightcrew.errors import ConfigurationError, UsageError
from nightcrew.outcome import Outcome
from nightcrew.policy import Policy
from nightcrew.schedule import every
from nightcrew.stream import Gone, State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams import way
from nightcrew.tending import JOB

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"
OWED = ({"store": "streams", "table": "chats", "column": "id"},)


@pytest.fixture(params=["memory", "redis"])
def place(request):
    return way("memory://" if request.param == "memory" else URL, prefix=f"nightcrew-test-{secrets.token_hex(6)}")


@pytest.fixture
def application(place):
    """Return an application's streams, in an event loop of its own, and what asks that loop."""
    loop, saved = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    streams = Streams(place, persist=saved.append, terms=Terms(lease=1.0))

    def ask(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    yield streams, ask, saved
    ask(streams.close(drain=0.5))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def slow():
    while True:
        await asyncio.sleep(0.01)
        yield "more"


async def last(streams, ref):
    async for one in streams.read(ref):
        found = one
    return found


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_nobody_writes_any_more_is_ended_and_saved_by_a_job(place, application, database_url, request):
    """Its process is one that the application's knows nothing of, and which is gone without a word."""
    streams, ask, saved = application

    ref = ask(leaves(place, "chat")) if "memory" in request.node.name else asyncio.run(leaves(place, "chat"))
    crew = Nightcrew(database_url, settings=Settings(), streams=streams)
    crew.migrate()
    ask(asyncio.sleep(0.6))
    report = crew.run(JOB, now=True)
    assert (report.outcome, report.message) == (
        Outcome.SUCCEEDED, "Ended 1 stream whose producer was lost, saved 1."
    )  # fmt: skip
    assert [(one.id, one.state, one.events) for one in saved] == [(ref.id, State.LOST, ("so far",))]
    assert crew.run(JOB, now=True).message == "No stream was stale."
    crew.close()


async def leaves(place, *chats):
    """Leave streams whose producer says nothing more, as where its process has died."""
    one = Streams(place, persist=print, terms=Terms(lease=0.5))
    for chat in chats:
        producer, _ = await one.begin(chat, "ada")
        await producer.send("so far")
    await asyncio.sleep(0.1)
    await one._room.close()
    return producer.ref


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_cannot_be_saved_fails_the_job_and_is_saved_by_the_next(place, application, database_url):
    streams, ask, saved = application
    answers = [OSError("the database is away")]

    def save(final):
        if answers:
            raise answers[0]
        saved.append(final)

    streams._persist = save
    info = ask(streams.run("chat", "ada", a_word()))
    assert ask(last(streams, info.ref)).state is State.DONE
    crew = Nightcrew(database_url, settings=Settings(), streams=streams)
    crew.migrate()
    report = crew.run(JOB, now=True)
    assert report.outcome is Outcome.FAILED
    assert "could not save 1: OSError: the database is away" in report.message
    answers.clear()
    assert crew.run(JOB, now=True).outcome is Outcome.SUCCEEDED
    assert [one.events for one in saved] == [("word",)]
    crew.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_password_of_the_streams_is_told_to_nobody(database_url, caplog):
    heard = []

    class Listener:
        def __call__(self, entry):
            heard.append(repr(entry))

    def save(final):
        raise OSError("SET failed at default, hunter2-hunter2, or postgresql://ada:swordfish@db")

    at = URL.replace("://", "://default:hunter2-hunter2@")  # as one without a password, it takes any
    place = way(lambda: at, prefix=f"nightcrew-test-{secrets.token_hex(6)}")
    asyncio.run(leaves(place, "chat"))
    time.sleep(0.6)
    streams = Streams(place, persist=save)
    crew = Nightcrew(database_url, settings=Settings(), streams=streams, listeners=[Listener()])
    crew.migrate()
    report = crew.run(JOB, now=True)
    said = f"{report.message} {crew.streams!r} {streams!r} {place!r} {heard} {caplog.text}"
    assert (report.outcome, "SET failed at default" in said) == (Outcome.FAILED, True)
    assert ("hunter2" in said, "swordfish" in said) == (False, False)
    crew.close()


async def a_word():
    yield "word"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_streams_of_a_chat_that_is_deleted_go_with_it(application, yard, database_url):
    streams, ask, _ = application
    yard.run("CREATE TABLE chats (id VARCHAR(40) PRIMARY KEY, created_at {time} NOT NULL)")
    yard.fill(
        "chats", {"id": "old", "created_at": timedelta(days=9)}, {"id": "new", "created_at": timedelta(days=-9_000)}
    )
    policy = Policy("chats", "created_at", older_than=timedelta(days=1), blobs=OWED)
    crew = Nightcrew(database_url, settings=Settings(), streams=streams, jobs=[Job("chats", every("1 day"), policy)])
    crew.migrate()
    old, new = (ask(streams.run(chat, "ada", slow())).ref for chat in ("old", "new"))
    reading = asyncio.run_coroutine_threadsafe(last(streams, old), streams.loop)
    assert crew.run("chats", now=True).deleted == 1
    assert crew.run("drain-outbox", now=True).outcome is Outcome.SUCCEEDED
    assert reading.result(10) == Gone(old)
    assert [one.ref for one in crew.streams.live("ada")] == [new]
    crew.close()


def test_the_commands_list_and_sweep(tmp_path, monkeypatch):
    prefix = f"nightcrew-test-{secrets.token_hex(6)}"
    (tmp_path / "nightcrew.toml").write_text(
        f'[nightcrew]\ndatabase = "sqlite:///app.db"\n[streams]\nredis = "{URL}"\nprefix = "{prefix}"\n'
        'persist = "chats_of_the_test:save"\nlease = "1 second"\n'
    )
    (tmp_path / "chats_of_the_test.py").write_text(
        'def save(final):\n    with open("saved", "a") as file:\n        file.write(f"{final.chat} {final.state}\\n")\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    asyncio.run(leaves(way(URL, prefix=prefix), "a/b", "c"))
    listed = CliRunner().invoke(nightcrew, ["--json", "streams", "list", "--user", "ada"], obj=Desk())
    assert [one["chat"] for one in json.loads(listed.stdout)["streams"]] == ["a/b", "c"]
    assert "no stream is live" in CliRunner().invoke(nightcrew, ["streams", "list", "--user", "v"], obj=Desk()).stdout
    asyncio.run(asyncio.sleep(0.6))
    swept = CliRunner().invoke(nightcrew, ["streams", "sweep"], obj=Desk())
    assert (swept.exit_code, swept.stdout) == (0, "Ended 2 streams whose producer was lost, saved 2.\n")
    assert sorted((tmp_path / "saved").read_text().splitlines()) == ["a/b lost", "c lost"]


def test_a_crew_without_streams_says_so(tmp_path, monkeypatch):
    (tmp_path / "nightcrew.toml").write_text(
        '[nightcrew]\ndatabase = "sqlite:///app.db"\n'
        '[jobs.old]\ntable = "t"\ncolumn = "at"\nolder_than = "1 day"\nevery = "1 day"\n'
    )
    monkeypatch.chdir(tmp_path)
    told = subprocess.run(
        [sys.executable, "-m", "nightcrew", "streams", "list"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "no streams; say where they are kept in a table [streams]" in told.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[streams]\n", "redis is missing"),
        ('[streams]\nredis = "http://x"\n', "not at 'http'"),
        ('[streams]\nredis = "redis://x"\npersist = "save"\n', "MODULE:NAME"),
        ('[streams]\nredis = "redis://x"\ncodec = "ssf"\n', "did you mean 'sse'"),
        ('[streams]\nredis = "redis://x"\nlease = "0 seconds"\n', "no time at all"),
        ('[streams]\nredis = "redis://x"\nmax_bytes = -1\n', "max_bytes is -1"),
        ('[streams]\nredos = "redis://x"\n', "unknown key 'redos'"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_line(tmp_path, text, said):
    path = tmp_path / "nightcrew.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read(path)


@pytest.mark.parametrize("kind", ["{number}", "VARCHAR(40)"])
def test_a_chat_whose_stream_is_live_stays_whatever_its_row_says(yard, database_url, kind):
    """Also where a live stream's chat has no name that its column could hold."""
    yard.run(f"CREATE TABLE chats (id {kind} PRIMARY KEY, created_at {{time}} NOT NULL)")
    yard.fill("chats", *({"id": chat, "created_at": timedelta(days=9)} for chat in ("7", "8", "9")))
    policy = Policy("chats", "created_at", older_than=timedelta(days=1), unless_active_stream="id")
    loop, streams = asyncio.new_event_loop(), Streams("memory://", terms=Terms(lease=30.0))
    crew = Nightcrew(database_url, settings=Settings(), streams=streams, jobs=[Job("chats", every("1 day"), policy)])
    crew.migrate()
    live = [loop.run_until_complete(streams.begin(chat, "ada"))[1] for chat in ("8", "'; --", "\N{GRINNING FACE}")]
    assert len(live) == 3
    crew.streams._asked = lambda verb: loop.run_until_complete(verb(streams))
    assert sum(step.rows for step in crew.plan("chats").steps) == 2
    assert crew.run("chats", now=True).deleted == 2
    assert [str(found) for found in yard.ids("chats")] == ["8"]
    loop.run_until_complete(streams.close(drain=0))
    loop.close()
    crew.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_where_nobody_can_say_which_streams_are_live_no_chat_goes(yard, database_url):
    yard.run("CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL)")
    yard.fill("chats", {"id": 1, "created_at": timedelta(days=9)})
    policy = Policy("chats", "created_at", older_than=timedelta(days=1), unless_active_stream="id")
    jobs = [Job("chats", every("1 day"), policy)]
    crew = Nightcrew(database_url, settings=Settings(), streams=Streams("redis://127.0.0.1:1"), jobs=jobs)
    crew.migrate()
    report = crew.run("chats", now=True)
    assert report.outcome is Outcome.FAILED
    assert "redis://127.0.0.1:1 does not answer" in report.message
    assert yard.ids("chats") == [1]
    crew.close()


def test_a_policy_that_spares_live_streams_needs_to_know_where_they_are():
    policy = Policy("chats", "created_at", unless_active_stream="id")
    with pytest.raises(ConfigurationError, match="nobody says where streams are kept"):
        Nightcrew("sqlite://", settings=Settings(), jobs=[Job("chats", every("1 day"), policy)])


def test_an_event_loop_that_would_wait_for_itself_is_told_so():
    crew = Nightcrew("sqlite://", settings=Settings(), streams=Streams("memory://"))

    async def ask():
        return crew.streams.live()

    with pytest.raises(UsageError, match="to_thread"):
        asyncio.run(ask())


def test_a_url_that_is_none_is_told_without_its_password():
    with pytest.raises(ConfigurationError, match="port is no number") as told:
        asyncio.run(Streams("redis://:hunter2@x:abc").active("chat"))
    assert "hunter2" not in str(told.value)
