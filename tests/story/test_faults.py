"""What goes wrong on the way is told, retried or handed on, and nothing is lost by it."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.errors import DatabaseError

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC).replace(tzinfo=None)
LEASE = 2.5  # seconds: longer than a batch waits for a row


@pytest.fixture
def crew(database_url):
    """A crew with one job over 300 expired tokens, swept by range."""
    crew = Nightcrew(database_url, settings=Settings(), lease=LEASE)
    tokens = sa.Table(
        "tokens",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
    )
    with crew._station.link.transaction() as connection:
        tokens.create(connection)
        rows = [{"id": n, "expires_at": LONG_AGO + timedelta(seconds=n)} for n in range(300)]
        connection.execute(sa.insert(tokens), rows)
    crew.migrate()
    crew.expire("sweep", "tokens", column="expires_at", every="1 day", max_fraction=1)
    yield crew
    crew.close()


def left(crew):
    with crew._station.link.transaction(writes=False) as connection:
        return connection.execute(sa.text("SELECT count(*) FROM tokens")).scalar_one()


def test_a_row_that_somebody_holds_stops_nobody_and_goes_once_it_is_free(crew):
    held, release = threading.Event(), threading.Event()

    def hold():
        with crew._station.link.transaction() as connection:
            connection.execute(sa.text("UPDATE tokens SET expires_at = expires_at WHERE id = 150"))
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    if crew._station.link.dialect.migrates_itself:  # one writer at a time: it waits for the other to end
        threading.Timer(1.0, release.set).start()
        assert crew.run("sweep", trigger="http").deleted == 300
    else:
        first = crew.run("sweep", trigger="http")
        assert (first.outcome, first.deleted, left(crew)) == ("succeeded", 299, 1)
        still = crew.run("sweep", trigger="cli", now=True)
        assert (still.deleted, still.remaining) == (0, 1) or still.outcome == "failed"
        assert "has expired" not in still.message, "what is held is not what is not there"
        release.set()
        holder.join()
        assert crew.run("sweep", trigger="cli", now=True).deleted == 1
    release.set()
    holder.join()
    assert left(crew) == 0


def test_an_error_nobody_foresaw_fails_the_run_and_does_not_go_round_for_ever(crew, monkeypatch):
    def odd(*_):
        raise OverflowError("int too large to convert")

    monkeypatch.setattr(crew._station.database, "take", odd)
    report = crew.run("sweep", trigger="http")
    assert (report.outcome, crew.runs()[0].state) == ("failed", "failed")
    assert "OverflowError" in report.error


def test_a_session_ended_by_the_server_in_the_middle_costs_one_batch_of_work_and_no_row_of_account(
    crew, database_url, monkeypatch
):
    if database_url.startswith("sqlite"):
        return  # it has no server to end a session
    take, calls = crew._station.database.take, []

    def breaks(connection, *arguments, **how):
        calls.append(1)
        if len(calls) == 1:
            kill(crew, connection)
        return take(connection, *arguments, **how)

    monkeypatch.setattr(crew._station.database, "take", breaks)
    report = crew.run("sweep", trigger="http")
    assert (report.outcome, report.deleted, left(crew)) == ("succeeded", 300, 0)
    assert sum(entry["facts"]["rows"] for entry in crew.entries(report.run) if entry["kind"] == "batch") == 300


def test_a_commit_whose_answer_was_lost_is_counted_once(crew, monkeypatch):
    transaction, calls = crew._station.database.transaction, []

    @contextlib.contextmanager
    def loses_the_answer(*terms, **how):
        with transaction(*terms, **how) as connection:
            yield connection
        calls.append(1)
        if len(calls) == 1:
            raise DatabaseError("the connection was lost", transient=True)

    monkeypatch.setattr(crew._station.database, "transaction", loses_the_answer)
    report = crew.run("sweep", trigger="http")
    batches = [entry for entry in crew.entries(report.run) if entry["kind"] == "batch"]
    assert (report.deleted, sum(entry["facts"]["rows"] for entry in batches), left(crew)) == (300, 300, 0)


def test_a_database_that_goes_away_leaves_the_run_to_whoever_finds_it_back(crew, monkeypatch):
    def away(*_, **__):
        raise DatabaseError("database cannot be reached", transient=True, away=True)

    with monkeypatch.context() as patch:
        patch.setattr("nightcrew.walk._RETRIES", 1)
        patch.setattr(crew._station.database, "take", away)
        patch.setattr(crew._station.books, "settle", away)
        with pytest.raises(DatabaseError):
            crew.run("sweep", trigger="http")
    assert crew.run("sweep", trigger="http").outcome == "in_progress_elsewhere"
    threading.Event().wait(LEASE + 0.1)
    assert crew.run("sweep", trigger="http").deleted == 300


def kill(crew, connection):
    """End a connection's session on the server, as a restart or an administrator does."""
    if crew._station.link.engine.dialect.name == "postgresql":
        number = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        end = f"SELECT pg_terminate_backend({number})"
    else:
        number = connection.execute(sa.text("SELECT CONNECTION_ID()")).scalar_one()
        end = f"KILL {number}"
    with crew._station.link.engine.connect() as other:
        other.exec_driver_sql(end)


def test_a_foreign_key_that_appears_too_late_fails_the_run_with_its_name_and_deletes_nothing(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE uses (id INTEGER PRIMARY KEY, token_id INTEGER, "
                                   "FOREIGN KEY (token_id) REFERENCES tokens (id))"))  # fmt: skip
        connection.execute(sa.text("INSERT INTO uses VALUES (1, 7)"))
    report = crew.run("sweep", trigger="http")
    assert (report.outcome, report.deleted, left(crew)) == ("failed", 0, 300)
    assert "uses" in report.error
    assert "erase" in report.error


def test_an_interrupt_hands_the_run_over_at_once(crew):
    def interrupt(run):
        raise KeyboardInterrupt

    crew.job(every="1 day", name="interrupted")(interrupt)
    with pytest.raises(KeyboardInterrupt):
        crew.run("interrupted", trigger="cli")
    (run,) = crew.runs("interrupted")
    assert run.state == "partial"
    again = crew.status()[1].standing
    assert (again.run, again.owner) == (run.id, None), "whoever comes next need not wait for the lease"


def test_a_job_whose_table_is_gone_fails_loudly_and_the_other_jobs_go_on(crew):
    crew.expire("sweep-nothing", "no_such_table", column="expires_at", every="1 day")
    assert crew.run("sweep-nothing", trigger="http").outcome == "failed"
    assert crew.run("sweep", trigger="http").outcome == "succeeded"
