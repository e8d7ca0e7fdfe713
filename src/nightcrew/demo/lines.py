"""Lines: the routes by which a page's script reads an answer along, stops it, and looks which others are written."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Scope

from nightcrew.demo import conversations
from nightcrew.demo.visit import KEY, visiting
from nightcrew.demo.workspace import Workspace
from nightcrew.web.streams import streams

PATH = "/api/chat"


def lines(workspace: Workspace) -> ASGIApp:
    """Return the routes below `PATH`: a chat's are there for whom it belongs to."""

    async def authorize(scope: Scope, chat: str) -> str | None:
        # What stops an answer has no seal as the forms have: it has to come from a page of ours instead.
        foreign = Request(scope).headers.get("sec-fetch-site", "same-origin") != "same-origin"
        if foreign or not (chat == "" or KEY.fullmatch(chat)):
            return None
        return await run_in_threadpool(_reader, workspace, scope, chat)

    return streams(workspace.answers.streams, authorize=authorize, prefix="")


def _reader(workspace: Workspace, scope: Scope, chat: str) -> str | None:
    person = visiting(workspace, Request(scope)).person
    if person is None or (chat and conversations.chat(workspace.data, person, chat) is None):
        return None
    return person.id
