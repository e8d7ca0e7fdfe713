"""A visit: one request with its form, its browser and its person, and the few ways to answer it."""

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from nightcrew.demo import accounts, forms
from nightcrew.demo.accounts import Person
from nightcrew.demo.files import Upload
from nightcrew.demo.forms import Form
from nightcrew.demo.paper import render
from nightcrew.demo.workspace import Notice, Workspace

# Cookies do not know ports: the names say whose they are among all that runs on localhost.
BADGE = "nightcrew_demo_badge"
SESSION = "nightcrew_demo_session"
KEY = re.compile("[0-9a-f]{16}")
_PAGE = re.compile("[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request; `badge` is the browser's own random name, `person` whoever is signed in there."""

    workspace: Workspace
    request: Request
    form: Mapping[str, str]
    badge: str
    person: Person | None
    files: tuple[Upload, ...] = ()

    @property
    def guest(self) -> Person:
        """The person, where the route lets nobody else in."""
        if self.person is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED)
        return self.person

    @property
    def key(self) -> str:
        """The key in the path; what cannot be one is not looked for."""
        key = str(self.request.path_params["id"])
        if not KEY.fullmatch(key):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return key

    @property
    def typed(self) -> str:
        """What they wrote into the form, to be given back to them where it is refused."""
        return next((self.form[name] for name in ("text", "reason", "name") if self.form.get(name, "").strip()), "")

    def asked(self, name: str) -> str:
        """Return what the address asks for by a name, or nothing."""
        return forms.plain(self.request.query_params.get(name, ""))

    def chosen(self, kind: str) -> frozenset[str]:
        """Return the keys of what was chosen of a kind, each by a checkbox of its own: “file-0123456789abcdef”."""
        return frozenset(name.removeprefix(f"{kind}-") for name in self.form if name.startswith(f"{kind}-"))

    def turned_to(self, total: int, size: int) -> tuple[int, int]:
        """Return the page of a long list that the address asks for, or one that there is, and which is the last."""
        last, asked = max(1, -(-total // size)), self.asked("page")
        return min(int(asked), last) if _PAGE.fullmatch(asked) else 1, last

    def page(self, template: str, status: int = 200, **facts: Any) -> Response:
        """Answer with a page."""
        frame: dict[str, Any] = {"person": self.person, "csrf": self.workspace.seal(self.badge)}
        frame |= {"path": self.request.url.path, "now": self.workspace.now(), "notice": self.workspace.told(self.badge)}
        return self._stamped(HTMLResponse(render(template, **frame, **facts), status))

    def go(self, path: str, kind: str = "good", said: str | None = None) -> Response:
        """Answer a form: go to a page, and say there what happened, at the place that the path names."""
        if said:
            self.workspace.tell(self.badge, Notice(kind, said, path.partition("#")[2]))
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
    """One route: only who is signed in goes there, unless it is `open`.

    `page` is where the form of a POST is found, which may come with `files`.
    """

    method: str
    path: str
    handler: Handler
    open: bool = False
    page: str = "/"
    files: bool = False


def visiting(workspace: Workspace, request: Request, form: Form | None = None) -> Visit:
    """Return the visit that a request is."""
    token = request.cookies.get(SESSION)
    person = accounts.whose(workspace.data, workspace.now(), token) if token else None
    badge = request.cookies.get(BADGE) or secrets.token_urlsafe(24)
    form = form or Form()
    return Visit(workspace, request, form.fields, badge, person, form.files)


class Door:
    """The ways that share a path: every form must carry the seal, every closed way a person."""

    def __init__(self, workspace: Workspace, ways: Iterable[Way]) -> None:
        self._workspace = workspace
        self._ways = {way.method: way for way in ways}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as plain ASGI, so that every method comes here and a wrong one is answered with care."""
        request = Request(scope, receive, send)
        way = self._ways.get("POST") if request.method == "POST" else None
        form = await forms.read(request, files=way.files) if way else Form()
        response = await run_in_threadpool(self._answer, request, form)
        await response(scope, receive, send)

    def _answer(self, request: Request, form: Form) -> Response:
        visit = visiting(self._workspace, request, form)
        way = self._ways.get("GET" if request.method == "HEAD" else request.method)
        if way is None:
            return self._sorry(visit)
        if way.method == "POST" and not hmac.compare_digest(visit.form.get("csrf", "").encode(), _seal(visit)):
            # What another site sends is not repeated here, as if it were this person's.
            ours = request.headers.get("sec-fetch-site") == "same-origin"
            facts = {"title": "Forbidden", "text": _UNSEALED, "onward": None, "typed": visit.typed if ours else ""}
            return visit.page("error.html", HTTPStatus.FORBIDDEN, **facts)
        if visit.person is None and not way.open:
            return self._ask_in(visit)
        return way.handler(visit)

    def _ask_in(self, visit: Visit) -> Response:
        """Send who is not signed in to the door, and give back what they wrote while they thought they were."""
        typed = visit.typed
        if not typed:
            return visit.go("/sign-in", "quiet", "Please sign in first.")
        facts = {"title": "You are signed out", "text": "Nothing was written.", "onward": ("/sign-in", "Sign in")}
        return visit.page("error.html", HTTPStatus.FORBIDDEN, typed=typed, **facts)

    def _sorry(self, visit: Visit) -> Response:
        """Refuse a method, and point to the page that is meant: often somebody went back to, or kept, a form's way."""
        way = next(iter(self._ways.values()))
        page = (way.path if way.method == "GET" else way.page).format(**visit.request.path_params)
        text = "Nothing was changed: this address only takes what a form sends. Open its page and use the button there."
        if way.method == "GET":
            text = f"Nothing was changed: this address does not know {visit.request.method[:20]}. Open it as a page."
        facts = {"title": "Not this way", "text": text, "onward": (page, "Open that page")}
        response = visit.page("error.html", HTTPStatus.METHOD_NOT_ALLOWED, **facts)
        response.headers["Allow"] = ", ".join(sorted(self._ways | ({"HEAD": None} if "GET" in self._ways else {})))
        return response


_UNSEALED = "This form is older than the demo's last start, or not from a page of ours: open its page and try again."


def _seal(visit: Visit) -> bytes:
    return visit.workspace.seal(visit.badge).encode()
