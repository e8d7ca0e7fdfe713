"""A job works at night only: what is due by day waits, and what the morning cuts short goes on the next night."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock

EVENING = datetime(2026, 5, 1, 21, 30, tzinfo=UTC)
SHIFTED = {
    "sqlite": (),  # its clock is the process's
    "postgresql": ("clock_timestamp()", "(clock_timestamp() + {} * interval '1 microsecond')"),
    "mysql": ("UTC_TIMESTAMP(6)", "(UTC_TIMESTAMP(6) + INTERVAL {} MICROSECOND)"),
}


class Moved(SystemClock):
    """A clock that shows another time, and goes on from there."""

    by = timedelta(0)

    def now(self):
        return super().now() + self.by

    def set(self, moment):
        self.by = moment - super().now()


@contextmanager
def hired(url, at=EVENING, **terms):
    """A crew whose process and whose database have the same clock, which can be set."""
    clock = Moved()
    clock.set(at)
    crew = Nightcrew(url, settings=Settings(), clock=clock)
    engine = crew._station.link.engine

    @sa.event.listens_for(engine, "before_cursor_execute", retval=True)
    def moved(connection, cursor, statement, parameters, context, many):
        if shifted := SHIFTED[engine.dialect.name]:
            old, new = shifted
            statement = statement.replace(old, new.format(round(clock.by.total_seconds() * 1e6)))
        return statement, parameters

    crew.expire("sweep", "notes", column="at", every="1 hour", **{"window": "22:00-06:00", **terms})
    crew.migrate()
    crew.status()  # the job is known from now on
    try:
        yield crew
    finally:
        crew.close()


@pytest.fixture
def notes(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time})", "CREATE INDEX notes_at ON notes (at)")
    yard.fill("notes", *({"id": n, "at": "2026-04-01 00:00:00"} for n in range(400)))
    return yard


def slowed(crew):
    """Make each batch small, and take a while."""
    take = crew._station.database.take

    def take_slowly(connection, selection, cursor, limit, *most, **how):
        time.sleep(0.1)
        return take(connection, selection, cursor, min(limit, 10), *most, **how)

    crew._station.database.take = take_slowly
    return lambda: setattr(crew._station.database, "take", take)


def tick(crew, *at):
    crew.clock.set(datetime(2026, *at, tzinfo=UTC))
    return crew.tick(trigger="ticker")


def test_the_morning_cuts_a_sweep_short_and_the_next_night_goes_on(notes, database_url):
    with hired(database_url) as crew:
        quickly = slowed(crew)
        begun = time.monotonic()
        (report,) = tick(crew, 5, 2, 5, 59, 59)
        assert time.monotonic() - begun < 4
        left = len(notes.ids("notes"))
        assert (report.outcome, report.remaining) == ("partial", left)
        assert 0 < left < 400
        assert (
            "(window 22:00-06:00 has closed); the next call of any trigger within its window goes on" in report.message
        )
        assert [row.reason for row in crew.runs() if row.id == report.run] == [report.message]
        quickly()

        assert tick(crew, 5, 2, 12) == []
        (standing,) = crew.status()
        assert standing.opens == datetime(2026, 5, 2, 22, tzinfo=UTC)
        assert len(notes.ids("notes")) == left

        (again,) = tick(crew, 5, 2, 22, 0, 1)
        assert (again.run, again.outcome, again.deleted) == (report.run, "succeeded", 400)
        assert notes.ids("notes") == []
        assert crew.status()[0].opens is None


def test_what_is_due_by_day_waits_for_the_night_and_runs_once(notes, database_url):
    with hired(database_url) as crew:
        assert tick(crew, 5, 1, 21, 59, 59) == []
        assert len(tick(crew, 5, 1, 22, 0, 1)) == 1
        assert len(tick(crew, 5, 2, 5)) == 1
        assert tick(crew, 5, 2, 6) == []
        assert tick(crew, 5, 2, 21) == []
        (report,) = tick(crew, 5, 2, 22, 30)
        assert report.slot == datetime(2026, 5, 2, 22, tzinfo=UTC)
        states = {(row.state, row.reason) for row in crew.runs() if row.state != "done"}
        assert states == {
            ("missed", "6 slots from 20260501T230000Z to 20260502T040000Z: nobody was there to run them"),
            ("skipped", "16 slots from 20260502T060000Z to 20260502T210000Z: due outside of window 22:00-06:00"),
        }


def test_a_slot_by_day_is_run_at_night(notes, database_url):
    with hired(database_url, at=EVENING - timedelta(days=1)) as crew:
        crew.expire("daily", "notes", column="at", schedule="0 12 * * *", window="22:00-06:00")
        crew.status()
        assert [report for report in tick(crew, 5, 1, 12) if report.job == "daily"] == []
        (report,) = [report for report in tick(crew, 5, 1, 22, 1) if report.job == "daily"]
        assert report.slot == datetime(2026, 5, 1, 12, tzinfo=UTC)
        assert "daily" not in {row.job for row in crew.runs() if row.state != "done"}


def test_a_call_by_day_is_told_to_wait_and_how_not_to(notes, database_url):
    with hired(database_url) as crew:
        report = crew.run("sweep", trigger="http")
        assert (report.outcome, report.deleted, len(notes.ids("notes"))) == ("paused", 0, 400)
        assert report.message == (
            "Job sweep works only within 22:00-06:00: what is due waits until 2026-05-01 22:00Z;"
            " 'nightcrew run sweep --now' does not"
        )
        assert crew.runs() == []
        crew.clock.set(EVENING + timedelta(minutes=29, seconds=50))
        assert crew.run("sweep", trigger="http").outcome == "succeeded", "a caller's clock may be ahead"
        crew.clock.set(EVENING + timedelta(hours=10))
        assert crew.run("sweep", trigger="http", slot=EVENING + timedelta(minutes=30)).outcome == "already_done"


def test_whoever_asks_at_once_is_not_held_to_it_and_goes_on_with_what_was_left(notes, database_url):
    with hired(database_url) as crew:
        quickly = slowed(crew)
        (cut,) = tick(crew, 5, 2, 5, 59, 59)
        crew.clock.set(EVENING + timedelta(hours=12))
        assert crew.run("sweep", trigger="http").outcome == "paused"
        quickly()
        report = crew.run("sweep", trigger="cli", now=True)
        assert (cut.outcome, report.outcome, notes.ids("notes")) == ("partial", "nothing_to_do", [])
        assert [row.state for row in crew.runs(limit=5) if row.id == cut.run] == ["done"]


def test_a_function_hears_that_its_hours_are_over(database_url):
    with hired(database_url) as crew:
        rounds = []

        @crew.job(every="1 hour", window="22:00-06:00")
        def refresh(run):
            while not run.should_stop:
                rounds.append(time.sleep(0.05))
                assert len(rounds) < 200, "it was never told"

        crew.status()
        crew.clock.set(datetime(2026, 5, 2, 5, 59, 59, tzinfo=UTC))
        report = crew.run("refresh", trigger="http")
        assert report.outcome == "partial"
        assert "window 22:00-06:00 has closed" in report.message
        assert rounds
