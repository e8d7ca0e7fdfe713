"""What becomes of slots that passed while nobody was there, by what a job says of them."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.bid import MOST_CAUGHT_UP
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import ConfigurationError

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
HOURLY = every(HOUR)


def this_hour():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@contextmanager
def away(database_url, catch_up, schedule=HOURLY, *, since, on_start=False):
    """A crew with one job, of which nobody has run a slot after that; it notes the slots that it runs."""
    crew = Nightcrew(database_url, settings=Settings())
    ran = []
    crew.add(
        Job("rates", schedule, function=lambda run: ran.append(run.slot) or 1, catch_up=catch_up, on_start=on_start)
    )
    crew.migrate()
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(mark=since, epoch_at=since - DAY))
    yield crew, ran
    crew.close()


def ticks(crew, most=200):
    """Let a ticker look until it finds nothing."""
    for _ in range(most):
        if not crew.tick(trigger="ticker"):
            return
    pytest.fail("there was no end of it")


def missed(crew):
    return [run.reason for run in crew.runs(limit=200) if run.state == "missed"]


def test_each_slot_is_run_the_oldest_first_and_none_is_missed(database_url):
    now = this_hour()
    with away(database_url, "all", since=now - 5 * HOUR) as (crew, ran):
        ticks(crew)
        assert ran == [now - n * HOUR for n in (4, 3, 2, 1, 0)]
        assert missed(crew) == []


def test_of_very_many_the_oldest_are_missed(database_url):
    now = this_hour()
    with away(database_url, "all", since=now - (MOST_CAUGHT_UP + 3) * HOUR) as (crew, ran):
        ticks(crew)
        assert (len(ran), ran[0], ran[-1]) == (MOST_CAUGHT_UP, now - (MOST_CAUGHT_UP - 1) * HOUR, now)
        (reason,) = missed(crew)
        assert reason.startswith("3 slots from")


def test_an_outside_call_runs_the_slot_that_is_next_in_turn_until_all_are_done(database_url):
    now = this_hour()
    with away(database_url, "all", since=now - 2 * HOUR) as (crew, ran):
        outcomes = [crew.run("rates", trigger="http").outcome for _ in range(3)]
        assert (ran, outcomes) == ([now - HOUR, now], ["succeeded", "succeeded", "already_done"])


def test_a_slot_that_is_asked_for_is_run_and_those_before_it_are_missed(database_url):
    now = this_hour()
    with away(database_url, "all", since=now - 4 * HOUR) as (crew, ran):
        crew.run("rates", trigger="http", slot=now - HOUR)
        assert ran == [now - HOUR]
        (reason,) = missed(crew)
        assert reason.startswith("2 slots from")


def test_slots_of_a_pause_are_not_caught_up_on(database_url):
    now = this_hour()
    with away(database_url, "all", since=now - 4 * HOUR) as (crew, ran):
        crew.pause("rates", by="ada", reason="a move")
        with crew._station.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(paused_at=now - 2 * HOUR - timedelta(minutes=1)))
        crew.resume("rates")
        ticks(crew)
        assert ran == []
        assert sorted(run.state for run in crew.runs()) == ["missed", "skipped"]


def test_a_job_that_makes_up_for_nothing_runs_no_late_slot_and_records_it_with_the_next(database_url):
    slot = (datetime.now(UTC) - 2 * HOUR).replace(second=0, microsecond=0)
    with away(database_url, "none", cron(f"{slot.minute} {slot.hour} * * *"), since=slot - 3 * DAY) as (crew, ran):
        ticks(crew)
        assert (ran, crew.runs()) == ([], [])
        assert crew.run("rates", trigger="http").slot == slot, "somebody asked for it"
        (reason,) = missed(crew)
        assert reason.startswith("2 slots from")


def test_a_job_that_runs_on_start_runs_its_late_slot_then(database_url):
    slot = (datetime.now(UTC) - 2 * HOUR).replace(second=0, microsecond=0)
    daily = cron(f"{slot.minute} {slot.hour} * * *")
    with away(database_url, "none", daily, since=slot - DAY, on_start=True) as (crew, ran):
        assert crew.tick(trigger="ticker") == []
        crew.tick(trigger="ticker", start=True)
        assert ran == [slot]


def test_it_runs_a_slot_that_is_hardly_late(database_url):
    slot = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=9)
    with away(database_url, "none", cron(f"{slot.minute} {slot.hour} * * *"), since=slot - DAY) as (crew, ran):
        ticks(crew)
        assert ran == [slot]


def test_a_word_that_says_nothing_of_slots_is_refused():
    with pytest.raises(ConfigurationError, match="there is no catch_up 'lastest'; did you mean 'latest'"):
        Job("rates", every("1 hour"), function=print, catch_up="lastest")
