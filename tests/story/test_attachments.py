"""Files in the workspace: they come with messages, only their owner has them, and they leave with their rows."""

import re
import zlib
from datetime import UTC, datetime, timedelta
from struct import unpack

import pytest
import sqlalchemy as sa
from tests.story.tealight import ACCOUNTS, Browser, Place

from nightcrew.demo import conversations, drawing, files
from nightcrew.demo.schema import chats, message_sources, messages, users

ORPHANS = "/api/internal/jobs/sweep-orphans-uploads"
NOTE = ("notes.md", b"# Sour\r\n\x00\xff", "text/markdown")


def links(browser: Browser) -> list[str]:
    return [f"/files/{key}" for key in browser.files().values()]


def parts(place: Place, chat: str, role: str = "user") -> list[dict[str, str]]:
    """Return the parts of the last message in a chat."""
    said = sa.select(messages.c.parts).where(messages.c.role == role, messages.c.chat_id == chat[-16:])
    with place.data.reading() as connection:
        return connection.execute(said.order_by(messages.c.created_at.desc()).limit(1)).scalar_one()


def test_a_file_comes_with_its_message_and_leaves_with_its_chat(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    for browser in (ada, eve):
        chat = browser.new_chat()
        browser.send(f"{chat}/messages", text="My sourdough bubbles", files=[NOTE, ("two.txt", b"2", "text/plain")])
        assert len(home.kept(browser)) == 2
        assert home.kept(browser) == home.named(browser)
    assert ada.client.get(f"/files/{ada.files()['notes.md']}").content == NOTE[1]

    ada.send(f"{ada.path}/delete")
    assert not home.named(ada)
    assert len(home.kept(ada)) == 2, "owed and still there until the outbox is drained"
    home.settle()
    assert not home.kept(ada)
    assert len(home.kept(eve)) == 2


def test_no_message_is_written_without_its_file(home):
    ada = home.newcomer()
    chat = ada.new_chat()
    with home.away():
        page = ada.send(f"{chat}/messages", text="Is it there?", files=[NOTE], status=503)
    assert "The files are out of reach" in page
    assert home.count(messages, messages.c.chat_id == chat[-16:]) == 0
    assert not home.kept(ada)


def test_an_edited_question_and_a_deleted_file_leave_neither_row_nor_part_nor_file(home):
    ada = home.newcomer()
    chat = ada.new_chat()
    three = [(f"{name}.txt", name.encode(), "text/plain") for name in ("one", "two", "three")]
    ada.send(f"{chat}/messages", text="My sourdough bubbles", files=three)
    ids = ada.files()

    keep = {f"source-{ids['one.txt']}": "yes", f"source-{ids['two.txt']}": "yes"}
    page = ada.send(f"{chat}/edit", text="Why is the loaf flat?", files=[NOTE], **keep)
    assert "Why is the loaf flat?" in page
    assert "My sourdough bubbles" not in page.partition("<ol")[2].partition("</ol>")[0]
    assert home.count(messages, messages.c.chat_id == chat[-16:]) == 2, "one question, one answer"
    asked = next(each for each in re.findall(r"<details.*?</details>", page, re.DOTALL) if ids["two.txt"] in each)
    assert "For good?" in asked, "one click asks, and another deletes"
    ada.send(f"/files/{ids['two.txt']}/delete")
    assert ada.path == chat
    left = ada.files()
    assert sorted(left) == ["notes.md", "one.txt"]
    ada.open(f"/files/{ids['two.txt']}", status=404)

    sources = [part["source"] for part in parts(home, chat) if part["type"] == "file"]
    assert sorted(sources) == sorted(left.values())
    home.settle()
    assert len(home.kept(ada)) == 2
    assert home.kept(ada) == home.named(ada)


def test_the_files_of_all_chats_go_that_are_deleted_at_once_or_with_their_project(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    project, talks = f"/projects/{ada.new_project()}", []
    for place_of in ("/chats", "/chats", project, project):
        ada.open(place_of)
        ada.send("/chats")
        talks.append(ada.path)
        ada.send(f"{talks[-1]}/messages", text="With a file", files=[NOTE])
    eve.send(f"{eve.new_chat()}/messages", text="Hers", files=[NOTE])

    ada.open("/chats")
    chosen = {f"chat-{path[-16:]}": "yes" for path in (talks[0], talks[2], eve.path)}
    assert "2 chats deleted" in ada.send("/chats/delete", **chosen, sure="yes")
    home.settle()
    assert len(home.kept(ada)) == 2
    ada.open(project)
    ada.send(f"{project}/delete", chats="too")
    ada.open(talks[3], status=404)
    assert "With a file" in ada.open(talks[1])
    assert "Hers" in eve.open(eve.path), "nobody deletes other people's chats"
    home.settle()
    assert len(home.kept(ada)) == len(home.kept(eve)) == 1
    assert home.kept(ada) == home.named(ada)


def test_the_chosen_chats_are_named_before_they_go(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    talks = {}
    for words in ("What a lamp costs", "What a lamp weighs", "What a lamp says"):
        talks[words] = ada.new_chat()
        ada.send(f"{talks[words]}/messages", text=words)
    ada.open("/chats")
    assert ada.open("/chats?choose=all").count(" checked>") == 3
    assert "No chat was chosen." in ada.send("/chats/delete")

    chosen = {f"chat-{path[-16:]}": "yes" for path in list(talks.values())[:2]}
    page = ada.send("/chats/delete", **chosen, **{f"chat-{eve.new_chat()[-16:]}": "yes"})
    assert "Delete 2 chats?" in page
    assert "1 more that was chosen is not there any more." in page
    assert "What a lamp costs" in page
    assert "What a lamp says" not in page
    assert all(words in ada.open("/chats") for words in talks), "nothing goes before somebody has said yes"

    page = ada.send("/chats/delete", **chosen, sure="yes")
    assert "2 chats deleted, with messages and files." in page
    assert "What a lamp costs" not in page
    assert "What a lamp says" in page
    assert "None of the chosen chats is there any more." in ada.send("/chats/delete", **chosen)


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


def test_an_erased_account_leaves_no_file_behind(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    for browser in (ada, eve):
        browser.send(f"{browser.new_chat()}/messages", text="Draw me a lighthouse", files=[NOTE])
        project = browser.new_project()
        browser.open(f"/library/{project}")
        browser.send(f"/library/{project}/files", files=[NOTE])
        assert len(home.kept(browser)) == 3
    draft = f"chat-attachments/{ada.person}/draft"
    home.store.put(draft, b"never sent")
    ada.open("/settings")
    ada.send("/settings/deactivate", category="other", reason="")
    with home.data.writing() as connection:
        left = datetime.now(UTC) - timedelta(days=31)
        connection.execute(users.update().where(users.c.id == ada.person).values(deactivated_at=left))

    home.settle(ACCOUNTS)
    assert home.count(users, users.c.id == ada.person) == 0
    home.settle()
    assert home.kept(ada) == (set() if home.key else {draft}), (
        "with a receipt, nothing that is named after a person stays"
    )
    receipts = sa.text("SELECT count(*) FROM nightcrew_erasures WHERE state = 'complete'")
    with home.data.reading() as connection:
        assert (connection.execute(receipts).scalar_one() > 0) is bool(home.key)
    with home.later():
        home.settle(ORPHANS)
    home.settle()
    assert not home.kept(ada)
    assert len(home.kept(eve)) == 3, "everybody else's files stay"


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


def test_a_text_that_is_too_long_becomes_a_file(home):
    ada = home.newcomer()
    text = "A structure, please. " + "wörter " * 40_000
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text=text, files=[NOTE])
    assert ada.client.get(f"/files/{ada.files()['pasted-text.txt']}").content.decode() == text.strip()
    said = parts(home, chat)
    assert [part["type"] for part in said] == ["text", "file", "file"]
    assert len(said[0]["text"]) < conversations.EXCERPT + 5


def test_too_much_is_refused_in_a_sentence_the_words_stay_and_nothing_of_it_is_kept(home):
    ada = home.newcomer()
    chat = ada.new_chat()
    half = ("half.bin", b"x" * (files.LARGEST // 2 + 1), "application/octet-stream")
    page = ada.send(f"{chat}/messages", text="Both of them", files=[half, half], status=422)
    assert "at most 5,242,880 bytes" in page
    assert "Both of them" in page
    whole = ("whole.bin", b"x" * (3 * files.LARGEST), "application/octet-stream")
    ada.send(f"{chat}/messages", text="All", files=[whole], status=413)
    for number in (6, 81):
        ada.open(chat)
        page = ada.send(f"{chat}/messages", text="All of these", files=[NOTE] * number, status=422)
        assert f"At most 5 files go at once; these are {number}." in page
        assert "All of these" in page
    ada.send(f"{chat}/messages", text=" ", status=422)
    assert "Please write something first, or choose a file." in ada.page
    assert not home.kept(ada)
    assert home.count(messages, messages.c.chat_id == chat[-16:]) == 0


def test_a_picture_is_drawn_for_who_asks_and_leaves_with_its_answer(home):
    ada = home.newcomer()
    chat = ada.new_chat()
    page = ada.send(f"{chat}/messages", text="Draw me a lighthouse at dusk")
    name, key = next(iter(ada.files().items()))
    assert name == "Draw me a lighthouse at dusk.png"
    assert f'<img class="drawn" src="/files/{key}" alt="Drawing: {name}"' in page
    answer = ada.client.get(f"/files/{key}")
    assert (answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert size_of(answer.content) == (480, 270)
    assert [part["type"] for part in parts(home, chat, "assistant")] == ["text", "file"]
    assert f'drawn in <a href="{chat}">' in ada.open("/library")

    ada.open(chat)
    ada.send(f"{chat}/edit", text="Draw me a lighthouse at night")
    again = next(iter(ada.files().values()))
    assert again != key
    assert ada.client.get(f"/files/{again}").content != answer.content
    home.settle()
    assert len(home.kept(ada)) == 1, "the answer that was given before has left, and its picture with it"
    assert home.kept(ada) == home.named(ada)
    page = ada.send(f"/files/{again}/delete")
    assert "<img class" not in page
    assert "I only know hills" in page
    ada.send(f"{chat}/edit", text="My sourdough bubbles")
    home.settle()
    assert not home.kept(ada)


def size_of(png: bytes) -> tuple[int, int]:
    """Read a picture of three bytes a pixel as a browser does, and return its width and height."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, png[8:]
    while rest:
        length = int.from_bytes(rest[:4])
        kind, data, check = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert int.from_bytes(check) == zlib.crc32(kind + data)
        chunks[kind], rest = data, rest[12 + length :]
    width, height, *form = unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + 3 * width)
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return width, height


def test_the_same_words_are_drawn_alike_and_every_hour_within_its_frame():
    assert drawing.drawn("A lighthouse") == drawing.drawn("A lighthouse")
    assert {size_of(drawing.drawn(f"{number}")) for number in range(40)} == {(480, 270)}


@pytest.mark.parametrize("kind", ["image/svg+xml", "image/png"])
def test_a_picture_that_somebody_sends_is_given_back_and_never_shown(place, kind):
    ada = place.newcomer()
    page = ada.send(f"{ada.new_chat()}/messages", text="", files=[("a.svg", b"<svg onload='alert(1)'/>", kind)])
    assert "<img class" not in page
    answer = ada.client.get(links(ada)[0])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert "<img class" not in ada.open("/library")


@pytest.mark.parametrize("question", ["Let her draw it", "Our image is 1.4 GB", "Which drawer?", "Sketchy, is it?"])
def test_nothing_is_drawn_for_who_does_not_ask(question):
    assert not drawing.wanted(question)


def test_files_come_only_where_a_form_has_a_place_for_them(place):
    ada = place.browser().sign_up("Ada", "ada.forms@example.com")
    ada.open("/projects")
    seal = re.search(r'name="csrf" value="(\w+)"', ada.page)[1]
    answer = ada.client.post("/projects", data={"csrf": seal, "name": "Thesis"}, files=[("files", NOTE)])
    assert answer.status_code == 415


def test_an_upload_whose_message_was_never_written_goes_after_its_grace_time(home):
    ada = home.newcomer()
    ada.send(f"{ada.new_chat()}/messages", text="Keep this", files=[NOTE])
    home.store.put(f"chat-attachments/{ada.person}/draft", b"a draft")
    home.settle(ORPHANS)
    home.settle()
    assert len(home.kept(ada)) == 2
    with home.later():
        home.settle(ORPHANS)
    home.settle()
    assert home.kept(ada) == home.named(ada)
    assert len(home.kept(ada)) == 1


def test_a_chat_that_goes_while_its_message_is_being_sent_leaves_only_an_orphan(home, monkeypatch):
    """The file is there first; who finds the chat gone writes nothing that would name it."""
    ada = home.newcomer()
    chat = ada.new_chat()

    def gone(store, key, data, put=files.Files.put):
        put(store, key, data)
        with home.data.writing() as connection:
            connection.execute(chats.delete().where(chats.c.id == chat[-16:]))

    monkeypatch.setattr(files.Files, "put", gone)
    ada.send(f"{chat}/messages", text="Still there?", files=[NOTE], status=404)
    assert len(home.kept(ada)) == 1
    assert not home.named(ada)


def test_half_a_sign_is_shown_as_one_that_is_missing_and_breaks_no_page(home):
    """UTF-7 can say one half of a pair of UTF-16, which no page can be made of and not every database keeps."""
    ada = home.newcomer()
    chat = ada.new_chat()
    seal = re.search(r'name="csrf" value="(\w+)"', ada.page)[1].encode()
    half = b"+2AA-"
    disposition = b"--x\r\nContent-Disposition: form-data; name="
    body = b"".join(
        (
            disposition + b'"csrf"\r\n\r\n' + seal + b"\r\n",
            disposition + b'"text"\r\n\r\nHalf ' + half + b" of it\r\n",
            disposition + b'"source-' + half + b'"\r\n\r\nyes\r\n',
            disposition + b'"files"; filename="a' + half + b'b.txt"\r\nContent-Type: \xff/' + half + b"\r\n\r\nx\r\n",
            b"--x--\r\n",
        )
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=utf-7"}
    assert ada.client.post(f"{chat}/messages", content=body, headers=kind).status_code == 200
    page = ada.open(chat)
    assert "Half \N{REPLACEMENT CHARACTER} of it" in page
    assert len(ada.files()) == 1
