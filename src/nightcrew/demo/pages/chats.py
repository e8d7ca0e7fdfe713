"""The chats and their projects."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.demo import conversations, projects, sources
from nightcrew.demo.accounts import Refused
from nightcrew.demo.answers import ENDINGS
from nightcrew.demo.conversations import Asked
from nightcrew.demo.files import MOST
from nightcrew.demo.paper import counted
from nightcrew.demo.visit import Visit, Way

_BESIDE = 12  # chats that are listed beside the one that is open
GONE = "There is no such chat. If nobody had written in it, the night job has removed it."


def all_chats(visit: Visit) -> Response:
    """List the person's chats."""
    return _chats_page(visit)


def new_chat(visit: Visit) -> Response:
    """Open an empty chat: the shell that the night job is for."""
    project = visit.form.get("project") or None
    if project and projects.own(visit.workspace.data, visit.guest, project) is None:
        raise HTTPException(404, "There is no such project.")
    key = conversations.open_chat(visit.workspace.data, visit.workspace.now(), visit.guest, project)
    return visit.go(f"/chats/{key}")


def one_chat(visit: Visit) -> Response:
    """Show a chat."""
    return _chat_page(visit)


def say(visit: Visit) -> Response:
    """Say something in a chat."""
    text, here = visit.form.get("text", ""), visit.workspace
    try:
        words = conversations.worded(text, visit.files, visit.chosen("source"))
        asked = conversations.say(here.data, here.files, here.now(), visit.guest, visit.key, words)
    except Refused as refusal:
        return _chat_page(visit, text, str(refusal))
    return _answered(visit, asked)


def edit(visit: Visit) -> Response:
    """Put the last question in other words, with those of its files that stay."""
    text, here = visit.form.get("text", ""), visit.workspace
    try:
        words = conversations.worded(text, visit.files, visit.chosen("source"))
        asked = conversations.edit(here.data, here.files, here.now(), visit.guest, visit.key, words)
    except Refused as refusal:
        return _chat_page(visit, text, str(refusal))
    return _answered(visit, asked)


def stop(visit: Visit) -> Response:
    """Stop the answer that is being written, where no script does it."""
    here = visit.workspace
    if conversations.chat(here.data, visit.guest, visit.key) is None:
        raise HTTPException(404, GONE)
    here.answers.stop(visit.guest, visit.key, visit.form.get("stream", ""))
    return visit.go(f"/chats/{visit.key}#end")


def save(visit: Visit) -> Response:
    """Keep a chat among the saved ones, or no longer."""
    saved = visit.form.get("saved") == "yes"
    return _changed(visit, "Saved." if saved else "No longer saved.", is_saved=saved)


def file_away(visit: Visit) -> Response:
    """Put a chat into a project."""
    return _changed(visit, "Moved, with its files.", project_id=visit.form.get("project") or None)


def delete(visit: Visit) -> Response:
    """Delete a chat."""
    here = visit.workspace
    if not conversations.delete_chats(here.data, here.files, here.answers, visit.guest, [visit.key]):
        raise HTTPException(404, GONE)
    return visit.go("/chats", "quiet", "The chat is deleted, with its messages and files.")


def delete_several(visit: Visit) -> Response:
    """Delete the chats that were chosen in a list, once a page has named them and they are sure."""
    chosen, here = visit.chosen("chat"), visit.workspace
    project = projects.own(here.data, visit.guest, visit.form.get("project"))
    place = f"/projects/{project}" if project else "/chats"
    if visit.form.get("sure") != "yes" and (found := conversations.several(here.data, visit.guest, chosen)):
        gone = len(chosen) - len(found)
        return visit.page("chosen_chats.html", chats=found, gone=gone, place=place, project=project)
    deleted = conversations.delete_chats(here.data, here.files, here.answers, visit.guest, chosen)
    nothing = "None of the chosen chats is there any more." if chosen else "No chat was chosen."
    before = f" {counted(len(chosen) - deleted, 'chat')} had gone before." if deleted < len(chosen) else ""
    said = f"{counted(deleted, 'chat')} deleted, with messages and files.{before}" if deleted else nothing
    return visit.go(place, "quiet", said)


def all_projects(visit: Visit) -> Response:
    """List the person's projects."""
    return _projects_page(visit)


def new_project(visit: Visit) -> Response:
    """Open a project."""
    name = visit.form.get("name", "")
    try:
        key = projects.open_project(visit.workspace.data, visit.workspace.now(), visit.guest, name)
    except Refused as refusal:
        return _projects_page(visit, name, str(refusal))
    return visit.go(f"/projects/{key}")


def one_project(visit: Visit) -> Response:
    """List the chats of a project."""
    mine = projects.projects_of(visit.workspace.data, visit.guest)
    project = next((one for one in mine if one.id == visit.key), None)
    if project is None:
        raise HTTPException(404, "There is no such project.")
    return _chats_page(visit, project)


def delete_project(visit: Visit) -> Response:
    """Delete a project, and its chats if they are to go, too."""
    whole, here = visit.form.get("chats") == "too", visit.workspace
    if not projects.delete_project(here.data, here.files, here.answers, visit.guest, visit.key, whole=whole):
        raise HTTPException(404, "There is no such project.")
    left = ", with its chats and all files" if whole else " with its files; its chats stay"
    return visit.go("/projects", "quiet", f"The project is deleted{left}.")


def _answered(visit: Visit, asked: Asked | None) -> Response:
    """Have a question answered that is kept, if it is, and show the chat."""
    here = visit.workspace
    if asked is None:
        raise HTTPException(404, GONE)
    if not asked.answered:
        turns = conversations.turns_of(here.data, visit.key, asked)
        here.answers.begin(visit.guest, visit.key, asked.question, turns)
    return visit.go(f"/chats/{visit.key}#end")


def _changed(visit: Visit, said: str, **values: object) -> Response:
    try:
        if not conversations.change(visit.workspace.data, visit.guest, visit.key, **values):
            raise HTTPException(404, GONE)
    except Refused as refusal:
        return visit.go(f"/chats/{visit.key}", "bad", str(refusal))
    return visit.go(f"/chats/{visit.key}", said=said)


def _chats_page(visit: Visit, project: projects.Project | None = None) -> Response:
    data, key = visit.workspace.data, project.id if project else None
    total = conversations.how_many(data, visit.guest, key)
    page, last = visit.turned_to(total, conversations.PAGE)
    found, every = conversations.chats_of(data, visit.guest, key, page), visit.asked("choose") == "all"
    facts: dict[str, Any] = {"total": total, "page": page, "last": last, "all": every}
    busy = visit.workspace.answers.busy(visit.guest)
    return visit.page("chats.html", chats=found, busy=busy, project=project, **facts)


def _projects_page(visit: Visit, name: str = "", error: str | None = None) -> Response:
    facts = {"projects": projects.projects_of(visit.workspace.data, visit.guest), "longest": projects.LONGEST_NAME}
    return visit.page("projects.html", 422 if error else 200, name=name, error=error, **facts)


def _chat_page(visit: Visit, text: str = "", error: str | None = None) -> Response:
    data, answers = visit.workspace.data, visit.workspace.answers
    chat = conversations.chat(data, visit.guest, visit.key)
    if chat is None:
        raise HTTPException(404, GONE)
    writing = answers.writing(chat.id)  # before what is kept: an answer that ends meanwhile is found there
    said, mine = conversations.messages_of(data, chat.id), projects.projects_of(data, visit.guest)
    facts = {"chat": chat, "said": said, "projects": mine, "longest": conversations.LONGEST_MESSAGE, "most": MOST}
    facts |= {"offered": sources.offered(data, chat.project_id), "chosen": visit.chosen("source")}
    if writing and writing.stream in {message.stream for message in said}:
        writing = None  # it has ended since
    facts |= {"writing": writing, "endings": ENDINGS, "about": answers.about, "latest": _latest(visit)}
    return visit.page("chat.html", 422 if error else 200, text=text, error=error, **facts)


def _latest(visit: Visit) -> list[tuple[conversations.Chat, bool]]:
    """Return the person's latest chats, and whether something is being written in them."""
    found = conversations.chats_of(visit.workspace.data, visit.guest)[:_BESIDE]
    busy = visit.workspace.answers.busy(visit.guest)
    return [(chat, chat.id in busy) for chat in found]


WAYS = (
    Way("GET", "/chats", all_chats),
    Way("POST", "/chats", new_chat),
    Way("POST", "/chats/delete", delete_several, page="/chats"),
    Way("GET", "/chats/{id}", one_chat),
    Way("POST", "/chats/{id}/messages", say, page="/chats/{id}", files=True),
    Way("POST", "/chats/{id}/save", save, page="/chats/{id}"),
    Way("POST", "/chats/{id}/project", file_away, page="/chats/{id}"),
    Way("POST", "/chats/{id}/delete", delete, page="/chats/{id}"),
    Way("POST", "/chats/{id}/stop", stop, page="/chats/{id}"),
    Way("POST", "/chats/{id}/edit", edit, page="/chats/{id}", files=True),
    Way("GET", "/projects", all_projects),
    Way("POST", "/projects", new_project),
    Way("GET", "/projects/{id}", one_project),
    Way("POST", "/projects/{id}/delete", delete_project, page="/projects/{id}"),
)
