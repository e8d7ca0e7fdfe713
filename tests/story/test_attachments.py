"""Files in the workspace: they come with messages, only their owner has them, and they leave with their rows."""

import os
import re
import time
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from tests.story.tealight import ACCOUNTS, BEARER, Browser, Place, served

from nightcrew.clock import SystemClock
from nightcrew.demo import conversations, files
from nightcrew.demo.schema import chats, message_sources, messages, users
from nightcrew.store import BlobStore
from nightcrew.stores import blob_store

DRAIN, ORPHANS = "/api/internal/jobs/drain-outbox", "/api/internal/jobs/sweep-orphans-uploads"
NOTE = ("notes.md", b"# Sour\r\n\x00\xff", "text/markdown")


@pytest.fixture
def folder(fresh_place, tmp_path) -> BlobStore:
    return blob_store((tmp_path / "uploads").as_uri(), SystemClock())


def kept(store: BlobStore) -> set[str]:
    return {blob.key for blob in store.page().blobs}


def named(place: Place) -> set[str]:
    with place.data.reading() as connection:
        return set(connection.execute(sa.select(message_sources.c.blob_key)).scalars())


def settle(place: Place, path: str = DRAIN) -> dict:
    answer = httpx.post(f"{place.base}{path}?now", headers=BEARER, timeout=30)
    assert answer.json()["outcome"] == "succeeded", answer.text
    return answer.json()


def links(browser: Browser) -> list[str]:
    return re.findall(r'href="(/files/\w+)"', browser.page)


def a_message_and_its_chat(place: Place, store: BlobStore) -> None:
    """Send a file, have it back to the byte, delete the chat, and see the file go with it and no other."""
    before = kept(store)
    assert before == named(place), "the seeded year's files are there"
    ada = place.browser().sign_up()
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text="My sourdough bubbles", files=[NOTE, ("two.txt", b"2", "text/plain")])
    assert len(kept(store)) == len(before) + 2
    assert kept(store) == named(place)
    assert ada.client.get(links(ada)[0]).content == NOTE[1]

    ada.send(f"{chat}/delete")
    assert kept(store) - named(place), "owed and still there until the outbox is drained"
    assert settle(place)["deletedCount"] == 2
    assert kept(store) == before == named(place)


def test_a_file_comes_with_its_message_and_leaves_with_its_chat(fresh_place, folder):
    a_message_and_its_chat(fresh_place, folder)


def test_the_same_with_a_bucket(bucket, tmp_path):
    with served(f"sqlite:///{tmp_path}/tealight.db", bucket.url("/tealight")) as place:
        a_message_and_its_chat(place, blob_store(bucket.url("/tealight"), SystemClock()))
        ada = place.browser()
        ada.sign_in()
        bucket.faults.append(lambda _: ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"))
        chat = ada.new_chat()
        page = ada.send(f"{chat}/messages", text="Is it there?", files=[NOTE], status=503)
        assert "The files are out of reach" in page
        assert place.count(messages, messages.c.chat_id == chat.rpartition("/")[2]) == 0, "no message without its file"


def test_an_edited_question_and_a_deleted_file_leave_neither_row_nor_part_nor_file(fresh_place, folder):
    place, before = fresh_place, kept(folder)
    ada = place.browser().sign_up()
    chat = ada.new_chat()
    three = [(f"{name}.txt", name.encode(), "text/plain") for name in ("one", "two", "three")]
    ada.send(f"{chat}/messages", text="My sourdough bubbles", files=three)
    asked = (messages.c.role == "user") & (messages.c.chat_id == chat[-16:])
    ids = {ada.client.get(link).text: link.rpartition("/")[2] for link in links(ada)}

    keep = {f"keep-{ids['one']}": "yes", f"keep-{ids['two']}": "yes"}
    page = ada.send(f"{chat}/edit", text="Why is the loaf flat?", files=[NOTE], **keep)
    assert "Why is the loaf flat?" in page
    assert "My sourdough bubbles" not in page.partition("<ol")[2]
    assert place.count(messages, messages.c.chat_id == chat[-16:]) == 2, "one question, one answer"
    ada.send(f"/files/{ids['two']}/delete")
    assert ada.path == chat
    ada.open(f"/files/{ids['two']}", status=404)

    sources = [part["source"] for part in place.value(messages.c.parts, asked) if part["type"] == "file"]
    with place.data.reading() as connection:
        rows = sa.select(message_sources.c.id, message_sources.c.name).where(message_sources.c.chat_id == chat[-16:])
        left = dict(connection.execute(rows).all())
    assert sorted(left.values()) == ["notes.md", "one.txt"]
    assert sorted(sources) == sorted(left)
    assert settle(place)["deletedCount"] == 2
    assert kept(folder) == named(place)
    assert len(kept(folder)) == len(before) + 2


def test_the_files_of_all_chats_go_that_are_deleted_at_once_or_with_their_project(fresh_place, folder):
    place, before = fresh_place, kept(folder)
    ada, eve = place.browser().sign_up(), place.browser().sign_up("Eve", "eve@example.com")
    ada.open("/projects")
    ada.send("/projects", name="Thesis")
    project, talks = ada.path, []
    for place_of in ("/chats", "/chats", project, project):
        ada.open(place_of)
        ada.send("/chats")
        talks.append(ada.path)
        ada.send(f"{talks[-1]}/messages", text="With a file", files=[NOTE])
    eve.send(f"{eve.new_chat()}/messages", text="Hers", files=[NOTE])

    ada.open("/chats")
    chosen = {f"chat-{path[-16:]}": "yes" for path in (talks[0], talks[2], eve.path)}
    assert "2 chats deleted" in ada.send("/chats/delete", **chosen)
    assert settle(place)["deletedCount"] == 2
    ada.open(project)
    ada.send(f"{project}/delete", chats="too")
    ada.open(talks[3], status=404)
    assert "With a file" in ada.open(talks[1])
    assert "Hers" in eve.open(eve.path), "nobody deletes other people's chats"
    assert settle(place)["deletedCount"] == 1
    assert kept(folder) == named(place)
    assert len(kept(folder)) == len(before) + 2


def test_nobody_edits_or_deletes_what_is_another_persons(place):
    ada, eve = (place.browser().sign_up(name, f"{name}.edits@example.com") for name in ("ada", "eve"))
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text="Mine", files=[NOTE])
    eve.new_chat()
    seal = re.search(r'name="csrf" value="(\w+)"', eve.page)[1]
    for path in (f"{chat}/edit", f"{links(ada)[0]}/delete"):
        assert eve.client.post(path, data={"csrf": seal, "text": "Hers"}).status_code == 404
    assert ada.client.get(links(ada)[0]).content == NOTE[1]
    assert "Mine" in ada.open(chat)


def test_an_erased_account_leaves_no_file_behind(fresh_place, folder):
    place = fresh_place
    ada = place.browser().sign_up()
    ada.send(f"{ada.new_chat()}/messages", text="Keep this", files=[NOTE])
    ada.open("/settings")
    ada.send("/settings/deactivate", category="other", reason="")
    ada.open("/night")
    ada.send("/night/travel", leap="31-days")
    settle(place, ACCOUNTS)
    assert place.count(users, users.c.email == "ada@example.com") == 0
    settle(place)
    assert kept(folder) == named(place)
    assert kept(folder), "everybody else's files stay"


def test_a_file_is_given_to_its_owner_only_and_never_as_a_page(place):
    ada, eve, guest = place.browser().sign_up("Ada", "ada.files@example.com"), place.browser(), place.browser()
    eve.sign_up("Eve", "eve.files@example.com")
    ada.send(f"{ada.new_chat()}/messages", text="", files=[("../../a\r\nX: y\u202egnp.html", b"<script>", "text/html")])
    link = links(ada)[0]
    answer = ada.client.get(link)
    assert answer.content == b"<script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9%._-]+", answer.headers["Content-Disposition"])
    assert ".." not in answer.headers["Content-Disposition"]
    eve.open(link, status=404)
    guest.open(link)
    assert guest.path == "/sign-in"
    chat = ada.path
    ada.open("/chats")
    eve.new_chat()
    seal = re.search(r'name="csrf" value="(\w+)"', eve.page)[1]
    before = place.count(message_sources)
    strangers = eve.client.post(f"{chat}/messages", data={"csrf": seal, "text": "mine"}, files=[("files", NOTE)])
    assert strangers.status_code == 404
    assert place.count(message_sources) == before


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("C:\\Users\\ada\\plan.pdf", "plan.pdf"),
        ("/etc/passwd", "passwd"),
        ("..", "file"),
        (".htaccess", "htaccess"),
        ("a\u202egnp.exe", "a gnp.exe"),
        ("tab\there\x00.txt", "tab here .txt"),
        ("ä" * 300 + ".tar", "ä" * 196 + ".tar"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_name_is_what_can_be_shown_and_kept(given, shown):
    assert files.upload(given, "text/plain", b"").name == shown


@pytest.mark.parametrize("kind", ["text/html\r\nX: y", "", "nonsense", f"text/{'x' * 100}", "text/ä"])
def test_a_media_type_that_is_none_is_not_kept(kind):
    assert files.upload("a", kind, b"").media_type == "application/octet-stream"


def test_a_text_that_is_too_long_becomes_a_file(fresh_place):
    ada = fresh_place.browser().sign_up()
    text = "A structure, please. " + "wörter " * 40_000
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text=text, files=[NOTE])
    assert "pasted-text.txt" in ada.page
    link = next(link for link in links(ada) if "pasted" in ada.client.get(link).headers["Content-Disposition"])
    assert ada.client.get(link).content.decode() == text.strip()
    parts = fresh_place.value(messages.c.parts, (messages.c.role == "user") & (messages.c.chat_id == chat[-16:]))
    assert [part["type"] for part in parts] == ["text", "file", "file"]
    assert len(parts[0]["text"]) < conversations.EXCERPT + 5


def test_too_much_is_refused_and_nothing_of_it_is_kept(fresh_place, folder):
    place, before = fresh_place, kept(folder)
    ada = place.browser().sign_up()
    chat = ada.new_chat()
    half = ("half.bin", b"x" * (files.LARGEST // 2 + 1), "application/octet-stream")
    page = ada.send(f"{chat}/messages", text="Both of them", files=[half, half], status=422)
    assert "at most 5,242,880 bytes" in page
    assert "Both of them" in page
    whole = ("whole.bin", b"x" * (3 * files.LARGEST), "application/octet-stream")
    ada.send(f"{chat}/messages", text="All", files=[whole], status=413)
    ada.open(chat)
    ada.send(f"{chat}/messages", text="Six", files=[NOTE] * 6, status=400)
    ada.open(chat)
    ada.send(f"{chat}/messages", text=" ", status=422)
    assert "Please write something first, or choose a file." in ada.page
    assert kept(folder) == before
    assert place.count(messages, messages.c.chat_id == chat[-16:]) == 0


def test_files_come_only_where_a_form_has_a_place_for_them(place):
    ada = place.browser().sign_up("Ada", "ada.forms@example.com")
    ada.open("/projects")
    seal = re.search(r'name="csrf" value="(\w+)"', ada.page)[1]
    answer = ada.client.post("/projects", data={"csrf": seal, "name": "Thesis"}, files=[("files", NOTE)])
    assert answer.status_code == 415


def test_an_upload_whose_message_was_never_written_goes_after_its_grace_time(fresh_place, folder, tmp_path):
    place, before = fresh_place, kept(folder)
    for key in ("chat-attachments/a/young", "chat-attachments/a/old"):
        folder.put(key, b"a draft")
    old = time.time() - timedelta(hours=25).total_seconds()
    for path in (tmp_path / "uploads").rglob("*"):
        if path.is_file() and path.name != "young":
            os.utime(path, (old, old))
    settle(place, ORPHANS)
    settle(place)
    assert kept(folder) == before | {"chat-attachments/a/young"}


def test_a_chat_that_goes_while_its_message_is_being_sent_leaves_only_an_orphan(fresh_place, folder, monkeypatch):
    """The file is there first; who finds the chat gone writes nothing that would name it."""
    place = fresh_place
    ada = place.browser().sign_up()
    chat = ada.new_chat()

    def gone(store, key, data, put=files.Files.put):
        put(store, key, data)
        with place.data.writing() as connection:
            connection.execute(chats.delete().where(chats.c.id == chat[-16:]))

    monkeypatch.setattr(files.Files, "put", gone)
    ada.send(f"{chat}/messages", text="Still there?", files=[NOTE], status=404)
    assert len(kept(folder) - named(place)) == 1
    assert named(place) < kept(folder)
