"""The library: every file of a person's, given to them and to nobody else, and deleted one by one or several."""

from collections.abc import Collection
from itertools import chain

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from nightcrew.demo import bundle, library, projects, sources
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
    """Delete the files that were chosen in a list, once a page has named them and they are sure."""
    chosen, here = visit.chosen("file"), visit.workspace
    if visit.form.get("sure") != "yes" and (items := library.several(here.data, visit.guest, chosen)):
        project = projects.own(here.data, visit.guest, visit.form.get("project"))
        return visit.page("chosen.html", items=items, gone=len(chosen) - len(items), place=_place(project), key=project)
    deleted = library.delete(here.data, here.files, visit.guest, chosen)
    if not deleted:
        return _back(visit, chosen)
    gone = f" {counted(len(chosen) - deleted, 'file')} had gone before." if deleted < len(chosen) else ""
    return _back(visit, chosen, f"{counted(deleted, 'file')} deleted, and taken out of the messages.{gone}")


def download(visit: Visit) -> Response:
    """Give the files that were chosen in a list, as a zip that is made while it is sent."""
    chosen, here = visit.chosen("file"), visit.workspace
    items = library.several(here.data, visit.guest, chosen)
    if not items:
        return _back(visit, chosen)
    parts = bundle.zipped(here.files, items, len(chosen) - len(items))
    first = next(parts)  # a store that is out of reach is told on a page
    headers = {"Content-Disposition": disposition("library.zip")}
    return StreamingResponse(chain([first], parts), headers=headers, media_type="application/zip")


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


def _back(visit: Visit, chosen: Collection[str], said: str | None = None) -> Response:
    """Go back to the list that the form was on, and say what came of it."""
    nothing = "None of the chosen files is there any more." if chosen else "No file was chosen."
    project = projects.own(visit.workspace.data, visit.guest, visit.form.get("project"))
    return visit.go(_place(project), "quiet", said or nothing)


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
    Way("POST", "/library/download", download, page="/library"),
    Way("GET", "/library/{id}", in_project),
    Way("POST", "/library/{id}/files", upload, page="/library/{id}", files=True),
    Way("GET", "/files/{id}", one_file),
    Way("POST", "/files/{id}/delete", delete, page="/library"),
)
