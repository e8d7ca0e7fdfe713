"""A visit: one request with its form, its browser and its person, and the few ways to answer it."""

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from nightcrew.demo import accounts
from nightcrew.demo.accounts import Person
from nightcrew.demo.paper import render
from nightcrew.demo.workspace import Notice, Workspace

# Cookies do not know ports: the names say whose they are among all that runs on localhost.
BADGE = "nightcrew_demo_badge"
SESSION = "nightcrew_demo_session"
LARGEST_FORM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Visit:
    """One request; `badge` is the browser's own random name, `person` whoever is signed in there."""

    workspace: Workspace
    request: Request
    form: Mapping[str, str]
    badge: str
    person: Person | None

    @property
    def guest(self) -> Person:
        """The person, where the route lets nobody else in."""
        if self.person is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED)
        return self.person

    def key(self, name: str = "id") -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def page(self, template: str, status: int = 200, **facts: Any) -> Response:
        """Answer with a page."""
        frame: dict[str, Any] = {"person": self.person, "csrf": self.workspace.seal(self.badge)}
        frame |= {"path": self.request.url.path, "now": self.workspace.now(), "notice": self.workspace.told(self.badge)}
        return self._stamped(HTMLResponse(render(template, **frame, **facts), status))

    def go(self, path: str, kind: str = "good", said: str | None = None) -> Response:
        """Answer a form: go to a page, and say there what happened."""
        if said:
            self.workspace.tell(self.badge, Notice(kind, said))
        return self._stamped(RedirectResponse(path, HTTPStatus.SEE_OTHER))

    def come_in(self, token: str, path: str, said: str | None = None) -> Response:
        """Give the browser its session, under a new badge: nobody can have planted the old one."""
        response = Visit(self.workspace, self.request, {}, secrets.token_urlsafe(24), None).go(path, said=said)
        self._set(response, SESSION, token, age=int(accounts.SESSION_LIFE.total_seconds()))
        return response

    def leave(self, path: str, said: str) -> Response:
        """Take the session away from the browser."""
        response = self.go(path, "quiet", said)
        response.delete_cookie(SESSION)
        return response

    def _stamped(self, response: Response) -> Response:
        if self.request.cookies.get(BADGE) != self.badge:
            self._set(response, BADGE, self.badge)
        return response

    def _set(self, response: Response, name: str, value: str, age: int | None = None) -> None:
        secure = self.request.url.scheme == "https"
        response.set_cookie(name, value, max_age=age, httponly=True, samesite="lax", secure=secure)


Handler: TypeAlias = Callable[[Visit], Response]


class Way(NamedTuple):
    """One route: only who is signed in goes there, unless it is `open`."""

    method: str
    path: str
    handler: Handler
    open: bool = False


def visiting(workspace: Workspace, request: Request, form: Mapping[str, str] | None = None) -> Visit:
    """Return the visit that a request is."""
    token = request.cookies.get(SESSION)
    person = accounts.whose(workspace.data, workspace.now(), token) if token else None
    badge = request.cookies.get(BADGE) or secrets.token_urlsafe(24)
    return Visit(workspace, request, form or {}, badge, person)


def door(workspace: Workspace, way: Way) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a way: every form must carry the seal, every closed way a person."""

    async def endpoint(request: Request) -> Response:
        form = await _form(request) if way.method == "POST" else {}
        return await run_in_threadpool(_answer, workspace, way, request, form)

    return endpoint


def _answer(workspace: Workspace, way: Way, request: Request, form: Mapping[str, str]) -> Response:
    visit = visiting(workspace, request, form)
    if way.method == "POST" and not hmac.compare_digest(form.get("csrf", "").encode(), _seal(visit)):
        raise HTTPException(HTTPStatus.FORBIDDEN, "This form did not come from a page of ours, or from an old one.")
    if visit.person is None and not way.open:
        return visit.go("/sign-in", "quiet", "Please sign in first.")
    return way.handler(visit)


def _seal(visit: Visit) -> bytes:
    return visit.workspace.seal(visit.badge).encode()


async def _form(request: Request) -> dict[str, str]:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > LARGEST_FORM:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is more than a form of ours can hold.")
    async with request.form(max_files=0, max_fields=20) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}
