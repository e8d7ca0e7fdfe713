"""How long before or after its slot a run is claimed, and who may come early."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.console import prose
from nightcrew.console.screen import Screen
from nightcrew.databases.tables import jobs as job_table

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def due(database_url, away, period=12 * HOUR, **terms):
    """A crew with a job that has a slot so far away from now, and has had the one before that."""
    slot = (datetime.now(UTC) + away).replace(microsecond=0)
    crew = Nightcrew(database_url, settings=Settings())
    crew.add(Job("rates", every(period, (slot - EPOCH) % period), function=lambda run: 1, **terms))
    crew.migrate()
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(mark=slot - period, epoch_at=slot - 9 * period))
    yield crew, slot
    crew.close()


def test_a_run_says_how_late_it_was_claimed(database_url):
    with due(database_url, -2 * HOUR) as (crew, slot):
        report = crew.run("rates", trigger="http")
        (row,) = crew.runs()
        assert report.slot == slot
        assert report.late_by == row.late_by == row.moment - slot
        assert report.json()["lateSeconds"] == prose.run(row)["lateSeconds"] == pytest.approx(7200, abs=20)
        now = crew.clock.now()
        assert prose.run_line(row, crew.jobs["rates"], now, Screen())[1] == "just now, 2 h late"
        assert prose.status_line(crew.status()[0], now, Screen())[2] == "✓ done just now, 2 h late"


def test_a_run_that_is_hardly_late_does_not_stand_out(database_url):
    with due(database_url, -5 * SECOND) as (crew, _):
        crew.tick(trigger="ticker")
        assert prose.run_line(crew.runs()[0], crew.jobs["rates"], crew.clock.now(), Screen())[1] == "just now"


def test_a_slot_that_the_window_held_back_is_not_late_when_that_has_just_opened(database_url):
    opened = datetime.now(UTC) - timedelta(seconds=50)
    if opened.minute == datetime.now(UTC).minute:
        opened -= timedelta(minutes=1)
    window = f"{opened:%H:%M}-{opened + 3 * HOUR:%H:%M}"
    with due(database_url, -2 * HOUR, window=window) as (crew, _):
        crew.tick(trigger="ticker")
        (row,) = crew.runs()
        assert row.late_by >= 2 * HOUR
        assert "2 h late" not in prose.run_line(row, crew.jobs["rates"], crew.clock.now(), Screen())[1]


def test_by_hand_nothing_is_late(database_url):
    with due(database_url, -2 * HOUR) as (crew, _):
        assert crew.run("rates", now=True).json()["lateSeconds"] is None


def test_an_outside_call_that_comes_a_little_early_is_for_the_coming_slot_and_its_repeat_in_time_is_done(database_url):
    with due(database_url, 25 * SECOND) as (crew, slot):
        early, again = crew.run("rates", trigger="http"), crew.run("rates", trigger="http", slot=slot)
        assert (early.slot, early.outcome, again.outcome) == (slot, "succeeded", "already_done")
        assert -25 * SECOND <= early.late_by < timedelta(0)


def test_a_command_that_looks_for_due_slots_may_be_as_early_and_the_in_process_scheduler_never_is(database_url):
    with due(database_url, 25 * SECOND) as (crew, slot):
        assert crew.tick(trigger="ticker") == []
        assert [report.slot for report in crew.tick(trigger="cli")] == [slot]


@pytest.mark.parametrize(("away", "period"), [(60, 3600), (30, 60)])
def test_nobody_comes_earlier_than_thirty_seconds_or_a_tenth_of_the_period(database_url, away, period):
    with due(database_url, away * SECOND, timedelta(seconds=period)) as (crew, slot):
        assert crew.tick(trigger="cli") == []
        assert crew.run("rates", trigger="http").slot == slot - timedelta(seconds=period)
