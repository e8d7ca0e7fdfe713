"""The claim protocol, on every database: who may run a slot, and what becomes of slots nobody ran."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.books import Bid, Bidder
from nightcrew.claim import Claim
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import entries as entry_table
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.errors import ClaimLost, DatabaseError, NightcrewError, UsageError
from nightcrew.ledger import Audience
from nightcrew.taken import Taken

DAILY = cron("0 0 * * *")


@pytest.fixture
def crew(database_url):
    """A migrated crew with one daily job that counts its calls."""
    crew = Nightcrew(database_url, settings=Settings(), lease=2.0)
    crew.calls = []
    crew.add(Job("daily", DAILY, function=lambda run: crew.calls.append(run) or 1))
    crew.migrate()
    yield crew
    crew.close()


def rewrite(crew, **values):
    """Move the job's row instead of the clock."""
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(**values))


def rewrite_only(crew, job, **values):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).where(job_table.c.name == job).values(**values))


def ago(**parts):
    return datetime.now(UTC) - timedelta(**parts)


def today():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_first_deploy_fires_nothing_that_was_due_before_it(crew):
    assert crew.tick(trigger="ticker") == []
    assert crew.calls == []


def test_a_tick_runs_a_due_slot_once_and_the_next_tick_finds_nothing(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (report,) = crew.tick(trigger="ticker")
    assert (report.outcome, report.slot, report.deleted) == ("succeeded", today(), 1)
    assert crew.tick(trigger="ticker") == []
    assert len(crew.calls) == 1


def test_an_outside_call_runs_the_latest_slot_even_right_after_the_first_deploy_and_its_repeat_is_already_done(crew):
    first, second = crew.run("daily", trigger="http"), crew.run("daily", trigger="http")
    assert (first.outcome, second.outcome) == ("succeeded", "already_done")
    assert first.run == second.run
    assert len(crew.calls) == 1


def test_an_edited_schedule_fires_nothing_by_itself_and_loses_no_slot_of_the_old_one(crew, database_url):
    rewrite(crew, epoch_at=ago(days=3), mark=today() - timedelta(days=1))
    edited = Nightcrew(database_url, settings=Settings())
    edited.add(Job("daily", cron("* * * * *"), function=lambda run: pytest.fail("the deploy fired the job")))
    assert edited.tick(trigger="ticker") == []
    (row,) = edited.runs()
    assert (row.state, row.slot) == ("missed", today())
    assert "the schedule was changed" in row.reason
    edited.close()


def test_another_spelling_of_a_schedule_is_no_change(crew, database_url):
    rewrite(crew, epoch_at=ago(days=3), mark=today() - timedelta(days=1))
    respelt = Nightcrew(database_url, settings=Settings())
    respelt.add(Job("daily", cron("@daily"), function=lambda run: 1))
    assert [report.slot for report in respelt.tick(trigger="ticker")] == [today()]
    respelt.close()


def test_looking_from_an_older_version_changes_no_schedule(crew, database_url):
    before = crew.status()[0].standing
    older = Nightcrew(database_url, settings=Settings())
    older.add(Job("daily", every("1 hour"), function=lambda run: 1))
    older.status()
    older.runs()
    assert crew.status()[0].standing == before
    older.close()


def test_slots_that_passed_with_nobody_there_end_as_one_missed_row_and_only_the_latest_runs(crew):
    rewrite(crew, epoch_at=ago(days=30), mark=today() - timedelta(days=4))
    crew.tick(trigger="ticker")
    missed = next(run for run in crew.runs() if run.state == "missed")
    assert missed.slot == today() - timedelta(days=1)
    assert missed.reason.startswith("3 slots from")
    assert len(crew.calls) == 1


def test_a_slot_whose_holder_lost_its_lease_is_taken_over_with_the_same_run_and_moment(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    crew._station.claims.release(claim)
    assert crew.run("daily", trigger="http").outcome == "in_progress_elsewhere"
    rewrite(crew, lease_until=ago(seconds=1))
    report = crew.run("daily", trigger="http")
    assert (report.outcome, report.run) == ("succeeded", claim.run)
    (call,) = crew.calls
    assert call.moment == claim.moment
    assert crew.runs()[0].attempt == 1, "the first holder never began"


def test_who_was_superseded_can_neither_renew_nor_settle(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    rewrite(crew, lease_until=ago(seconds=1))
    crew.run("daily", trigger="http")
    report = crew._carry_out(claim, budget(crew))
    assert (report.outcome, "ended as done" in report.message) == ("already_done", True)
    assert [run.state for run in crew.runs()] == ["done"]


def test_several_batches_hold_a_claim_at_once_and_who_takes_it_over_waits_for_each_of_them(crew):
    if crew._station.link.dialect.one_writer:
        return  # nobody else writes while a batch does
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    crew._station.claims.release(claim)
    rewrite(crew, lease_until=ago(seconds=1))
    books, ended = crew._station.books, []
    with crew._station.database.transaction() as one, crew._station.database.transaction() as other:
        books.hold(one, "daily", claim.fence)
        books.hold(other, "daily", claim.fence)
        rival = threading.Thread(target=lambda: ended.append((crew.run("daily", trigger="http").outcome, len(ended))))
        rival.start()
        rival.join(0.5)
        one.commit()
        rival.join(0.5)
        ended.append("the last batch")
    rival.join(5)
    assert ended == ["the last batch", ("succeeded", 1)]
    with crew._station.database.transaction() as late, pytest.raises(ClaimLost):
        books.hold(late, "daily", claim.fence)


def budget(crew):
    from nightcrew.clock import Budget

    return Budget.of(crew.clock)


def test_a_run_that_kills_every_holder_is_buried_as_failed(crew, caplog):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    crew._station.claims.release(claim)
    rewrite(crew, lease_until=ago(seconds=1), attempt=LOSSES)  # as after so many processes that died at work
    with caplog.at_level("ERROR", "nightcrew"):
        (report,) = crew.tick(trigger="cli")
    assert (report.outcome, report.outcome.exit_code, report.run) == ("failed", 1, claim.run)
    assert "attempts used up" in report.message
    (run,) = crew.runs()
    assert f"[Daily] run {run.id} failed: attempts used up: 5 processes were lost" in caplog.text
    assert (run.state, run.id) == ("failed", claim.run)
    assert "attempts used up" in run.reason
    assert crew.tick(trigger="ticker") == [], "a buried slot is not run again by itself"
    again = crew.run("daily", trigger="http")
    assert (again.outcome, again.outcome.success) == ("failed", False), "nor by a caller, who hears that it failed"
    assert again.error == again.message
    assert again.details.startswith("attempts used up")
    assert crew.calls == []


def test_a_caller_who_buries_a_run_hears_what_failed(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    crew._station.claims.release(claim)
    rewrite(crew, lease_until=ago(seconds=1), attempt=LOSSES)
    body = crew.run("daily", trigger="http").json()
    assert body["error"] == f"Run {claim.run} failed: {body['details']}."
    assert "attempts used up" in body["details"]


@pytest.mark.parametrize("raised", [ValueError("no such bucket"), NightcrewError("no such bucket")])
def test_a_failure_has_an_error_and_details_every_time_it_is_asked_about(crew, raised):
    def fails():
        raise raised

    crew.add(Job("fails", DAILY, function=fails))
    first, second = (crew.run("fails", trigger="http").json() for _ in range(2))
    assert first["error"] == first["message"]
    assert first["details"] == type(raised).__name__
    assert second["error"] == second["message"]
    assert second["details"]


def test_a_row_that_somebody_deletes_under_a_crew_is_made_anew(crew):
    heard = []
    crew._audience = Audience([heard.append])

    def deleted():
        crew.tick(trigger="ticker")  # so that the crew has registered what it is about to lose
        with crew._station.link.transaction() as connection:
            connection.execute(sa.delete(job_table))
        heard.clear()

    verbs = {
        "status": lambda: [each.job.name for each in crew.status()] == ["daily"],
        "resume": lambda: crew.resume("daily") is None,
        "pause": lambda: crew.pause("daily", by="me", reason="x") is None and crew.status()[0].paused,
        "run": lambda: crew.run("daily", now=True).outcome == "succeeded",
        "tick": lambda: crew.tick(trigger="ticker") == [],
    }
    for name, verb in verbs.items():
        deleted()
        assert verb(), name
        assert [entry.facts for entry in heard if entry.kind == "row_lost"] == [{"jobs": "daily"}], name
    deleted()
    crew.tick(trigger="ticker")
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    assert [report.outcome for report in crew.tick(trigger="ticker")] == ["succeeded"]


def test_a_failed_slot_runs_again_when_somebody_asks_for_it(database_url):
    crew = Nightcrew(database_url, settings=Settings())
    fail = [True]

    @crew.job("0 0 * * *")
    def flaky(run):
        if fail.pop() if fail else False:
            raise RuntimeError("the upstream is away")
        return 3

    crew.migrate()
    first = crew.run("flaky", trigger="http")
    assert (first.outcome, first.deleted) == ("failed", 0)
    assert "the upstream is away" in first.error
    assert "RuntimeError" in crew.runs()[0].error, "the traceback stays in the ledger"
    assert crew.tick(trigger="ticker") == []
    second = crew.run("flaky", trigger="http")
    assert (second.outcome, second.deleted, second.run) == ("succeeded", 3, first.run)
    assert crew.run("flaky", trigger="http").outcome == "already_done"
    crew.close()


def test_a_pause_keeps_every_trigger_out_and_its_slots_end_as_skipped_with_the_reason(crew):
    rewrite(crew, epoch_at=ago(days=30), mark=today() - timedelta(days=3))
    crew.pause("daily", by="alice", reason="migration under way")
    rewrite(crew, paused_at=today() - timedelta(days=2, hours=1))
    assert crew.tick(trigger="ticker") == []
    report = crew.run("daily", trigger="http")
    assert (report.outcome, report.outcome.success) == ("paused", False)
    assert "alice" in report.message
    crew.resume("daily")
    assert crew.tick(trigger="ticker") == [], "the slots of the pause are over"
    (run,) = crew.runs()
    assert (run.state, run.slot) == ("skipped", today())
    assert "migration under way" in run.reason
    assert crew.calls == []


def test_a_pause_that_has_run_out_lets_the_job_go_on_after_the_slots_it_covered(crew):
    rewrite(crew, epoch_at=ago(days=30), mark=today() - timedelta(days=4))
    crew.pause("daily", by="alice", reason="holiday", until=datetime.now(UTC) + timedelta(minutes=1))
    rewrite(crew, paused_at=today() - timedelta(days=2, hours=1), paused_until=today() - timedelta(hours=1))
    crew.tick(trigger="ticker")
    assert [report.slot for report in crew.tick(trigger="ticker")] == [today()]
    assert crew.status()[0].standing.paused_by is None
    assert {(run.state, run.slot) for run in crew.runs()} == {
        ("missed", today() - timedelta(days=3)),  # before the pause began
        ("skipped", today() - timedelta(days=1)),  # and the day before, told by the same row
        ("done", today()),
    }
    assert next(run for run in crew.runs() if run.state == "skipped").reason.startswith("2 slots from")


def test_a_pause_cannot_end_before_it_begins(crew):
    with pytest.raises(UsageError, match="is past"):
        crew.pause("daily", by="alice", reason="lunch", until=ago(hours=1))


def test_resuming_while_a_run_is_open_skips_the_pauses_slots_all_the_same(crew):
    rewrite(crew, epoch_at=ago(days=30), mark=today() - timedelta(days=1))
    manual = crew._station.claims.by_hand(crew.jobs["daily"], "cli", None)
    rewrite(crew, paused_at=ago(days=30), paused_by="alice", paused_reason="r")
    crew.resume("daily")
    assert crew.status()[0].standing.mark == today()
    assert crew._carry_out(manual, budget(crew)).outcome == "succeeded"
    assert crew.tick(trigger="ticker") == []


def test_a_caller_whose_slot_waits_behind_an_open_run_gets_both_run(crew):
    yesterday = today() - timedelta(days=1)
    rewrite(crew, epoch_at=ago(days=30), mark=yesterday - timedelta(days=1))
    left = crew._station.claims.of_slot(crew.jobs["daily"], "http", None, yesterday)
    crew._station.claims.release(left)
    rewrite(crew, lease_until=ago(seconds=1))
    report = crew.run("daily", trigger="http")
    assert (report.outcome, report.slot) == ("succeeded", today())
    assert [run.slot for run in crew.runs()] == [today(), yesterday]
    assert len(crew.calls) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        SystemExit(3),
        asyncio.CancelledError(),
        RuntimeError("\udcff\0 and more"),
        RuntimeError("x" * 100_000),
        2**70,
        -1,
    ],
    ids=["exit", "cancelled", "unstorable", "long", "absurd", "negative"],
)
def test_whatever_a_function_does_its_slot_ends_as_failed_and_is_not_run_again_by_itself(database_url, trouble):
    crew = Nightcrew(database_url, settings=Settings())
    calls = []

    @crew.job("0 0 * * *")
    def odd(run):
        calls.append(run)
        if isinstance(trouble, BaseException):
            raise trouble
        return trouble

    crew.migrate()
    report = crew.run("odd", trigger="http")
    assert (report.outcome, report.outcome.status) == ("failed", 500)
    assert "\n" not in report.message
    (run,) = crew.runs()
    assert (run.state, len(calls)) == ("failed", 1)
    assert crew.tick(trigger="ticker") == []
    crew.close()


def test_a_function_that_stops_when_asked_to_is_gone_on_with(database_url):
    crew = Nightcrew(database_url, settings=Settings())

    @crew.job("0 0 * * *")
    def steps(run):
        for _ in range(10):
            if run.should_stop:
                return
            run.count()

    crew.migrate()
    first = crew.run("steps", trigger="http", deadline=timedelta(microseconds=1))
    assert (first.outcome, crew.runs()[0].state) == ("partial", "partial")
    second = crew.run("steps", trigger="http")
    assert (second.outcome, second.deleted, second.run) == ("succeeded", 10, first.run)
    crew.close()


def test_a_call_that_comes_a_little_early_means_the_coming_slot_and_no_other(crew):
    crew.add(Job("minutely", every("10 minutes"), function=lambda run: 1))
    with pytest.raises(UsageError, match="lies in the future"):
        crew.run("minutely", trigger="http", slot=datetime.now(UTC) + timedelta(seconds=45))


def test_processes_lost_before_work_began_use_up_no_attempt_of_the_jobs_that_waited(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    for _ in range(LOSSES + 1):
        (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
        crew._station.claims.release(claim)
        rewrite(crew, lease_until=ago(seconds=1))
    assert [report.outcome for report in crew.tick(trigger="ticker")] == ["succeeded"]


def test_a_run_by_hand_takes_the_same_lease_and_moves_no_mark(crew):
    before = crew.status()[0].standing
    report = crew.run("daily", trigger="cli", now=True)
    after = crew.status()[0].standing
    assert (report.outcome, report.slot) == ("succeeded", None)
    assert after.mark == before.mark
    assert after.fence == before.fence + 1
    assert crew.run("daily", trigger="http").outcome == "succeeded", "the slot itself is still free"


def test_a_named_slot_is_the_slot_it_falls_into_and_one_in_the_future_is_refused(crew):
    rewrite(crew, epoch_at=ago(days=50))
    asked = today() + timedelta(microseconds=1)
    assert crew.run("daily", trigger="http", slot=asked).slot == today()
    assert crew.run("daily", trigger="http", slot=today() - timedelta(days=40)).outcome == "already_done"
    with pytest.raises(UsageError, match="lies in the future"):
        crew.run("daily", trigger="http", slot=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(UsageError, match="no time zone"):
        crew.run("daily", trigger="http", slot=datetime(2026, 1, 1))  # noqa: DTZ001
    assert len(crew.calls) == 1


def test_all_due_slots_of_a_tick_are_claimed_in_one_statement(crew):
    for number in range(40):
        crew.add(Job(f"job-{number}", DAILY, function=lambda run: 0))
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    updates = []

    def count(connection, cursor, statement, *rest):
        if "nightcrew_jobs" in statement and statement.lstrip().upper().startswith(("UPDATE", "WITH DUE")):
            updates.append(statement)

    sa.event.listen(crew._station.link.engine, "before_cursor_execute", count)
    claims = crew._station.claims.due(crew.jobs.values(), "ticker")
    sa.event.remove(crew._station.link.engine, "before_cursor_execute", count)
    assert len(claims) == 41
    assert len(updates) == 1


def test_a_bid_made_against_an_old_fence_wins_nothing(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    bidder = Bidder("somebody", "ticker", None, 60)
    stale = Bid("daily", today(), "daily.stale", fence=7)
    assert crew._station.books.claim([stale], bidder) == []


def test_a_node_whose_clock_is_wrong_cannot_move_the_mark_into_the_future(crew):
    crew.status()
    far = Bid("daily", datetime.now(UTC) + timedelta(days=400), "daily.far", fence=0)
    assert crew._station.books.claim([far], Bidder("somebody", "ticker", None, 60)) == []
    assert crew.status()[0].standing.mark is None


def test_a_slot_whose_run_stands_in_a_restored_ledger_is_not_run_again(crew):
    assert crew.run("daily", trigger="http").outcome == "succeeded"
    rewrite(crew, mark=None)
    assert crew.run("daily", trigger="http").outcome == "already_done"
    assert len(crew.calls) == 1


def test_a_stopped_tick_hands_its_runs_over_without_using_up_an_attempt(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    stop = threading.Event()
    stop.set()
    (report,) = crew.tick(trigger="ticker", stop=stop)
    assert report.outcome == "partial"
    assert crew.calls == []
    (again,) = crew.tick(trigger="ticker")
    assert (again.outcome, again.run) == ("succeeded", report.run)
    assert crew.runs()[0].attempt == 1


def test_leases_are_renewed_while_a_function_works(crew):
    started, go_on = threading.Event(), threading.Event()

    def slow(run):
        started.set()
        go_on.wait(10)
        return 1

    crew.add(Job("slow", DAILY, function=slow))
    worker = threading.Thread(target=crew.run, args=["slow"], kwargs={"trigger": "http"})
    worker.start()
    started.wait(5)
    first = next(s for s in crew.status() if s.job.name == "slow").standing.lease_until
    threading.Event().wait(1.0)
    second = next(s for s in crew.status() if s.job.name == "slow").standing.lease_until
    go_on.set()
    worker.join()
    assert second > first


def test_history_can_be_pruned_and_no_slot_runs_twice_for_it(crew):
    crew.run("daily", trigger="http")
    with crew._station.link.transaction() as connection:
        connection.execute(sa.delete(entry_table))
        connection.execute(sa.delete(run_table))
    assert crew.run("daily", trigger="http").outcome == "already_done"
    assert len(crew.calls) == 1


def test_an_async_function_is_awaited(database_url):
    crew = Nightcrew(database_url, settings=Settings())

    @crew.job(every="1 hour")
    async def wait_for_it(run):
        run.count(5)

    crew.migrate()
    assert crew.run("wait-for-it", trigger="http").deleted == 5
    crew.close()


def test_a_claim_and_a_refusal_are_told_apart_by_type(crew):
    claim = crew._station.claims.of_slot(crew.jobs["daily"], "http", None) if crew.status() else None
    assert isinstance(claim, Claim)
    assert isinstance(crew._station.claims.of_slot(crew.jobs["daily"], "http", None), Taken)


def test_what_was_claimed_before_a_statement_failed_is_given_back_and_runs_once_the_database_recovers(crew):
    """A full disk, say: what is held and carried out by nobody would be renewed for ever."""
    crew.add(Job("second", DAILY, function=lambda run: 2))
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    stop = threading.Event()
    stop.set()
    handed_over, _ = [work() for work in crew.due(trigger="ticker", stop=stop)]
    assert crew.run("second", trigger="http").outcome == "succeeded"
    rewrite_only(crew, "second", mark=today() - timedelta(days=1))
    with crew._station.link.transaction() as connection:
        connection.execute(sa.delete(run_table).where(run_table.c.job == "second"))
    engine = crew._station.link.engine

    def full(_connection, _cursor, statement, *_):
        if "INSERT INTO nightcrew_runs" in statement:
            raise sa.exc.OperationalError(statement, None, Exception(1021, "disk full"))

    sa.event.listen(engine, "before_cursor_execute", full)
    with pytest.raises(DatabaseError, match="disk full"):
        crew.due(trigger="ticker")
    sa.event.remove(engine, "before_cursor_execute", full)
    assert not crew._station.claims.held
    standing = next(one.standing for one in crew.status() if one.job.name == "daily")
    assert (standing.run, standing.owner) == (handed_over.run, None)
    assert [(one.job, one.outcome) for one in crew.tick(trigger="cli")] == [
        ("daily", "succeeded"),
        ("second", "succeeded"),
    ]


def test_a_claim_whose_heartbeat_cannot_start_is_given_back(crew, monkeypatch):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            crew.run("daily", trigger="http")
    assert crew.status()[0].standing.owner is None
    assert crew.run("daily", trigger="http").outcome == "succeeded"
    assert any(thread.name == "nightcrew-heartbeat" for thread in threading.enumerate())


def test_a_closed_crew_renews_nothing_and_keeps_no_connection(crew):
    """Not even one that was in use as it closed, or what a thread opens that has not heard of it."""
    crew.close()
    link, opened = crew._station.link, set()
    sa.event.listen(link.engine, "connect", lambda connection, record: opened.add(id(connection)))
    sa.event.listen(link.engine, "close", lambda connection, record: opened.discard(id(connection)))
    claim = crew._station.claims.of_slot(crew.jobs["daily"], "http", None) if crew.status() else None
    heartbeat = crew._station.claims.heartbeat._beating
    with link.transaction():
        crew.close()
        assert len(opened) == 1
    assert opened == set()
    with link.transaction():
        assert len(opened) == 1
    assert opened == set()
    assert not heartbeat.is_alive()
    assert crew._station.books.run(claim.run).state == "running"
    assert isinstance(crew._station.claims.of_slot(crew.jobs["daily"], "http", None), Taken)


def test_a_tick_runs_everything_it_claimed_even_where_one_run_breaks_off_or_no_thread_can_start(crew, monkeypatch):
    for number in range(6):
        crew.add(Job(f"more-{number}", DAILY, function=lambda run: crew.calls.append(run) or 1))
    crew.add(Job("a-breaks-off", DAILY, function=interrupted))
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    start = threading.Thread.start
    refused = lambda thread: no_thread() if thread.name == "nightcrew-run" else start(thread)  # noqa: E731
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(KeyboardInterrupt):
        crew.tick(trigger="cli")
    assert len(crew.calls) == 7
    assert not crew._station.claims.held


def no_thread(*_):
    raise RuntimeError("can't start new thread")


def interrupted(run):
    raise KeyboardInterrupt


def test_a_reason_that_no_database_stores_pauses_all_the_same(crew):
    crew.pause("daily", by="ali\0ce", reason="\udcff was typed \0 here")
    standing = crew.status()[0].standing
    assert (standing.paused_by, standing.paused_reason) == ("ali␀ce", "? was typed ␀ here")


def test_the_longest_schedule_there_is_fits_its_column(crew, database_url):
    minutes = ",".join(str(minute) for minute in range(60))
    hours, days = "0-5,6,7,8,9,10,11,12", ",".join(str(day) for day in range(1, 24))
    longest = f"{minutes} {hours} {days} * *"
    assert len(longest) == 254
    crew.add(Job("longest", cron(longest), function=lambda run: 1))
    assert crew.run("daily", trigger="http").outcome == "succeeded"


def test_a_job_whose_row_somebody_holds_for_long_keeps_no_other_from_being_claimed(server_url):
    crew = Nightcrew(server_url, settings=Settings())
    for name in ("held", "other"):
        crew.add(Job(name, DAILY, function=lambda run: 1))
    crew.migrate()
    crew.status()
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    claim = crew._station.claims.by_hand(crew.jobs["held"], "cli", None)
    with crew._station.link.transaction() as connection:  # as its function's own transaction with a checkpoint in it
        held = sa.select(job_table).where(job_table.c.name == "held").with_for_update()
        connection.execute(held).all()
        assert [report.job for report in crew.tick(trigger="cli")] == ["other"]
    crew._station.claims.release(claim)
    crew.close()


def lost(crew, *, begun):
    """Let somebody claim what is due, begin with it perhaps, and die."""
    (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
    if begun:
        crew._station.books.begin("daily", claim.fence, claim.run, 60.0)
    crew._station.claims.release(claim)
    rewrite(crew, lease_until=ago(seconds=1))


@pytest.mark.parametrize("begun", [True, False])
def test_a_hand_over_takes_back_no_attempt_that_a_lost_process_had_cost(crew, begun):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    for _ in range(LOSSES - 1):
        lost(crew, begun=True)
    for _ in range(3):  # with its time over before it has begun, or right after
        (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
        if begun:
            crew._station.books.begin("daily", claim.fence, claim.run, 60.0)
        crew._station.claims._give_back(claim)
        assert crew.status()[0].standing.losses == LOSSES - 1
    lost(crew, begun=True)
    (report,) = crew.tick(trigger="ticker")
    assert (report.outcome, f"{LOSSES} processes were lost" in report.message) == ("failed", True)
    assert (crew.calls, crew.runs()[0].attempt) == ([], LOSSES)


def test_no_attempt_is_spent_for_who_was_lost_before_it_began(crew):
    rewrite(crew, epoch_at=today() - timedelta(minutes=1))
    lost(crew, begun=True)
    for _ in range(LOSSES + 1):
        lost(crew, begun=False)
    assert crew.status()[0].standing.losses == 1
    (report,) = crew.tick(trigger="ticker")
    assert (report.outcome, crew.runs()[0].attempt) == ("succeeded", 2)
