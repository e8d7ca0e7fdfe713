"""Promise: what docs/outbox.md shows is so."""

import re
import sqlite3
import tomllib
from pathlib import Path

import pytest

from nightcrew import Policy
from nightcrew.owing import owings

PAGE = (Path(__file__).parents[2] / "docs/outbox.md").read_text(encoding="utf-8")


def test_an_application_owes_as_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, names)
    crew, uploads = names["crew"], names["uploads"]
    crew.migrate()
    connection = sqlite3.connect("shop.db")
    connection.execute("CREATE TABLE files (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO files VALUES (1), (2)")
    connection.commit()
    uploads.put("one", b"")
    uploads.put("two", b"")
    names["delete_file"](connection, 1, "one")
    connection.rollback()
    names["delete_file"](connection, 2, "two")
    connection.commit()
    assert crew.run("drain-outbox", now=True).deleted == 1
    assert [blob.key for blob in uploads.page().blobs] == ["one"]
    connection.close()
    crew.close()


def test_a_job_says_what_it_owes_as_the_page_shows():
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (job,) = tomllib.loads(example)["jobs"].values()
    assert [str(each) for each in owings(job["blobs"])] == ["message_source.blob_key", "users.avatar_key"]
    assert Policy("users", "deactivated_at", blobs=job["blobs"]).blobs[0].store == "uploads"


@pytest.mark.parametrize("said", ["at most 1,000 keys", "After ten attempts", "five minutes"])
def test_the_figures_are_those_of_the_code(said):
    from nightcrew import outbox, store

    assert said in " ".join(PAGE.split())
    assert (store.MOST, outbox.ATTEMPTS, outbox._HELD) == (1_000, 10, 300.0)
