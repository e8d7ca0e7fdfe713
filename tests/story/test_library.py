"""The library: a project's own files, files that follow their chat, and what becomes of messages that showed one."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from tests.story.tealight import Browser, Place, served

from nightcrew.demo import files, library
from nightcrew.demo.schema import chats, message_sources, messages, project_sources, projects

NOTE = ("notes.md", b"# Sour\r\n\x00\xff", "text/markdown")
PLAN = ("plan.txt", b"a plan", "text/plain")
ORDERS = ("orders.csv", b"1,2,3", "text/csv")


def add(browser: Browser, project: str, *uploads: tuple[str, bytes, str], status: int = 200) -> str:
    """Give a project files, and return the page."""
    browser.open(f"/library/{project}")
    return browser.send(f"/library/{project}/files", files=uploads, status=status)


def chat_in(browser: Browser, project: str) -> str:
    browser.open(f"/projects/{project}")
    browser.send("/chats")
    return browser.path


def listed(browser: Browser, project: str = "") -> list[str]:
    """Return the names of the files in a project, or in none."""
    browser.open(f"/library/{project}".rstrip("/"))
    return sorted(browser.files())


def test_a_projects_files_are_listed_given_back_and_deleted_one_by_one_or_several_at_once(home):
    ada = home.newcomer()
    project = ada.new_project()
    assert "3 files added." in add(ada, project, NOTE, PLAN, ORDERS)
    assert len(home.kept(ada)) == 3
    assert home.kept(ada) == home.named(ada)
    assert listed(ada, project) == ["notes.md", "orders.csv", "plan.txt"]
    assert listed(ada) == []
    ada.open(f"/library/{project}")
    keys = ada.files()
    assert ada.client.get(f"/files/{keys['notes.md']}").content == NOTE[1]

    chosen = {f"file-{keys[name]}": "yes" for name in ("notes.md", "plan.txt")}
    page = ada.send("/library/delete", **chosen)
    assert "Delete 2 files?" in page
    assert re.findall(r'class="title">(.*?)<', page) == ["notes.md", "plan.txt"]
    assert len(home.named(ada)) == 3, "one click asks, and another deletes"
    assert "2 files deleted" in ada.send("/library/delete")
    assert ada.path == f"/library/{project}"
    assert listed(ada, project) == ["orders.csv"]
    ada.open(f"/files/{keys['notes.md']}", status=404)
    home.settle()
    assert len(home.kept(ada)) == 1
    ada.open(f"/library/{project}")
    assert "No file was chosen." in ada.send("/library/delete")
    gone = {f"file-{keys['plan.txt']}": "yes"}
    assert "None of the chosen files is there any more." in ada.send("/library/delete", **gone)
    page = ada.send("/library/delete", **gone, **{f"file-{keys['orders.csv']}": "yes"})
    assert "Delete 1 file?" in page
    assert "1 more that was chosen is not there any more." in page
    assert "1 file deleted" in ada.send("/library/delete")
    home.settle()
    assert not home.kept(ada)


def seal(browser: Browser) -> str:
    return re.search(r'name="csrf" value="(\w+)"', browser.page)[1]


def test_a_projects_file_leaves_the_messages_that_show_it_and_goes_once_no_row_has_it(home):
    ada = home.newcomer()
    project = ada.new_project()
    add(ada, project, NOTE, PLAN)
    keys = ada.files()
    shown = {f"source-{keys[name]}": "yes" for name in ("notes.md", "plan.txt")}
    stays, moves = chat_in(ada, project), chat_in(ada, project)
    for chat in (stays, moves):
        ada.open(chat)
        page = ada.send(f"{chat}/messages", text="What of these?", files=[ORDERS], **shown)
        assert sorted(ada.files()) == ["notes.md", "orders.csv", "plan.txt"]
    assert ada.client.get(f"/files/{ada.files()['notes.md']}").content == NOTE[1]
    assert len(home.kept(ada)) == 4, "a file that is shown is kept once"
    page = ada.open(f"/library/{project}")
    assert "shown in 2 messages" in page
    assert page.count("notes.md</a>") == 1
    ada.open(moves)
    ada.send(f"{moves}/project", project="")

    ada.open(f"/library/{project}")
    page = ada.send("/library/delete", **{f"file-{keys['notes.md']}": "yes"})
    assert "shown in 1 message<" in page
    ada.send("/library/delete")
    home.settle()
    ada.open(stays)
    assert sorted(ada.files()) == ["orders.csv", "plan.txt"]
    assert len(parts(home, stays)) == 3, "its text, and the parts of two files"
    ada.open(moves)
    assert sorted(ada.files()) == ["notes.md", "orders.csv", "plan.txt"], "it had left the project before"
    assert ada.client.get(f"/files/{ada.files()['notes.md']}").content == NOTE[1]
    assert len(home.kept(ada)) == 4
    ada.send(f"/files/{ada.files()['notes.md']}/delete")
    home.settle()
    assert len(home.kept(ada)) == 3
    assert home.kept(ada) == home.named(ada)


def parts(place: Place, chat: str) -> list[dict[str, str]]:
    asked = sa.select(messages.c.parts).where(messages.c.chat_id == chat[-16:], messages.c.role == "user")
    with place.data.reading() as connection:
        return connection.execute(asked).scalar_one()


def test_taking_a_projects_file_out_of_a_message_leaves_it_to_the_project(home):
    ada = home.newcomer()
    project = ada.new_project()
    add(ada, project, NOTE)
    key = ada.files()["notes.md"]
    chat = chat_in(ada, project)
    ada.send(f"{chat}/messages", text="", **{f"source-{key}": "yes"})
    ada.send(f"/files/{ada.files()['notes.md']}/delete")
    assert ada.path == chat
    home.settle()
    assert listed(ada, project) == ["notes.md"]
    assert ada.client.get(f"/files/{key}").content == NOTE[1]


@pytest.mark.parametrize("whole", [True, False], ids=["with its chats", "alone"])
def test_a_projects_files_go_with_it_and_those_of_its_chats_with_them(home, whole):
    ada = home.newcomer()
    project = ada.new_project()
    add(ada, project, NOTE, PLAN)
    key = ada.files()["plan.txt"]
    chat = chat_in(ada, project)
    ada.send(f"{chat}/messages", text="See here", files=[ORDERS], **{f"source-{key}": "yes"})
    ada.open(f"/projects/{project}")
    ada.send(f"/projects/{project}/delete", **({"chats": "too"} if whole else {}))
    assert home.count(project_sources, project_sources.c.project_id == project) == 0
    assert len(home.kept(ada)) == 3, "owed and still there until the outbox is drained"
    home.settle()
    assert home.kept(ada) == home.named(ada)
    assert listed(ada) == ([] if whole else ["orders.csv", "plan.txt"])
    assert len(home.kept(ada)) == (0 if whole else 2)


def test_a_file_is_in_the_library_or_in_the_project_that_its_chat_is_in(home):
    ada = home.newcomer()
    project, other = ada.new_project(), ada.new_project("Garden")
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text="My sourdough bubbles", files=[NOTE])
    places = "", project, other
    for now in (project, other, ""):
        ada.open(chat)
        assert "Moved, with its files." in ada.send(f"{chat}/project", project=now)
        assert [listed(ada, each) for each in places] == [["notes.md"] if each == now else [] for each in places]
    page = ada.open("/library")
    assert f'sent in <a href="{chat}">My sourdough bubbles</a>' in page
    assert ada.client.get(f"/files/{ada.files()['notes.md']}").content == NOTE[1]


def test_a_chat_stays_in_its_project_where_it_is_to_go_into_one_that_is_not_there(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    project, gone, theirs = ada.new_project(), ada.new_project("Gone"), eve.new_project()
    ada.open(f"/projects/{gone}")
    ada.send(f"/projects/{gone}/delete")
    chat = chat_in(ada, project)
    ada.send(f"{chat}/messages", text="My sourdough bubbles", files=[NOTE])
    for wrong in (gone, theirs, "0" * 16, "\0"):
        ada.open(chat)
        assert "There is no such project: the chat stays where it is." in ada.send(f"{chat}/project", project=wrong)
        assert listed(ada, project) == ["notes.md"]
    ada.open("/chats")
    form = {"csrf": seal(ada), "project": gone}
    assert ada.client.post("/chats", data=form).status_code == 404
    assert home.count(chats, chats.c.user_id == ada.person) == 1


def test_files_of_several_chats_are_deleted_at_once_and_leave_their_messages(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    for browser in (ada, eve):
        for _ in range(2):
            browser.send(f"{browser.new_chat()}/messages", text="Here", files=[NOTE, PLAN])
    theirs = eve.files()["plan.txt"]
    page = ada.open("/library?choose=all")
    assert page.count(" checked") == 4
    chosen = re.findall(r'name="(file-\w+)"', page)[:3]
    ada.send("/library/delete", **dict.fromkeys([*chosen, f"file-{theirs}"], "yes"))
    ada.send("/library/delete", **{f"file-{theirs}": "yes"})
    assert "3 files deleted, and taken out of the messages." in ada.page
    home.settle()
    assert len(home.kept(ada)) == 1
    assert len(home.kept(eve)) == 4, "nobody deletes other people's files"
    said = home.count(message_sources, message_sources.c.blob_key.contains(ada.person))
    assert said == 1


def test_what_a_project_cannot_take_is_refused_in_a_sentence_and_not_kept(home):
    ada = home.newcomer()
    project = ada.new_project()
    assert "Please choose a file first." in add(ada, project, status=422)
    assert "At most 5 files go at once; these are 6." in add(ada, project, *[NOTE] * 6, status=422)
    large = ("large.bin", b"x" * (files.LARGEST + 1), "application/octet-stream")
    assert "at most 5,242,880 bytes" in add(ada, project, large, status=422)
    with home.away():
        assert "The files are out of reach" in add(ada, project, NOTE, status=503)
    assert listed(ada, project) == []
    assert not home.kept(ada)


def test_a_project_that_goes_while_its_file_comes_leaves_only_an_orphan(home, monkeypatch):
    ada = home.newcomer()
    project = ada.new_project()

    def gone(store, key, data, put=files.Files.put):
        put(store, key, data)
        with home.data.writing() as connection:
            connection.execute(projects.delete().where(projects.c.id == project))

    monkeypatch.setattr(files.Files, "put", gone)
    add(ada, project, NOTE, status=404)
    assert len(home.kept(ada)) == 1
    assert not home.named(ada)


def test_a_file_that_is_deleted_while_a_message_comes_to_show_it_leaves_that_message_too(server_url, tmp_path):
    with served(server_url, tmp_path.as_uri()) as place, ThreadPoolExecutor(2) as clicks:
        ada = place.newcomer()
        project = ada.new_project()
        add(ada, project, NOTE)
        key = ada.files()["notes.md"]
        chat = chat_in(ada, project)
        form = {"csrf": seal(ada), "text": "Look", f"source-{key}": "yes", f"file-{key}": "yes", "sure": "yes"}
        with place.data.writing() as connection:
            connection.execute(sa.select(chats).where(chats.c.id == chat[-16:]).with_for_update())
            said = clicks.submit(ada.client.post, f"{chat}/messages", data=form)
            place.wait_for_waiting(1)
            deleted = clicks.submit(ada.client.post, "/library/delete", data=form)
            place.wait_for_waiting(2)
        assert [click.result(20).status_code for click in (said, deleted)] == [200, 200]
        assert parts(place, chat) == [{"type": "text", "text": "Look"}]
        place.settle()
        assert not place.kept(ada)


def test_other_peoples_projects_take_and_show_no_files(place):
    ada, eve = place.newcomer("Ada"), place.newcomer("Eve")
    project, theirs = ada.new_project(), eve.new_project()
    add(ada, project, NOTE)
    key = ada.files()["notes.md"]
    eve.open(f"/library/{project}", status=404)
    eve.open(f"/files/{key}", status=404)
    chat = chat_in(eve, theirs)
    form = {"csrf": seal(eve), "text": "Show me", f"source-{key}": "yes", f"file-{key}": "yes"}
    assert eve.client.post(f"/library/{project}/files", data=form, files=[("files", NOTE)]).status_code == 404
    assert eve.client.post(f"/files/{key}/delete", data=form).status_code == 404
    for sure in ({}, {"sure": "yes"}):
        answer = eve.client.post("/library/delete", data=form | sure)
        assert "None of the chosen files is there any more." in answer.text
    eve.client.post(f"{chat}/messages", data=form)
    eve.open(chat)
    assert not eve.files(), "nobody shows what is another person's"
    guest = place.browser()
    for path in ("/library", f"/library/{project}", f"/files/{key}"):
        guest.open(path)
        assert guest.path == "/sign-in"
    assert not place.kept(eve)
    assert len(place.kept(ada)) == 1


def test_a_projects_file_is_shown_in_the_chats_of_that_project_only(place):
    ada = place.newcomer()
    project = ada.new_project()
    add(ada, project, NOTE)
    key = ada.files()["notes.md"]
    for chat in (ada.new_chat(), chat_in(ada, ada.new_project("Garden"))):
        ada.open(chat)
        page = ada.send(f"{chat}/messages", text="", status=422, **{f"source-{key}": "yes"})
        assert "has been deleted meanwhile" in page


def test_a_long_library_is_paged(place):
    ada = place.newcomer()
    project = ada.new_project()
    for number in range(library.PAGE // 5 + 1):
        add(ada, project, *[(f"{number}-{part}.txt", b"x", "text/plain") for part in range(5)])
    seen = [name for page in (1, 2) for name in listed_at(ada, f"/library/{project}?page={page}")]
    assert len(seen) == len(set(seen)) == library.PAGE + 5


def listed_at(browser: Browser, path: str) -> list[str]:
    browser.open(path)
    return list(browser.files())
