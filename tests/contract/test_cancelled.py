"""A run that is cancelled ends for good, wherever it is, and no other run does."""

import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.cli import nightcrew
from nightcrew.clock import Budget
from nightcrew.console.desk import Desk
from nightcrew.console.line import run
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import UsageError

ROWS = 4_000


def today():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def crew(yard):
    crew = hired(yard)
    crew.migrate()
    crew.status()
    yield crew
    crew.close()


def hired(yard, function=lambda run: 1, **options):
    """A crew with one daily job, which is a function."""
    url = yard.link.engine.url.render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), **options)
    crew.add(Job("daily", cron("0 0 * * *"), function=function))
    return crew


def rewrite(crew, **values):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).where(job_table.c.name == "daily").values(**values))


def due(crew):
    """Let today's slot be the one that is due."""
    rewrite(crew, mark=today() - timedelta(days=1), epoch_at=today() - timedelta(days=9))


def cancelled(crew, run):
    return crew.cancel(run, by="ops", reason="load")


def test_a_sweep_on_another_machine_ends_after_its_batch_with_its_counts_and_nobody_goes_on_with_it(yard, crew):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(ROWS)))
    batches = []

    def hear(entry):
        if entry.kind == "batch":
            batches.append(entry)
            if len(batches) == 2:
                assert cancelled(crew, entry.run).state == "running", "it ends after the batch it is in"

    elsewhere = hired(yard, listeners=[hear])
    elsewhere.expire("sweep", "notes", column="created_at", every="1 hour", pace="gentle", max_fraction=1)
    report = elsewhere.run("sweep", trigger="cli")
    assert (report.outcome, report.outcome.success, report.outcome.status, len(batches)) == ("cancelled", False, 200, 2)
    assert "was cancelled by ops: load; " in report.message
    assert 0 < report.deleted == ROWS - len(yard.ids("notes"))
    (row,) = crew.runs()
    assert (row.id, row.state, row.deleted, row.counts) == (report.run, "cancelled", report.deleted, report.counts)
    assert ("cancelled", {"by": "ops", "reason": "load"}) in [(e["kind"], e["facts"]) for e in crew.entries(row.id)]
    again = elsewhere.run("sweep", trigger="http", slot=report.slot)
    assert (again.outcome, elsewhere.tick(trigger="ticker")) == ("already_done", [])
    assert "ended as cancelled at" in again.message
    assert len(yard.ids("notes")) == ROWS - report.deleted
    elsewhere.close()


def test_a_function_hears_of_it_and_the_next_slot_is_run_as_ever(yard, crew):
    due(crew)

    def counts(run):
        for number in range(100):
            if run.should_stop:
                return
            run.count()
            if number == 1:
                cancelled(crew, run.id)
            threading.Event().wait(0.05)

    working = hired(yard, counts)
    (report,) = working.tick(trigger="ticker")
    assert (report.outcome, crew.runs()[0].state) == ("cancelled", "cancelled")
    assert 1 < report.deleted == crew.runs()[0].deleted < 50
    assert f"cancelled by ops: load; having counted {report.deleted}" in report.message
    rewrite(crew, mark=today() - timedelta(days=1), run=None)
    assert crew.status()[0].standing.fail_streak == 0
    assert crew.run("daily", now=True).outcome == "succeeded"
    working.close()


def test_a_run_that_waits_to_begin_begins_nothing(crew):
    due(crew)
    (work,) = crew.due(trigger="ticker")
    cancelled(crew, crew.runs()[0].id)
    assert work().outcome == "cancelled"
    assert crew.runs()[0].attempt == 1


@pytest.mark.parametrize("left", ["handed over", "its holder died"])
def test_a_run_that_nobody_holds_ends_at_once_and_is_not_taken_over(crew, left):
    due(crew)
    stop = threading.Event()
    stop.set()
    (work,) = crew.due(trigger="ticker", stop=stop)
    run = crew.runs()[0].id
    if left == "handed over":
        assert work().outcome == "partial"
    else:
        rewrite(crew, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    row = cancelled(crew, run)
    assert (row.state, crew.runs()[0].state, row.reason) == ("cancelled", "cancelled", "cancelled by ops: load")
    assert crew.tick(trigger="ticker") == []
    assert work().outcome == "cancelled" if left != "handed over" else True
    assert crew.status()[0].standing.run is None


def test_a_holder_that_dies_after_it_was_cancelled_is_not_replaced(crew):
    due(crew)
    crew.due(trigger="ticker")
    run = crew.runs()[0].id
    assert cancelled(crew, run).state == "running"
    rewrite(crew, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    assert crew.tick(trigger="ticker") == []
    assert [(row.id, row.state) for row in crew.runs()] == [(run, "cancelled")]


def test_who_read_the_row_before_it_was_cancelled_cannot_take_the_run_over_afterwards(crew):
    due(crew)
    claims = crew._station.claims
    (claim,) = claims.due(crew.jobs.values(), "ticker")
    rewrite(crew, owner=None, lease_until=None)
    _, seen = crew._station.books.standings(["daily"])
    crew._station.books.cancel("daily", claim.run, "ops", "load")
    assert crew._station.books.take_over(seen["daily"], claim.bidder) is None


def test_a_run_is_not_cancelled_by_what_was_meant_for_another(crew):
    due(crew)
    first = crew.run("daily", trigger="http")
    rewrite(crew, cancelled_run=first.run, cancelled_by="ops", cancelled_reason="late")
    assert crew.run("daily", now=True).outcome == "succeeded"


def test_a_cancelled_run_of_a_paused_job_ends_all_the_same(crew):
    due(crew)
    (work,) = crew.due(trigger="ticker")
    crew.pause("daily", by="ada", reason="a move")
    cancelled(crew, crew.runs()[0].id)
    assert work().outcome == "cancelled"


def test_what_cannot_be_cancelled_is_refused_in_a_sentence(crew):
    with pytest.raises(UsageError, match=r"there is no run 'daily\.yesterday': 'nightcrew runs' lists them"):
        cancelled(crew, "daily.yesterday")
    over = crew.run("daily", now=True).run
    with pytest.raises(
        UsageError, match=f"run {over} is over, it ended as done at .*: there is nothing left to cancel"
    ):
        cancelled(crew, over)
    assert crew.runs()[0].state == "done"


def test_a_function_that_never_asks_runs_to_its_end_which_is_told(crew):
    due(crew)
    crew._jobs["daily"] = crew.jobs["daily"].but(function=lambda run: cancelled(crew, run.id) and 3)
    (report,) = crew.tick(trigger="ticker")
    assert (report.outcome, report.deleted) == ("succeeded", 3)
    assert crew.status()[0].standing.cancelled_run is None


def test_a_claim_without_a_batch_holds_nobody_up(crew):
    (claim,) = [crew._station.claims.by_hand(crew.jobs["daily"], "cli", None)]
    assert cancelled(crew, claim.run).state == "running"
    assert crew._carry_out(claim, Budget.of(crew.clock)).outcome == "cancelled"


def test_the_command_ends_a_run_and_says_so(sqlite_yard, tmp_path, monkeypatch, capsys):
    crew = hired(sqlite_yard)
    crew.migrate()
    crew.status()
    (tmp_path / "cancelling.py").write_text(
        f"from nightcrew import Nightcrew\ncrew = Nightcrew({str(sqlite_yard.link.engine.url)!r})\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    claim = crew._station.claims.by_hand(crew.jobs["daily"], "cli", None)
    rewrite(crew, owner=None, lease_until=None)
    words = ["--app", "cancelling:crew", "cancel", claim.run]
    assert (run(nightcrew, [*words, "--reason", "too slow"], Desk()), run(nightcrew, words, Desk())) == (0, 2)
    said = capsys.readouterr()
    assert re.fullmatch(rf"○ {claim.run} is cancelled: cancelled by \w+: too slow\n", said.out)
    assert said.err.startswith(f"nightcrew: run {claim.run} is over, it ended as cancelled at ")
    crew.close()
