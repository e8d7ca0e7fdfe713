"""A sweep goes at its pace, stops while a gauge says so, and says why."""

import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.claims import LEASE
from nightcrew.gauge import Level

DDL = "CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})"


@pytest.fixture
def table(yard):
    """A table of expired rows, of which each costs a sweep some time."""
    yard.run(DDL, "CREATE INDEX notes_created ON notes (created_at)")
    return yard


def fill(yard, rows):
    for first in range(0, rows, 5000):
        number = min(5000, rows - first)
        yard.fill("notes", *({"id": first + n, "created_at": "2020-01-01 00:00:00"} for n in range(number)))


@contextmanager
def hired(url, gauges=(), lease=LEASE, **terms):
    heard = []
    crew = Nightcrew(url, settings=Settings(), gauges=gauges, listeners=[heard.append], lease=lease)
    crew.expire("sweep", "notes", column="created_at", every="1 hour", max_fraction=1, **{"where": "id >= 0", **terms})
    crew.migrate()
    crew.heard = heard
    try:
        yield crew
    finally:
        crew.close()


@contextmanager
def running(crew, **options):
    """Run the job in a thread; the box gets its report."""
    box, stop = [], threading.Event()
    options = {"trigger": "cli", "stop": stop, **options}
    thread = threading.Thread(target=lambda: box.append(crew.run("sweep", **options)))
    thread.start()
    try:
        yield box
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def until(holds, seconds=10.0):
    """Return how many seconds pass until something holds."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, "it never came"
        time.sleep(0.005)
    return time.monotonic() - begun


def kinds(crew):
    return [entry.kind for entry in crew.heard]


def slowed(crew, seconds=0.02):
    """Make each batch of the crew take a while, so that a sweep lasts."""
    take = crew._station.database.take

    def take_slowly(connection, selection, cursor, limit, *most, **how):
        time.sleep(seconds)
        return take(connection, selection, cursor, min(limit, 50), *most, **how)

    crew._station.database.take = take_slowly


def last_batch(crew):
    return len([kind for kind in kinds(crew) if kind == "batch"])


def stops(crew, begin, end, tries=4):
    """See a sweep stop within half a second of an overload's begin, take nothing while it lasts, and go on after it.

    A machine that does other things besides may need another try.
    """
    for _ in range(tries):
        count = last_batch(crew)
        until(lambda: last_batch(crew) > count)  # noqa: B023 - called at once
        begin()
        begun = time.monotonic()
        until(lambda: kinds_of_change(crew)[-1:] == ["stop"])
        reaction = time.monotonic() - begun
        stopped = last_batch(crew)
        time.sleep(0.6)
        assert last_batch(crew) == stopped, "a batch after it had stopped"
        end()
        resumed = until(lambda: last_batch(crew) > stopped)  # noqa: B023 - called at once
        if reaction < 0.5 and resumed < 5:
            return
    pytest.fail(f"stopped after {reaction:.2f} s, went on after {resumed:.2f} s")


def kinds_of_change(crew):
    return [entry.facts["level"] for entry in crew.heard if entry.kind in {"throttled", "eased"}]


def test_a_file_stops_a_sweep_within_half_a_second_and_lets_it_go_on_within_five(table, database_url, tmp_path):
    fill(table, 50_000)
    flag = tmp_path / "nightcrew.stop"
    with hired(database_url, throttle=[f"file:{flag}"], pace="fast") as crew:
        slowed(crew)
        with running(crew) as box:
            stops(crew, flag.touch, flag.unlink)
        (report,) = box
        assert (report.outcome, report.remaining) == ("partial", 50_000 - report.deleted)
        written = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "throttled"]
        told = [entry.facts for entry in crew.heard if entry.kind == "throttled"]
        assert ("stop", "is there") in [(facts["level"], facts["seen"]) for facts in written]
        assert written == told


def test_a_file_that_is_there_from_the_start_lets_no_row_go(table, database_url, tmp_path):
    fill(table, 100)
    flag = tmp_path / "stop"
    flag.touch()
    with hired(database_url, gauges=[f"file:{flag}"]) as crew:
        begun = time.monotonic()
        report = crew.run("sweep", trigger="http", now=True, deadline=timedelta(seconds=0.7))
        assert 0.6 < time.monotonic() - begun < 5
        assert (report.outcome, report.deleted, report.remaining) == ("partial", 0, 100)
        assert f"deadline reached, held back by file:{flag}"[:60] in report.message
        flag.unlink()
        crew.run("sweep", trigger="http")
        assert table.ids("notes") == []


def test_a_request_to_stop_ends_a_wait_at_once(table, database_url, tmp_path):
    fill(table, 100)
    flag = tmp_path / "stop"
    flag.touch()
    with hired(database_url, gauges=[f"file:{flag}"]) as crew:
        stop = threading.Event()
        with running(crew, now=True, stop=stop) as box:
            until(lambda: "throttled" in kinds(crew))
            time.sleep(1.0)  # by now it looks only every second or two
            stop.set()
            assert until(lambda: box) < 0.5
        assert box[0].outcome == "partial"
        assert "asked to stop" in box[0].message


def test_the_lease_is_kept_while_a_gauge_holds_the_sweep(table, database_url, tmp_path):
    fill(table, 100)
    flag = tmp_path / "stop"
    flag.touch()
    heard = []
    with hired(database_url, gauges=[f"file:{flag}"], lease=2.0) as crew:
        with running(crew, now=True) as box:
            until(lambda: "throttled" in kinds(crew))
            time.sleep(3.0)  # longer than the lease
            with hired(database_url) as other:
                answer = other.run("sweep", trigger="http")
                heard.append(answer.outcome)
            flag.unlink()
            until(lambda: box)
        assert heard == ["in_progress_elsewhere"]
        assert (box[0].outcome, box[0].deleted) == ("succeeded", 100)


def test_a_question_in_sql_stops_a_sweep_while_its_answer_is_above_zero(table, database_url):
    table.run("CREATE TABLE incidents (id {number} PRIMARY KEY)")
    fill(table, 50_000)
    question = "sql:SELECT count(*) % 100 FROM incidents WHERE ':a' <> '%s'"
    with hired(database_url, throttle=[question], pace="fast") as crew:
        slowed(crew)
        with running(crew):
            stops(
                crew,
                lambda: table.run("INSERT INTO incidents VALUES (1)"),
                lambda: table.run("DELETE FROM incidents"),
            )


def test_a_writer_of_the_application_has_its_turn_in_a_file_that_a_fast_sweep_is_in(sqlite_yard):
    sqlite_yard.run(DDL)
    fill(sqlite_yard, 20_000)
    with hired(str(sqlite_yard.link.engine.url), pace="fast") as crew:
        slowed(crew, 0.1)
        with running(crew), closing(sqlite3.connect(sqlite_yard.link.engine.url.database, timeout=10)) as application:
            until(lambda: last_batch(crew) > 1)
            for _ in range(10):
                application.execute("UPDATE notes SET created_at = '2999-01-01' WHERE id = 19999")
                application.commit()
                time.sleep(0.05)
            assert last_batch(crew) < 400, "it was over by then"


def test_a_question_that_cannot_be_answered_brakes_and_is_told(table, database_url):
    fill(table, 2000)
    with hired(database_url, gauges=["sql:SELECT nothing FROM nowhere"], pace="gentle") as crew:
        report = crew.run("sweep", trigger="http", now=True)
        assert (report.outcome, report.deleted) == ("succeeded", 2000)
        told = [entry.facts for entry in crew.heard if entry.kind == "throttled" and "nowhere" in entry.facts["gauge"]]
        assert told[0]["level"] == "brake"
        assert "cannot be read" in told[0]["seen"]


@pytest.mark.parametrize(
    ("answer", "level"),
    [(None, None), (False, None), (True, "stop"), ("the sale is on", "stop"), (Level.BRAKE, "brake"), (7, "brake")],
)
def test_a_function_of_the_application_decides(sqlite_yard, answer, level):
    sqlite_yard.run(DDL)
    fill(sqlite_yard, 10)
    url = str(sqlite_yard.link.engine.url)

    def sale():
        return answer

    with hired(url, gauges=[sale]) as crew:
        report = crew.run("sweep", trigger="http", now=True, deadline=timedelta(seconds=0.3))
        assert report.deleted == (0 if level == "stop" else 10)
        told = [entry.facts for entry in crew.heard if entry.kind == "throttled"]
        assert [facts["level"] for facts in told] == [level] * (level is not None)
        if isinstance(answer, str):
            assert answer in report.message


def test_a_function_that_hangs_brakes_and_costs_no_more_than_a_second(sqlite_yard):
    sqlite_yard.run(DDL)
    fill(sqlite_yard, 10)
    release = threading.Event()
    with hired(str(sqlite_yard.link.engine.url), gauges=[lambda: release.wait(30)]) as crew:
        begun = time.monotonic()
        assert crew.run("sweep", trigger="http", now=True).deleted == 10
        assert time.monotonic() - begun < 3
        assert [entry.facts["level"] for entry in crew.heard if entry.kind == "throttled"] == ["brake"]
        release.set()


def test_a_waiting_session_stops_a_sweep_and_its_end_lets_it_go_on(postgresql_yard):
    """A real gauge of a real server: somebody waits for a lock, for longer than a second."""
    yard = postgresql_yard
    yard.run(DDL, "CREATE INDEX notes_created ON notes (created_at)", "CREATE TABLE other (id int)")
    fill(yard, 50_000)
    url = yard.link.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = sa.create_engine(yard.link.engine.url, poolclass=sa.NullPool)
    waiters = []

    def wait():
        holder.execute(sa.text("LOCK TABLE other"))
        waiters.append(threading.Thread(target=wait_for, args=(engine,)))
        waiters[-1].start()
        time.sleep(1.0)  # shorter than that it only brakes

    with hired(url, pace="fast") as crew, engine.connect() as holder:
        slowed(crew)
        with running(crew):
            stops(crew, wait, holder.rollback)
        for waiter in waiters:
            waiter.join()
        told = [entry.facts for entry in crew.heard if entry.kind == "throttled" and entry.facts["level"] == "stop"]
        assert any("waits for a lock" in facts["seen"] for facts in told)


def wait_for(engine):
    with engine.connect() as connection:
        connection.execute(sa.text("LOCK TABLE other"))
        connection.rollback()


def test_a_small_sweep_is_not_held_up_by_its_gauges(table, database_url):
    fill(table, 300)
    with hired(database_url) as crew:
        crew.run("sweep", trigger="http", now=True)
        took = []
        for _ in range(3):
            fill(table, 300)
            begun = time.monotonic()
            assert crew.run("sweep", trigger="http", now=True).deleted == 300
            took.append(time.monotonic() - begun)
        assert min(took) < 0.5
