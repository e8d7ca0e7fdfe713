"""What leaves is copied before it does, and comes back as it was, on every database."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from nightcrew import Nightcrew, Settings
from nightcrew.archives import frame
from nightcrew.archives.upkeep import UPKEEP
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.console.reversal import lines
from nightcrew.console.screen import Screen
from nightcrew.databases.tables import frames
from nightcrew.errors import ArchiveError, ConfigurationError, StoreError, UsageError
from nightcrew.outbox import NAME
from nightcrew.outcome import Outcome
from nightcrew.stores.disk import Disk
from nightcrew.stores.memory import Memory

KEY, OTHER = "ab" * 32, "cd" * 32
WEEK = timedelta(days=7)
OLD = "2020-01-01 00:00:00"
SCHEMA = (
    "CREATE TABLE owners (id INTEGER PRIMARY KEY, email VARCHAR(50) UNIQUE)",
    (
        "CREATE TABLE users (id INTEGER PRIMARY KEY, owner_id INTEGER, email VARCHAR(50) UNIQUE,"
        " left_at TIMESTAMP NULL, avatar VARCHAR(50), FOREIGN KEY (owner_id) REFERENCES owners (id))"
    ),
    "CREATE INDEX users_left ON users (left_at)",
    "CREATE INDEX users_owner ON users (owner_id)",
    (
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, title VARCHAR(50),"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    (
        "CREATE TABLE answers (id INTEGER PRIMARY KEY, chat_id INTEGER NOT NULL, above INTEGER, body VARCHAR(50),"
        " FOREIGN KEY (chat_id) REFERENCES chats (id), FOREIGN KEY (above) REFERENCES answers (id))"
    ),
    "CREATE INDEX answers_chat ON answers (chat_id)",
    "CREATE INDEX answers_above ON answers (above)",
)
TABLES = ("owners", "users", "chats", "answers")


class Full(Memory):
    """A store that takes so many blobs, and then none."""

    place = "memory://full"

    def __init__(self, room=0):
        super().__init__()
        self.room = room

    def put(self, key, data):
        if self.room == 0:
            raise StoreError("folder /srv/archive cannot be used: No space left on device")
        self.room -= 1
        super().put(key, data)


class Site:
    """A crew with an archive, and its application's tables."""

    def __init__(self, url, vault, key=KEY, previous=None, erasure=False, **terms):
        self.url, self.vault, self.uploads = url, vault, Memory()
        known = "ef" * 32 if erasure else None
        settings = Settings(archive_key=key, previous_archive_key=previous, erasure_key=known)
        stores = {"vault": vault, "uploads": self.uploads}
        self.crew = Nightcrew(url, settings=settings, blobs=stores, archive="vault")
        terms = {"erase": True, "archive": WEEK, "max_fraction": 1, **terms}
        self.crew.expire("purge", "users", column="left_at", schedule="0 0 1 * *", **terms)
        self.engine = self.crew._station.link.engine

    def run(self, *statements):
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self):
        with self.engine.connect() as connection:
            return {table: connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY id").all() for table in TABLES}

    def fill(self, users=5):
        self.run("INSERT INTO owners VALUES (1, 'o')")
        for user in range(1, users + 1):
            self.run(f"INSERT INTO users VALUES ({user}, 1, 'u{user}@a', '{OLD}', 'a{user}')")
            for chat in (10 * user, 10 * user + 1):
                self.run(f"INSERT INTO chats VALUES ({chat}, {user}, 'é “{chat}”')")
                first = f"INSERT INTO answers VALUES ({10 * chat}, {chat}, NULL, 'a')"
                self.run(first, f"INSERT INTO answers VALUES ({10 * chat + 1}, {chat}, {10 * chat}, 'b')")

    def purged(self):
        report = self.crew.run("purge", now=True)
        assert report.outcome is Outcome.SUCCEEDED, report.message
        return report.run

    def undone(self, run):
        return self.crew.undo(run, restore=True)

    def frames(self):
        with self.engine.connect() as connection:
            return connection.execute(sa.select(frames).order_by(frames.c.id)).all()


@pytest.fixture
def vault():
    return Memory()


@pytest.fixture
def site(database_url, vault):
    site = Site(database_url, vault)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill()
    yield site
    site.crew.close()


def keys(store):
    return [blob.key for blob in store.page().blobs]


def test_a_run_is_undone_and_no_row_comes_back_twice(site):
    before = site.rows()
    run = site.purged()
    assert not any(site.rows()[table] for table in ("users", "chats", "answers"))
    asked = site.crew.undo(run)
    assert {name: (tally.back, tally.conflicts.total()) for name, tally in asked.tables.items()} == {
        "users": (5, 0),
        "chats": (10, 0),
        "answers": (20, 0),
    }
    assert not site.rows()["users"]
    assert site.undone(run).back == 35
    assert site.rows() == before
    site.run("DELETE FROM answers WHERE id = 101", "DELETE FROM answers WHERE id = 100")
    again = site.undone(run)
    assert (again.back, again.conflicts) == (0, 0)
    assert len(site.rows()["answers"]) == 18  # what somebody has deleted since does not come back


def test_whatever_stands_in_a_rows_way_is_told_and_the_others_come(site):
    before, run = site.rows(), site.purged()
    site.run(
        "INSERT INTO users VALUES (1, 1, 'new@a', NULL, NULL)",  # its key is there anew
        "INSERT INTO users VALUES (90, 1, 'u2@a', NULL, NULL)",  # a value of user 2 that only one may have
        f"INSERT INTO users VALUES (3, 1, 'u3@a', '{OLD}', 'a3')",  # as it was
    )
    asked, done = site.crew.undo(run), site.undone(run)
    for found in (asked, done):
        users, chats, answers = (found.tables[name] for name in ("users", "chats", "answers"))
        assert (users.back, users.same, dict(users.conflicts)) == (2, 1, {"exists": 1, "unique": 1})
        assert (chats.back, dict(chats.conflicts)) == (8, {"parent": 2})  # those of user 1 hang on the new one
        assert (answers.back, dict(answers.conflicts)) == (16, {"parent": 4})
        assert "id 2: another row has a value that only one may have (email)" in users.named
    # What hung on the row that is there anew has come back to it.
    site.run(
        "DELETE FROM users WHERE id = 90", "DELETE FROM answers WHERE id = 101", "DELETE FROM answers WHERE id = 100"
    )
    again = site.undone(run)
    assert {name: tally.back for name, tally in again.tables.items()} == {"users": 1, "chats": 2, "answers": 4}
    there = site.rows()
    assert [row for row in there["users"] if row.id != 1] == [row for row in before["users"] if row.id != 1]
    assert [row.id for row in before["answers"] if row not in there["answers"]] == [100, 101]


def test_a_parent_of_another_table_that_is_gone_keeps_rows_from_coming(site):
    run = site.purged()
    site.run("DELETE FROM owners")
    found = site.undone(run)
    assert (found.back, found.conflicts) == (0, 35)
    assert "what it refers to is not there (owner_id → owners)" in found.tables["users"].named[0]
    site.run("INSERT INTO owners VALUES (1, 'again')")
    assert site.undone(run).back == 35


def test_a_changed_table_takes_no_rows_back(site):
    run = site.purged()
    site.run("ALTER TABLE answers DROP COLUMN body")
    found = site.undone(run)
    assert dict(found.tables["answers"].conflicts) == {"schema": 20}
    assert "body is gone" in found.tables["answers"].named[0]
    assert found.tables["chats"].back == 10


def test_what_only_the_database_refuses_is_told_row_by_row(site):
    run = site.purged()
    if site.engine.dialect.name == "sqlite":
        site.run(
            "CREATE TRIGGER nobody BEFORE INSERT ON answers WHEN NEW.id = 101"
            " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    elif site.engine.dialect.name == "postgresql":
        site.run("ALTER TABLE answers ADD CONSTRAINT nobody CHECK (id <> 101)")
    else:
        site.run(
            "CREATE TRIGGER nobody BEFORE INSERT ON answers FOR EACH ROW"
            " IF NEW.id = 101 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF"
        )
    found = site.undone(run)
    assert dict(found.tables["answers"].conflicts) == {"refused": 1}
    assert found.back == 34


@pytest.mark.parametrize("room", [0, 1])
def test_where_the_archive_cannot_be_written_nothing_leaves_that_is_not_in_it(database_url, room):
    site = Site(database_url, Full(room))
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(30)
    before = site.rows()
    report = site.crew.run("purge", now=True)
    assert report.outcome is Outcome.FAILED
    assert "No space left on device" in report.message + (report.details or "")
    gone = len(before["users"]) - len(site.rows()["users"])
    assert gone == sum(row.counts["users"] for row in site.frames())
    assert bool(gone) == bool(room)
    site.vault.room = 1_000
    run = site.purged()
    for each in {run, report.run}:
        if any(row.run == each for row in site.frames()):
            site.undone(each)
    assert site.rows() == before
    site.crew.close()


def test_frames_are_sealed_and_say_nothing_without_the_key(site, vault):
    run = site.purged()
    assert all(b"u1@a" not in vault.get(key) for key in keys(vault))
    assert all(key.startswith(f"{run}/") and key.endswith(".jsonl.zst.aes") for key in keys(vault))
    for key, previous, said in ((None, None, "is not set"), (OTHER, None, "NIGHTCREW_ARCHIVE_KEY is ")):
        stranger = Site(site.url, vault, key, previous)
        with pytest.raises(ArchiveError, match=said) as refused:
            stranger.crew.undo(run)
        assert KEY not in str(refused.value)
        stranger.crew.close()
    renewed = Site(site.url, vault, OTHER, KEY)
    assert renewed.undone(run).back == 35
    renewed.crew.close()


def test_without_a_key_a_frame_is_json_lines_under_zstd(database_url, vault):
    site = Site(database_url, vault, key=None)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(1)
    site.purged()
    (key,) = keys(vault)
    found = frame.unpacked(vault.get(key))
    assert found.counts == {"users": 1, "chats": 2, "answers": 4}
    assert ["é “10”" in row for copy in found.copies if copy.table == "chats" for row in copy.rows] == [True, False]
    site.crew.close()


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("harm", ["gone", "cut", "changed", "other"])
def test_a_damaged_frame_is_refused_by_its_name(database_url, vault, key, harm):
    site = Site(database_url, vault, key)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(1)
    run = site.purged()
    (name,) = keys(vault)
    data = vault.get(name)
    if harm == "gone":
        vault.remove([name])
    else:
        vault.put(name, {"cut": data[:-5], "changed": data[:-1] + bytes([data[-1] ^ 1]), "other": b"hello"}[harm])
    for restore in (False, True):
        with pytest.raises(ArchiveError, match=rf"{name}.*(damaged|not there)"):
            site.crew.undo(run, restore=restore)
    assert not site.rows()["users"]
    vault.put(name, data)
    assert site.undone(run).back == 7
    site.crew.close()


def test_a_frame_that_somebody_made_up_is_refused_though_its_row_was_changed_too(site, vault):
    run = site.purged()
    (name,) = keys(vault)
    made_up = b"\x00" * 50
    vault.put(name, made_up)
    from hashlib import sha256

    site.run(f"UPDATE nightcrew_frames SET digest = '{sha256(made_up).hexdigest()}'")
    with pytest.raises(ArchiveError, match="somebody has changed it"):
        site.crew.undo(run)


def test_upkeep_removes_what_is_over_and_what_never_committed(site, vault):
    run = site.purged()
    later = site.vault._clock.now() - timedelta(hours=2)
    for key in (f"{run}/20260101T000000-stray.jsonl.zst", "unknown.run/20260101T000000-a.jsonl.zst", f"{run}/young"):
        vault.put(key, b"x")
    for key in keys(vault):
        if not key.endswith("young"):
            blob, data = vault._kept[key]
            vault._kept[key] = (type(blob)(blob.key, blob.size, later), data)
    report = site.crew.run(UPKEEP, now=True)
    assert (
        report.message == "Removed 1 of batches that never committed; 1 of runs that this database does not know stay."
    )
    assert len(keys(vault)) == 3
    assert site.crew.undo(run).back == 35
    site.run(f"UPDATE nightcrew_frames SET until = '{OLD}'")
    with pytest.raises(UsageError, match="archived nothing that is still kept"):
        site.crew.undo(run)
    report = site.crew.run(UPKEEP, now=True)
    assert report.message.startswith("Removed 1 frames whose time is over")
    assert keys(vault) == [f"{run}/young", "unknown.run/20260101T000000-a.jsonl.zst"]
    assert not site.frames()


def test_blobs_stay_as_long_as_a_run_can_be_undone(database_url, vault):
    blobs = [{"store": "uploads", "table": "users", "column": "avatar"}]
    site = Site(database_url, vault, blobs=blobs)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill()
    for user in range(1, 5):
        site.uploads.put(f"a{user}", b"picture")
    run = site.purged()
    site.crew.run(NAME, now=True)
    assert keys(site.uploads) == ["a1", "a2", "a3", "a4"]
    (balance,) = [each for each in site.crew.owed() if each.store == "uploads"]
    assert (balance.due, balance.waiting) == (0, 5)
    assert dict(site.crew.undo(run).gone) == {"uploads": 1}
    site.run("INSERT INTO users VALUES (2, 1, 'new@a', NULL, NULL)")
    site.undone(run)
    (balance,) = [each for each in site.crew.owed() if each.store == "uploads"]
    assert balance.owed == 1  # that of the user who could not come back
    site.run(f"UPDATE nightcrew_owed SET due_at = '{OLD}'")
    site.crew.run(NAME, now=True)
    assert keys(site.uploads) == ["a1", "a3", "a4"]
    site.crew.close()


def test_a_blob_stays_as_long_as_any_row_that_names_it_can_come_back(database_url, vault):
    blobs = [{"store": "uploads", "table": "users", "column": "avatar"}]
    site = Site(database_url, vault, blobs=blobs)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(4)
    site.run("UPDATE users SET avatar = 'shared'", "UPDATE users SET left_at = '2037-01-01 00:00:00' WHERE id = 1")
    site.uploads.put("shared", b"picture")
    first = site.purged()
    site.run(f"UPDATE users SET left_at = '{OLD}'")
    second = site.purged()
    site.run(f"UPDATE nightcrew_owed SET due_at = '{OLD}' WHERE run = '{first}'")
    site.crew.run(NAME, now=True)
    assert (keys(site.uploads), dict(site.crew.undo(second).gone)) == (["shared"], {})
    assert [(each.due, each.waiting) for each in site.crew.owed() if each.store == "uploads"] == [(0, 1)]
    site.run(f"UPDATE nightcrew_owed SET due_at = '{OLD}'")
    site.crew.run(NAME, now=True)
    assert keys(site.uploads) == []
    site.crew.close()


def test_the_blobs_may_go_at_once(database_url, vault):
    blobs = [{"store": "uploads", "table": "users", "column": "avatar"}]
    site = Site(database_url, vault, blobs=blobs, blobs_after=timedelta(0))
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill()
    site.uploads.put("a1", b"picture")
    run = site.purged()
    site.crew.run(NAME, now=True)
    assert not keys(site.uploads)
    assert dict(site.undone(run).gone) == {"uploads": 5}
    site.crew.close()


def test_a_run_that_is_not_known_or_archived_nothing_cannot_be_undone(site):
    with pytest.raises(UsageError, match="is not known"):
        site.crew.undo("purge.20200101T000000Z")
    drained = site.crew.run(NAME, now=True).run
    with pytest.raises(UsageError, match="archived nothing that is still kept"):
        site.crew.undo(drained)


def test_the_command_says_first_and_does_when_it_is_confirmed(site, tmp_path, monkeypatch):
    run = site.purged()
    module = tmp_path / "shop_of_undo.py"
    module.write_text("crew = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(Desk, "_configured", lambda _desk: site.crew)
    monkeypatch.setattr(site.crew, "close", lambda: None)

    def asked(*words):
        return CliRunner().invoke(nightcrew, ["undo", run, *words], obj=Desk())

    said = asked()
    assert said.exit_code == 0, said.output
    assert "35 rows would be put back" in said.output
    assert f"next: nightcrew undo {run} --confirm purge" in said.output
    assert not site.rows()["users"]
    wrong = asked("--confirm", "other")
    assert wrong.exit_code != 0
    assert not site.rows()["users"]
    done = asked("--confirm", "purge")
    assert "35 rows put back" in done.output
    assert "takes these rows again" in done.output
    assert len(site.rows()["users"]) == 5
    again = asked("--confirm", "purge")
    assert "35 rows had been put back already" in again.output


def test_a_plan_looks_at_every_row_unless_that_takes_long_and_then_says_at_how_many(site, monkeypatch):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)
    run = site.purged()
    found = site.crew.undo(run)
    assert (found.frames > 3, found.back, found.seen, found.unseen) == (True, 35, 35, 0)
    assert not any("looked at" in line for line in lines(found, "vault", Screen()))
    found = site.crew.undo(run, longest=0)
    assert 0 < found.back == found.seen == 35 - found.unseen < 35
    said = lines(found, "vault", Screen())
    assert said[0].endswith(f"{found.back} rows would be put back of the {found.seen} that were looked at")
    assert any(f"{found.unseen} rows were not looked at" in line for line in said)
    assert site.undone(run).back == 35


def test_an_archive_needs_a_store_of_its_own(database_url, vault):
    with pytest.raises(ConfigurationError, match="there is no store of blobs 'vaults'; did you mean 'vault'"):
        Nightcrew(database_url, blobs={"vault": vault}, archive="vaults")
    with pytest.raises(ConfigurationError, match="give the archive a store of its own"):
        Nightcrew(database_url, blobs={"vault": {"url": vault, "orphans": "report"}}, archive="vault")
    with pytest.raises(ConfigurationError, match="which is the archive"):
        Site(database_url, vault, blobs=[{"store": "vault", "table": "users", "column": "avatar"}])
    with pytest.raises(ConfigurationError, match="there is no archive"):
        Nightcrew(database_url).expire("purge", "users", column="left_at", schedule="0 0 1 * *", archive=WEEK)
    with pytest.raises(ConfigurationError, match=r"NIGHTCREW_ARCHIVE_KEY is no key \(it is not shown\)"):
        Site(database_url, vault, key="hunter2-hunter2")


def test_whoever_was_erased_does_not_come_back(database_url, vault):
    linked = "CREATE TABLE files (id INTEGER PRIMARY KEY, user_id INTEGER)"
    site = Site(database_url, vault, links=["files.user_id"])
    site.crew.migrate()
    site.run(*SCHEMA, linked, "CREATE INDEX files_user ON files (user_id)")
    site.fill(3)
    site.run("INSERT INTO files VALUES (1, 1)", "INSERT INTO files VALUES (2, 2)")
    run = site.purged()
    site.run(f"INSERT INTO users VALUES (2, 1, 'u2@a', '{OLD}', 'a2')")
    eraser = Site(database_url, vault, links=["files.user_id"], erasure=True)
    assert eraser.crew.erase(2, by="support").state == "complete"
    with pytest.raises(ConfigurationError, match="set NIGHTCREW_ERASURE_KEY"):
        site.undone(run)
    found = eraser.undone(run)
    assert dict(found.tables["users"].conflicts) == {"erased": 1}
    assert dict(found.tables["files"].conflicts) == {"parent": 1}
    assert [row.id for row in site.rows()["users"]] == [1, 3]
    assert {row.user_id for row in site.rows()["chats"]} == {1, 3}
    eraser.crew.close()
    site.crew.close()


def test_an_erasure_is_completed_once_nothing_can_be_put_back(database_url, vault):
    site = Site(database_url, vault, erasure=True, traces=[{"store": "uploads", "keys": "users/{id}/*"}])
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(3)
    for user in (1, 2, 3):
        site.uploads.put(f"users/{user}/face", b"")
    run = site.purged()
    site.crew.run("drain-outbox", now=True)
    assert len(site.uploads.page().blobs) == 3
    assert {each.store: each.owed for each in site.crew.owed() if each.owed} == {"erasures of purge": 3}
    assert (site.undone(run).back, list(site.crew.receipts())) == (3 * 7, [])
    assert not any(each.owed for each in site.crew.owed())
    assert site.crew.erase(3, by="support").state == "complete"  # at once
    again = site.purged()
    site.run("UPDATE nightcrew_owed SET due_at = '2020-01-01 00:00:00'")  # a week later
    site.run(f"INSERT INTO users VALUES (1, 1, 'u1@a', '{OLD}', 'a1')")  # who is back, with a new account
    site.crew.run("drain-outbox", now=True)
    assert [said["result"] for said in site.crew.receipts()] == ["complete", "complete"]
    assert [blob.key for blob in site.uploads.page().blobs] == ["users/1/face"]
    assert [each.owed for each in site.crew.owed()] == [0] * len(site.crew.owed())
    assert dict(site.undone(again).tables["users"].conflicts)["erased"] == 1
    site.crew.close()


def test_what_an_erasure_could_not_find_once_the_row_is_gone_is_refused_beforehand(database_url, vault):
    site = Site(database_url, vault, erasure=True, traces=[{"store": "uploads", "keys": "mail/{email}/*"}])
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(1)
    report = site.crew.run("purge", now=True)
    assert (report.outcome, report.deleted) == ("failed", 0)
    assert "names email, which nobody knows any more" in report.message
    site.crew.close()


def test_a_table_without_a_primary_key_cannot_be_archived(site):
    site.run("CREATE TABLE logs (user_id INTEGER NOT NULL, FOREIGN KEY (user_id) REFERENCES users (id))")
    report = site.crew.run("purge", now=True)
    assert report.outcome is Outcome.FAILED
    assert "table 'logs' has no primary key, by which its rows could be put back once" in report.message


def test_a_folder_keeps_frames_and_a_full_one_keeps_rows(database_url, tmp_path):
    (tmp_path / "vault").mkdir()
    site = Site(database_url, Disk(str(tmp_path / "vault")))
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill()
    before, run = site.rows(), site.purged()
    assert [path.parent.name for path in (tmp_path / "vault").rglob("*.aes")] == [run]
    site.undone(run)
    assert site.rows() == before
    (tmp_path / "vault").rename(tmp_path / "elsewhere")
    report = site.crew.run("purge", now=True)
    assert report.outcome is Outcome.FAILED
    assert "there is no folder" in report.message + (report.details or "")
    assert site.rows() == before
    site.crew.close()


def test_the_check_says_that_an_archive_is_not_encrypted(database_url, vault):
    with_key, without = Site(database_url, vault), Site(database_url, vault, key=None)
    assert with_key.crew.archive_doubts() == []
    (said,) = without.crew.archive_doubts()
    assert said.startswith("what is archived in vault is not encrypted; set NIGHTCREW_ARCHIVE_KEY")
    for site in (with_key, without):
        site.crew.close()


def test_a_row_that_leaves_by_two_ways_is_copied_once(site):
    site.run(
        "DROP TABLE answers",  # which refer to each other, so that all are followed one by one
        "CREATE TABLE likes (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, chat_id INTEGER NOT NULL,"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)",
        "CREATE INDEX likes_user ON likes (user_id)",
        "CREATE INDEX likes_chat ON likes (chat_id)",
        "INSERT INTO likes SELECT id, user_id, id FROM chats",
    )
    with site.engine.connect() as connection:
        likes = connection.exec_driver_sql("SELECT * FROM likes ORDER BY id").all()
        run = site.purged()
        left = connection.exec_driver_sql("SELECT * FROM likes ORDER BY id").all()
        assert sum(row.counts.get("likes", 0) for row in site.frames()) == len(likes) - len(left) > 0
        assert site.undone(run).conflicts == 0
        connection.rollback()
        assert connection.exec_driver_sql("SELECT * FROM likes ORDER BY id").all() == likes


def test_a_batch_that_is_too_large_for_memory_is_taken_in_smaller_ones(site, vault, monkeypatch):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)
    before, run = site.rows(), site.purged()
    assert len(keys(vault)) > 3
    assert site.undone(run).back == 35
    assert site.rows() == before


def test_what_another_job_kept_of_an_erased_subject_does_not_come_back(site):
    site.run("CREATE TABLE visits (id INTEGER PRIMARY KEY, user_id INTEGER, seen_at TIMESTAMP NULL)")
    site.run("CREATE INDEX visits_user ON visits (user_id)", "CREATE INDEX visits_seen ON visits (seen_at)")
    site.run(*(f"INSERT INTO visits VALUES ({visit}, {visit}, '{OLD}')" for visit in (1, 2)))
    terms = {"schedule": "0 0 1 * *", "max_fraction": 1}
    crew = Nightcrew(site.url, settings=Settings(erasure_key="ef" * 32), blobs={"vault": site.vault}, archive="vault")
    crew.expire("erase", "users", column="left_at", erase=True, links=["visits.user_id"], **terms)
    crew.expire("forget-visits", "visits", column="seen_at", older_than=WEEK, archive=WEEK, **terms)
    run = crew.run("forget-visits", now=True).run
    crew.erase(1, by="ann")
    found = crew.undo(run, restore=True)
    crew.close()
    assert (found.back, dict(found.tables["visits"].conflicts)) == (1, {"parent": 1})
