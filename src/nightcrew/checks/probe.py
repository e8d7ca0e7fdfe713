"""NC204 and NC208: the whole way to an application that is deployed, as a caller from outside takes it.

No job is run: its route is asked without a secret, which it refuses; and with the secret a job is asked for that there
is not, which is told to whoever was let in, and to nobody else.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from nightcrew.checks.check import Check, Finding, Result, Unable, problem, warning
from nightcrew.clock import SystemClock
from nightcrew.job import ROUTES
from nightcrew.ping import NoRedirect

_CLOCK = SystemClock()
_PATIENCE = 15.0  # seconds for an answer
_SLOW = 5.0  # seconds after which some providers give up
_MOST = 4_096  # octets of an answer that are read
_NOBODY = "nightcrew-doctor-asks-for-no-job"
_CAUSES = {
    404: (
        "the routes are not mounted there, or a proxy keeps them to itself",
        'app.include_router(crew.router); or: app.mount("/", crew.asgi)',
    ),
    405: (
        "something before nightcrew, or a route of the application's own, takes no {method}",
        "let {method} through: some callers can do nothing else",
    ),
}
_OPEN = (
    "nobody asked for a secret: a cache answers, or the environment is “development”",
    "set NIGHTCREW_ENV=production, and keep caches from these routes",
)
_FAILS = ("the application, or a proxy before it, fails", "see its log")
_AGENT = {"User-Agent": "nightcrew-doctor", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: HTTPMessage
    seconds: float

    @property
    def page(self) -> bool:
        """Whether it is for a person to read."""
        return "html" in (self.headers.get("Content-Type") or "").lower()


def probe(base: str, job: str | None, secret: str | None) -> list[Result]:
    """Ask an application at an address, of one of its jobs if it has any; return what came of each check."""
    found: list[Result] = []
    looks: dict[Check, Callable[[], Iterable[Finding]]] = {
        _REACHED: lambda: _reached(base, job or _NOBODY),
        _LET_IN: lambda: _let_in(base, secret),
    }
    for check, look in looks.items():
        try:
            found.append(Result(check, tuple(look())))
        except Unable as why:
            found.append(Result(check, unable=str(why)))
        if found[0].problem:
            return [found[0], Result(_LET_IN, unable="the route is not reached")]
    return found


def _reached(base: str, job: str) -> Iterator[Finding]:
    """NC208: DNS, TLS, redirects, another answer than ours, a cache, and how long it takes."""
    for method in ("GET", "POST"):
        for slash in ("", "/"):
            url = f"{base}{ROUTES}/{job}{slash}"
            answer = _asked(url, method, {})
            if isinstance(answer, Finding):
                yield answer
                return
            if (wrong := _strange(answer, method, url)) is not None:
                yield wrong
                return
            yield from _cached(answer, url)
            if answer.seconds > _SLOW:
                says = f"{url} took {answer.seconds:.1f} s to say no"
                yield warning(
                    says, "a cold start, or a slow way: some providers give up by then", "keep one instance warm"
                )


def _strange(answer: _Answer, method: str, url: str) -> Finding | None:
    """Return what is wrong with an answer to a call without a secret, which is to be 401 from us."""
    ours = (answer.headers.get("WWW-Authenticate") or "").lower().startswith("bearer")
    if answer.status == 401 and ours and not answer.page:
        return None
    says = f"{method} {url} is answered {answer.status}"
    if 300 <= answer.status < 400:
        where = (answer.headers.get("Location") or "nowhere")[:200]
        cause = "callers take a redirect for the answer, and the job is not run"
        return problem(f"{says}, to {where}", cause, f"let callers use {where}, or take the redirect away")
    if answer.status not in _CAUSES and answer.page:
        cause = "a login page, a firewall or a deployment's protection answers in the application's place"
        return problem(f"{says}, with a page for people", cause, f"let {ROUTES}/ pass: its secret protects it")
    cause, remedy = _CAUSES.get(answer.status, _OPEN if answer.status < 300 else _FAILS)
    return problem(says, cause.format(method=method), remedy.format(method=method))


def _cached(answer: _Answer, url: str) -> Iterator[Finding]:
    age, hit = answer.headers.get("Age"), (answer.headers.get("X-Cache") or "").lower()
    if (age and age.strip() not in ("", "0")) or "hit" in hit:
        says = f"{url} is answered from a cache (Age {age or 0})"
        yield problem(says, "a cache keeps answers that say no-store", f"keep the cache from {ROUTES}/")


def _let_in(base: str, secret: str | None) -> Iterator[Finding]:
    """NC204: the secret arrives, and is the right one."""
    if secret is None:
        raise Unable("CRON_SECRET is not set here, so that nothing can be sent")
    url = f"{base}{ROUTES}/{_NOBODY}"
    answer = _asked(url, "GET", {"Authorization": f"Bearer {secret}"})
    if isinstance(answer, Finding):
        yield answer
        return
    if answer.status != 401:
        return
    other = _asked(url, "GET", {"x-cron-secret": secret})
    if isinstance(other, _Answer) and other.status != 401:
        cause = "a proxy on the way takes the header Authorization away"
        remedy = "proxy_set_header Authorization $http_authorization;  # or let callers send x-cron-secret"
        yield problem(f"{url} is answered 401, though the secret is right", cause, remedy)
        return
    cause = "the application has another secret than this environment, or neither header arrives"
    yield problem(
        f"{url} is answered 401", cause, "nightcrew secret fingerprint  # here and there: they have to be the same"
    )


def _asked(url: str, method: str, headers: Mapping[str, str]) -> _Answer | Finding:
    """Ask once; return the answer, or why there is none. A secret goes no further than the address that was named."""
    begun = _CLOCK.monotonic()
    request = Request(url, method=method, headers={**_AGENT, **headers})  # noqa: S310 - http(s) only
    try:
        with build_opener(NoRedirect).open(request, timeout=_PATIENCE) as answer:
            return _read(answer, begun)
    except HTTPError as error:
        with error:
            return _read(error, begun)
    except (URLError, HTTPException, OSError) as error:
        return _unreachable(url, error.reason if isinstance(error, URLError) else error)


def _read(answer: Any, begun: float) -> _Answer:
    answer.read(_MOST)
    return _Answer(answer.status, answer.headers, _CLOCK.monotonic() - begun)


def _unreachable(url: str, why: object) -> Finding:
    if isinstance(why, socket.gaierror):
        return problem(f"the name in {url} is not known", "DNS has no address for it", "correct the address, or DNS")
    if isinstance(why, ssl.SSLError):
        return problem(
            f"{url} has no certificate that holds: {why.reason}", "it is over, or of another name", "renew it"
        )
    if isinstance(why, TimeoutError):
        says = f"{url} does not answer within {_PATIENCE:.0f} s"
        return problem(says, "a firewall, or a process that hangs", "see its log")
    return problem(f"{url} cannot be reached: {why}", "nothing listens there, or a firewall is before it", "start it")


_REACHED = Check(
    "NC208", "the routes are reached from here, by GET and POST, with and without a slash", lambda patient: ()
)
_LET_IN = Check("NC204", "the secret arrives there, and is the right one", lambda patient: ())
PROBES = (_REACHED, _LET_IN)
