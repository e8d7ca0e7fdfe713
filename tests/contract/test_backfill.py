"""Slots that have passed are run afterwards, once each, the oldest first, and only where nobody ran them."""

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.backfill import MOST
from nightcrew.cli import nightcrew
from nightcrew.clock import instant
from nightcrew.console.desk import Desk
from nightcrew.console.line import run as command
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.errors import UsageError

HOUR = timedelta(hours=1)
AGE = 400  # hours that the job has been known for


def this_hour():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


class Hourly:
    """A crew with an hourly function that notes its slots, and fails for those that it is told to."""

    def __init__(self, url, lease):
        self.crew = Nightcrew(url, settings=Settings(), lease=lease)
        self.ran, self.fails = [], set()
        self.crew.add(Job("report", every(HOUR), function=self.report))

    def report(self, run):
        self.ran.append(run.slot)
        if run.slot in self.fails:
            raise ValueError("no figures yet")
        return 1

    def rewrite(self, **values):
        with self.crew._station.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(**values))

    def passed_over(self, hours):
        """Let the last hours pass with nobody there, and the latest slot be run."""
        self.crew.status()
        self.rewrite(mark=this_hour() - hours * HOUR, epoch_at=this_hour() - AGE * HOUR)
        self.crew.tick(trigger="ticker")
        assert self.ran == [this_hour()]
        self.ran.clear()

    def backfill(self, first, last=0, **options):
        return self.crew.backfill("report", this_hour() - first * HOUR, this_hour() - last * HOUR, **options)

    def acts(self):
        return [(act.actor, act.verb, act.job, act.reason) for act in self.crew.acts.newest()]

    def states(self):
        return {(run.slot, run.state) for run in self.crew.runs(limit=100)}


@contextmanager
def hourly(url, lease=2.0):
    found = Hourly(url, lease)
    found.crew.migrate()
    yield found
    found.crew.close()


def hours(*ago):
    return [this_hour() - number * HOUR for number in ago]


def test_slots_that_were_missed_are_run_the_oldest_first_and_the_mark_stays(database_url):
    with hourly(database_url) as job:
        job.passed_over(6)
        before = job.crew.status()[0].standing
        reports = job.backfill(4, 2, caller="ada")
        assert job.ran == [report.slot for report in reports] == hours(4, 3, 2)
        assert {report.outcome for report in reports} == {"succeeded"}
        after = job.crew.status()[0].standing
        assert (after.mark, after.run, after.fence) == (before.mark, None, before.fence + 3)
        told = [run for run in job.crew.runs() if run.state == "missed"]
        assert [run.reason.partition(" from ")[0] for run in told] == ["5 slots"], "that nobody ran them stays true"
        assert [run.caller for run in job.crew.runs() if run.slot in hours(4, 3, 2)] == ["ada"] * 3
        assert job.backfill(4, 2) == []
        (act,) = job.acts()
        assert act == ("ada", "backfill", "report", f"slots from {instant(hours(4)[0])} to {instant(hours(2)[0])}")
        assert job.crew.tick(trigger="ticker") == []
        job.ran.clear()
        job.backfill(9)
        assert job.ran == hours(5, 1), "what ran is left alone, and so is what the ledger does not know"


def test_a_slot_that_failed_is_tried_again_as_the_same_run(database_url):
    with hourly(database_url) as job:
        job.passed_over(4)
        job.fails = set(hours(2))
        failed = next(report for report in job.backfill(3, 1) if report.outcome == "failed")
        assert job.ran == hours(3, 2, 1), "one that fails keeps no other from being run"
        job.ran, job.fails = [], set()
        (again,) = job.backfill(3, 1)
        assert (job.ran, again.outcome, again.run) == (hours(2), "succeeded", failed.run)
        assert job.crew.run("report", trigger="http", slot=hours(2)[0]).outcome == "already_done"


def test_the_latest_slot_that_failed_is_run_once_whether_by_backfill_or_by_a_caller(database_url):
    with hourly(database_url) as job:
        job.crew.status()
        job.rewrite(mark=this_hour() - HOUR, epoch_at=this_hour() - AGE * HOUR)
        job.fails = set(hours(0))
        job.crew.tick(trigger="ticker")
        job.fails = set()
        assert [report.outcome for report in job.backfill(0)] == ["succeeded"]
        assert job.crew.run("report", trigger="http").outcome == "already_done"
        assert job.ran == hours(0, 0)


def test_slots_that_nobody_has_come_to_yet_are_run_and_move_the_mark_on(database_url):
    with hourly(database_url) as job:
        job.crew.status()
        job.rewrite(mark=this_hour() - 4 * HOUR, epoch_at=this_hour() - AGE * HOUR)
        job.backfill(2, 1)
        assert job.ran == hours(2, 1)
        assert job.crew.status()[0].standing.mark == this_hour() - HOUR
        assert (this_hour() - 3 * HOUR, "missed") in job.states()


def test_slots_of_a_pause_are_run_and_those_that_were_cancelled_are_not(database_url):
    with hourly(database_url) as job:
        job.passed_over(1)
        job.rewrite(mark=this_hour() - 3 * HOUR)
        job.crew.pause("report", by="ada", reason="a move")
        job.rewrite(paused_at=this_hour() - 150 * timedelta(minutes=1))
        job.crew.resume("report")
        job.crew.backfill("report", *hours(1, 1))
        assert job.ran == hours(1)
        with job.crew._station.link.transaction() as connection:
            connection.execute(sa.update(run_table).where(run_table.c.slot == hours(1)[0]).values(state="cancelled"))
        assert job.crew.backlog("report", *hours(1, 1)) == []


def test_two_who_backfill_at_once_run_each_slot_once(server_url):
    with hourly(server_url) as job, hourly(server_url) as other:
        job.passed_over(9)
        threads = [threading.Thread(target=one.backfill, args=[8, 1]) for one in (job, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(job.ran + other.ran) == sorted(hours(*range(1, 9)))


def test_what_was_broken_off_is_gone_on_with_by_the_same_call(database_url):
    with hourly(database_url) as job:
        job.passed_over(5)
        stop = threading.Event()

        def breaks_off(run):
            job.ran.append(run.slot)
            if run.slot == hours(3)[0] and not stop.is_set():
                stop.set()
                return run.should_stop and None
            return 1

        whole = job.crew.jobs["report"]
        job.crew._jobs["report"] = whole.but(function=breaks_off)
        assert [report.outcome for report in job.backfill(4, 1, stop=stop)] == ["succeeded", "partial"]
        job.crew._jobs["report"] = whole
        job.backfill(4, 1)
        assert job.ran == hours(4, 3, 3, 2, 1)


def test_the_slot_that_is_due_goes_before_those_that_have_passed(server_url):
    with hourly(server_url) as job, hourly(server_url) as other:
        job.passed_over(4)
        job.rewrite(mark=this_hour() - HOUR)
        with job.crew._station.link.transaction() as connection:
            connection.execute(sa.delete(run_table).where(run_table.c.slot == this_hour()))
        ticking = threading.Timer(0.6, lambda: other.crew.tick(trigger="ticker"))
        ticking.start()
        job.backfill(3, 2)
        ticking.join()
        assert (other.ran, job.ran) == (hours(0), hours(3, 2))
        finished = [run.slot for run in sorted(job.crew.runs(), key=lambda run: run.moment) if run.state == "done"]
        assert finished == hours(0, 3, 2)


def test_a_pause_ends_it(database_url):
    with hourly(database_url) as job:
        job.passed_over(5)
        job.crew.pause("report", by="ada", reason="a move")
        assert [report.outcome for report in job.backfill(4, 1)] == ["paused"]
        assert job.ran == []


def test_what_cannot_be_meant_is_refused_in_a_sentence_and_nothing_is_run(database_url):
    with hourly(database_url) as job:
        job.passed_over(3)
        crew, now = job.crew, this_hour()
        crew.expire("sweep", "notes", column="created_at", every="1 hour")
        crew.add(Job("asleep", every(HOUR), function=job.report, enabled=False))
        crew.status()
        wrong = {
            "takes what has expired by now, .*: one run .* 'nightcrew run sweep --now'": ("sweep", now - HOUR, now),
            "job 'asleep' is disabled": ("asleep", now, now),
            "from what is '2026' .str.; write an aware datetime": ("report", "2026", now),
            "to 2026-01-01T00:00:00 has no time zone: write it in UTC": ("report", now, datetime(2026, 1, 1)),  # noqa: DTZ001
            "ends before it begins": ("report", now, now - HOUR),
            "ends in the future": ("report", now, now + 2 * HOUR),
            "begins before its schedule did, at ": ("report", now - (AGE + 1) * HOUR, now),
        }
        for sentence, asked in wrong.items():
            with pytest.raises(UsageError, match=sentence):
                crew.backfill(*asked)
        job.rewrite(epoch_at=now - (MOST + 9) * HOUR)
        with pytest.raises(UsageError, match=r"more than 1,000 slots: let it end with .*, and go on from"):
            job.backfill(MOST, 0)
        assert job.ran == []


def test_the_command_lists_the_slots_and_then_runs_them(tmp_path, monkeypatch, capsys):
    url = f"sqlite:///{tmp_path}/shop.db"
    with hourly(url) as job:
        job.passed_over(3)
    (tmp_path / "backfilling.py").write_text(
        f"from nightcrew import Nightcrew\ncrew = Nightcrew({url!r})\n"
        "crew.job(every='1 hour', name='report')(lambda run: 1)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    first, last = (f"{hour:%Y-%m-%dT%H:%MZ}" for hour in hours(2, 1))
    words = ["--app", "backfilling:crew", "backfill", "report", "--from", first, "--to"]
    assert command(nightcrew, [*words, last, "--list"], Desk()) == 0
    assert capsys.readouterr().out == "".join(f"{hour:%Y-%m-%d %H:%MZ}\n" for hour in hours(2, 1))
    assert command(nightcrew, [*words, last, "-q"], Desk()) == 0
    assert capsys.readouterr().out == "✓ Job report ran and counted 1.\n" * 2
    assert command(nightcrew, [*words, last], Desk()) == 0
    assert capsys.readouterr().out == "no slot of that time is left to run\n"
    assert command(nightcrew, [*words, "2001-01-01T00:00Z"], Desk()) == 2
    assert "ends before it begins" in capsys.readouterr().err


@pytest.mark.parametrize("lease", [0.5, 2.0])
def test_however_short_the_lease_a_slot_that_no_ticker_comes_for_keeps_none_of_the_past_from_being_run(tmp_path, lease):
    with hourly(f"sqlite:///{tmp_path}/x.db", lease) as job:
        job.passed_over(6)
        job.rewrite(mark=this_hour() - HOUR)  # so that the slot of this hour is due once more, as it seems
        assert [report.outcome for report in job.backfill(4, 3)] == ["succeeded"] * 2
        assert job.ran == hours(4, 3)
