"""The site: every way in, strict headers on every answer, and a page for whatever goes wrong."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from ipaddress import IPv6Address
from pathlib import Path

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightcrew.demo import lines
from nightcrew.demo.pages import accounts, chats, connections, library, mail, night
from nightcrew.demo.paper import render
from nightcrew.demo.visit import Door, Way, visiting
from nightcrew.demo.workspace import Workspace
from nightcrew.errors import DatabaseError, StoreError

DESK = "/nightcrew"
_STATIC = Path(__file__).parent / "static"
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def site(workspace: Workspace, desk: ASGIApp) -> Starlette:
    """Return the web application over a workspace, with the crew's own desk beside it."""
    paths: dict[str, list[Way]] = {}
    for way in (*night.WAYS, *mail.WAYS, *accounts.WAYS, *chats.WAYS, *library.WAYS, *connections.WAYS):
        paths.setdefault(way.path, []).append(way)
    routes = [Route(path, Door(workspace, ways)) for path, ways in paths.items()]
    pages = _ErrorPages(workspace)
    static = Mount("/static", StaticFiles(directory=_STATIC))
    mounted = static, Mount(lines.PATH, lines.lines(workspace)), Mount(DESK, desk)

    @asynccontextmanager
    async def open_while_served(_app: Starlette) -> AsyncIterator[None]:
        yield
        await workspace.answers.streams.close()

    return Starlette(
        routes=[*routes, *mounted],
        lifespan=open_while_served,
        middleware=[Middleware(_Headers), Middleware(_Hosts)],
        exception_handlers={
            HTTPException: pages.refused,
            IntegrityError: pages.overtaken,
            OperationalError: pages.away,
            DatabaseError: pages.away,
            StoreError: pages.astray,
            Exception: pages.broken,
        },
    )


class _ErrorPages:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def refused(self, request: Request, error: Exception) -> Response:
        """Answer what the app itself refuses: 400, 403, 404, 405, 411, 413, 415, 422."""
        assert isinstance(error, HTTPException)  # noqa: S101 - Starlette hands over what we registered for
        title = HTTPStatus(error.status_code).phrase
        text = error.detail if error.detail != title else "There is nothing here under this address."
        response = await run_in_threadpool(self._page, request, error.status_code, title, text)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # our doors know their own; this is a static file's
            response.headers["Allow"] = "GET, HEAD"
        return response

    async def overtaken(self, request: Request, _error: Exception) -> Response:
        """Answer who wrote what no longer fits: another request was quicker, or what it belongs to is gone."""
        text = "Something else happened to this at the same moment, so nothing was written: look again, and retry."
        return await run_in_threadpool(self._page, request, HTTPStatus.CONFLICT, "Overtaken", text)

    async def away(self, _request: Request, error: Exception) -> Response:
        """Answer while the database is out of reach: this page must not need it."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        return _bare(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer", str(cause).splitlines()[0])

    async def astray(self, request: Request, error: Exception) -> Response:
        """Answer while the store of files is out of reach: what was to come with a file was not written either."""
        text, status = f"{error}.", HTTPStatus.SERVICE_UNAVAILABLE
        return await run_in_threadpool(self._page, request, status, "The files are out of reach", text)

    async def broken(self, _request: Request, _error: Exception) -> Response:
        """Answer a defect: the log has it, the page does not."""
        return _bare(HTTPStatus.INTERNAL_SERVER_ERROR, "Something broke", "It is our fault, and the log says which.")

    def _page(self, request: Request, status: int, title: str, text: str) -> Response:
        return visiting(self._workspace, request).page("error.html", status, title=title, text=text, onward=None)


def _bare(status: HTTPStatus, title: str, text: str) -> Response:
    frame = {"person": None, "csrf": "", "path": "", "notice": None, "onward": None}
    return Response(render("error.html", title=title, text=text, **frame), status, _HEADERS, "text/html")


class _Hosts:
    """Addresses are made of the Host header: one that is no host's name is sent away before anything looks at it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if host and not _names_a_host(host):
            answer = _bare(HTTPStatus.BAD_REQUEST, "Bad Request", "The Host header names no host.")
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _names_a_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found and found[1].startswith("["):
        try:
            IPv6Address(found[1][1:-1])
        except ValueError:
            return False
    return found is not None


class _Headers:
    """Every answer says what it may load, and pages are not kept: going back after signing out shows nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                kept = scope["path"].startswith("/static/")
                headers["Cache-Control"] = "max-age=300" if kept else "no-store"
            await send(message)

        await self._app(scope, receive, stamped)
