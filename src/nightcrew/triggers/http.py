"""Secret-protected job routes: a Request in, a Response out, no framework."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightcrew.caller import Caller
from nightcrew.clock import instant
from nightcrew.errors import (
    BrokerError,
    DatabaseError,
    NightcrewError,
    SafetyStop,
    UnknownJob,
    UsageError,
    did_you_mean,
)
from nightcrew.job import ROUTES, Job
from nightcrew.outcome import Outcome
from nightcrew.report import Report
from nightcrew.settings import Settings
from nightcrew.trigger import Errand, Roster
from nightcrew.triggers.occasion import Occasion, key_of, occasion
from nightcrew.triggers.query import Query
from nightcrew.triggers.request import Request, visible
from nightcrew.triggers.secret import Key, Keyring, Refusal

_BELOW = f"{ROUTES}/"
DEVELOPMENT_NOTE = "allowed without the secret: NIGHTCREW_ENV is development and the call comes from this machine"


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one call."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def json(cls, status: int, body: Mapping[str, Any], *more: tuple[bytes, bytes]) -> "Response":
        """Return an answer that no search engine lists and no cache keeps."""
        text = json.dumps(body).encode("ascii")
        headers = (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(text)),
            (b"x-robots-tag", b"noindex, nofollow, noarchive"),
            (b"cache-control", b"no-store"),
        )
        return cls(status, headers + more, text)


UNAUTHORIZED = Response.json(
    401, {"error": "Unauthorized: the secret is missing or wrong."}, (b"www-authenticate", b"Bearer")
)
NOT_FOUND = Response.json(404, {"error": "Not found."})


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever was let in: the caller's name with its secret's fingerprint, and what the answer shall note."""

    name: str
    note: str | None = None


class Door:
    """The job routes of one crew: first who may come in, then what they asked for.

    `admit` is quick and touches nothing; `serve` runs the job and may take as long as its deadline. A host that has an
    event loop calls the first on it and the second beside it; any other host calls `answer`.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._settings: Settings | None = None
        self._keyring = Keyring(())
        self._quotas = {"unauthorized": Quota(20), "secret_unset": Quota(1)}

    def owns(self, path: str) -> bool:
        """Whether a path is one of the routes, known job or not; any other belongs to the application."""
        return path.startswith(_BELOW) or path == ROUTES or self._job(path) is not None

    def answer(self, request: Request) -> Response:
        """Answer a call from beginning to end; a path that is not owned is not found."""
        if not self.owns(request.path):
            return NOT_FOUND
        visitor = self.admit(request)
        return visitor if isinstance(visitor, Response) else self.serve(request, visitor)

    def admit(self, request: Request) -> Visitor | Response:
        """Return who is calling, or the one answer that every stranger gets."""
        settings = self._roster.settings
        if settings is not self._settings:
            self._keyring, self._settings = Keyring.of(settings), settings
        key = self._keyring.admit(request.headers)
        if isinstance(key, Key):
            visitor = Visitor(f"{request.agent}#{key.fingerprint}")
            if key.name == "previous":
                self._roster.tell("previous_secret_used", caller=visitor.name, path=visible(request.path, 120))
            return visitor
        if key is Refusal.MISSING and settings.environment == "development" and request.by_hand:
            return Visitor(f"{request.agent}#no-secret", DEVELOPMENT_NOTE)
        self._tell_refusal("unauthorized" if self._keyring.keys else "secret_unset", key, request)
        return UNAUTHORIZED

    def serve(self, request: Request, visitor: Visitor) -> Response:
        """Do what an admitted caller asked for; whatever happens, the answer says it."""
        job = self._job(request.path)
        try:
            return self._run(job, request, visitor)
        except Exception as error:  # noqa: BLE001 - a caller must hear of any failure, and only of its sentence
            return self._failure(error, job, visitor)

    def _run(self, job: Job | None, request: Request, visitor: Visitor) -> Response:
        if job is None:
            name = _cut(request.path.removeprefix(ROUTES).strip("/"), 100)
            raise UnknownJob(f"no job is called {name!r}{did_you_mean(name, self._roster.jobs)}")
        if request.method not in ("GET", "POST"):
            error = f"{visible(request.method, 20)} does nothing here; use GET or POST."
            return Response.json(405, {"success": False, "error": error}, (b"allow", b"GET, POST"))
        self._roster.alarms.glance()  # where nobody else is there to look
        query = Query.read(request.query)
        caller, slot = _caller(request, visitor, query)
        if self._roster.errand is not None and job.enabled:
            handed = self._handed_over(self._roster.errand, job, slot, caller, now=query.now)
            return Response.json(202, self._said(handed.json(), visitor))
        deadline = query.deadline or self._roster.settings.deadline
        try:
            report = self._roster.run(
                job.name, trigger="http", slot=slot, now=query.now, caller=caller, deadline=deadline
            )
        except UsageError as error:
            raise UsageError(f"{caller.source}: {error}" if caller.source else str(error)) from None
        return Response.json(report.outcome.status, self._said(report.json(), visitor))

    def _handed_over(self, errand: Errand, job: Job, slot: datetime | None, caller: Caller, *, now: bool) -> Report:
        """Leave a call to a worker, which finds out what comes of it."""
        moment = self._roster.clock.now()
        meant = None if slot is None else self._roster.slot_of(job.name, slot)
        known_as = errand(job.name, slot, caller, now)
        message = f"Job {job.name} was handed to a worker ({known_as})."
        outcome, next_slot = Outcome.IN_PROGRESS_ELSEWHERE, job.schedule.after(moment)
        return Report(job.name, outcome, message, moment, "http", slot=meant, next_slot=next_slot)

    def _failure(self, error: Exception, job: Job | None, visitor: Visitor) -> Response:
        status, outcome, details = next(answer for kind, answer in _ANSWERS if isinstance(error, kind))
        expected = isinstance(error, NightcrewError)
        if not expected:
            self._roster.tell("http_error", job=job and job.name, error=error)
        cause = error.__cause__ if expected else error
        first_line = str(cause).partition("\n")[0]  # what follows is for readers of its library's pages
        body = {
            "success": False,
            "error": str(error) if expected else f"The run ended with an unexpected {type(error).__name__}.",
            "details": f"{type(cause).__name__}: {first_line}" if cause else details,
            "timestamp": instant(self._roster.clock.now()),
        }
        body |= {"job": job.name} if job else {}
        body |= {"outcome": str(outcome)} if outcome else {}
        retry = [(b"retry-after", b"30")] if isinstance(error, DatabaseError | BrokerError) else []
        return Response.json(status, self._said(body, visitor), *retry)

    def _said(self, body: dict[str, Any], visitor: Visitor) -> dict[str, Any]:
        """Return a body as it may leave the house: noted, without secrets, each text one short line."""
        if visitor.note:
            body |= {"note": "; ".join(filter(None, (body.get("note"), visitor.note)))}
        texts = {key: body[key] for key in ("message", "error", "details", "note") if body.get(key)}
        censor = self._roster.settings.censor
        return body | {key: _cut(" ".join(censor(text).split()), 300) for key, text in texts.items()}

    def _job(self, path: str) -> Job | None:
        path, jobs = path.removesuffix("/"), self._roster.jobs
        if path.startswith(_BELOW) and (job := jobs.get(path.removeprefix(_BELOW))):
            return job
        return next((job for job in tuple(jobs.values()) if job.path == path), None)

    def _tell_refusal(self, kind: str, refusal: Refusal, request: Request) -> None:
        quota = self._quotas[kind]
        if quota.spend(self._roster.clock.monotonic()):
            self._roster.tell(
                kind,
                reason=str(refusal),
                client=visible(request.client or "unknown", 60),
                path=visible(request.path, 120),
                untold=quota.untold(),
            )


def _caller(request: Request, visitor: Visitor, query: Query) -> tuple[Caller, datetime | None]:
    """Return who calls, and the slot that they mean, by the best source there is; None for the latest that is due."""
    if query.now:
        if request.method != "POST":
            raise UsageError("?now= starts a run of its own: send it with POST, which nothing repeats unasked.")
        return Caller(visitor.name, key_of(request)), query.slot
    told = occasion(request) if query.slot is None else Occasion()
    name = f"{visitor.name} {told.execution}" if told.execution else visitor.name
    return Caller(name, schedule=told.schedule, source=told.source), query.slot or told.at


class Quota:
    """So many facts in a minute, for a stranger must not fill the log; the rest is counted and told with the next."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._since = float("-inf")
        self._spent = self._left_out = 0

    def spend(self, now: float) -> bool:
        """Tell whether one more may be told, at a monotonic instant."""
        if now - self._since >= 60:
            self._since, self._spent = now, 0
        self._spent += 1
        self._left_out += self._spent > self._limit
        return self._spent <= self._limit

    def untold(self) -> int:
        """Return how many were left out since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


_ANSWERS: tuple[tuple[type[Exception], tuple[int, Outcome | None, str]], ...] = (
    (UsageError, (400, None, "Nothing was run.")),
    (UnknownJob, (404, None, "Nothing was run.")),
    (SafetyStop, (503, Outcome.REFUSED, "What the safety rail refused was not deleted.")),
    (DatabaseError, (503, Outcome.FAILED, "The call may be repeated.")),
    (BrokerError, (503, Outcome.FAILED, "Nothing was run; the call may be repeated.")),
    (Exception, (500, Outcome.FAILED, "The run ended here; what it had finished is kept.")),
)
