"""A job's row that somebody's transaction holds, as who died or froze in a batch does: no look at all jobs waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import jobs, ranges

DAILY = cron("0 0 * * *")
PROMPT = 0.7  # seconds: a server lets nobody wait for less than one


@pytest.fixture
def crew(server_url):
    """A crew with a run of a job that its holder has left, and another job whose slot is due."""
    crew = Nightcrew(server_url, settings=Settings())
    for name in ("held", "other"):
        crew.add(Job(name, DAILY, function=lambda run: 1))
    crew.migrate()
    crew.tick(trigger="ticker")
    rewrite(crew, "held", epoch_at=today() - timedelta(minutes=1))
    claims = crew._station.claims
    (claim,) = claims.due(crew.jobs.values(), "ticker")
    claims.release(claim)
    rewrite(crew, "held", lease_until=ago(1))
    rewrite(crew, "other", epoch_at=today() - timedelta(minutes=1))
    yield crew
    crew.close()


def rewrite(crew, job, **values):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.name == job).values(**values))


def today():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def ago(minutes):
    return datetime.now(UTC) - timedelta(minutes=minutes)


def standing(crew):
    return next(one for one in crew.status() if one.job.name == "held").standing


@contextmanager
def held(crew) -> Iterator[None]:
    """Hold the row as a batch does, whose process has died meanwhile."""
    with crew._station.link.transaction() as connection:
        row = sa.select(jobs.c.name).where(jobs.c.name == "held").with_for_update(read=True)
        assert connection.execute(row).first()
        yield


def look(crew):
    """Return the jobs that a look claims something of, and let them have been done; it is prompt."""
    begun = time.monotonic()
    works = crew.hand_out(start=False, stop=threading.Event())
    took = time.monotonic() - begun
    for work in works:
        work()
    crew._station.settler.close()
    return sorted(work.args[0].job.name for work in works), took


def passed_by(crew):
    """Look thrice while the row is held, for a machine may be busy with something else."""
    with held(crew):
        looks = [look(crew) for _ in range(3)]
    assert [found for found, _ in looks] == [["other"], [], []]
    assert min(took for _, took in looks) < PROMPT
    return looks


def test_a_run_that_was_left_is_taken_over_once_its_row_is_free_and_keeps_no_other_waiting(crew):
    passed_by(crew)
    assert look(crew)[0] == ["held"]
    assert [run.state for run in crew.runs("held")] == ["done"]


def test_so_is_one_of_which_a_range_is_held(crew):
    run, fence = standing(crew).run, standing(crew).fence
    divisions = crew._station.ranges
    with crew._station.link.transaction() as connection:
        divisions.cut(connection, run, fence, {}, [{}, {}], "rows")
    with crew._station.link.transaction() as connection:
        row = sa.select(ranges.c.number).where(ranges.c.run == run, ranges.c.number == 2).with_for_update()
        assert connection.execute(row).first()
        looks = [look(crew) for _ in range(3)]
    assert [found for found, _ in looks] == [["other"], [], []]
    assert min(took for _, took in looks) < PROMPT
    assert look(crew)[0] == ["held"]


def test_a_run_that_was_cancelled_ends_once_its_row_is_free(crew):
    run = standing(crew).run
    rewrite(crew, "held", cancelled_run=run, cancelled_by="carol", cancelled_reason="")
    passed_by(crew)
    assert (look(crew)[0], crew.runs("held")[0].state) == ([], "cancelled")


def test_a_run_that_killed_its_holders_is_buried_once_its_row_is_free(crew):
    rewrite(crew, "held", attempt=LOSSES)
    passed_by(crew)
    assert (look(crew)[0], crew.runs("held")[0].state) == ([], "failed")


def test_a_pause_that_is_over_ends_once_its_row_is_free(crew):
    rewrite(crew, "held", paused_at=ago(9), paused_until=ago(5), paused_by="alice", paused_reason="a reason")
    passed_by(crew)
    look(crew)
    assert standing(crew).paused_at is None


def test_who_asks_for_a_schedule_is_answered_once_the_row_is_free(crew):
    rewrite(crew, "held", rival="another schedule", rival_since=ago(0.5))
    passed_by(crew)
    assert standing(crew).rival == "another schedule"
    look(crew)
    assert standing(crew).rival is None


def test_a_crew_that_starts_is_not_kept_from_it(crew):
    changed = Nightcrew(crew._station.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    for name in ("held", "other"):
        changed.add(Job(name, every("6 hours") if name == "held" else DAILY, function=lambda run: 1))
    with held(crew):
        assert look(changed)[0] == ["other"]
    changed.close()


@pytest.mark.parametrize("minutes", [None, 2])
def test_a_schedule_is_asked_for_or_comes_into_force_once_the_row_is_free(crew, monkeypatch, minutes):
    monkeypatch.setattr("nightcrew.rivalry.PATIENCE", timedelta(seconds=0))
    other = every("12 hours")
    if minutes is not None:
        rewrite(crew, "held", rival=crew.jobs["held"].schedule.meaning, rival_since=ago(minutes))
    rewrite(crew, "held", schedule=other.expression, timezone=other.timezone, meaning=other.meaning)
    passed_by(crew)
    assert standing(crew).meaning == other.meaning
    look(crew)
    ours = crew.jobs["held"].schedule.meaning
    assert ours in (standing(crew).rival, standing(crew).meaning)


# ── who asks for this very job ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "values",
    [
        {"cancelled_run": True},
        {"attempt": LOSSES},
        {"paused_at": ago(9), "paused_until": ago(5), "paused_by": "alice", "paused_reason": "a reason"},
        {"rival": "another schedule", "rival_since": ago(0.5)},
    ],
    ids=["cancelled", "used up", "paused", "asked"],
)
def test_a_caller_hears_that_somebody_is_at_it_and_no_error(crew, values):
    if "cancelled_run" in values:
        values = {"cancelled_run": standing(crew).run, "cancelled_by": "carol"}
    rewrite(crew, "held", **values)
    with held(crew):
        report = crew.run("held", trigger="http")
    assert (report.outcome, "being run elsewhere" in report.message) == ("in_progress_elsewhere", True)


def test_who_cancels_a_run_that_somebodys_transaction_holds_is_told_that_it_will_end(crew):
    run, fence = standing(crew).run, standing(crew).fence
    with crew._station.link.transaction() as connection:
        crew._station.ranges.cut(connection, run, fence, {}, [{}, {}], "rows")
    with crew._station.link.transaction() as connection:
        connection.execute(sa.select(ranges.c.number).where(ranges.c.run == run).with_for_update()).all()
        assert crew.cancel(run, by="carol").state == "running"
    look(crew)
    assert crew.runs("held")[0].state == "cancelled"
