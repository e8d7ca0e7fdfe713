"""The chats and their projects."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.demo import conversations, projects, sources
from nightcrew.demo.accounts import Refused
from nightcrew.demo.files import MOST
from nightcrew.demo.paper import counted
from nightcrew.demo.visit import Visit, Way

GONE = "There is no such chat. If nobody had written in it, the night job has removed it."


def all_chats(visit: Visit) -> Response:
    """List the person's chats."""
    return _chats_page(visit)


def new_chat(visit: Visit) -> Response:
    """Open an empty chat: the shell that the night job is for."""
    project = visit.form.get("project") or None
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
        if not conversations.say(here.data, here.files, here.now(), visit.guest, visit.key, words):
            raise HTTPException(404, GONE)
    except Refused as refusal:
        return _chat_page(visit, text, str(refusal))
    return visit.go(f"/chats/{visit.key}#end")


def edit(visit: Visit) -> Response:
    """Put the last question in other words, with those of its files that stay."""
    text, here = visit.form.get("text", ""), visit.workspace
    try:
        words = conversations.worded(text, visit.files, visit.chosen("source"))
        if not conversations.edit(here.data, here.files, here.now(), visit.guest, visit.key, words):
            raise HTTPException(404, GONE)
    except Refused as refusal:
        return _chat_page(visit, text, str(refusal))
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
    if not conversations.delete_chats(visit.workspace.data, visit.workspace.files, visit.guest, [visit.key]):
        raise HTTPException(404, GONE)
    return visit.go("/chats", "quiet", "The chat is deleted, with its messages and files.")


def delete_several(visit: Visit) -> Response:
    """Delete the chats that were chosen in a list."""
    gone = conversations.delete_chats(visit.workspace.data, visit.workspace.files, visit.guest, visit.chosen("chat"))
    project = projects.own(visit.workspace.data, visit.guest, visit.form.get("project"))
    said = f"{counted(gone, 'chat')} deleted, with messages and files." if gone else "No chat was chosen."
    return visit.go(f"/projects/{project}" if project else "/chats", "quiet", said)


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
    if not projects.delete_project(here.data, here.files, visit.guest, visit.key, whole=whole):
        raise HTTPException(404, "There is no such project.")
    left = ", with its chats and all files" if whole else " with its files; its chats stay"
    return visit.go("/projects", "quiet", f"The project is deleted{left}.")


def _changed(visit: Visit, said: str, **values: object) -> Response:
    if not conversations.change(visit.workspace.data, visit.guest, visit.key, **values):
        raise HTTPException(404, GONE)
    return visit.go(f"/chats/{visit.key}", said=said)


def _chats_page(visit: Visit, project: projects.Project | None = None) -> Response:
    data, key = visit.workspace.data, project.id if project else None
    total = conversations.how_many(data, visit.guest, key)
    page, last = visit.turned_to(total, conversations.PAGE)
    found = conversations.chats_of(data, visit.guest, key, page)
    return visit.page("chats.html", chats=found, project=project, total=total, page=page, last=last)


def _projects_page(visit: Visit, name: str = "", error: str | None = None) -> Response:
    facts = {"projects": projects.projects_of(visit.workspace.data, visit.guest), "longest": projects.LONGEST_NAME}
    return visit.page("projects.html", 422 if error else 200, name=name, error=error, **facts)


def _chat_page(visit: Visit, text: str = "", error: str | None = None) -> Response:
    data = visit.workspace.data
    chat = conversations.chat(data, visit.guest, visit.key)
    if chat is None:
        raise HTTPException(404, GONE)
    said, mine = conversations.messages_of(data, chat.id), projects.projects_of(data, visit.guest)
    facts = {"chat": chat, "said": said, "projects": mine, "longest": conversations.LONGEST_MESSAGE, "most": MOST}
    facts |= {"offered": sources.offered(data, chat.project_id), "chosen": visit.chosen("source")}
    return visit.page("chat.html", 422 if error else 200, text=text, error=error, **facts)


WAYS = (
    Way("GET", "/chats", all_chats),
    Way("POST", "/chats", new_chat),
    Way("POST", "/chats/delete", delete_several, page="/chats"),
    Way("GET", "/chats/{id}", one_chat),
    Way("POST", "/chats/{id}/messages", say, page="/chats/{id}", files=True),
    Way("POST", "/chats/{id}/save", save, page="/chats/{id}"),
    Way("POST", "/chats/{id}/project", file_away, page="/chats/{id}"),
    Way("POST", "/chats/{id}/delete", delete, page="/chats/{id}"),
    Way("POST", "/chats/{id}/edit", edit, page="/chats/{id}", files=True),
    Way("GET", "/projects", all_projects),
    Way("POST", "/projects", new_project),
    Way("GET", "/projects/{id}", one_project),
    Way("POST", "/projects/{id}/delete", delete_project, page="/projects/{id}"),
)
