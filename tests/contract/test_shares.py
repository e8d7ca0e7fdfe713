"""The ranges of a run that is cut, on every database: one worker at a time in each, none once the claim has gone."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.books import RunRow, Sequel, Stage
from nightcrew.claim import Claim
from nightcrew.databases.divisions import ATTEMPTS
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import ranges as range_table
from nightcrew.errors import ClaimLost, JobPaused, NightcrewError
from nightcrew.outcome import State

LEASE = 30.0


class Run:
    """A run of one job, cut into two ranges."""

    def __init__(self, crew: Nightcrew) -> None:
        self.crew, self.ranges = crew, crew._station.ranges
        self.books, self.database = crew._station.books, crew._station.database
        crew._station.ready(crew.jobs)
        self.claim = self.claimed()
        with self.database.transaction() as connection:
            parts = [{"from": 1, "end": 5}, {"from": 5}]
            self.ranges.cut(connection, self.claim.run, self.claim.fence, {"tokens": 3}, parts, "tokens")

    def claimed(self) -> Claim:
        claim = self.crew._station.claims.of_slot(self.crew.jobs["sweep"], "celery", None)
        assert isinstance(claim, Claim)
        self.crew._station.claims.release(claim)
        return claim

    def take(self, owner="anna", first=None, claim=None):
        claim = claim or self.claim
        return self.ranges.take("sweep", claim.run, claim.fence, owner, LEASE, first)

    def hold(self, taken):
        with self.database.transaction() as connection:
            self.ranges.hold(connection, taken, LEASE)

    def batch(self, taken, total):
        with self.database.transaction() as connection:
            self.ranges.hold(connection, taken, LEASE)
            stage = Stage({"from": 4, "end": 5}, {"tokens": total}, taken.number)
            return self.ranges.account(connection, taken.run, stage, "tokens", LEASE)

    def rewrite(self, table, *where, **values):
        with self.crew._station.link.transaction() as connection:
            connection.execute(sa.update(table).where(*where).values(**values))

    def expire(self, number):
        self.rewrite(range_table, range_table.c.number == number, lease_until=ago(seconds=1))


def ago(**parts):
    return datetime.now(UTC) - timedelta(**parts)


@pytest.fixture
def run(database_url):
    """A run that is cut."""
    crew = Nightcrew(database_url, settings=Settings(), lease=LEASE)
    crew.expire("sweep", "tokens", column="ends_at", schedule="0 0 * * *")
    crew.migrate()
    yield Run(crew)
    crew.close()


def test_each_range_is_taken_once_the_one_that_is_asked_for_if_it_is_free(run):
    assert [run.take(first=2).number, run.take(first=2).number, run.take()] == [2, 1, None]
    assert run.ranges.free(run.claim.run, run.claim.fence) == []


def test_a_range_whose_lease_ran_out_is_somebody_elses_and_the_first_can_take_no_batch_in_it(run):
    first = run.take("anna")
    run.batch(first, 7)
    run.expire(1)
    second = run.take("ben", first=1)
    assert (second.number, second.stage.total, second.begun_at) == (1, {"tokens": 7}, {"from": 1, "end": 5})
    for late in (lambda: run.hold(first), lambda: run.ranges.finish(first, []), lambda: run.ranges.renew(first, LEASE)):
        with pytest.raises(ClaimLost, match=r"range 1 of run .* is somebody else's"):
            late()
    run.ranges.leave(first)
    run.hold(second)


def test_the_rows_of_all_ranges_and_what_went_before_stand_in_the_run(run):
    one, two = run.take("anna"), run.take("ben")
    assert run.batch(one, 10) == {"tokens": 13}
    assert run.batch(two, 20) == run.batch(two, 20) == {"tokens": 33}
    row = run.books.run(run.claim.run)
    assert (row.deleted, row.counts, row.state) == (33, {"tokens": 33}, "running")
    assert [stage.total.get("tokens") for stage in run.books.progress(run.claim.run)] == [3, 10, 20]


def test_whoever_takes_the_run_over_has_every_range_that_is_not_at_its_end(run):
    one, two = run.take("anna"), run.take("ben")
    run.ranges.finish(one, [])
    run.rewrite(job_table, lease_until=ago(seconds=1))
    later = run.claimed()
    assert (later.run, later.fence, later.cut) == (run.claim.run, run.claim.fence + 1, True)
    for of in (run.claim, later):
        assert [of.fence == later.fence and n for n in run.ranges.free(of.run, of.fence)] in ([], [2])
    with pytest.raises(ClaimLost):
        run.hold(two)
    with pytest.raises(ClaimLost):
        run.take()
    assert run.take("carla", claim=later).number == 2
    assert run.take("dora", claim=later) is None


def test_one_alone_looks_again_once_all_ranges_are_at_their_ends_and_another_when_he_has_died(run):
    close = run.ranges.close
    one, two = run.take("anna"), run.take("ben")
    run.ranges.finish(two, [{"from": 5}])
    assert close("sweep", run.claim.run, run.claim.fence, "ben") is None
    run.ranges.finish(one, [])
    assert close("sweep", run.claim.run, run.claim.fence, "anna") == [{"from": 5}]
    assert close("sweep", run.claim.run, run.claim.fence, "ben") is None
    run.rewrite(job_table, lease_until=ago(seconds=1))
    later = run.claimed()
    assert close("sweep", later.run, later.fence, "carla") == [{"from": 5}]
    with pytest.raises(ClaimLost):
        close("sweep", run.claim.run, run.claim.fence, "dora")


def test_a_pause_stops_every_range_after_its_batch(run):
    one = run.take()
    run.crew.pause("sweep", by="anna", reason="audit")
    for late in (lambda: run.hold(one), run.take):
        with pytest.raises(JobPaused, match="audit"):
            late()


def test_what_is_handed_over_or_has_failed_is_taken_from_all_and_keeps_count_of_every_batch(run):
    one = run.take()
    run.batch(one, 10)
    row = RunRow(run.claim.run, "sweep", run.claim.slot, State.PARTIAL, "celery", reason="stopped", deleted=1)
    assert run.books.settle("sweep", run.claim.fence, row, Sequel(), cut=True)
    with pytest.raises(ClaimLost):
        run.hold(one)
    with pytest.raises(ClaimLost):
        run.take()
    stands = run.books.run(run.claim.run)
    assert (stands.deleted, stands.counts, stands.state) == (13, {"tokens": 13}, "partial")
    assert run.take(claim=run.claimed()).stage.total == {"tokens": 10}


def test_a_range_that_kills_whoever_takes_it_is_not_taken_for_ever_and_one_that_makes_progress_is(run):
    for _ in range(ATTEMPTS):
        run.batch(run.take(first=1), 1)
        run.expire(1)
    for _ in range(ATTEMPTS):
        assert run.take(first=1).number == 1
        run.expire(1)
    with pytest.raises(NightcrewError, match=rf"range 1 of run .* was lost {ATTEMPTS} times without a batch"):
        run.take(first=1)


def test_who_leaves_a_range_has_not_lost_it(run):
    for _ in range(ATTEMPTS + 1):
        run.ranges.leave(run.take(first=1))
    assert run.take(first=1).attempt == 0


def test_a_run_that_somebody_works_at_is_adrift_while_it_has_a_range_that_nobody_works_at(run):
    adrift, here = run.ranges.adrift, [("sweep", run.claim.run)]
    one, two = run.take(), run.take()
    assert (adrift(), run.ranges.manned(run.claim.run)) == ([], True)
    run.expire(2)
    assert adrift() == here
    run.ranges.leave(two)
    assert adrift() == here
    run.ranges.leave(one)
    assert not run.ranges.manned(run.claim.run)
    run.rewrite(job_table, lease_until=ago(seconds=1))
    assert adrift() == [], "it is for whoever takes it over"


def test_a_heartbeat_renews_what_is_held_and_not_what_was_lost(run):
    one, two = run.take("anna"), run.take("ben")
    run.expire(1)
    run.expire(2)
    run.take("carla", first=2)
    run.ranges.renew_all([one, two], LEASE)
    assert run.ranges.free(run.claim.run, run.claim.fence) == []
    run.hold(one)
    with pytest.raises(ClaimLost):
        run.hold(two)


@pytest.mark.parametrize("ends", ["take it over", "hand it over"])
def test_batches_go_on_side_by_side_and_whoever_ends_or_takes_the_run_waits_for_each(run, ends):
    if run.crew._station.link.dialect.one_writer:
        return  # nobody else writes while a batch does
    one, two = run.take("anna"), run.take("ben")
    row = RunRow(run.claim.run, "sweep", run.claim.slot, State.PARTIAL, "celery", reason="stopped")
    end = (
        run.claimed
        if ends == "take it over"
        else lambda: run.books.settle("sweep", run.claim.fence, row, Sequel(), cut=True)
    )
    if ends == "take it over":
        run.rewrite(job_table, lease_until=ago(seconds=1))
    ended = []
    with run.database.transaction() as first, run.database.transaction() as second:
        run.ranges.hold(first, one, LEASE)
        run.ranges.hold(second, two, LEASE)
        rival = threading.Thread(target=lambda: (end(), ended.append(ends)))
        rival.start()
        for number, (connection, taken) in enumerate(((first, one), (second, two)), 1):
            rival.join(0.3)
            ended.append(f"batch {number}")
            stage = Stage({"from": 5}, {"tokens": 10}, taken.number)
            run.ranges.account(connection, taken.run, stage, "tokens", LEASE)
            connection.commit()
    rival.join(5)
    assert ended == ["batch 1", "batch 2", ends]
    assert run.books.run(run.claim.run).deleted == 23
