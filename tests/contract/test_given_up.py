"""A job that fails run after run is left alone for a while, longer each time, and then tried again by itself."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import ConfigurationError, SafetyStop
from nightcrew.respite import respite

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def this_hour():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


class Failing:
    """A crew with an hourly function that raises whatever it is told to."""

    def __init__(self, url, **options):
        self.heard = []
        self.crew = Nightcrew(url, settings=Settings(), listeners=[self.heard.append], lease=2.0)
        self.trouble = ValueError("no such bucket")
        self.crew.add(Job("report", every(HOUR), function=self.report, **options))
        self.crew.migrate()
        self.crew.status()

    def report(self):
        if self.trouble is not None:
            raise self.trouble
        return 1

    def rewrite(self, **values):
        with self.crew._station.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(**values))

    @property
    def standing(self):
        return self.crew.status()[0].standing

    def slot(self):
        """Let the latest slot be due, and tick."""
        self.rewrite(mark=this_hour() - HOUR, epoch_at=this_hour() - 99 * HOUR, failed_run=None)
        with self.crew._station.link.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM nightcrew_entries")
            connection.exec_driver_sql("DELETE FROM nightcrew_runs")
        return self.crew.tick(trigger="ticker")

    def later(self):
        """Let the pause run out, its slots having been none."""
        self.rewrite(paused_until=datetime.now(UTC) - timedelta(seconds=1))

    def paused_for(self):
        return round((self.standing.paused_until - self.standing.paused_at) / MINUTE, 1)


@pytest.fixture
def job(database_url):
    job = Failing(database_url, pause_after=3)
    yield job
    job.crew.close()


def given_up(job, failures=3):
    for _ in range(failures):
        (report,) = job.slot()
    return report


def test_after_so_many_failures_the_job_is_paused_and_everybody_hears_until_when_and_why(job):
    given_up(job, 2)
    assert not job.crew.status()[0].paused
    (report,) = job.slot()
    standing = job.standing
    assert (report.outcome, job.paused_for(), standing.paused_by) == ("failed", 10, "nightcrew itself")
    assert standing.paused_reason == "3 failures in a row, the last: ValueError: no such bucket"
    assert report.note.startswith(
        f"The job is paused until {standing.paused_until:%Y-%m-%d %H:%M}Z: 3 failures in a row"
    )
    (told,) = [entry.facts for entry in job.heard if entry.kind == "given_up"]
    assert (told["by"], told["reason"]) == ("nightcrew itself", standing.paused_reason)
    assert job.slot() == []
    asked = job.crew.run("report", trigger="http")
    assert (asked.outcome, asked.outcome.status, asked.outcome.success) == ("paused", 200, False)
    assert "by nightcrew itself: 3 failures in a row, the last: ValueError: no such bucket" in asked.message


def test_it_is_tried_again_by_itself_and_a_failure_doubles_the_pause(job):
    given_up(job)
    lengths = []
    for _ in range(8):
        job.later()
        job.crew.tick(trigger="ticker")  # the pause is over
        (report,) = job.slot()
        lengths.append(job.paused_for())
    assert lengths == [20, 40, 80, 160, 320, 640, 720, 720]
    assert report.outcome == "failed"


def test_a_success_resets_it(job):
    given_up(job)
    job.later()
    job.crew.tick(trigger="ticker")
    job.trouble = None
    assert [report.outcome for report in job.slot()] == ["succeeded"]
    assert (job.standing.fail_streak, job.standing.paused_at) == (0, None)
    job.trouble = ValueError("again")
    given_up(job, 2)
    assert job.standing.paused_at is None


def test_the_slots_of_the_pause_end_as_skipped_with_its_reason(job):
    given_up(job)
    now = datetime.now(UTC)
    job.rewrite(mark=this_hour() - 5 * HOUR, paused_at=this_hour() - 5 * HOUR + MINUTE, paused_until=now - MINUTE / 60)
    job.crew.tick(trigger="ticker")
    (skipped,) = [run for run in job.crew.runs() if run.state == "skipped"]
    assert skipped.reason.endswith(": paused: 3 failures in a row, the last: ValueError: no such bucket")


def test_a_persons_pause_is_not_overwritten_and_overwrites_nightcrews_own(job):
    given_up(job, 2)
    (work,) = _claimed(job)
    job.crew.pause("report", by="ada", reason="a move")
    job.crew._station.books.begin = lambda *_: None  # as if the pause came after it had begun
    assert work().outcome == "failed"
    assert (job.standing.fail_streak, job.standing.paused_by, job.standing.paused_until) == (3, "ada", None)
    job.crew.resume("report")
    given_up(job, 1)
    assert job.standing.paused_by == "nightcrew itself"
    job.crew.pause("report", by="ada", reason="a move")
    assert (job.standing.paused_by, job.standing.paused_until) == ("ada", None)
    assert job.crew.run("report", now=True).outcome == "paused"


def _claimed(job):
    job.rewrite(mark=this_hour() - HOUR, epoch_at=this_hour() - 99 * HOUR, failed_run=None)
    with job.crew._station.link.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM nightcrew_runs")
    return job.crew.due(trigger="ticker")


def test_a_run_by_hand_need_not_wait_and_counts_like_any_other(job):
    given_up(job)
    assert job.crew.run("report", now=True).outcome == "failed"
    assert job.paused_for() == 20
    job.trouble = None
    assert job.crew.run("report", now=True).outcome == "succeeded"
    assert (job.standing.fail_streak, job.standing.paused_at) == (0, None)


def test_a_run_by_hand_waits_for_whoever_stopped_all(job):
    given_up(job)
    job.crew.stop_all(by="ops", reason="incident")
    assert job.crew.run("report", now=True).message == "Every job is stopped by ops: incident"


def test_what_a_rail_refuses_pauses_nothing(job):
    job.trouble = SafetyStop("over its cap")
    report = given_up(job, 4)
    assert (report.outcome, job.standing.paused_at) == ("refused", None)


def test_a_run_that_is_tried_again_and_again_fails_once(job):
    job.slot()
    assert [job.crew.run("report", trigger="http").outcome for _ in range(3)] == ["failed"] * 3
    assert (job.standing.fail_streak, job.standing.paused_at) == (1, None)
    job.trouble = None
    assert job.crew.run("report", trigger="http").outcome == "succeeded"
    assert (job.standing.fail_streak, job.standing.failed_run) == (0, None)
    assert job.crew.run("report", trigger="http").outcome == "already_done"


def test_a_run_that_kills_its_holders_counts(job):
    given_up(job, 2)
    _claimed(job)
    job.rewrite(lease_until=datetime.now(UTC) - timedelta(seconds=1), attempt=LOSSES)
    job.crew.tick(trigger="ticker")
    assert job.standing.paused_reason.startswith("3 failures in a row, the last: attempts used up")


def test_a_job_may_go_on_for_ever(database_url):
    job = Failing(database_url, pause_after=0)
    given_up(job, 7)
    assert (job.standing.fail_streak, job.standing.paused_at) == (7, None)
    job.crew.close()


def test_a_job_that_says_nothing_is_paused_after_five_failures():
    assert Job("report", every("1 hour"), function=print).pause_after == 5
    assert [respite(streak, 5) and respite(streak, 5) / MINUTE for streak in (4, 5, 6, 10**6)] == [None, 10, 20, 720]


@pytest.mark.parametrize("wrong", [-1, 1_001, "3"])
def test_what_is_no_number_of_failures_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"pause_after .*; write a number of failures"):
        Job("report", every("1 hour"), function=print, pause_after=wrong)
