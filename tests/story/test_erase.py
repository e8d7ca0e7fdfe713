"""A person asks to be forgotten: the command that does it, and what it ends with."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("nightcrew"))
CONFIG = """\
[nightcrew]
database = "sqlite:///shop.db"
erasures = "file://{folder}/vault"

[blobs.uploads]
url = "file://{folder}/uploads"

[jobs.delete-accounts]
schedule   = "0 0 1 * *"
table      = "users"
column     = "left_at"
older_than = "30 days"
erase      = true
blobs      = [{{ store = "uploads", table = "files", column = "blob_key" }}]
traces     = [{{ store = "uploads", keys = "users/{{id}}/*" }}]
keep       = {{ "invoices.user_id" = "tax law, 10 years" }}
"""
SCHEMA = """\
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, left_at TEXT);
CREATE TABLE files (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users ON DELETE CASCADE, blob_key TEXT);
CREATE INDEX files_user ON files (user_id);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, user_id INTEGER);
INSERT INTO users VALUES (1, 'ann', NULL), (2, 'bob', NULL);
INSERT INTO files VALUES (1, 1, 'a/1'), (2, 1, 'a/2'), (3, 2, 'b/3');
INSERT INTO invoices VALUES (1, 1);
"""


class Shop:
    """A folder with a configuration, a database, and stores."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTCREW_")}
        self.environ["NIGHTCREW_ERASURE_KEY"] = "0123456789abcdef0123456789abcdef"
        for name in ("uploads", "vault"):
            (folder / name).mkdir()
        for key in ("a/1", "a/2", "b/3", "users/1/face", "users/2/face"):
            path = folder / "uploads" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (folder / "nightcrew.toml").write_text(CONFIG.format(folder=folder))
        with closing(sqlite3.connect(folder / "shop.db")) as connection:
            connection.executescript(SCHEMA)
        assert self.run("migrate").returncode == 0

    def run(self, *words, **environ):
        return subprocess.run(
            [COMMAND, *words], cwd=self.folder, env=self.environ | environ, capture_output=True, text=True, check=False
        )

    def ids(self, table):
        with closing(sqlite3.connect(self.folder / "shop.db")) as connection:
            return [number for (number,) in connection.execute(f"SELECT id FROM {table}")]

    @property
    def blobs(self):
        root = self.folder / "uploads"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_it_counts_first_and_acts_when_that_is_confirmed(shop):
    counted = shop.run("erase", "1")
    assert counted.returncode == 0
    assert "users/{id}/*" in counted.stdout
    assert "1 (tax law, 10 years)" not in shop.run("erase", "2").stdout
    assert counted.stdout.splitlines()[-1] == "next: nightcrew erase 1 --confirm"
    assert shop.ids("users") == [1, 2]
    done = shop.run("--json", "erase", "1", "--confirm")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["result"], said["number"], said["problems"]) == ("complete", 1, [])
    assert (shop.ids("users"), shop.ids("files"), shop.ids("invoices")) == ([2], [3], [1])
    assert shop.blobs == ["b/3", "users/2/face"]
    assert shop.run("erase", "receipts").returncode == 0


def test_an_incomplete_one_ends_with_1_and_says_what_is_left(shop):
    (shop.folder / "uploads").rename(shop.folder / "elsewhere")
    first = shop.run("erase", "1", "--confirm")
    assert (first.returncode, "incomplete" in first.stdout, "store uploads: " in first.stdout) == (1, True, True)
    (shop.folder / "elsewhere").rename(shop.folder / "uploads")
    assert shop.run("erase", "1", "--confirm").returncode == 0
    assert shop.blobs == ["b/3", "users/2/face"]


def test_who_is_not_there_or_held_or_has_no_key_is_told_apart(shop):
    unknown = shop.run("erase", "7", "--confirm")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "has no row with that primary key" in unknown.stderr
    assert shop.run("erase").returncode == 2
    assert shop.run("erase", "1", "--job", "delete-account").returncode == 2
    without = shop.run("erase", "1", NIGHTCREW_ERASURE_KEY="")
    assert (without.returncode, "NIGHTCREW_ERASURE_KEY is not set" in without.stderr) == (2, True)
    short = shop.run("erase", "1", NIGHTCREW_ERASURE_KEY="hunter2")
    assert (short.returncode, "hunter2" in short.stderr) == (2, False)
    config = shop.folder / "nightcrew.toml"
    config.write_text(config.read_text() + "hold = \"name = 'bob'\"\n")
    held = shop.run("erase", "2", "--confirm")
    assert (held.returncode, shop.ids("users")) == (3, [1, 2])


def test_a_database_that_is_put_back_is_cleaned_again(shop):
    backup = (shop.folder / "shop.db").read_bytes()
    assert shop.run("erase", "1", "--confirm").returncode == 0
    (shop.folder / "shop.db").write_bytes(backup)
    refused = shop.run("erase", "2", "--confirm")
    assert (refused.returncode, "nightcrew erase replay" in refused.stderr) == (3, True)
    looked = shop.run("erase", "replay")
    assert (looked.returncode, looked.stdout.splitlines()[-1]) == (0, "next: nightcrew erase replay --confirm")
    assert shop.ids("users") == [1, 2]
    again = shop.run("erase", "replay", "--confirm")
    assert (again.returncode, shop.ids("users"), shop.ids("files")) == (0, [2], [3])
    listed = json.loads(shop.run("--json", "erase", "receipts").stdout)
    assert ([said["number"] for said in listed["receipts"]], listed["faults"]) == ([1, 2], [])


def test_a_receipt_that_was_changed_ends_with_1(shop):
    shop.run("erase", "1", "--confirm")
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection:
        connection.execute("UPDATE nightcrew_erasures SET receipt = replace(receipt, '\"found\": 2', '\"found\": 1')")
        connection.commit()
    told = shop.run("erase", "receipts")
    assert (told.returncode, "receipt 1 was changed" in told.stdout) == (1, True)


def test_a_column_that_is_left_out_fails_the_strict_check(shop):
    strict = shop.run("check", "--strict")
    assert strict.returncode == 0, strict.stdout
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection:
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, user_id INTEGER)")
    strict = shop.run("check", "--strict")
    assert (strict.returncode, "events.user_id seems to refer to users" in strict.stdout) == (1, True)
    assert shop.run("check").returncode == 0
