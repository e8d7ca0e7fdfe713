"""The kill switch: one command stops every sweep after the batch it is in, and nothing is lost when it ends."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import place

ROWS = 4_000


@pytest.fixture
def crew(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(ROWS)))
    crew = hired(yard)
    yield crew
    crew.close()


def hired(yard, where="id >= 0", pace="gentle", **options):
    url = yard.link.engine.url.render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), **options)
    terms = {"where": where, "pace": pace, "every": "1 hour", "max_fraction": 1}
    crew.expire("sweep", "notes", column="created_at", **terms)
    crew.migrate()
    return crew


@pytest.mark.parametrize("switch", ["all", "one"])
def test_a_sweep_ends_within_a_batch_and_goes_on_where_it_was_when_the_switch_is_released(yard, crew, switch):
    batches = []

    def hear(entry):
        if entry.kind == "batch":
            batches.append(entry)
            if len(batches) == 2:
                stop(crew, switch)

    running = hired(yard, listeners=[hear])
    report = running.run("sweep", trigger="cli", now=True)
    assert (report.outcome, report.outcome.success, len(batches)) == ("paused", False, 2)
    assert "by ops: load" in report.message
    left = len(yard.ids("notes"))
    assert 0 < left == ROWS - report.deleted
    assert running.run("sweep", trigger="http").outcome == "paused"
    assert running.tick(trigger="ticker") == []
    assert len(yard.ids("notes")) == left
    go_on(crew, switch)
    reports = running.tick(trigger="ticker")
    assert [(one.run, one.outcome) for one in reports] == [(report.run, "succeeded")]
    assert (yard.ids("notes"), reports[0].deleted) == ([], ROWS)
    running.close()


SLOWLY = {"postgresql": "pg_sleep(0.0005) IS NOT NULL", "mysql": "SLEEP(0.0005) = 0"}


def test_what_a_run_leaves_is_told_by_the_database_where_counting_it_would_take_long(server_yard):
    server_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")
    server_yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(ROWS)))
    crew = hired(server_yard, where=SLOWLY[server_yard.kind])
    begun = time.monotonic()
    report = crew.run("sweep", trigger="http", now=True, deadline=timedelta(microseconds=1))
    assert time.monotonic() - begun < 1.5  # to count it all takes two seconds
    assert (report.outcome, report.deleted + len(server_yard.ids("notes"))) == ("partial", ROWS)
    assert report.remaining > 0
    assert f"{report.deleted:,} rows so far, about {report.remaining:,} left (deadline reached)" in report.message
    assert report.note == "What is left takes long to count: the database's estimate is told."
    assert (report.json()["remaining"], crew.runs()[0].reason) == (report.remaining, report.message)
    crew.close()


def stop(crew, switch, job="sweep"):
    crew.stop_all(by="ops", reason="load") if switch == "all" else crew.pause(job, by="ops", reason="load")


def go_on(crew, switch, job="sweep"):
    crew.resume_all() if switch == "all" else crew.resume(job)


def a_job_that_asks(crew, then):
    """Register a function that counts on until it is asked to stop; when it has begun for the first time, do that."""
    begun = []

    @crew.job(every="1 hour")
    def ask(run):
        for _ in range(100):
            if run.should_stop:
                return
            run.count()
            if not begun:
                begun.append(run)
                then()
            time.sleep(0.05)


@pytest.mark.parametrize("switch", ["all", "one"])
def test_a_function_that_asks_hears_of_the_switch_in_a_second_and_is_gone_on_with_when_it_is_released(crew, switch):
    a_job_that_asks(crew, then=lambda: stop(crew, switch, "ask"))
    report = crew.run("ask", trigger="cli", now=True)
    assert (report.outcome, crew.runs("ask")[0].state) == ("paused", "partial")
    assert 1 < report.deleted < 50
    assert f"having counted {report.deleted} (" in report.message
    assert report.message.endswith("by ops: load); it goes on once it is resumed.")
    assert crew.tick(trigger="ticker") == []
    go_on(crew, switch, "ask")
    assert [(one.run, one.outcome, one.deleted) for one in crew.tick(trigger="ticker")] == [
        (report.run, "succeeded", 100)
    ]


def test_a_function_that_asks_hears_that_another_crew_has_taken_over(yard, crew):
    def take_over():
        with yard.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(fence=job_table.c.fence + 1))

    a_job_that_asks(crew, then=take_over)
    begun = time.monotonic()
    assert crew.run("ask", trigger="cli", now=True).outcome == "in_progress_elsewhere"
    assert time.monotonic() - begun < 4, "it would count for five seconds"


def test_the_switch_holds_for_jobs_that_are_registered_later_and_for_functions(yard, crew):
    crew.stop_all(by="ops", reason="incident")
    crew.add(crew.job(every="1 minute", name="call")(lambda run: 1) and crew.jobs["call"].but(name="late"))
    for name in ("late", "call", "sweep"):
        report = crew.run(name, trigger="cli", now=True)
        assert (report.outcome, report.message) == ("paused", "Every job is stopped by ops: incident")
    assert len(yard.ids("notes")) == ROWS


def test_a_pause_of_one_job_outlives_the_stop_of_all(crew):
    crew.pause("sweep", by="alice", reason="a migration")
    crew.stop_all(by="ops", reason="incident")
    crew.resume_all()
    assert crew.run("sweep", trigger="cli", now=True).message == "Job sweep is paused by alice: a migration"


def test_the_slots_of_a_stop_end_as_skipped_with_its_reason(yard, crew):
    crew.stop_all(by="ops", reason="incident")
    now = datetime.now(UTC)
    with yard.link.transaction() as connection:
        connection.execute(sa.update(place).values(stopped_at=now - timedelta(hours=5)))
        connection.execute(sa.update(job_table).values(epoch_at=now - timedelta(hours=9)))
    crew.resume_all()
    assert crew.tick(trigger="ticker") == []
    skipped = [row for row in crew.runs("sweep") if row.state == "skipped"]
    assert [row.reason.partition(": ")[2] for row in skipped] == ["paused: incident"]


def test_a_run_that_was_claimed_in_the_moment_of_the_stop_begins_nothing(yard, crew):
    """Between the look at the switch and the claim is a moment: the first batch looks again."""
    (work,) = claimed(yard, crew)
    crew.stop_all(by="ops", reason="incident")
    assert work().outcome == "paused"
    assert len(yard.ids("notes")) == ROWS


def claimed(yard, crew):
    crew.status()
    with yard.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=datetime.now(UTC) - timedelta(hours=9)))
    return crew.due(trigger="ticker")


def test_stopping_waits_for_no_batch_and_works_with_an_emptied_table(yard, crew):
    crew.status()
    with yard.link.transaction() as connection:
        connection.execute(sa.delete(place))
    if not yard.link.dialect.migrates_itself:
        with yard.link.transaction() as connection:
            crew._station.books.hold(connection, "sweep", 0) if held(crew) else None
            begun = time.monotonic()
            thread = threading.Thread(target=lambda: crew.stop_all(by="ops", reason="incident"))
            thread.start()
            thread.join(5)
            assert time.monotonic() - begun < 0.5
    else:
        crew.stop_all(by="ops", reason="incident")
    assert crew.run("sweep", trigger="cli", now=True).outcome == "paused"


def held(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(owner="somebody"))
    return True


def test_a_job_that_is_called_like_a_secret_says_all_the_same_how_far_it_is(crew):
    crew.expire("expire-reset-token", "notes", column="created_at", every="1 hour", max_fraction=1)
    report = crew.run("expire-reset-token", trigger="cli", now=True, deadline=timedelta(milliseconds=1))
    told = f"Job expire-reset-token stopped early: {report.deleted:,} rows so far, {ROWS - report.deleted:,} left"
    assert report.message.startswith(told)


def test_a_call_goes_on_where_the_last_one_stopped_though_that_found_nothing_to_take(yard):
    """Else a run that needs longer than one call to come to the first row would never come to it."""
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    times = ((begun + timedelta(seconds=n)).strftime("%Y-%m-%d %H:%M:%S") for n in range(2 * ROWS))
    yard.fill("notes", *({"id": n, "created_at": at} for n, at in enumerate(times)))
    crew = hired(yard, where=f"id IN (0, {2 * ROWS - 1})")
    outcomes = [crew.run("sweep", trigger="http", deadline=timedelta(0)).outcome for _ in range(40)]
    assert "partial" in outcomes
    assert outcomes[-2:] == ["already_done", "already_done"]
    assert len(yard.ids("notes")) == 2 * ROWS - 2
    crew.close()


def test_a_new_policy_comes_soon_to_its_first_row_though_many_before_it_stay(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    times = ((begun + timedelta(seconds=n)).strftime("%Y-%m-%d %H:%M:%S") for n in range(ROWS))
    yard.fill("notes", *({"id": n, "created_at": at} for n, at in enumerate(times)))
    crew, begins = hired(yard, where=f"id = {ROWS - 1}", pace="fast"), []
    sa.event.listen(crew._station.link.engine, "begin", begins.append)
    assert crew.run("sweep", trigger="http").deleted == 1
    assert len(begins) < 40
    crew.close()
