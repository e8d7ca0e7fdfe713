"""What has expired as a whole leaves as a whole, on real servers: nothing that stays, and nobody kept waiting."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import opened

from nightcrew import Nightcrew, Settings
from nightcrew.database import Form, Selection
from nightcrew.policy import Policy

MONTHS = ("2024-01-01", "2024-02-01", "2024-03-01")
DIVIDED = {
    "postgresql": (
        "CREATE TABLE events (id bigint, at {kind} NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE events_0 PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2024-01-01')",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')",
        "CREATE TABLE events_rest PARTITION OF events DEFAULT",
    ),
    "mysql": (
        """CREATE TABLE events (id bigint NOT NULL, at {kind} NOT NULL, note varchar(20), PRIMARY KEY (id, at))
           PARTITION BY RANGE {by} (PARTITION events_0 VALUES LESS THAN ({ends[0]}), PARTITION events_1 VALUES LESS THAN
           ({ends[1]}), PARTITION events_2 VALUES LESS THAN ({ends[2]}),
           PARTITION events_rest VALUES LESS THAN MAXVALUE)""",
    ),
}
WAYS = {  # of MySQL, to divide a table by a time
    "columns": ("datetime(6)", "COLUMNS (at)", "'{}'"),
    "to_days": ("datetime(6)", "(TO_DAYS(at))", "TO_DAYS('{}')"),
    "unix_timestamp": ("timestamp(6)", "(UNIX_TIMESTAMP(at))", "UNIX_TIMESTAMP('{} 00:00:00')"),
}
CUT = "2024-02-10 12:00:00"
"""What is before it has expired: two partitions, and some of the third."""


def divide(yard, way="columns", kind=None):
    if yard.kind == "postgresql":
        statements = [text.replace("{kind}", kind or "timestamptz") for text in DIVIDED["postgresql"]]
    else:
        column, by, end = WAYS[way]
        ends = [end.format(month) for month in MONTHS]
        (text,) = DIVIDED["mysql"]
        text = text.format(kind=kind or column, by=by, ends=ends)
        statements = [text.replace("LESS THAN MAXVALUE", "LESS THAN (MAXVALUE)") if way == "columns" else text]
    yard.run(*(text.replace("{", "{{").replace("}", "}}") for text in statements))
    yard.fill(
        "events",
        {"id": 1, "at": "2023-05-05"},
        {"id": 2, "at": "2024-01-05"},
        {"id": 3, "at": "2024-01-31 23:59:59"},
        {"id": 4, "at": "2024-02-01"},
        {"id": 5, "at": "2024-02-20"},
        {"id": 6, "at": "2025-01-01"},
    )


def parts(yard):
    """Return the names of the partitions that there are."""
    if yard.kind == "postgresql":
        ask = (
            "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'events'::regclass ORDER BY 1"
        )
    else:
        ask = (
            "SELECT partition_name FROM information_schema.partitions"
            " WHERE table_schema = DATABASE() AND table_name = 'events' ORDER BY 1"
        )
    with yard.link.engine.connect() as connection:
        return list(connection.execute(sa.text(ask.replace("::", r"\:\:"))).scalars())


WHOLE = ["events_0", "events_1", "events_2", "events_rest"]
RAGGED = ["events_2", "events_rest"]


@contextmanager
def hired(url, yard, **terms):
    """A crew whose job's cut lies where it should: the age is chosen by the database's clock."""
    heard = []
    crew = Nightcrew(url, settings=Settings(), listeners=[heard.append])
    crew.migrate()
    with yard.link.engine.connect() as connection:
        passed = "extract(epoch FROM clock_timestamp() - '{}+00')" if yard.kind == "postgresql" else (
            "timestampdiff(SECOND, '{}', utc_timestamp())"
        )  # fmt: skip
        seconds = connection.execute(sa.text(f"SELECT {passed.format(CUT)}".replace(":", r"\:"))).scalar_one()
    age = timedelta(seconds=float(seconds))
    crew.expire("sweep", "events", column="at", every="1 hour", **{"older_than": age, "max_fraction": 1, **terms})
    crew.heard = heard
    try:
        yield crew
    finally:
        crew.close()


@pytest.fixture(params=["postgresql", *(f"mysql {way}" for way in WAYS)])
def divided(request, lend):
    """A yard with a table that is divided by its time, in each way there is."""
    kind, _, way = request.param.partition(" ")
    with lend(kind) as url, opened(url) as yard:
        divide(yard, way or "columns")
        yield yard, url


def test_whole_partitions_are_dropped_and_the_ragged_edge_leaves_row_by_row(divided):
    yard, url = divided
    with hired(url, yard) as crew:
        plan = crew.plan("sweep")
        (drop, rows) = plan.steps
        assert (drop.how, drop.note.partition(",")[0]) == ("drop", "2 partitions (events_0")
        assert (rows.rows, plan.rows, plan.reach) == (4, 4, {"events": 4})
        report = crew.run("sweep", now=True)
        assert (report.outcome, report.deleted, report.counts) == ("succeeded", 4, {"events": 4})
        assert report.message == "Deleted 4 rows of events, 2 of its partitions whole."
        assert parts(yard) == RAGGED
        assert yard.ids("events") == [5, 6]
        batches = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "batch"]
        assert [(facts.get("partition"), facts["rows"]) for facts in batches] == [
            ("events_0", 1),
            ("events_1", 2),
            (None, 1),
        ]
        assert batches[-1]["total"] == {"events": 4}
        assert crew.run("sweep", now=True).outcome == "nothing_to_do"


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_a_partition_that_ends_at_the_cut_goes_too(postgresql_yard, kind):
    divide(postgresql_yard, kind=kind)
    selection = postgresql_yard.select(Policy("events", "at"), moment=_utc("2024-02-01"))
    assert [part.name for part in postgresql_yard.rows.partitions(selection)] == ["events_0", "events_1"]
    selection = postgresql_yard.select(Policy("events", "at"), moment=_utc("2024-01-31 23:59:59.999999"))
    assert [part.name for part in postgresql_yard.rows.partitions(selection)] == ["events_0"]


def _utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "terms",
    [{"where": "id > 0"}, {"hold": "note = 'held'"}, {"keep_latest": 1}, {"action": "clear", "set": {"note": "x"}}],
    ids=lambda terms: next(iter(terms)),
)
def test_where_a_row_could_be_spared_rows_are_looked_at(server_yard, server_url, terms):
    divide(server_yard)
    if "action" in terms:
        terms = {"action": "anonymize", "set": {"note": "gone"}}
    with hired(server_url, server_yard, **terms) as crew:
        assert [step.how for step in crew.plan("sweep").steps if step.how == "drop"] == []
        assert crew.run("sweep", now=True).outcome == "succeeded"
        assert parts(server_yard) == WHOLE


REASONS = {
    "a trigger": {
        "postgresql": (
            "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
            "CREATE TRIGGER noted BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION noted()",
        ),
        "mysql": ("CREATE TRIGGER noted BEFORE DELETE ON events FOR EACH ROW SET @noted = 1",),
    },
    "a foreign key": {
        "postgresql": (
            "CREATE TABLE users (id bigint PRIMARY KEY)",
            "ALTER TABLE events ADD COLUMN user_id bigint REFERENCES users",
        ),
    },
    "a publication": {"postgresql": ("CREATE PUBLICATION told FOR TABLE events_0",)},
    "something that refers to it": {
        "postgresql": (
            "CREATE TABLE notes (event bigint, at timestamptz)",
            "ALTER TABLE notes ADD FOREIGN KEY (event, at) REFERENCES events ON DELETE CASCADE",
            "CREATE INDEX notes_event ON notes (event, at)",
        ),
    },
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_hears_of_deletes_or_would_be_locked_along_keeps_partitions(server_yard, server_url, reason):
    if server_yard.kind not in REASONS[reason]:
        pytest.skip("no partitioned table can have it there")
    divide(server_yard)
    server_yard.run(*REASONS[reason][server_yard.kind])
    with hired(server_url, server_yard) as crew:
        report = crew.run("sweep", now=True)
        assert report.deleted == 4
        assert parts(server_yard) == WHOLE
        assert server_yard.ids("events") == [5, 6]


def test_a_view_on_a_partition_keeps_it_and_its_rows_leave_all_the_same(postgresql_yard):
    yard = postgresql_yard
    divide(yard)
    yard.run("CREATE VIEW january AS SELECT * FROM events_1")
    url = yard.link.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with hired(url, yard) as crew:
        report = crew.run("sweep", now=True)
        assert (report.outcome, report.deleted) == ("succeeded", 4)
        assert parts(yard) == ["events_1", *RAGGED]
        (said,) = [entry.facts for entry in crew.heard if entry.kind == "undropped"]
        assert said["partition"] == "events_1"
        assert "january" in said["reason"] or "depend" in said["reason"]


def test_zero_dates_and_nulls_in_the_first_partition_stay(mysql_yard):
    yard = mysql_yard
    yard.run(
        "CREATE TABLE events (id bigint NOT NULL, at datetime(6), note text, KEY (at)) PARTITION BY RANGE (TO_DAYS(at))"
        " (PARTITION events_0 VALUES LESS THAN (TO_DAYS('2024-01-01')),"
        " PARTITION events_1 VALUES LESS THAN (TO_DAYS('2024-02-01')), PARTITION events_rest VALUES LESS THAN MAXVALUE)"
    )
    yard.run("ALTER TABLE events ADD UNIQUE KEY known (id, at), MODIFY id bigint NOT NULL")
    yard.fill("events", {"id": 1, "at": None}, {"id": 2, "at": "2023-01-01"}, {"id": 3, "at": "2024-01-01"})
    selection = Selection(yard.table("events"), "at", _utc(CUT), Form.CONTENDED, alone=True)
    first, second = yard.rows.partitions(selection)
    with yard.rows.transaction() as connection:
        assert yard.rows.drop(connection, selection, first, print) is None
        assert yard.rows.drop(connection, selection, second, print).rows == 1
    assert yard.ids("events") == [1, 2]
    yard.run(
        "DELETE FROM events WHERE at IS NULL",
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        "INSERT INTO events VALUES (4, 0, '')",
    )
    with yard.rows.transaction() as connection:
        assert yard.rows.drop(connection, selection, first, print) is None
    assert yard.ids("events") == [2, 4]


def test_one_partition_always_stays(server_yard):
    divide(server_yard)
    if server_yard.kind == "postgresql":
        server_yard.run("DROP TABLE events_rest")
    else:
        server_yard.run("ALTER TABLE events DROP PARTITION events_rest")
    selection = server_yard.select(Policy("events", "at"), moment=_utc("2030-01-01"))
    assert [part.name for part in server_yard.rows.partitions(selection)] == ["events_0", "events_1"]


def test_a_reader_who_holds_the_table_is_not_waited_for_and_nobody_waits_for_us(server_yard, server_url):
    """A report that reads for minutes, and others who come by meanwhile."""
    divide(server_yard)
    engine, waits, over = server_yard.link.engine, [], threading.Event()

    def come_by():
        while not over.is_set():
            begun = time.monotonic()
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT count(*) FROM events")).scalar_one()
                connection.rollback()
            waits.append(time.monotonic() - begun)
            time.sleep(0.01)

    with hired(server_url, server_yard) as crew, engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.execute(sa.text("SELECT * FROM events")).all()
        visitor = threading.Thread(target=come_by)
        visitor.start()
        try:
            report = crew.run("sweep", now=True)
        finally:
            over.set()
            visitor.join()
        assert (report.outcome, report.deleted) == ("succeeded", 4), "row by row"
        assert parts(server_yard) == WHOLE
        assert max(waits) < (0.8 if server_yard.kind == "postgresql" else 1.7)
        (said,) = [entry.facts for entry in crew.heard if entry.kind == "undropped"]
        assert said["partition"] == "events_0"
        reader.exec_driver_sql("ROLLBACK")
        server_yard.fill("events", {"id": 7, "at": "2024-01-07"})
        assert crew.run("sweep", now=True).message == "Deleted 1 row of events, 2 of its partitions whole."
        assert parts(server_yard) == RAGGED


def test_a_writer_who_inserts_all_the_while_loses_nothing_that_stays(server_yard, server_url):
    divide(server_yard)
    engine, over, written, failed = server_yard.link.engine, threading.Event(), [], []

    def write():
        number = 100
        while not over.is_set():
            number += 1
            try:
                with engine.begin() as connection:
                    connection.execute(
                        sa.text("INSERT INTO events (id, at) VALUES (:id, :at)"),
                        {"id": number, "at": ("2024-02-10 13:00:00", "2024-02-29", "2026-01-01")[number % 3]},
                    )
            except sa.exc.DBAPIError as error:
                failed.append(error)
            else:
                written.append(number)

    writer = threading.Thread(target=write)
    with hired(server_url, server_yard) as crew:
        writer.start()
        try:
            time.sleep(0.2)
            report = crew.run("sweep", now=True)
            time.sleep(0.2)
        finally:
            over.set()
            writer.join()
    assert (report.outcome, report.deleted) == ("succeeded", 4)
    assert parts(server_yard) == RAGGED
    assert failed == []
    assert server_yard.ids("events") == [5, 6, *written]


def test_a_partition_of_many_rows_is_told_as_about_so_many(server_yard, server_url, monkeypatch):
    for module in ("postgresql_partitions", "mysql_partitions"):
        monkeypatch.setattr(f"nightcrew.databases.{module}.COUNTED", 0)
    divide(server_yard)
    server_yard.run("ANALYZE events" if server_yard.kind == "postgresql" else "ANALYZE TABLE events")
    with hired(server_url, server_yard) as crew:
        report = crew.run("sweep", now=True)
        assert report.message == "Deleted about 4 rows of events, 2 of its partitions whole."
        assert "estimate" in report.json()["note"]
        assert [entry.facts["exact"] for entry in crew.heard if "partition" in entry.facts] == [False, False]


def test_a_partition_that_has_grown_since_the_run_was_weighed_is_not_dropped(server_yard, server_url, monkeypatch):
    divide(server_yard)
    with hired(server_url, server_yard, max_fraction=0.9) as crew:
        find = crew._station.database.partitions

        def filled(selection):
            server_yard.fill("events", *({"id": 100 + n, "at": "2024-01-10"} for n in range(1500)))
            return find(selection)

        monkeypatch.setattr(crew._station.database, "partitions", filled)
        report = crew.run("sweep", now=True)
    assert (report.outcome, report.counts) == ("refused", {"events": 1})
    assert "more rows of events than there were when it began" in report.message
    assert parts(server_yard) == WHOLE[1:]
    assert len(server_yard.ids("events")) == 1505


def test_a_run_whose_fence_is_lost_drops_nothing(postgresql_yard, monkeypatch):
    """The drop commits with the fence, or not at all."""
    yard = postgresql_yard
    divide(yard)
    url = yard.link.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with hired(url, yard) as crew:
        database = crew._station.database
        drop = database.drop

        def overtaken(*arguments):
            connection, gone = arguments[0], drop(*arguments)
            connection.execute(sa.text("UPDATE nightcrew_jobs SET fence = fence + 1"))
            return gone

        monkeypatch.setattr(database, "drop", overtaken)
        assert crew.run("sweep", now=True).outcome == "in_progress_elsewhere"
    assert parts(yard) == WHOLE
    assert len(yard.ids("events")) == 6
