"""A process that cannot know whether a run is still its own stops by itself, without asking the database."""

import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.clock import Budget, Lease, SystemClock

LEASE = 2.0  # seconds
LONG_AGO = "2020-01-01 00:00:00"


class Sleeper(SystemClock):
    """A clock that goes on while its process is frozen."""

    def __init__(self):
        self.slept = 0.0

    def monotonic(self):
        return super().monotonic() + self.slept


@pytest.fixture
def clock():
    return Sleeper()


@pytest.fixture
def crew(yard, clock):
    url = yard.link.engine.url.render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), clock=clock, lease=LEASE)
    crew.migrate()
    yield crew
    crew.close()


@contextmanager
def troubled(crew, trouble):
    """Let something happen to every statement that nightcrew's own processes would renew their leases by."""
    engine = crew._station.link.engine

    def meet(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE nightcrew_jobs SET lease_until") and "begun" not in statement:
            trouble(statement)

    sa.event.listen(engine, "before_cursor_execute", meet)
    yield
    sa.event.remove(engine, "before_cursor_execute", meet)


def asks_until_told(crew, seconds=6.0):
    """Register a function that asks every few milliseconds whether it should stop, and notes after how long it was."""
    stopped = []

    @crew.job(every="1 hour")
    def asks(run):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if run.should_stop:
                stopped.append(time.monotonic() - begun)
                return
            time.sleep(0.01)

    return stopped


def away(statement):
    raise sa.exc.OperationalError(statement, None, Exception("server closed the connection"))


@pytest.mark.parametrize("trouble", [away, lambda statement: time.sleep(LEASE)], ids=["away", "slow"])
def test_a_function_whose_lease_is_not_renewed_in_time_hears_of_it_before_it_runs_out(crew, trouble):
    """An answer that comes late, though it says yes, makes no lease longer."""
    crew._station.books.halted = lambda *_: None  # so that nobody learns it from the database
    stopped = asks_until_told(crew)
    with troubled(crew, trouble):
        report = crew.run("asks", trigger="cli")
    assert len(stopped) == 1
    assert stopped[0] < LEASE
    assert "(its lease ran out before it was renewed)" in report.message
    assert (report.outcome, crew.runs()[0].state) == ("partial", "partial"), "whoever comes next goes on with it"


def test_a_function_whose_lease_is_renewed_goes_on(crew):
    stopped = asks_until_told(crew, seconds=2 * LEASE)
    assert crew.run("asks", trigger="cli").outcome == "nothing_to_do"
    assert stopped == []


def test_a_sweep_that_was_frozen_between_two_batches_begins_no_other(yard, crew, clock):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})", "CREATE INDEX n ON notes (created_at)")
    yard.fill("notes", *({"id": n, "created_at": LONG_AGO} for n in range(3_000)))
    crew.expire("sweep", "notes", column="created_at", every="1 hour", pace="gentle", max_fraction=1)
    batches = []

    def freezes(entry):
        if entry.kind == "batch":
            batches.append(entry)
            clock.slept += LEASE if len(batches) == 2 else 0

    crew.listen(freezes)
    report = crew.run("sweep", trigger="cli")
    assert (report.outcome, len(batches)) == ("partial", 2)
    assert "(its lease ran out before it was renewed)" in report.message
    assert len(yard.ids("notes")) == 3_000 - report.deleted
    for _ in range(5):  # where the machine is busy, so short a lease may run out once more
        (last,) = crew.tick(trigger="ticker")
        if last.outcome != "partial":
            break
    assert (last.run, last.outcome, last.deleted) == (report.run, "succeeded", 3_000)


def test_a_run_that_was_frozen_before_it_began_is_handed_over(crew, clock):
    stopped = asks_until_told(crew)
    crew.status()
    claim = crew._station.claims.by_hand(crew.jobs["asks"], "cli", None)
    crew._station.claims.release(claim)
    clock.slept += LEASE
    assert crew._carry_out(claim, Budget.of(clock)).outcome == "partial"
    assert stopped == []


def test_a_lease_counts_from_when_it_was_asked_for(clock):
    begun = clock.monotonic()
    lease = Lease(clock, 10.0, begun)
    clock.slept = 8.0
    assert not lease.over
    clock.slept = 9.1
    assert lease.over, "a tenth of it is for what is under way"
    lease.renewed(begun + 5)
    assert not lease.over
    lease.renewed(begun)
    assert not lease.over, "the answer to an older question changes nothing"
    clock.slept = 14.1
    assert lease.over
    assert Budget.of(clock, timedelta(hours=1), threading.Event()).spent is None
