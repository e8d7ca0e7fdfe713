"""The desk as an ASGI application: who may come in, which page they mean, and strict headers on every answer."""

import asyncio
import re
from collections.abc import Callable
from math import ceil
from typing import TypeVar

from nightcrew.errors import (
    DatabaseError,
    NightcrewError,
    SafetyStop,
    SchemaError,
    StoreError,
    StreamError,
    UnknownJob,
    UsageError,
)
from nightcrew.web.asgi import Receive, Scope, Send
from nightcrew.web.dashboard.access import Access, Authorize, TooOften, admit, gate
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.page import STATIC, sorry
from nightcrew.web.dashboard.request import Request, pairs
from nightcrew.web.dashboard.screens import audit, backfill, doctor, job, mail, plan, run, streams, tonight, vault
from nightcrew.web.dashboard.visit import COOKIE, LONGEST, Answer, Visit, Way, new_badge
from nightcrew.web.pool import Pool

_R = TypeVar("_R")
WAYS: tuple[Way, ...] = (
    *(*tonight.WAYS, *job.WAYS, *backfill.WAYS, *plan.WAYS, *run.WAYS),
    *(*vault.WAYS, *mail.WAYS, *streams.WAYS, *doctor.WAYS, *audit.WAYS),
)
"""Every route; whoever adds a screen adds its ways."""

_PAGES_AT_ONCE = 8
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("X-Robots-Tag", "noindex, nofollow, noarchive"),
)
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_CHALLENGE = 'Bearer realm="nightcrew"'
_UNSEALED = "This form is not from a page of this desk that is still yours: open its page and try again."


class Dashboard:
    """The desk of one crew, to be mounted anywhere."""

    def __init__(self, crew: Crew, authorize: Authorize | None, challenge: str = _CHALLENGE) -> None:
        self._crew = crew
        self._challenge = challenge
        self._authorize = gate(authorize, crew.settings)
        self._pool = Pool(_PAGES_AT_ONCE, "nightcrew-desk")
        self._ways = [(re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", way.path)), way) for way in WAYS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; served alone, it also hears of the server's start and end."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            request = Request(scope)
            await _reply(await self._answer(request, receive), send, head=request.method == "HEAD")

    async def _answer(self, request: Request, receive: Receive) -> Answer:
        try:
            access = await admit(self._authorize, request, self._beside)
        except TooOften as wait:
            text = b"Too many wrong passwords came from here: wait, and try again."
            return Answer(429, text, "text/plain", (("Retry-After", str(max(1, ceil(wait.seconds)))),))
        except Exception as error:  # noqa: BLE001 - whatever an application's function does, nobody is let in
            self._crew.tell("http_error", job=None, error=error)
            return Answer(500, b"Who may come in could not be found out; the log says why.", "text/plain")
        if access is None:
            return Answer(401, b"Unauthorized.", "text/plain", (("WWW-Authenticate", self._challenge),))
        if request.path.startswith("/static/"):
            return _file(request)
        badge = request.cookies.get(COOKIE)
        if badge:
            return await self._found(request, access, badge, receive)
        badge = new_badge()
        return _badged(await self._found(request, access, badge, receive), request, badge)

    async def _found(self, request: Request, access: Access, badge: str, receive: Receive) -> Answer:
        """Find the way that is meant, and take it."""
        fitting = [(found.groupdict(), way) for form, way in self._ways if (found := form.fullmatch(request.path))]
        method = "GET" if request.method == "HEAD" else request.method
        parts, chosen = next(((parts, way) for parts, way in fitting if way.method == method), ({}, None))
        body = await _body(receive) if chosen and method == "POST" else b""
        visit = Visit(self._crew, request, access, badge, parts, pairs(body or b""))
        if body is None:
            return await self._beside(lambda: sorry(visit, 413, "Too long", "No form of this desk holds so much."))
        return await self._beside(lambda: self._taken(visit, chosen, [way for _, way in fitting]))

    def _taken(self, visit: Visit, way: Way | None, fitting: list[Way]) -> Answer:
        if way is None and fitting:
            allowed = sorted(
                {way.method for way in fitting} | ({"HEAD"} & {"HEAD" for way in fitting if way.method == "GET"})
            )
            answer = sorry(visit, 405, "Not this way", "Nothing was changed: open the page, and use the button there.")
            return Answer(answer.status, answer.body, answer.kind, (("Allow", ", ".join(allowed)),))
        if way is None:
            return sorry(visit, 404, "Not found", "There is nothing here under this address.")
        if way.permission is not None and not visit.may(way.permission):
            text = f"{visit.access.actor} may not {way.permission} here ({visit.access.extent}). Nothing was changed."
            return sorry(visit, 403, "Not allowed", text)
        if way.method == "POST" and not visit.sealed:
            return sorry(visit, 403, "Nothing was changed", _UNSEALED)
        try:
            return way.handler(visit)
        except Exception as error:  # noqa: BLE001 - whoever looks must hear of any failure
            return self._failed(visit, error)

    def _failed(self, visit: Visit, error: Exception) -> Answer:
        censor = self._crew.settings.censor
        for kind, status, title in _FAILURES:
            if isinstance(error, kind):
                return sorry(visit, status, title, censor(str(error)))
        self._crew.tell("http_error", job=visit.path.get("job"), error=error)
        return sorry(visit, 500, "Something broke", "It is the desk's fault, and the log says what it was.")

    async def _beside(self, work: Callable[[], _R]) -> _R:
        return await asyncio.wrap_future(self._pool.submit(work))


_FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownJob, 404, "Not found"),
    (UsageError, 422, "That cannot be done"),
    (SafetyStop, 409, "A safety rail stands in the way"),
    (SchemaError, 503, "The database is not ready"),
    (DatabaseError, 503, "The database does not answer"),
    (StoreError, 503, "The store cannot be used"),
    (StreamError, 503, "Where the streams are kept, nobody answers"),
    (NightcrewError, 409, "That cannot be done"),
)


def _file(request: Request) -> Answer:
    """Return a file of ours, by a name that is one of theirs."""
    name = request.path.removeprefix("/static/")
    known = {path.name: path for path in STATIC.iterdir() if path.suffix in _KINDS}
    if name not in known or request.method not in ("GET", "HEAD"):
        return Answer(404, b"Not found.", "text/plain")
    kept = (("Cache-Control", "private, max-age=31536000, immutable"),)
    return Answer(200, known[name].read_bytes(), _KINDS[known[name].suffix], kept)


def _badged(answer: Answer, request: Request, badge: str) -> Answer:
    secure = "; Secure" if request.scope.get("scheme") == "https" else ""
    cookie = f"{COOKIE}={badge}; Path={request.base or '/'}; HttpOnly; SameSite=Lax{secure}"
    return Answer(answer.status, answer.body, answer.kind, (*answer.headers, ("Set-Cookie", cookie)))


async def _body(receive: Receive) -> bytes | None:
    """Return what was sent, or None for more than any form of ours holds; of a form that was cut off, nothing."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        body += message.get("body", b"")
        if len(body) > LONGEST:
            return None
        if not message.get("more_body"):
            return body


async def _reply(answer: Answer, send: Send, *, head: bool) -> None:
    given = {name for name, _ in answer.headers}
    more = () if "Cache-Control" in given else (("Cache-Control", "no-store"),)
    said = (("Content-Type", answer.kind), ("Content-Length", str(len(answer.body))), *_HEADERS, *more, *answer.headers)
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in said]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
