"""A job's own function, on every database: what it keeps of its work, and who goes on with it from there."""

import asyncio
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.books import Distance
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.errors import ClaimLost, DatabaseError, JobPaused, UsageError

LAST = 9  # the items are 1 to this
CURSORS = [0, "ü\0\ud800", 2**70, 0.1, True, [1, [None]], {"b": 1, "a": {"": []}}, "x" * 63_998]


@pytest.fixture
def crew(database_url):
    crew = hired(database_url)
    crew.migrate()
    yield crew
    crew.close()


@pytest.fixture
def small_crew(tmp_path):
    """One on SQLite, for what no database makes a difference to."""
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    yield crew
    crew.close()


def hired(url, **options):
    return Nightcrew(url, settings=Settings(), **options)


def rewrite(crew, **values):
    """Move the job's row instead of the clock."""
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(**values))


def expire(crew):
    rewrite(crew, lease_until=datetime.now(UTC) - timedelta(seconds=1))


def walks(crew, meanwhile=lambda run, item: None, done=None):
    """Register a job that does items one by one, and keeps after each where it is."""
    done = [] if done is None else done

    @crew.job(every="1 hour")
    def walk(run):
        for item in range((run.cursor or 0) + 1, LAST + 1):
            if run.should_stop:
                return
            done.append(item)
            run.count()
            meanwhile(run, item)
            run.checkpoint(item)

    return done


def test_who_takes_over_goes_on_from_the_last_checkpoint_and_counts_nothing_twice(crew, database_url):
    second, reports = hired(database_url), []

    def lose(run, item):
        if item == 4:
            expire(crew)
            reports.append(second.run("walk", trigger="http"))

    done = walks(crew, lose)
    walks(second, done=done)
    lost = crew.run("walk", trigger="http")
    assert [(report.outcome, report.deleted) for report in reports] == [("succeeded", LAST)]
    assert lost.outcome == "already_done"
    assert done == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9], "item 4 was done, and not kept"
    assert [(run.state, run.deleted, run.attempt) for run in crew.runs()] == [("done", LAST, 2)]
    second.close()


def test_a_function_hears_of_the_loss_by_its_checkpoint_which_keeps_nothing(crew, database_url):
    heard = []

    def lose(run, item):
        if item == 2:
            rewrite(crew, fence=job_table.c.fence + 1)
            for _ in range(2):
                with pytest.raises(ClaimLost) as caught:
                    run.checkpoint(item)
                heard.append(str(caught.value))

    walks(crew, lose)
    assert crew.run("walk", trigger="http").outcome == "in_progress_elsewhere"
    assert "another crew holds a newer fence" in heard[1]
    assert crew._station.books.saved(crew.runs()[0].id).cursor == 1


def test_a_pause_is_heard_once_the_checkpoint_is_kept_so_that_nothing_is_done_twice(crew):
    def pause(run, item):
        if item == 3 and run.cursor == 2:
            crew.pause("walk", by="ops", reason="load")
            with pytest.raises(JobPaused, match="paused by ops: load"):
                run.checkpoint(item)

    done = walks(crew, pause)
    report = crew.run("walk", trigger="http")
    assert (report.outcome, report.deleted, crew.runs()[0].state) == ("paused", 3, "partial")
    assert report.message.endswith("having counted 3 (paused by ops: load); it goes on once it is resumed.")
    crew.resume("walk")
    assert [(one.outcome, one.deleted) for one in crew.tick(trigger="ticker")] == [("succeeded", LAST)]
    assert done == list(range(1, LAST + 1))


def test_a_checkpoint_on_the_applications_connection_commits_with_its_work_or_not_at_all(crew, database_url):
    engine = sa.create_engine(Link(database_url, crew.clock).engine.url)
    items, broken = sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer)), [5]
    items.create(engine)

    @crew.job(every="1 hour")
    def copy(run):
        for item in range((run.cursor or 0) + 1, LAST + 1):
            with engine.begin() as connection:
                connection.execute(sa.insert(items).values(id=item))
                run.count()
                run.checkpoint(item, connection=connection)
                run.progress(item, LAST)
                if item in broken:
                    broken.remove(item)
                    raise RuntimeError("on the way to the commit")

    first = crew.run("copy", trigger="http")
    assert (first.outcome, first.deleted) == ("failed", 4)
    assert first.message.endswith("on the way to the commit; 4 counted before")
    second = crew.run("copy", trigger="http")
    assert (second.outcome, second.deleted, second.run) == ("succeeded", LAST, first.run)
    with engine.connect() as connection:
        assert connection.execute(sa.select(items.c.id)).scalars().all() == list(range(1, LAST + 1))
    engine.dispose()


def test_a_rolled_back_checkpoint_of_a_lost_claim_takes_the_work_along(crew, database_url):
    engine = sa.create_engine(Link(database_url, crew.clock).engine.url)
    items = sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer))
    items.create(engine)

    @crew.job(every="1 hour")
    def copy(run):
        rewrite(crew, fence=job_table.c.fence + 1)
        with engine.begin() as connection:
            connection.execute(sa.insert(items).values(id=1))
            run.checkpoint(1, connection=connection)

    assert crew.run("copy", trigger="http").outcome == "in_progress_elsewhere"
    with engine.connect() as connection:
        assert connection.execute(sa.select(items.c.id)).all() == []
    engine.dispose()


def test_every_cursor_comes_back_to_the_letter(crew):
    found = []

    @crew.job(every="1 hour")
    def keep(run):
        found.append(run.cursor)
        if len(found) <= len(CURSORS):
            run.checkpoint(CURSORS[len(found) - 1])
            raise RuntimeError

    for _ in range(len(CURSORS) + 1):
        crew.run("keep", trigger="http")
    assert found == [None, *CURSORS]


def test_a_checkpoint_renews_the_lease(crew):
    until = []

    @crew.job(every="1 hour")
    def keep(run):
        rewrite(crew, lease_until=datetime.now(UTC) + timedelta(seconds=1))
        run.checkpoint("here")
        until.append(crew.status()[0].standing.lease_until)

    assert crew.run("keep", trigger="http").outcome == "nothing_to_do"
    assert until[0] > datetime.now(UTC) + timedelta(seconds=50)


def test_a_call_that_its_deadline_ends_is_partial_and_the_next_of_any_trigger_goes_on_from_the_cursor(crew):
    left = []

    def take_long(run, item):
        left.append(run.remaining)
        while item == 3 and run.remaining:
            time.sleep(0.01)

    done = walks(crew, take_long)
    report = crew.run("walk", trigger="http", deadline=timedelta(seconds=2))
    assert (report.outcome, crew.runs()[0].state, len(done)) == ("partial", "partial", 3)
    assert "having counted 3 (deadline reached); the next call goes on" in report.message
    assert timedelta(seconds=2) > left[0] > left[1] > left[2] >= timedelta(0)
    (rest,) = crew.tick(trigger="ticker")
    assert (rest.outcome, rest.deleted, rest.run, left[-1]) == ("succeeded", LAST, report.run, None)
    assert done == list(range(1, LAST + 1))


def test_a_function_that_ignores_its_deadline_is_let_be_and_told_of(small_crew):
    @small_crew.job(every="1 hour")
    def sleep(run):
        time.sleep(0.2)
        return 1

    report = small_crew.run("sleep", trigger="http", deadline=timedelta(seconds=0.05))
    assert report.outcome == "succeeded"
    assert re.match(r"The function went on for \d\.\d s after it was to stop \(deadline reached\): ", report.note)
    assert small_crew.run("sleep", now=True, deadline=timedelta(seconds=50)).note is None


def test_an_async_function_keeps_its_place_too(small_crew):
    breaks = [5]

    @small_crew.job(every="1 hour")
    async def walk(run):
        for item in range((run.cursor or 0) + 1, LAST + 1):
            await asyncio.sleep(0)
            run.count()
            run.checkpoint(item)
            if item in breaks:
                breaks.remove(item)
                raise RuntimeError

    assert [small_crew.run("walk", trigger="http").deleted for _ in range(2)] == [5, LAST]


def test_what_a_function_returns_is_added_to_what_was_counted_up_to_the_checkpoint_it_began_from(small_crew):
    @small_crew.job(every="1 hour")
    def walk(run):
        if run.cursor is None:
            run.count(4)
            run.checkpoint("half")
            raise RuntimeError
        return 5

    assert [small_crew.run("walk", trigger="http").deleted for _ in range(2)] == [4, 9]


def test_progress_is_noted_with_the_lease_and_waits_for_nobody_who_holds_the_row(database_url):
    crew, told = hired(database_url, lease=0.3), []
    crew.migrate()
    link = crew._station.link

    @crew.job(every="1 hour")
    def walk(run):
        run.progress(250, 1_000)
        for _ in range(100):
            time.sleep(0.05)
            if crew.runs()[0].done:
                break
        told.append((crew.runs()[0].done, crew.runs()[0].total))
        if not link.dialect.one_writer:
            with link.transaction() as connection:
                connection.execute(sa.update(run_table).values(total=2_000))
                begun = time.monotonic()
                crew._station.books.came({run.id: Distance(300)})
                assert time.monotonic() - begun < 1, "one heartbeat renews all leases: it must not wait for one row"
        run.progress(400, 1_000)
        run.checkpoint(None)
        told.append((crew.runs()[0].done, crew.runs()[0].total))

    assert crew.run("walk", trigger="http").outcome == "nothing_to_do"
    assert told == [(250, 1_000), (400, 1_000)]
    crew.close()


WRONG = {
    "a set": (lambda run: run.checkpoint({1}), "cursor of job 'walk' is no JSON (Object of type set"),
    "a fact of no JSON": (
        lambda run: run.enter("seen", at={1}),
        "entry 'seen' of job 'walk' is no JSON (Object",
    ),
    "a fact of no number": (
        lambda run: run.enter("seen", at=float("nan")),
        "entry 'seen' of job 'walk' is no JSON (Out",
    ),
    "no number": (lambda run: run.checkpoint(float("nan")), "cursor of job 'walk' is no JSON (Out of range float"),
    "too much": (lambda run: run.checkpoint("x" * 64_000), "cursor of job 'walk' has 64,002 characters of JSON"),
    "a session": (
        lambda run: run.checkpoint(1, connection="x"),
        "connection of a checkpoint is 'x' (str); give one of",
    ),
    "backwards": (lambda run: run.progress(-1), "done of a progress of job 'walk' is -1; give a number from 0 on"),
    "of words": (lambda run: run.progress(1, "ten"), "total of a progress of job 'walk' is 'ten'; give a number"),
    "half a thing": (lambda run: run.count(0.5), "count of job 'walk' is 0.5; give a whole number: int(…)"),
    "a sum of SQL's": (lambda run: run.count(Decimal(3)), "count of job 'walk' is Decimal('3'); give a whole number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_kept_is_refused_in_a_sentence_and_nothing_is_lost_by_it(small_crew, wrong):
    call, sentence = WRONG[wrong]

    @small_crew.job(every="1 hour")
    def walk(run):
        run.checkpoint("so far")
        with pytest.raises(UsageError) as caught:
            call(run)
        assert str(caught.value).startswith(sentence)
        assert run.cursor == "so far"
        return 1

    assert small_crew.run("walk", trigger="http").outcome == "succeeded"
    assert small_crew._station.books.saved(small_crew.runs()[0].id).cursor == "so far"


def test_a_connection_to_a_database_of_another_kind_is_refused(server_url, tmp_path):
    crew = hired(server_url)
    crew.migrate()
    elsewhere = sa.create_engine(f"sqlite:///{tmp_path}/x.db")

    @crew.job(every="1 hour")
    def walk(run):
        with elsewhere.connect() as connection:
            run.checkpoint(1, connection=connection)

    assert "leads to a database of sqlite, and nightcrew's tables are in" in crew.run("walk", trigger="http").message
    elsewhere.dispose()
    crew.close()


def test_a_key_is_the_same_in_every_attempt(small_crew):
    keys = []

    @small_crew.job("0 0 * * *")
    def mail(run):
        keys.append(run.key("ada@example.com"))
        if len(keys) == 1:
            raise RuntimeError

    slot = small_crew.run("mail", trigger="http").slot
    small_crew.run("mail", trigger="http")
    assert keys == [f"mail.{slot:%Y%m%dT000000Z}/ada@example.com"] * 2


# ── a database that is away ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def elsewhere(tmp_path):
    """A crew over a database that is out of reach."""
    crew = hired(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    yield crew
    crew.close()


@pytest.mark.parametrize("trigger", ["http", "ticker"])
def test_a_function_that_finds_another_database_away_has_failed(small_crew, elsewhere, trigger):
    calls = []

    @small_crew.job(every="1 hour")
    def copies(run):
        calls.append(run.id)
        elsewhere.status()

    if trigger == "http":
        assert small_crew.run("copies", trigger="http").outcome == "failed"
    else:
        small_crew.status()
        rewrite(small_crew, epoch_at=datetime.now(UTC) - timedelta(hours=2))
        for _ in range(3):
            [work() for work in small_crew.hand_out(start=False, stop=threading.Event())]
    (run,) = (row for row in small_crew.runs("copies") if row.state != "missed")
    assert (run.state, len(calls)) == ("failed", 1)
    assert "DatabaseError: database sqlite:" in run.error
    assert "no/such/folder" in run.error


def test_a_function_that_finds_its_own_database_away_is_gone_on_with(tmp_path):
    (tmp_path / "here").mkdir()
    crew = hired(f"sqlite:///{tmp_path}/here/x.db")
    away = []

    @crew.job(every="1 hour")
    def looks(run):
        if not away:
            away.append((tmp_path / "here").rename(tmp_path / "there"))
            crew._station.link.engine.dispose()
            crew.status()
        return 1

    with pytest.raises(DatabaseError, match="cannot be reached"):
        crew.run("looks", trigger="http")
    away[0].rename(tmp_path / "here")
    expire(crew)
    assert crew.run("looks", trigger="http").outcome == "succeeded"
    assert [run.state for run in crew.runs("looks")] == ["done"]
    crew.close()
