"""The library: every file of a person's, given to them and to nobody else, and deleted one by one or several."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.demo import library, projects, sources
from nightcrew.demo.accounts import Refused
from nightcrew.demo.files import ANY_KIND, MOST, PNG, Origin, disposition
from nightcrew.demo.paper import counted
from nightcrew.demo.visit import Visit, Way

_GONE = "There is no such file."
_NO_PROJECT = "There is no such project."


def in_no_project(visit: Visit) -> Response:
    """List the files of the chats that are in no project."""
    return _page(visit, None)


def in_project(visit: Visit) -> Response:
    """List the files of a project and of its chats."""
    return _page(visit, visit.key)


def upload(visit: Visit) -> Response:
    """Keep files as a project's own."""
    here = visit.workspace
    try:
        if not sources.add(here.data, here.files, here.now(), visit.guest, visit.key, visit.files):
            raise HTTPException(404, _NO_PROJECT)
    except Refused as refusal:
        return _page(visit, visit.key, str(refusal))
    return visit.go(_place(visit.key), said=f"{counted(len(visit.files), 'file')} added.")


def delete_several(visit: Visit) -> Response:
    """Delete the files that were chosen in a list."""
    gone = library.delete(visit.workspace.data, visit.workspace.files, visit.guest, visit.chosen("file"))
    said = f"{counted(gone, 'file')} deleted, and taken out of the messages." if gone else "No file was chosen."
    project = projects.own(visit.workspace.data, visit.guest, visit.form.get("project"))
    return visit.go(_place(project), "quiet", said)


def one_file(visit: Visit) -> Response:
    """Give a file to whom it belongs, as bytes to be kept: no browser is to open it as a page of ours.

    Whatever somebody sent is of no known type. What we drew ourselves is, so that our pages can show it.
    """
    found = library.found(visit.workspace.data, visit.guest, visit.key)
    data = visit.workspace.files.get(found.blob_key) if found else None
    if found is None or data is None:
        raise HTTPException(404, _GONE)
    kind = PNG if found.origin == Origin.IMAGE else ANY_KIND
    return Response(data, headers={"Content-Disposition": disposition(found.name)}, media_type=kind)


def delete(visit: Visit) -> Response:
    """Delete a file, and go back to the chat that it was in, or to the files of its project."""
    found = library.found(visit.workspace.data, visit.guest, visit.key)
    if found is None or not library.delete(visit.workspace.data, visit.workspace.files, visit.guest, [found.id]):
        raise HTTPException(404, _GONE)
    back = f"/chats/{found.chat_id}" if found.chat_id else _place(found.project_id)
    return visit.go(back, "quiet", f"{found.name} is deleted.")


def _place(project: str | None) -> str:
    return f"/library/{project}" if project else "/library"


def _page(visit: Visit, project: str | None, error: str | None = None) -> Response:
    data = visit.workspace.data
    scopes = library.scopes(data, visit.guest)
    scope = next((one for one in scopes if one.project_id == project), None)
    if scope is None:
        raise HTTPException(404, _NO_PROJECT)
    page, last = visit.turned_to(scope.files, library.PAGE)
    facts = {"items": library.files_of(data, visit.guest, project, page), "page": page, "last": last, "most": MOST}
    facts |= {"scopes": scopes, "scope": scope, "place": _place, "all": visit.asked("choose") == "all", "error": error}
    return visit.page("library.html", 422 if error else 200, **facts)


WAYS = (
    Way("GET", "/library", in_no_project),
    Way("POST", "/library/delete", delete_several, page="/library"),
    Way("GET", "/library/{id}", in_project),
    Way("POST", "/library/{id}/files", upload, page="/library/{id}", files=True),
    Way("GET", "/files/{id}", one_file),
    Way("POST", "/files/{id}/delete", delete, page="/library"),
)
