"""What machines ask a crew: whether it lives, whether it is ready, how its jobs stand, and its metrics."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, Protocol, TypeVar

from nightcrew import __version__
from nightcrew.chronicle import Chronicle
from nightcrew.clock import Clock, instant
from nightcrew.errors import DatabaseError, MissingExtra, NightcrewError
from nightcrew.ledger import Listener
from nightcrew.listeners.tally import Tally
from nightcrew.roll import JobStatus
from nightcrew.settings import Settings
from nightcrew.trigger import Watch
from nightcrew.triggers.http import Response
from nightcrew.triggers.request import Request as Call
from nightcrew.triggers.request import visible
from nightcrew.triggers.secret import Key, Keyring
from nightcrew.vitals import Vital, Vitals, vitals
from nightcrew.web.asgi import App, Receive, Scope, Send
from nightcrew.web.badge import badge
from nightcrew.web.dashboard.access import Authorize, admit
from nightcrew.web.dashboard.request import Request
from nightcrew.web.pool import Pool

_R = TypeVar("_R")
_AT_ONCE = 2  # requests that ask the database: whoever scrapes does so every few seconds, and others wait
_READY_FOR = 2.0  # seconds for which an answer to /readyz stands, which anybody may ask for
_OPEN = ("/healthz", "/readyz")
_BADGE, _BADGES = "/badge.svg", "/badge/"
_SVG = "image/svg+xml"
_CLOSED = Response.json(
    401,
    {"error": "Unauthorized: send 'Authorization: Bearer' with NIGHTCREW_MONITOR_SECRET or CRON_SECRET."},
    (b"www-authenticate", b"Bearer"),
)
_ONLY_LOOKING = Response.json(405, {"error": "Nothing is changed here; use GET or HEAD."}, (b"allow", b"GET, HEAD"))
_UNKNOWN = Response.json(404, {"error": "Not found."})


class Crew(Protocol):
    """A crew as its monitors see it."""

    @property
    def settings(self) -> Settings:
        """What the environment says."""

    @property
    def clock(self) -> Clock:
        """The process's time and chance."""

    @property
    def chronicle(self) -> Chronicle:
        """The runs, as pages show them."""

    @property
    def alarms(self) -> Watch:
        """What people are told of."""

    def status(self, name: str | None = None) -> list[JobStatus]:
        """Return every job with its standing, last run and next slot."""

    def reach(self) -> None:
        """Raise DatabaseError where the database is away, or lacks nightcrew's tables."""

    def listen(self, listener: Listener) -> None:
        """Let one more listener hear every entry, from now on."""

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""


class _Ready(NamedTuple):
    """What was found when somebody last asked whether the crew is ready: nothing wrong, or what is."""

    at: float
    wrong: str | None


class Monitoring:
    """The routes of one crew, to be mounted anywhere.

    Without `authorize` a bearer secret opens them, and in development whoever sits at the machine; /healthz and /readyz
    answer anybody, and tell nobody else anything.
    """

    def __init__(self, crew: Crew, authorize: Authorize | None = None) -> None:
        self._crew = crew
        self._authorize = authorize
        self._keyring = Keyring.of_monitors(crew.settings)
        self._pool = Pool(_AT_ONCE, "nightcrew-monitoring")
        self._tally = Tally()
        self._lock = Lock()
        self._ready: _Ready | None = None
        crew.listen(self._tally)

    def owns(self, path: str) -> bool:
        """Tell whether a path is one of these routes."""
        return path in (*_OPEN, *_PAGES, _BADGE) or path.startswith(_BADGES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        answer = await self._answer(request)
        await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers]})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else answer.body})

    async def _answer(self, request: Request) -> Response:
        try:
            known = request.path != "/healthz" and await self._knows(request)
            if not known and request.path not in _OPEN:
                return _CLOSED
            if request.method not in ("GET", "HEAD"):
                return _ONLY_LOOKING
            if request.path == "/healthz":
                return Response.json(200, {"status": "ok"})
            if request.path == "/readyz":
                return await self._beside(partial(self._whether_ready, known=known))
            return await self._beside(partial(self._page, request.path))
        except Exception as error:  # noqa: BLE001 - whoever monitors must hear of any failure
            return self._failed(error)

    async def _knows(self, request: Request) -> bool:
        """Tell whether somebody may see how the jobs stand."""
        if self._authorize is not None:
            return await admit(self._authorize, request, self._beside) is not None
        client = request.scope.get("client")
        call = Call(request.method, request.path, b"", request.scope["headers"], client and client[0])
        key = self._keyring.admit(call.headers)
        if isinstance(key, Key):
            if key.name == "previous":
                who = f"{call.agent}#{key.fingerprint}"
                self._crew.tell("previous_secret_used", caller=who, path=visible(request.path, 120))
            return True
        return self._crew.settings.environment == "development" and call.by_hand

    def _whether_ready(self, *, known: bool) -> Response:
        with self._lock:  # whoever asks meanwhile waits, and hears the same
            now = self._crew.clock.monotonic()
            if self._ready is None or now - self._ready.at > _READY_FOR:
                self._ready = _Ready(now, self._wrong())
            wrong = self._ready.wrong
        if wrong is None:
            return Response.json(200, {"status": "ready"})
        body = {"status": "not ready"} | ({"error": wrong} if known else {})
        return Response.json(503, body, (b"retry-after", b"5"))

    def _wrong(self) -> str | None:
        try:
            self._crew.reach()
        except NightcrewError as error:
            return self._crew.settings.censor(str(error))
        return None

    def _page(self, path: str) -> Response:
        self._crew.alarms.glance()  # whoever scrapes comes by even where nobody calls for a run any more
        if path in _PAGES:
            return _PAGES[path](seen(self._crew), self._tally)
        found = seen(self._crew)
        if path == _BADGE:
            return _kept_nowhere(badge("nightcrew", found.health), _SVG)
        name = path.removeprefix(_BADGES).removesuffix(".svg")
        job = next((job for job in found.jobs if job.name == name and path.startswith(_BADGES)), None)
        return _UNKNOWN if job is None else _kept_nowhere(badge(name, job.health), _SVG)

    def _failed(self, error: Exception) -> Response:
        censor = self._crew.settings.censor
        if isinstance(error, DatabaseError):
            return Response.json(503, {"error": censor(str(error))}, (b"retry-after", b"5"))
        if isinstance(error, MissingExtra):
            return Response.json(501, {"error": str(error)})
        self._crew.tell("http_error", error=error)
        return Response.json(500, {"error": "Something broke here, and the log says what it was."})

    async def _beside(self, work: Callable[[], _R]) -> _R:
        return await asyncio.wrap_future(self._pool.submit(work))


def seen(crew: Crew) -> Vitals:
    """Look at how the jobs of a crew stand."""
    found, chronicle = crew.status(), crew.chronicle
    return vitals(found, chronicle.ended(), chronicle.missed(), crew.clock.now())


def before(app: App, monitoring: Monitoring) -> App:
    """Return an application with these routes before it, at its root."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and monitoring.owns(scope["path"])
        await (monitoring if ours else app)(scope, receive, send)

    return both


def _metrics(found: Vitals, tally: Tally) -> Response:
    from nightcrew.web.exposition import KIND, Page  # noqa: PLC0415 - prometheus-client is an extra

    return _kept_nowhere(Page(found, tally, __version__).text(), KIND)


def _status(found: Vitals, _tally: Tally) -> Response:
    jobs = [_told(job) for job in found.jobs]
    return Response.json(
        200, {"status": found.health, "message": found.sentence, "timestamp": instant(found.at), "jobs": jobs}
    )


_PAGES: Mapping[str, Callable[[Vitals, Tally], Response]] = {"/metrics": _metrics, "/status.json": _status}


def _told(job: Vital) -> dict[str, Any]:
    """Return what is said of a job."""
    standing, ended = job.status.standing, job.ended
    return {
        "job": job.name,
        "status": job.health,
        "message": job.says,
        "lastSuccess": standing.last_ok_at and instant(standing.last_ok_at),
        "lastCompletion": ended and ended.finished_at and instant(ended.finished_at),
        "lastState": ended and ended.state,
        "lastDurationSeconds": None if job.took is None else job.took.total_seconds(),
        "nextSlot": job.status.next_slot and instant(job.status.next_slot),
        "failStreak": standing.fail_streak,
        "paused": job.status.paused,
        "enabled": job.status.job.enabled,
    }


def _kept_nowhere(body: bytes, kind: str) -> Response:
    """Return a body that no search engine lists and no cache keeps, as every answer is; a picture loads nothing."""
    headers = {"content-type": kind, "content-length": str(len(body)), "cache-control": "no-store"}
    headers |= {"x-robots-tag": "noindex, nofollow, noarchive", "x-content-type-options": "nosniff"}
    headers |= {"content-security-policy": "default-src 'none'"}
    return Response(200, tuple((name.encode(), value.encode()) for name, value in headers.items()), body)
