"""Password: the desk of a service that has no users of its own, behind one password."""

from base64 import b64decode
from collections import OrderedDict
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple, Protocol

from nightcrew.clock import Clock
from nightcrew.triggers.http import Quota
from nightcrew.triggers.request import visible
from nightcrew.web.dashboard.access import Authorize, Grant, TooOften
from nightcrew.web.dashboard.request import Request
from nightcrew.web.dashboard.visit import COOKIE

CHALLENGE = 'Basic realm="nightcrew", charset="UTF-8"'
_TRIES = 10  # wrong passwords that one client may send within
_WHILE = 60.0  # seconds, before it has to wait until they are over
_MOST = 1_000  # clients, and browsers, that are remembered
_TOLD = 20  # wrong passwords a minute that the log hears of one by one


class Crew(Protocol):
    """A crew as its desk's password sees it."""

    @property
    def clock(self) -> Clock:
        """The process's time and chance."""

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""


def by_password(password: str, crew: Crew) -> Authorize:
    """Let in whoever knows a password, by HTTP's Basic scheme; the audit calls them by the name that they type.

    Of wrong passwords the log hears, and who sends ten within a minute has to wait.
    """
    right, wrong = _digest(password), _Wrong(crew)

    async def authorize(request: Request) -> Grant:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, given = b64decode(sent.strip(), validate=True).decode().partition(":")
        except ValueError:
            name, given = "", ""
        fits = compare_digest(_digest(given), right)
        wrong.check(request, fits=fits)
        return ("all", name.strip() or "somebody") if fits else None

    return authorize


class _Tries(NamedTuple):
    """So many wrong passwords of one client since a monotonic instant."""

    since: float
    number: int


class _Wrong:
    """What is remembered of wrong passwords, in one event loop and no longer than the process lives.

    Behind a proxy many clients may seem one: a browser that was let in before, which nobody else can say it is, is not
    kept waiting by what others send.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._quota = Quota(_TOLD)

    def check(self, request: Request, *, fits: bool) -> None:
        """Count a password that does not fit; raises TooOften where no more is looked at for now."""
        now, client = self._crew.clock.monotonic(), _client(request)
        tries = self._tries.get(client, _Tries(now, 0))
        if now - tries.since >= _WHILE:
            tries = _Tries(now, 0)
        badge = request.cookies.get(COOKIE, "")
        if tries.number >= _TRIES and not (fits and badge in self._known):
            raise TooOften(tries.since + _WHILE - now)
        if fits:
            _remember(self._known, badge, None)
            return
        _remember(self._tries, client, _Tries(tries.since, tries.number + 1))
        if self._quota.spend(now):
            facts = {"client": visible(client, 60), "path": visible(request.path, 120)}
            self._crew.tell("unauthorized", reason="the desk's password is wrong", untold=self._quota.untold(), **facts)


def _remember(kept: "OrderedDict[str, Any]", key: str, value: object) -> None:
    """Keep what was seen last, and no more than so many."""
    if key:
        kept[key] = value
        kept.move_to_end(key)
        while len(kept) > _MOST:
            kept.popitem(last=False)


def _client(request: Request) -> str:
    """Return who asks; one host of IPv6 has as many addresses as it likes, in one network."""
    host = str((request.scope.get("client") or ("unknown",))[0])
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host


def _digest(text: str) -> bytes:
    # Files and shells leave a newline at the end, and lengths are nobody's business.
    return sha256(text.strip().encode("utf-8", "surrogatepass")).digest()
