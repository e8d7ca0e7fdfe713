"""A long run is cut into ranges that several crews share, and is one run all the same."""

import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.story.test_ranges import FRESH, fill, left

from nightcrew import Nightcrew, Settings
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import ranges as range_table
from nightcrew.errors import UsageError

ROWS = 10_000


@pytest.fixture
def yard(server_yard):
    """Tokens of which most have expired, and a few have not."""
    fill(server_yard, ROWS)
    return server_yard


@contextmanager
def hired(yard, listeners=(), **terms):
    """Hire a crew that calls others, who are noted, to a run of more than 2,000 rows."""
    url = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)
    crew = Nightcrew(url, settings=Settings(), listeners=listeners)
    terms = {
        "older_than": timedelta(days=1),
        "every": "1 day",
        "max_fraction": 1,
        "fan_out": 2_000,
        "pace": "fast",
        **terms,
    }
    crew.expire("sweep", "tokens", column=terms.pop("column", "left_at"), **terms)
    crew.migrate()
    crew.called = []
    crew.spread = lambda job, run, numbers: crew.called.append((job, run, list(numbers)))
    yield crew
    crew.close()


def accounted(crew, run):
    """Return how many batches there were in each range, and the rows of them all."""
    facts = [entry["facts"] for entry in crew.entries(run) if entry["kind"] == "batch"]
    return {fact.get("range") for fact in facts}, sum(fact["rows"] for fact in facts)


def whole(crew, yard, run, rows=ROWS):
    """Tell that a run took what it should, and that all accounts agree."""
    numbers, batches = accounted(crew, run)
    (row,) = crew.runs()
    assert (row.id, row.state, row.deleted, row.counts) == (run, "done", rows, {"tokens": rows})
    assert (batches, left(yard)) == (rows, FRESH)
    return numbers


@pytest.mark.parametrize("column", ["ends_at", "left_at"])
def test_nobody_comes_and_one_goes_through_all_ranges(yard, column):
    with hired(yard, column=column) as crew:
        report = crew.run("sweep")
        assert (report.outcome, report.deleted) == ("succeeded", ROWS)
        assert len(whole(crew, yard, report.run) - {None, 0}) > 2
        ((job, run, numbers),) = crew.called
        assert (job, run, numbers[0]) == ("sweep", report.run, 2)


def test_several_crews_share_a_run_and_one_of_them_says_how_it_ended(yard):
    reports = []
    with hired(yard) as crew, hired(yard) as other, hired(yard) as third:
        threads = []

        def spread(job, run, numbers) -> None:
            for each, number in zip((other, third, other), numbers, strict=False):
                call = lambda each=each, number=number: each.join(job, run, trigger="celery", called=number)  # noqa: E731
                threads.append(threading.Thread(target=lambda call=call: reports.append(call())))
                threads[-1].start()

        crew.spread = spread
        reports.append(crew.run("sweep"))
        for thread in threads:
            thread.join()
        ends = [report.outcome for report in reports if report]
        assert ends.count("succeeded") == 1
        assert set(ends) <= {"succeeded", "in_progress_elsewhere"}
        run = reports[-1] or reports[0]
        whole(crew, yard, run.run)
        assert other.join("sweep", run.run, trigger="celery", called=2) is None, "who comes late goes again"


def test_a_small_run_and_one_of_rows_that_cannot_be_parted_keep_to_one_range(yard):
    with hired(yard, fan_out=20_000, pace="steady") as crew:
        report = crew.run("sweep")
        assert whole(crew, yard, report.run) == {None}
        assert crew.called == []


def test_a_pause_stops_a_shared_run_and_whoever_resumes_it_goes_on_in_the_ranges_that_are_left(yard):
    def pause(entry) -> None:
        if entry.kind == "batch" and crew.called:
            crew.pause("sweep", by="anna", reason="audit")

    with hired(yard, [pause]) as crew:
        report = crew.run("sweep")
        assert report.outcome == "paused"
        assert crew.runs()[0].deleted == report.deleted == ROWS + FRESH - left(yard)
    with hired(yard) as crew:
        crew.resume("sweep")
        whole(crew, yard, crew.run("sweep").run)


def test_a_deadline_hands_a_shared_run_over_with_what_was_taken_by_then(yard):
    with hired(yard, pace="steady") as crew:
        first = crew.run("sweep", deadline=timedelta(milliseconds=1))
        assert first.outcome == "partial"
        assert crew.runs()[0].deleted == first.deleted
        whole(crew, yard, crew.run("sweep").run)


def test_whoever_lost_a_range_to_another_takes_nothing_more_in_it(yard):
    """A process that is frozen for longer than its lease is as good as dead to the others."""
    joined = []

    def freeze(entry) -> None:
        if entry.kind == "batch" and crew.called and not joined:
            with crew._station.link.transaction() as connection:
                past = datetime.now(UTC) - timedelta(seconds=1)
                connection.execute(sa.update(range_table).values(lease_until=past))
            joined.append(other.join("sweep", entry.run, trigger="celery", called=1))

    with hired(yard, [freeze], pace="steady") as crew, hired(yard) as other:
        report = crew.run("sweep")
        assert (report.outcome, joined[0].outcome) == ("already_done", "succeeded")
        assert joined[0].message in report.message, "who comes back says what became of the run meanwhile"
        whole(crew, yard, report.run)


def test_rows_that_somebody_held_in_any_range_are_taken_at_the_end(yard):
    holder = yard.link.engine.connect()
    holder.execute(sa.text("SELECT id FROM tokens WHERE id IN (3, 6000, 9999) FOR UPDATE"))

    def let_go(entry) -> None:
        if entry.kind == "batch" and entry.facts["rows"] and ROWS + FRESH - left(yard) == ROWS - 3:
            holder.rollback()

    with hired(yard, [let_go]) as crew:
        whole(crew, yard, crew.run("sweep").run)
    holder.close()


def test_no_more_goes_than_was_there_when_the_run_began_whoever_takes_it(yard):
    def flood(entry) -> None:
        if entry.kind == "cut":
            yard.run(f"INSERT INTO tokens SELECT id + 1000000, ends_at, left_at, pad FROM tokens WHERE id <= {ROWS}")

    with hired(yard, [flood], max_fraction=0.95) as crew:
        report = crew.run("sweep")
        assert report.outcome == "refused"
        assert "came upon more rows of tokens" in report.message
        assert 0 < crew.runs()[0].deleted <= 1.2 * ROWS + 100


def test_another_policy_goes_through_all_that_is_left_by_itself(yard):
    with hired(yard) as crew:
        crew.run("sweep", deadline=timedelta(milliseconds=1))
    with hired(yard, column="ends_at") as crew:
        report = crew.run("sweep")
        assert report.outcome == "succeeded"
        whole(crew, yard, report.run)


def test_where_nobody_can_be_called_the_run_ends_all_the_same_and_says_so(yard):
    heard = []

    def broken(*_: object) -> None:
        raise ConnectionError("no broker")

    with hired(yard, [heard.append]) as crew:
        crew.spread = broken
        whole(crew, yard, crew.run("sweep").run)
        assert [entry.facts["error"] for entry in heard if entry.kind == "not_called"] == ["ConnectionError: no broker"]


def test_a_shared_run_that_is_cancelled_ends_for_everybody_with_what_all_had_taken_by_then(yard):
    reports, threads = [], []

    def cancel(entry) -> None:
        if entry.kind == "batch" and entry.run in crew.called:
            with suppress(UsageError):  # it is over by now
                crew.cancel(entry.run, by="anna", reason="wrong table")

    with hired(yard, [cancel], pace="steady") as crew, hired(yard, pace="steady") as other:

        def spread(job, run, numbers) -> None:
            crew.called.append(run)
            join = lambda: reports.append(other.join(job, run, trigger="celery", called=numbers[0]))  # noqa: E731
            threads.append(threading.Thread(target=join))
            threads[-1].start()

        crew.spread = spread
        reports.append(crew.run("sweep"))
        for thread in threads:
            thread.join()
        (row,) = crew.runs()
        assert {report.outcome for report in reports if report} <= {"cancelled", "in_progress_elsewhere"}
        assert reports[-1].outcome == "cancelled" or reports[0].outcome == "cancelled"
        assert "taken over" not in "".join(report.message for report in reports if report)
        assert (row.state, row.counts["tokens"]) == ("cancelled", ROWS + FRESH - left(yard))
        assert accounted(crew, row.id)[1] == row.deleted == row.counts["tokens"] < ROWS
        assert "cancelled by anna: wrong table" in row.reason
        assert other.join("sweep", row.id, trigger="celery", called=3) is None, "who comes late finds it over"
        crew.spread = None
        again = crew.run("sweep", now=True)
        assert (again.outcome, again.deleted, left(yard)) == ("succeeded", ROWS - row.deleted, FRESH)


def test_a_shared_run_whose_holders_die_is_buried_with_what_they_had_taken_and_no_range_goes_on(yard):
    with hired(yard, pace="steady") as crew:
        first = crew.run("sweep", deadline=timedelta(milliseconds=1))
        with crew._station.link.transaction() as connection:
            past = datetime.now(UTC) - timedelta(seconds=1)
            held = {"owner": "dead", "lease_until": past, "attempt": LOSSES}
            connection.execute(sa.update(job_table).values(**held))
            connection.execute(sa.update(range_table).where(range_table.c.number > 0).values(lease_until=past))
        buried = crew.run("sweep")
        assert (buried.outcome, buried.run) == ("failed", first.run)
        assert f"{first.deleted:,} rows were removed before" in buried.details
        (row,) = crew.runs()
        assert (row.state, row.deleted, ROWS + FRESH - left(yard)) == ("failed", first.deleted, first.deleted)
        assert crew.adrift() == []
        assert crew.join("sweep", first.run, trigger="celery", called=2) is None
