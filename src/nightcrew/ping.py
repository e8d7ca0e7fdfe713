"""Ping: one request to a service outside: no redirect is followed, nobody reads it on the way, and it is over soon."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from ipaddress import ip_address
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from nightcrew.errors import ConfigurationError

_TIMEOUT = 5.0  # seconds
_AGAIN = {408, 425, 429}
_REASON = 120


@dataclass(frozen=True, slots=True)
class Ping:
    """One request. Its URL has a secret in it, and is shown nowhere."""

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def answered(ping: Ping) -> tuple[str | None, bool]:
    """Make a request; return what is wrong, if anything is, and whether it is of no use to try again."""
    headers = {"User-Agent": "nightcrew"} | ({} if ping.body is None else {"Content-Type": ping.kind})
    request = Request(ping.url, ping.body, headers | dict(ping.headers), method=ping.method)  # noqa: S310 - `checked`
    try:
        with build_opener(NoRedirect).open(request, timeout=_TIMEOUT) as answer:
            answer.read(1)
        return None, True
    except HTTPError as refusal:
        with refusal:
            return f"it answered {refusal.code}", refusal.code < 500 and refusal.code not in _AGAIN
    except (OSError, HTTPException) as error:
        told = error.reason if isinstance(error, URLError) else error
        return f"it does not answer ({str(told)[:_REASON] or type(told).__name__})", False


def checked(url: str, what: str, example: str, *, query: bool) -> str:
    """Return the address of a service, which may have a `query`.

    Raises ConfigurationError for what is none, and for one to which a secret would go for all to read.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        readable = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:
        readable, host = False, ""
    odd = not readable or parts.fragment or "@" in parts.netloc or (parts.query and not query)
    if odd or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"url is no address of {what}; write url = {example!r}")
    if parts.scheme == "http" and not _is_here(host):
        raise ConfigurationError(f"url http://{host} would send a secret for all to read; write https://{host}")
    return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class NoRedirect(HTTPRedirectHandler):
    """Lets nobody send the secret elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Follow no redirect, which is then an answer that says no."""
