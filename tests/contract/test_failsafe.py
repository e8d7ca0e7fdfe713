"""A job that an outside caller is to run: the in-process scheduler waits, covers it, and says that nobody came."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.console import prose
from nightcrew.console.screen import Screen
from nightcrew.databases.tables import jobs as job_table

DAY = timedelta(days=1)
NOBODY_CAME = "the outside caller did not come: covered as failsafe"


@contextmanager
def slot_passed(database_url, **ago):
    """A crew with a daily job whose slot is so long ago, and nobody has run it."""
    slot = (datetime.now(UTC) - timedelta(**ago)).replace(second=0, microsecond=0)
    daily = cron(f"{slot.minute} {slot.hour} * * *")
    heard = []
    crew = Nightcrew(database_url, settings=Settings(), listeners=[heard.append], lease=2.0)
    crew.add(Job("rates", daily, function=lambda run: 1, primary="external"))
    crew.migrate()
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(mark=slot - DAY, epoch_at=slot - 9 * DAY))
    yield crew, slot, heard
    crew.close()


def kinds(crew, run):
    return [entry["kind"] for entry in crew.entries(run)]


def test_the_in_process_scheduler_leaves_a_slot_to_the_outside_caller_and_says_nothing_when_they_come(database_url):
    with slot_passed(database_url, seconds=60) as (crew, slot, heard):
        assert crew.tick(trigger="ticker") == []
        report = crew.run("rates", trigger="http")
        assert (report.outcome, report.slot, report.trigger, report.note) == ("succeeded", slot, "http", None)
        assert "failsafe" not in [entry.kind for entry in heard]


@pytest.mark.parametrize("trigger", ["cli", "celery"])
def test_whoever_else_looks_for_due_slots_is_an_outside_caller(database_url, trigger):
    with slot_passed(database_url, seconds=60) as (crew, slot, _):
        assert [report.slot for report in crew.tick(trigger=trigger)] == [slot]


def test_a_slot_that_nobody_came_for_is_covered_and_everything_says_so(database_url):
    with slot_passed(database_url, minutes=4) as (crew, slot, heard):
        (report,) = crew.tick(trigger="ticker")
        assert (report.outcome, report.slot, report.trigger) == ("succeeded", slot, "failsafe")
        assert report.note.startswith(NOBODY_CAME)
        (row,) = (run for run in crew.runs() if run.slot == slot)
        assert row.trigger == "failsafe"
        assert row.reason.startswith(f"Job rates ran and counted 1; {NOBODY_CAME}")
        assert crew.status()[0].last.trigger == "failsafe"
        assert prose.verdict(crew.status(), [], Screen()) == "! nobody came from outside for rates: its failsafe ran it"
        assert kinds(crew, row.id)[0] == "failsafe"
        (told,) = (entry for entry in heard if entry.kind == "failsafe")
        assert (told.run, told.facts["sentence"]) == (row.id, report.note)
        late = crew.run("rates", trigger="http")
        assert late.outcome == "already_done"
        assert NOBODY_CAME in late.message


def test_who_goes_on_with_a_covered_run_still_says_why_it_was(database_url):
    with slot_passed(database_url, minutes=4) as (crew, _, heard):
        (claim,) = crew._station.claims.due(crew.jobs.values(), "ticker")
        crew._station.claims.release(claim)
        with crew._station.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(lease_until=datetime.now(UTC) - timedelta(seconds=1)))
        report = crew.run("rates", trigger="http")
        assert (report.run, report.trigger) == (claim.run, "http")
        assert report.note.startswith(NOBODY_CAME)
        assert NOBODY_CAME in crew.runs()[0].reason
        assert "failsafe" not in [entry.kind for entry in heard], "it was not this one that covered it"
