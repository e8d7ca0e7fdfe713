"""Slots that fall due while the run before is still at work: the latest is run right after, or all are skipped."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.errors import ConfigurationError

HOUR = timedelta(hours=1)


def this_hour():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


class Slow:
    """A crew with an hourly function, the run of which may have begun hours ago."""

    def __init__(self, url, overlap):
        self.crew = Nightcrew(url, settings=Settings(), lease=2.0)
        self.ran, self.fails = [], False
        self.crew.add(Job("slow", every(HOUR), function=self.work, overlap=overlap))
        self.crew.migrate()
        self.crew.status()
        self.rewrite(mark=this_hour() - 4 * HOUR, epoch_at=this_hour() - 9 * HOUR)

    def work(self, run):
        self.ran.append(run.slot)
        if self.fails:
            raise ValueError("no such bucket")
        return 1

    def rewrite(self, **values):
        with self.crew._station.link.transaction() as connection:
            connection.execute(sa.update(job_table).values(**values))

    def began(self, hours):
        """Claim a slot of hours ago, as if that was when it was claimed."""
        claims, slot = self.crew._station.claims, this_hour() - hours * HOUR
        claim = claims.of_slot(self.crew.jobs["slow"], "http", None, slot)
        with self.crew._station.link.transaction() as connection:
            moment = slot + timedelta(seconds=1)
            connection.execute(sa.update(run_table).where(run_table.c.id == claim.run).values(moment=moment))
        return claim

    def dies(self, claim):
        self.crew._station.claims.release(claim)
        self.rewrite(lease_until=datetime.now(UTC) - timedelta(seconds=1))

    def skipped(self):
        return [run.reason.partition(" from ")[0] + run.reason.partition("Z:")[2] for run in self.of("skipped")]

    def of(self, state):
        return [run for run in self.crew.runs() if run.state == state]


@pytest.fixture
def skips(database_url):
    slow = Slow(database_url, "skip")
    yield slow
    slow.crew.close()


WHY = " the run before was still at work"


def test_by_default_the_latest_is_run_right_after(database_url):
    slow = Slow(database_url, "buffer")
    slow.dies(slow.began(3))
    assert [report.slot for report in slow.crew.tick(trigger="ticker")] == [this_hour() - 3 * HOUR]
    assert [report.slot for report in slow.crew.tick(trigger="ticker")] == [this_hour()]
    assert slow.crew.tick(trigger="ticker") == []
    assert slow.skipped() == []
    slow.crew.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_skips_them_says_so_also_where_its_holder_died_and_was_taken_over(skips, fails):
    skips.fails = fails
    skips.dies(skips.began(3))
    (report,) = skips.crew.tick(trigger="ticker")
    assert (report.slot, report.outcome) == (this_hour() - 3 * HOUR, "failed" if fails else "succeeded")
    assert skips.crew.tick(trigger="ticker") == []
    assert skips.skipped() == ["3 slots" + WHY]
    assert skips.crew.status()[0].standing.mark == this_hour()
    answer = skips.crew.run("slow", trigger="http", slot=this_hour() - HOUR)
    assert (answer.outcome, "ended as skipped" in answer.message) == ("already_done", True)
    skips.fails = False
    skips.rewrite(mark=this_hour() - HOUR)
    assert [report.slot for report in skips.crew.tick(trigger="ticker")] == [this_hour()], "the next slot, as usual"
    assert skips.ran == [this_hour() - 3 * HOUR, this_hour()]


def test_a_run_that_hands_over_skips_nothing_until_it_ends(skips):
    claim = skips.began(2)
    skips.crew._stopping.set()
    assert skips.crew._carry_out(claim, _stopped(skips)).outcome == "partial"
    assert skips.skipped() == []
    skips.crew._stopping.clear()
    skips.crew.tick(trigger="ticker")
    assert skips.skipped() == ["2 slots" + WHY]


def _stopped(skips):
    from nightcrew.clock import Budget

    return Budget.of(skips.crew.clock, stop=skips.crew._stopping)


def test_a_run_that_is_buried_or_cancelled_skips_them_too(skips):
    claim = skips.began(3)
    skips.dies(claim)
    skips.rewrite(attempt=LOSSES)
    assert [report.outcome for report in skips.crew.tick(trigger="ticker")] == ["failed"]
    assert skips.skipped() == ["3 slots" + WHY]
    assert skips.crew.tick(trigger="ticker") == []
    skips.rewrite(mark=this_hour() - 3 * HOUR)
    skips.dies(skips.began(1))
    skips.crew.cancel(f"slow.{this_hour() - HOUR:%Y%m%dT%H%M%SZ}", by="ops")
    assert skips.crew.tick(trigger="ticker") == []
    assert skips.ran == []
    assert skips.crew.status()[0].standing.mark == this_hour()


def test_slots_that_were_due_before_the_run_began_are_not_skipped_by_it(skips):
    """A caller who asks for an old slot must not cost those after it."""
    skips.crew.run("slow", trigger="http", slot=this_hour() - 2 * HOUR)
    assert [report.slot for report in skips.crew.tick(trigger="ticker")] == [this_hour()]
    assert skips.skipped() == []


def test_a_slot_that_is_made_up_for_skips_none_that_is_due(skips):
    skips.crew.tick(trigger="ticker")
    (report,) = skips.crew.backfill("slow", this_hour() - HOUR, this_hour() - HOUR)
    assert (report.outcome, skips.skipped()) == ("succeeded", [])


def test_who_runs_each_slot_cannot_skip_any():
    with pytest.raises(ConfigurationError, match=r"catch_up = 'all'.*overlap = 'skip'.*: drop one of the two"):
        Job("slow", every(HOUR), function=print, overlap="skip", catch_up="all")
    with pytest.raises(ConfigurationError, match="there is no overlap 'skp'; did you mean 'skip'"):
        Job("slow", every(HOUR), function=print, overlap="skp")
