"""A process that is killed in the middle of a sweep costs nothing but time."""

import signal
import time
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from tests.story.mortal import LEASE, crew_with, frozen_in, kill_in

ROWS = 12_000


def test_another_process_finishes_a_sweep_that_was_killed_and_counts_no_batch_twice(database_url):
    """SIGKILL after the fourth batch: the run is taken over once its lease is out, from the last committed batch."""
    crew = crew_with("sweep-tokens", database_url)
    crew.migrate()
    fill(crew._station.link)

    kill_in("sweep-tokens", database_url, batches=4)
    left = count(crew)
    assert 0 < left < ROWS

    early = crew.run("sweep-tokens", trigger="http")
    assert early.outcome == "in_progress_elsewhere", "the dead process's lease still holds"
    time.sleep(LEASE + 0.1)
    report = crew.run("sweep-tokens", trigger="http")

    assert report.outcome == "succeeded"
    assert report.deleted == ROWS, "the report counts what the dead process had done, too"
    assert count(crew) == 1, "the row that never expires stays"
    (run,) = crew.runs()
    assert (run.attempt, run.state, run.deleted) == (2, "done", ROWS)
    batches = [entry for entry in crew.entries(run.id) if entry["kind"] == "batch"]
    assert sum(entry["facts"]["rows"] for entry in batches) == ROWS
    assert {entry["facts"]["fence"] for entry in batches} == {1, 2}
    assert [entry["kind"] for entry in crew.entries(run.id)].count("taken_over") == 1
    crew.close()


def test_a_sweep_that_was_frozen_is_taken_over_within_a_lease_and_does_nothing_more_when_it_thaws(server_url):
    crew = crew_with("sweep-tokens", server_url)
    crew.migrate()
    fill(crew._station.link)
    frozen = frozen_in("sweep-tokens", server_url, batches=2)
    begun = time.monotonic()
    try:
        while not (reports := crew.tick(trigger="ticker")):
            time.sleep(0.05)
        waited = time.monotonic() - begun - reports[0].duration_ms / 1000  # until it was taken over, not until its end
        frozen.send_signal(signal.SIGCONT)
        said, _ = frozen.communicate(timeout=20)
    finally:
        frozen.kill()
    assert [(report.outcome, report.deleted) for report in reports] == [("succeeded", ROWS)]
    assert waited < LEASE + 1
    assert said == "already_done\n"
    (run,) = crew.runs()
    fences = [entry["facts"]["fence"] for entry in crew.entries(run.id) if entry["kind"] == "batch"]
    assert fences == sorted(fences)
    assert fences.count(1) == 2
    crew.close()


def fill(link) -> None:
    """Make a table of tokens revoked long ago, and one that was not."""
    tokens = sa.Table(
        "tokens",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revoked_at", sa.DateTime, index=True),
    )
    start = datetime(2025, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with link.transaction() as connection:
        tokens.create(connection)
        rows = [{"id": n, "revoked_at": start + timedelta(seconds=n // 3)} for n in range(ROWS)]
        connection.execute(sa.insert(tokens), rows)
        connection.execute(sa.insert(tokens).values(id=ROWS, revoked_at=None))


def count(crew) -> int:
    with crew._station.link.engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(*) FROM tokens")).scalar_one()
