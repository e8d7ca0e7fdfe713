"""The thread inside the application: on where it should be, off where it should not, and gone when told to."""

import asyncio
import logging
import os
import threading
import time
import warnings

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.databases.tables import jobs as job_table
from nightcrew.web.asgi import asgi


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/app.db"


def eventually(holds, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_it_runs_on_start_what_says_so_and_leaves_the_rest_to_its_slot(url, caplog):
    ran = []
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("at-once", every("1 day"), function=lambda run: ran.append("at-once"), on_start=True))
    crew.add(Job("at-night", every("1 day"), function=lambda run: ran.append("at-night")))
    with caplog.at_level(logging.INFO, "nightcrew"):
        crew.start()
        assert eventually(lambda: ran == ["at-once"])
        crew.stop()
    assert ran == ["at-once"]
    said = lines(caplog)
    assert any(line.startswith("[nightcrew] in-process scheduler on: 2 jobs") for line in said)
    assert any(line.startswith("[At once] initialised: every day") for line in said)
    crew.close()


def test_two_processes_that_start_together_run_an_on_start_job_once(url):
    ran = []
    crews = [Nightcrew(url, settings=Settings()) for _ in range(2)]
    for crew in crews:
        crew.add(Job("at-once", every("1 day"), function=lambda run: ran.append(run.id), on_start=True))
        crew.start()
    time.sleep(1.5)
    for crew in crews:
        crew.close()
    assert len(ran) == 1


def test_in_the_test_environment_it_stays_off_and_says_so_in_one_line(url, caplog):
    crew = Nightcrew(url, settings=Settings(environment="test"))
    crew.add(Job("at-once", every("1 day"), function=lambda run: pytest.fail("it ran"), on_start=True))
    before = threading.active_count()
    with caplog.at_level(logging.INFO, "nightcrew"):
        crew.start()
    assert threading.active_count() == before
    assert lines(caplog) == ["[nightcrew] in-process scheduler off: NIGHTCREW_ENV is test"]
    crew.close()


def test_ticker_and_http_calls_at_the_same_time_never_double_a_slot(url):
    ran = []
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("each-second", every("1 second"), function=lambda run: ran.append(run.slot)))
    crew.start()
    until = time.monotonic() + 3.2
    while time.monotonic() < until:
        crew.run("each-second", trigger="http")
        time.sleep(0.01)
    crew.close()
    assert len(ran) == len(set(ran))
    assert 3 <= len(ran) <= 5


def test_stopping_lets_a_batch_end_and_hands_the_run_over_to_the_next_process(url):
    crew = Nightcrew(url, settings=Settings(), lease=30)
    crew.expire("sweep", "tokens", column="revoked_at", every="1 day", on_start=True, max_fraction=1)
    with crew._station.link.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE tokens (id INTEGER PRIMARY KEY, revoked_at TEXT)"))
        connection.execute(sa.text("CREATE INDEX i ON tokens (revoked_at)"))
        rows = [{"at": f"2025-01-01 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}"} for n in range(20_000)]
        connection.execute(sa.text("INSERT INTO tokens (revoked_at) VALUES (:at)"), rows)
    first_batch = threading.Event()
    slow = Nightcrew(url, settings=Settings(), lease=30, listeners=[lambda entry: stall(entry, first_batch)])
    slow.add(crew.jobs["sweep"])
    slow.start()
    assert first_batch.wait(10)
    begun = time.monotonic()
    slow.stop()
    assert time.monotonic() - begun < 5, "shutdown waits for one batch, not for the sweep"
    (run,) = slow.runs()
    assert run.state == "partial"
    assert 0 < run.deleted < 20_000
    slow.close()

    (report,) = crew.tick(trigger="ticker")
    assert (report.run, report.outcome, report.deleted) == (run.id, "succeeded", 20_000)
    assert crew.runs()[0].attempt == 1, "a hand-over is no crash"
    crew.close()


def stall(entry, first_batch):
    if entry.kind == "batch":
        first_batch.set()
        time.sleep(0.3)


def test_it_outlives_a_database_that_is_away_and_says_so_once(tmp_path, caplog):
    folder = tmp_path / "not-there-yet"
    ran = []
    crew = Nightcrew(f"sqlite:///{folder}/app.db", settings=Settings())
    crew.add(Job("at-once", every("1 day"), function=lambda run: ran.append(1), on_start=True))
    with caplog.at_level(logging.INFO, "nightcrew"):
        crew.start()
        assert eventually(lambda: any("nothing can be claimed" in line for line in lines(caplog)))
        folder.mkdir()
        assert eventually(lambda: ran == [1], 10)
        assert eventually(lambda: any("claims work again" in line for line in lines(caplog)))
        crew.close()
    assert sum("nothing can be claimed" in line for line in lines(caplog)) == 1


def test_a_served_application_starts_and_stops_the_thread_with_its_lifespan(url):
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("at-once", every("1 day"), function=lambda run: 1))
    app = asgi(crew, on_start=crew.start, on_stop=crew.stop)

    def ticking():
        return [thread for thread in threading.enumerate() if thread.name == "nightcrew-ticker"]

    async def live():
        inbox, outbox = asyncio.Queue(), []
        server = asyncio.create_task(app({"type": "lifespan"}, inbox.get, sent(outbox)))
        await inbox.put({"type": "lifespan.startup"})
        while not outbox:
            await asyncio.sleep(0.01)
        alive = len(ticking())
        await inbox.put({"type": "lifespan.shutdown"})
        await server
        return alive, [message["type"] for message in outbox]

    alive, told = asyncio.run(live())
    assert (alive, told) == (1, ["lifespan.startup.complete", "lifespan.shutdown.complete"])
    assert ticking() == []
    crew.close()


def sent(outbox):
    async def send(message):
        outbox.append(message)

    return send


def test_a_thousand_idle_looks_cost_one_small_statement_each(url):
    crew = Nightcrew(url, settings=Settings())
    for number in range(50):
        crew.add(Job(f"job-{number}", every("1 day"), function=lambda run: 1))
    crew.tick(trigger="ticker")
    statements = []
    sa.event.listen(
        crew._station.link.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    crew.tick(trigger="ticker")
    crew.close()
    assert len([one for one in statements if job_table.name in one]) == 1


def test_a_long_run_does_not_hold_up_the_other_jobs(url):
    started, go_on, ran = threading.Event(), threading.Event(), []

    def long(run):
        started.set()
        go_on.wait(20)

    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("long", every("1 day"), function=long, on_start=True))
    crew.add(Job("each-second", every("1 second"), function=lambda run: ran.append(run.slot)))
    crew.start()
    assert started.wait(5)
    assert eventually(lambda: len(ran) >= 3, 8)
    go_on.set()
    crew.close()


def test_stopping_right_after_starting_takes_no_time(url):
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("daily", every("1 day"), function=lambda run: 1))
    begun = time.monotonic()
    for _ in range(5):
        crew.start()
        crew.stop()
    assert time.monotonic() - begun < 10, "a stop must not wait for a thread that waits for it"
    crew.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_child_of_a_fork_has_leases_and_connections_of_its_own(database_url):
    crew = Nightcrew(database_url, settings=Settings(), lease=1.0)
    crew.add(Job("daily", every("1 day"), function=lambda run: 1))
    crew.add(Job("slow", every("1 day"), function=lambda run: time.sleep(2) or 1))
    crew.migrate()
    crew.run("daily", trigger="http")
    owner = crew._station.claims._owner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what a preloading server does
        child = os.fork()
    if child == 0:
        done = crew.run("slow", trigger="http")
        os._exit(0 if crew._station.claims._owner != owner and done.outcome == "succeeded" else 1)
    time.sleep(1.5)
    assert crew.run("slow", trigger="http").outcome == "in_progress_elsewhere", "the child's heartbeat keeps its lease"
    assert os.waitpid(child, 0)[1] == 0
    assert crew.run("slow", trigger="http").outcome == "already_done"
    crew.close()


def test_threads_that_cannot_be_started_stop_no_job_for_good(url, monkeypatch):
    start, failures, ran = threading.Thread.start, [1, 1, 1], []

    def starts(thread):
        if thread.name == "nightcrew-run" and failures:
            failures.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("each-second", every("1 second"), function=lambda run: ran.append(run.slot)))
    crew.start()
    assert eventually(lambda: len(ran) >= 5, 12)
    assert not failures
    crew.close()
    assert all(one.standing.owner is None for one in crew.status())


def test_stopping_hands_over_what_waits_for_a_hand_even_where_no_hand_comes_free(url, monkeypatch):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def long(run):
        begun.release()
        go_on.wait(20)

    crew = Nightcrew(url, settings=Settings())
    for number in range(6):
        crew.add(Job(f"long-{number}", every("1 day"), function=long, on_start=True))
    crew.start()
    for _ in range(4):
        assert begun.acquire(timeout=5)
    monkeypatch.setattr("nightcrew.triggers.ticker._PATIENCE", 0.5)
    crew.stop()
    found = crew.status()
    assert sorted(one.last.state for one in found) == ["partial"] * 2 + ["running"] * 4
    assert sum(one.standing.owner is None for one in found) == 2
    go_on.set()
    assert eventually(lambda: all(one.standing.owner is None for one in crew.status()))
    crew.close()


def test_a_job_that_raises_what_is_no_exception_fails_and_takes_no_hand_along(url):
    class Timeout(BaseException):
        """As gevent's."""

    def late(run):
        raise Timeout("3 seconds")

    ran = []
    crew = Nightcrew(url, settings=Settings())
    crew.add(Job("late", every("1 second"), function=late))
    crew.add(Job("each-second", every("1 second"), function=lambda run: ran.append(run.slot)))
    crew.start()
    assert eventually(lambda: len(ran) >= 3, 10)
    crew.close()
    late_runs = [run for run in crew.runs("late") if run.state != "missed"]
    assert {run.state for run in late_runs} == {"failed"}
    assert "Timeout: 3 seconds" in late_runs[0].reason
