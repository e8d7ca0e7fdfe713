"""Blobs that no row knows are found, and removed where that was asked for; what anybody may need stays."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.bucket import says

from nightcrew import Nightcrew, Settings, comparison
from nightcrew.cli import nightcrew
from nightcrew.clock import SystemClock
from nightcrew.console.desk import Desk
from nightcrew.errors import PolicyError, SafetyStop, StoreError, UsageError
from nightcrew.outbox import NAME
from nightcrew.outcome import Outcome
from nightcrew.owing import Owing
from nightcrew.stores.memory import Memory

JOB = "sweep-orphans-uploads"
COLUMNS = ["files.blob_key", "pictures.at"]


class Past(SystemClock):
    """A clock that may be put back, for blobs of long ago."""

    back = timedelta(0)

    def now(self):
        return datetime.now(UTC) - self.back


class Shelves:
    """A crew over two tables and a store in memory, whose blobs are two days old unless they are said to be `young`."""

    def __init__(self, url, **said):
        self.clock = Past()
        self.store = Memory(self.clock)
        self.crew = Nightcrew(
            url, settings=Settings(), blobs={"uploads": {"url": self.store, "columns": COLUMNS} | said}
        )
        self.crew.migrate()
        self.link = self.crew._station.link
        for statement in (
            "CREATE TABLE files (id INTEGER PRIMARY KEY, blob_key VARCHAR(200))",
            "CREATE TABLE pictures (id INTEGER PRIMARY KEY, at VARCHAR(200))",
        ):
            self.do(statement)

    def do(self, statement, *rows):
        with self.link.transaction() as connection:
            connection.execute(sa.text(statement), *([list(rows)] if rows else []))

    def write(self, *keys, age=timedelta(days=2)):
        self.clock.back = age
        for key in keys:
            self.store.put(key, b"12345")
        self.clock.back = timedelta(0)

    def know(self, *keys, table="files", column="blob_key"):
        first = len(self.rows(table))
        rows = [{"id": first + number, "key": key} for number, key in enumerate(keys)]
        self.do(f"INSERT INTO {table} (id, {column}) VALUES (:id, :key)", *rows)

    def rows(self, table):
        with self.link.transaction(writes=False) as connection:
            return connection.execute(sa.text(f"SELECT id FROM {table}")).scalars().all()

    def owe(self, *keys, **more):
        engine = sa.create_engine(self.link.engine.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            self.crew.owe(connection, "uploads", keys, **more)

    @property
    def kept(self):
        return [blob.key for blob in self.store.page().blobs]

    def run(self, **how):
        return self.crew.run(JOB, now=True, **how)

    def drain(self):
        return self.crew.run(NAME, now=True)


@pytest.fixture
def shelves(database_url):
    made = []

    def make(**said):
        made.append(Shelves(database_url, **said))
        return made[-1]

    yield make
    for each in made:
        each.crew.close()


def test_only_old_blobs_that_no_row_knows_and_nobody_owes_are_orphans(shelves):
    here = shelves(orphans="remove")
    here.write("file", "picture", "owed", "undone", *(f"known{number}" for number in range(20)), "orphan é", "ORPHAN É")
    here.write("young", age=timedelta(hours=23))
    here.know("file", None, "", *(f"known{number}" for number in range(20)))
    here.know("picture", "missing", table="pictures", column="at")
    here.owe("owed")
    here.owe("undone", not_before=datetime.now(UTC) + timedelta(days=7))
    survey, refusal = here.crew.orphans("uploads")
    assert refusal is None
    assert (survey.blobs, survey.known, survey.young, survey.owed, survey.orphans) == (27, 22, 1, 2, 2)
    assert (survey.some_orphans, survey.orphan_bytes) == (("ORPHAN É", "orphan é"), 10)
    assert (survey.keys, survey.missing, survey.some_missing) == (23, 1, ("pictures.at missing",))
    report = here.run()
    assert (report.outcome, report.deleted) == (Outcome.SUCCEEDED, 2)
    assert report.message == (
        "Looked at 27 blobs of uploads (memory://, 135 bytes); 2 orphans (10 bytes): ORPHAN É, orphan é; 1 that no row"
        " knows are younger than 1 day; 2 leave already, being owed; of 23 keys that rows have, 1 name a blob that"
        " is missing: pictures.at missing; 2 are owed to the store and leave with the next run of drain-outbox."
    )
    here.drain()
    assert sorted(here.kept) == sorted(
        ["file", "picture", "undone", "young", *(f"known{number}" for number in range(20))]
    )
    assert (again := here.run()).outcome is Outcome.NOTHING_TO_DO, again.message


def test_unless_it_is_asked_for_nothing_is_removed(shelves):
    here = shelves(orphans="report")
    here.write("known", "orphan")
    here.know("known")
    report = here.run()
    assert (report.outcome, report.deleted) == (Outcome.NOTHING_TO_DO, 0)
    assert "1 orphan (5 bytes): orphan; none is missing; nothing was removed (orphans = 'report')." in report.message
    here.drain()
    assert here.kept == ["known", "orphan"]
    (entry,) = [each["facts"] for each in here.crew.entries(report.run) if each["kind"] == "orphans"]
    assert (entry["orphans"], entry["some_orphans"], entry["removed"]) == (1, ["orphan"], 0)


def test_without_orphans_there_is_no_job_and_the_question_is_answered_all_the_same(shelves):
    here = shelves()
    here.write("known", "orphan")
    here.know("known")
    assert JOB not in here.crew.jobs
    assert here.crew.orphans("uploads")[0].orphans == 1


@pytest.mark.parametrize("mode", ["report", "remove"])
def test_a_run_goes_on_at_the_page_where_it_stopped(shelves, monkeypatch, mode):
    monkeypatch.setattr(comparison, "_LISTED", 3)
    monkeypatch.setattr(comparison, "MOST", 2)
    here = shelves(orphans=mode, max_fraction=0.9)
    known = [f"k{number:02}" for number in range(10)]
    here.write(*known, *(f"o{number}" for number in range(5)))
    here.know(*known, "gone1", "gone2")
    reports = [here.run(deadline=timedelta(0))]
    while reports[-1].outcome is Outcome.PARTIAL:
        reports.append(here.crew.run(JOB, deadline=timedelta(0)))
    said = here.crew.runs(JOB)[-1].reason
    assert len(reports) > 12
    assert "Looked at 15 blobs of uploads (memory://, 75 bytes); 5 orphans" in said
    assert "of 12 keys that rows have, 2 name a blob that is missing" in said
    here.drain()
    assert here.kept == (known if mode == "remove" else sorted([*known, *(f"o{number}" for number in range(5))]))


@pytest.mark.parametrize(
    ("known", "orphans", "fraction", "why"),
    [
        (40, 10, 0.2, None),
        (30, 11, 0.2, "11 of the 41 blobs of store 'uploads' are orphans (27 %), and more than 20 % are not removed"),
        (30, 11, 0.5, None),
        (0, 2, 0.9, "no row has a key of store 'uploads', so that all its blobs would go"),
        (0, 2, 1, None),
    ],
)
def test_more_than_a_share_is_not_removed_unasked(shelves, known, orphans, fraction, why):
    here = shelves(orphans="remove", max_fraction=fraction)
    here.write(*(f"k{number}" for number in range(known)), *(f"o{number}" for number in range(orphans)))
    if known:
        here.know(*(f"k{number}" for number in range(known)))
    refusal, report = here.crew.orphans("uploads")[1], here.run()
    here.drain()
    if why is None:
        assert (refusal, report.outcome, report.deleted) == (None, Outcome.SUCCEEDED, orphans)
    else:
        assert refusal.startswith(why)
        assert report.outcome is Outcome.REFUSED
        assert why in report.message
        assert "look with 'nightcrew orphans uploads'" in report.message
    assert len(here.kept) == known + (orphans if why else 0)


def test_more_orphans_than_were_counted_are_not_removed(shelves, monkeypatch):
    monkeypatch.setattr(comparison, "_LISTED", 400)
    here = shelves(orphans="remove", max_fraction=0.9)
    here.write(*(f"a{number}" for number in range(5)), *(f"k{number:03}" for number in range(400)))
    here.know(*(f"k{number:03}" for number in range(400)))
    while "removal" not in str(here.crew._station.books.saved(here.run(deadline=timedelta(0)).run).cursor):
        pass
    here.do("DELETE FROM files")  # somebody empties the table between the count and the removal
    report = here.crew.run(JOB)
    assert report.outcome is Outcome.REFUSED
    assert "more orphans than there were when the run counted them: more than 5" in report.message
    here.do("INSERT INTO files (id, blob_key) VALUES (0, 'k000')")
    assert here.drain().deleted == 0


def test_a_store_without_columns_is_left_alone(shelves):
    here = shelves(orphans="remove", columns=[], max_fraction=1)
    here.write("a")
    report = here.run()
    assert report.outcome is Outcome.REFUSED
    assert "no column is declared that names blobs of store 'uploads'" in report.message
    assert "columns = ['message_source.blob_key'] under [blobs.uploads]" in report.message
    with pytest.raises(SafetyStop, match="no column is declared"):
        here.crew.orphans("uploads")


@pytest.mark.parametrize(("columns", "why"), [
    (["files.blob_kez"], "has no column 'blob_kez'; did you mean 'blob_key'"),
    (["file.blob_key"], "table 'file' is not in the database; did you mean 'files'"),
])  # fmt: skip
def test_a_column_that_cannot_be_read_keeps_all_blobs(shelves, columns, why):
    here = shelves(orphans="remove", columns=["pictures.at", *columns], max_fraction=1)
    here.write("a")
    report = here.run()
    assert report.outcome is Outcome.FAILED
    assert "store 'uploads' cannot be compared with its columns, so that nothing is removed" in report.message
    assert why in report.message
    with pytest.raises(PolicyError, match="did you mean"):
        here.crew.orphans("uploads")
    here.drain()
    assert here.kept == ["a"]


def test_a_column_that_may_not_be_read_keeps_all_blobs(postgresql_yard):
    here = Shelves(
        postgresql_yard.link.engine.url.set(drivername="postgresql").render_as_string(False), orphans="remove"
    )
    here.write("a", "b")
    here.know("a")
    here.do("ALTER TABLE files ENABLE ROW LEVEL SECURITY")
    here.do("ALTER TABLE files FORCE ROW LEVEL SECURITY")
    here.do("DROP ROLE IF EXISTS nightcrew_orphan_test")
    here.do("CREATE ROLE nightcrew_orphan_test")
    try:
        here.do("GRANT USAGE ON SCHEMA public TO nightcrew_orphan_test")
        here.do("GRANT ALL ON ALL TABLES IN SCHEMA public TO nightcrew_orphan_test")
        here.do("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO nightcrew_orphan_test")
        here.link.engine.dispose()
        sa.event.listen(here.link.engine, "connect", lambda driver, _: driver.execute("SET ROLE nightcrew_orphan_test"))
        report = here.run()
        assert report.outcome is Outcome.FAILED, report.message
        assert "row-level security" in report.message
    finally:
        here.crew.close()
        with postgresql_yard.link.transaction() as connection:
            connection.exec_driver_sql("DROP OWNED BY nightcrew_orphan_test; DROP ROLE nightcrew_orphan_test")
    assert here.kept == ["a", "b"]


def test_a_store_that_fails_keeps_all_blobs_and_is_tried_again(shelves, monkeypatch):
    here = shelves(orphans="remove")
    here.write("a", "b")
    here.know("a")
    monkeypatch.setattr(here.store, "present", lambda _keys: (_ for _ in ()).throw(StoreError("memory:// is away")))
    report = here.run()
    assert (report.outcome, report.retry_at is None) == (Outcome.FAILED, False)
    assert "so that nothing is removed: memory:// is away" in report.message
    here.drain()
    assert here.kept == ["a", "b"]


def test_an_orphan_that_a_row_comes_to_know_stays(shelves):
    here = shelves(orphans="remove")
    here.write("a", "b")
    here.know("a")
    assert here.run().deleted == 1
    here.know("b")
    assert "1 kept" in here.drain().message
    assert here.kept == ["a", "b"]


def test_a_row_that_leaves_while_it_is_looked_at_misses_nothing(shelves, monkeypatch):
    here = shelves()
    here.write("a", "b")
    here.know("a", "b")
    present = here.store.present

    def meanwhile(keys):
        here.do("DELETE FROM files WHERE blob_key = 'b'")
        here.store.remove(["b"])
        return present(keys)

    monkeypatch.setattr(here.store, "present", meanwhile)
    assert here.crew.orphans("uploads")[0].missing == 0


TEXTS = st.text(alphabet="aAäÄeéE _%'\\日z", min_size=1, max_size=3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(keys=["E", "e", "é", "e ", "E"], most=1)
@given(keys=st.lists(TEXTS, max_size=12), most=st.integers(1, 4))
def test_every_key_that_rows_have_is_named_whatever_the_collation(shelves, keys, most):
    here = shelves() if not getattr(shelves, "here", None) else shelves.here
    shelves.here = here
    here.do("DELETE FROM files")
    if keys:
        here.know(*keys, None, "")
    debts, column = here.crew._station.debts, Owing("uploads", "files", "blob_key")
    seen, after, looks = set(), None, 0
    while looks == 0 or after is not None:
        some, after = debts.named(column, after, most)
        seen |= {*some}
        looks += 1
        assert looks <= len(keys) + 2
    assert seen == {*keys}
    assert debts.referred([column], [*keys, "A", "a", "ä"]) == {*keys}


# ── in real stores ───────────────────────────────────────────────────────────────────────────────────────────────────


def real(tmp_path, place) -> Nightcrew:
    crew = Nightcrew(
        f"sqlite:///{tmp_path}/shop.db",
        settings=Settings(),
        blobs={"uploads": {"url": place, "columns": ["files.blob_key"], "orphans": "remove"}},
    )
    crew.migrate()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE files (blob_key TEXT)"))
        connection.execute(sa.text("INSERT INTO files VALUES ('a/known é'), ('missing')"))
    return crew


def test_a_bucket_that_fails_half_of_the_time_is_swept_by_its_own_clock(bucket, tmp_path):
    for key in ("a/known é", "orphan +&", "orphan/2"):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"12345")
    crew = real(tmp_path, bucket.url())
    assert crew.orphans("uploads")[0].young == 2
    bucket.ahead = timedelta(hours=25)
    turn = iter(range(10_000))
    bucket.faults.append(lambda request: says(500, "InternalError") if next(turn) % 2 else None)
    report = crew.run(JOB, now=True)
    assert report.deleted == 2, report.message
    crew.run(NAME, now=True)
    crew.close()
    assert bucket.listed() == ["a/known é"]


def test_a_folder_is_swept_and_left_without_empty_folders(tmp_path):
    uploads = tmp_path / "uploads"
    for name in ("a/known é", "b/c/orphan", "b/young"):
        (uploads / name).parent.mkdir(parents=True, exist_ok=True)
        (uploads / name).write_bytes(b"12345")
        if name != "b/young":
            os.utime(uploads / name, (0, 0))
    strange = Path(os.fsdecode(os.fsencode(uploads) + b"/\xff"))
    strange.touch()
    os.utime(strange, (0, 0))
    crew = real(tmp_path, f"file://{uploads}")
    report = crew.run(JOB, now=True)
    assert report.deleted == 1
    assert "1 have names that no row could have, and stay" in report.message
    assert "1 name a blob that is missing: files.blob_key missing" in report.message
    crew.run(NAME, now=True)
    crew.close()
    assert {*uploads.rglob("*")} == {uploads / name for name in ("a", "a/known é", "b", "b/young", strange.name)}


# ── on the command line ──────────────────────────────────────────────────────────────────────────────────────────────

FILE = """
[nightcrew]
database = "sqlite:///{folder}/shop.db"
[blobs.uploads]
url = "file://{folder}/uploads"
columns = ["files.blob_key"]
[jobs.sweep-files]
every = "1 day"
table = "files"
column = "left_at"
"""


def test_the_command_line_says_what_is_found(tmp_path):
    (tmp_path / "uploads").mkdir()
    for number in range(12):
        (tmp_path / f"uploads/o{number:02}").write_bytes(b"1234")
        os.utime(tmp_path / f"uploads/o{number:02}", (0, 0))
    real(tmp_path, f"file://{tmp_path}/uploads").close()
    (tmp_path / "nightcrew.toml").write_text(FILE.format(folder=tmp_path))

    def said(*words):
        return CliRunner().invoke(nightcrew, words, obj=Desk(config=str(tmp_path / "nightcrew.toml")))

    told = said("orphans", "uploads")
    refusal = (
        "12 of the 12 blobs of store 'uploads' are orphans (100 %), and more than 20 % are not removed unasked; see"
        " that its columns are declared, and set max_fraction under [blobs.uploads] if all is right"
    )
    assert told.output.splitlines() == [
        f"uploads (file://{tmp_path}/uploads) and files.blob_key",
        "         NUMBER",
        "blobs    12      48 bytes",
        "orphans  12      no row has their keys: 48 bytes",
        "keys     2       rows have them",
        "missing  2       rows have their keys, and there is no blob",
        *(f"  orphan   o{number:02}" for number in range(10)),
        "  missing  files.blob_key a/known é",
        "  missing  files.blob_key missing",
        "  orphan   … and 2 more",
        f"✗ a run would remove nothing: {refusal}",
    ]
    body = json.loads(said("--json", "orphans", "uploads").output)
    assert (body["orphans"], body["some_missing"][1], body["columns"]) == (12, "files.blob_key missing", COLUMNS[:1])
    wrong = said("orphans", "upload")
    assert isinstance(wrong.exception, UsageError)
    assert "there is no store of blobs 'upload'; did you mean 'uploads'?" in str(wrong.exception)
