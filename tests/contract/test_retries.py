"""A function that fails is called again, on every database: when, how often, and what is said of it meanwhile."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightcrew import Nightcrew, Settings
from nightcrew.books import Bidder
from nightcrew.claims import LOSSES
from nightcrew.console import prose
from nightcrew.console.screen import Screen
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import SafetyStop

ATTEMPTS = 3


@pytest.fixture
def crew(database_url):
    crew = Nightcrew(database_url, settings=Settings())
    crew.migrate()
    yield crew
    crew.close()


@pytest.fixture
def small_crew(tmp_path):
    """One on SQLite, for what no database makes a difference to."""
    crew = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings())
    yield crew
    crew.close()


def rewrite(crew, **values):
    """Move the jobs' rows instead of the clock."""
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(**values))


def past(**span):
    return datetime.now(UTC) - timedelta(**(span or {"seconds": 1}))


def stubborn(crew, failures, **terms):
    """Register a job that fails so often, and has got one item further each time."""
    calls = []

    @crew.job("0 0 * * *", **{"attempts": ATTEMPTS, "backoff": "20 minutes", **terms})
    def mail(run):
        calls.append((run.attempt, run.cursor))
        run.count()
        run.checkpoint(len(calls))
        if len(calls) <= failures:
            raise ConnectionError(f"mailbox {len(calls)} is full")

    return calls


def test_a_run_that_failed_waits_and_any_tick_after_that_goes_on_with_it_from_its_checkpoint(crew):
    calls = stubborn(crew, failures=2)
    first = crew.run("mail", trigger="http")
    again = f"{first.retry_at:%Y-%m-%d %H:%M:%S}Z"
    assert (first.outcome, first.outcome.status, first.deleted) == ("failed", 500, 1)
    assert timedelta(minutes=18) <= first.retry_at - datetime.now(UTC) <= timedelta(minutes=20)
    assert first.message.endswith(f"mailbox 1 is full; 1 counted before; attempt 1 of 3, tried again from {again} on")
    assert crew.runs()[0].state == "retrying"
    assert crew.tick(trigger="ticker") == []
    early = crew.run("mail", trigger="http")
    assert (early.outcome, early.message, early.run) == ("failed", first.message, first.run)
    assert early.json()["retryAt"] == first.json()["retryAt"]
    assert early.details == "ConnectionError: mailbox 1 is full"
    rewrite(crew, retry_at=past())
    (second,) = crew.tick(trigger="ticker")
    assert (second.outcome, second.run, second.deleted) == ("failed", first.run, 2)
    assert timedelta(minutes=36) <= second.retry_at - datetime.now(UTC) <= timedelta(minutes=40)
    rewrite(crew, retry_at=past())
    third = crew.run("mail", trigger="http")
    assert (third.outcome, third.run, third.deleted) == ("succeeded", first.run, 3)
    assert calls == [(1, None), (2, 1), (3, 2)]
    (row,), standing = crew.runs(), crew.status()[0].standing
    assert (row.state, row.attempt, row.error) == ("done", 3, None)
    assert (standing.failures, standing.attempt, standing.retry_at, standing.fail_streak) == (0, 0, None, 0)
    assert crew.run("mail", trigger="http").outcome == "already_done"


def test_after_the_last_attempt_it_has_failed_with_the_last_traceback_and_each_in_the_ledger(crew):
    stubborn(crew, failures=9)
    reports = []
    for _ in range(ATTEMPTS):
        rewrite(crew, retry_at=None) if reports else None
        reports.append(crew.run("mail", trigger="http"))
    assert reports[-1].message.endswith("mailbox 3 is full; 3 counted before; that was attempt 3 of 3")
    assert reports[-1].retry_at is None
    (row,), standing = crew.runs(), crew.status()[0].standing
    assert (row.state, row.attempt) == ("failed", ATTEMPTS)
    assert row.error.endswith("ConnectionError: mailbox 3 is full\n")
    failed = [entry["facts"]["error"] for entry in crew.entries(row.id) if entry["kind"] == "failed_attempt"]
    assert [error.splitlines()[-1] for error in failed] == [f"ConnectionError: mailbox {n} is full" for n in (1, 2)]
    assert all(error.startswith("Traceback") for error in failed)
    assert [line for line in prose.traces(row, crew) if "mailbox" in line and "raise" not in line] == [
        f"  ConnectionError: mailbox {n} is full" for n in (1, 2, 3)
    ]
    assert (standing.run, standing.fail_streak) == (None, 1)
    assert crew.tick(trigger="ticker") == []
    anew = crew.run("mail", trigger="http")
    assert anew.message.partition("; attempt ")[2].startswith("1 of 3, tried again from")


def test_who_looked_before_the_attempt_failed_does_not_try_again_at_once(crew):
    seen = []

    @crew.job("0 0 * * *", attempts=ATTEMPTS)
    def mail(run):
        rewrite(crew, lease_until=past())
        seen.append(crew._station.books.standings(["mail"])[1]["mail"])
        raise ConnectionError

    assert crew.run("mail", trigger="http").retry_at is not None
    bidder = Bidder("another", "ticker", None, 60.0)
    assert crew._station.books.take_over(seen[0], bidder) is None


def test_a_person_sees_when_it_is_tried_again(small_crew):
    stubborn(small_crew, failures=1)
    small_crew.run("mail", trigger="http")
    (found,), now, screen = small_crew.status(), small_crew.clock.now(), Screen()
    assert re.fullmatch("again in 1[89] min.*", prose.status_line(found, now, screen)[3])
    assert prose.verdict([found], [], screen) == "✓ all quiet: 1 job on schedule, 1 of which failed and is tried again"
    assert "  attempts  3, the second 20 minutes after the first has failed" in prose.portrait(found.job, now)
    (row,) = small_crew.runs()
    assert len([line for line in prose.traces(row, small_crew) if line == f"{row.id}:"]) == 1


def test_a_person_need_not_wait(small_crew):
    calls = stubborn(small_crew, failures=1)
    small_crew.run("mail", trigger="http")
    assert small_crew.run("mail", trigger="cli", now=True).outcome == "succeeded"
    assert [attempt for attempt, _ in calls] == [1, 2, 1], "the one that was left open, and the one that was asked for"


def test_a_slot_that_falls_due_meanwhile_waits_its_turn(small_crew):
    small_crew.job(every="1 hour", name="mail", attempts=ATTEMPTS)(lambda run: 1 // (run.attempt - 1))
    small_crew.status()
    rewrite(small_crew, epoch_at=past(days=1))
    first = small_crew.run("mail", trigger="http", slot=past(hours=3))
    assert small_crew.tick(trigger="ticker") == []
    rewrite(small_crew, retry_at=past())
    assert [report.run for report in small_crew.tick(trigger="ticker")] == [first.run]
    (latest,) = small_crew.tick(trigger="ticker")
    assert latest.slot == first.slot + timedelta(hours=3)
    between = next(row for row in small_crew.runs() if row.slot == first.slot + timedelta(hours=2))
    assert (between.state, between.reason[:13]) == ("missed", "2 slots from ")


@pytest.mark.parametrize("stop", ["a rail", "a pause"])
def test_what_is_no_failure_is_not_tried_again(small_crew, stop):
    @small_crew.job("0 0 * * *", attempts=ATTEMPTS)
    def mail(run):
        if stop == "a rail":
            raise SafetyStop("more than ever before")
        small_crew.pause("mail", by="ops", reason="load")
        run.checkpoint(1)

    report = small_crew.run("mail", trigger="http")
    assert report.outcome == ("refused" if stop == "a rail" else "paused")
    assert (report.retry_at, small_crew.status()[0].standing.failures) == (None, 0)


# ── every order of failures, losses and hand-overs ───────────────────────────────────────────────────────────────────

NUMBERS = itertools.count()
ACTS = st.lists(st.sampled_from(["fails", "is lost", "hands over", "succeeds", "wait"]), max_size=14)


class Expected:
    """What the books are to say of one run."""

    def __init__(self):
        self.state, self.failures, self.losses, self.waits, self.begun = None, 0, 0, False, 0

    def after(self, act):
        """Let a tick come when an attempt would end like this; return whether there was one."""
        if act == "wait":
            self.waits = False
            return False
        if self.waits or self.state in ("done", "failed"):
            return False
        if self.losses == LOSSES and self.state == "running":
            self.state, self.failures, self.losses = "failed", 0, 0
            return False
        self.begun = self.failures + self.losses + 1
        match act:
            case "fails" if self.failures + 1 < ATTEMPTS:
                self.state, self.failures, self.waits = "retrying", self.failures + 1, True
            case "fails" | "succeeds":
                self.state, self.failures, self.losses = "failed" if act == "fails" else "done", 0, 0
            case "hands over":
                self.state = "partial"
            case "is lost":
                self.state, self.losses = "running", self.losses + 1
        return True


def the_books_say_so(crew, acts):
    name, expected, now, called = f"job-{next(NUMBERS)}", Expected(), [None], []

    @crew.job(every="1 day", name=name, attempts=ATTEMPTS, backoff=timedelta(hours=1))
    def work(run):
        called.append(run.attempt)
        if now[0] == "fails":
            raise ConnectionError
        if now[0] == "hands over":
            run.stop(ConnectionError("asked to"))

    crew.status()
    rewrite(crew, epoch_at=past(days=2))
    for act in acts:
        now[0], before, failures = act, len(called), expected.failures
        begins = expected.after(act)
        if act == "wait":
            rewrite(crew, retry_at=None)
        elif act == "is lost":
            for claim in crew._station.claims.due([crew.jobs[name]], "ticker"):
                crew._station.books.begin(name, claim.fence, claim.run, 60.0)
                crew._station.claims.release(claim)
                rewrite(crew, lease_until=past())
        else:
            crew.tick(trigger="ticker")
            assert called[before:] == [failures + 1] * begins
        (standing,) = (each.standing for each in crew.status() if each.job.name == name)
        assert (standing.failures, standing.retry_at is not None) == (expected.failures, expected.waits)
        assert standing.losses == expected.losses
        found = [(row.state, row.attempt) for row in crew.runs(name) if row.state != "missed"]
        assert found == ([(expected.state, expected.begun)] if expected.state else [])
    crew._jobs.pop(name)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS)
def test_failures_and_losses_are_told_apart_in_every_order(crew, acts):
    the_books_say_so(crew, acts)
