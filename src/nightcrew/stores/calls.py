"""Follow-up calls over HTTP: what others keep for us is removed by asking them to, key by key."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError, StoreError, did_you_mean
from nightcrew.stores.patience import Refusal, patiently

METHODS = ("DELETE", "POST", "PUT", "PATCH")
KEY = "{key}"
_HANDS = 4  # calls at once
_TIMEOUT = 5.0  # seconds
_DONE = {404, 410}  # it is not there any more
_PASSING = {408, 409, 423, 425, 429}
_REASON = 200  # characters of an answer's status line


class Calls:
    """One call for each key, to a URL in which `{key}` stands for it; 2xx, 404 and 410 mean that it is done.

    The secret, if there is one, is sent as a bearer token. Each call has an `Idempotency-Key` that is the same
    whenever it is made again. Redirects are not followed.
    """

    most = 20

    def __init__(self, url: str, clock: Clock, *, method: str = "DELETE", secret: str | None = None) -> None:
        self._url = template(url)
        self._method = verb(method)
        self._secret = secret
        self._clock = clock
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Make the calls, and return why by the key of each that came to nothing."""
        silent: set[str] = set()
        refused = patiently(partial(self._call_all, silent), keys, self._clock)
        if silent and silent == {*keys}:
            raise StoreError(f"{self.place} {refused[keys[0]]}; see that its URL is right", transient=True)
        return refused

    def _call_all(self, silent: set[str], keys: Sequence[str]) -> dict[str, Refusal]:
        """Make each call once; `silent` are those at which nobody answered the last time."""
        opener = build_opener(_NoRedirect)
        with ThreadPoolExecutor(_HANDS) as hands:
            answers = dict(zip(keys, hands.map(lambda key: self._call(opener, key), keys), strict=True))
        silent.clear()
        silent.update(key for key, refusal in answers.items() if isinstance(refusal, _Silence))
        return {key: refusal for key, refusal in answers.items() if refusal is not None}

    def _call(self, opener: OpenerDirector, key: str) -> Refusal | None:
        try:
            name = quote(key, safe="")
        except UnicodeEncodeError:
            return Refusal("it is no text that can be written", final=True)
        if name in ("", ".", ".."):  # the call would be about something else than one thing
            return Refusal("it would lead to another URL", final=True)
        try:
            with opener.open(self._request(name, key), timeout=_TIMEOUT) as answer:
                answer.read(1)
                return None
        except HTTPError as refusal:
            with refusal:
                if refusal.code in _DONE:
                    return None
                if refusal.code == HTTPStatus.UNAUTHORIZED:
                    raise StoreError(f"{self.place} answered {refusal.code}: see its secret") from None
                why = f"answered {refusal.code} {refusal.reason}"[:_REASON]
                return Refusal(why, final=refusal.code < 500 and refusal.code not in _PASSING)
        except (OSError, HTTPException) as error:
            told = error.reason if isinstance(error, URLError) else error
            return _Silence(f"does not answer ({str(told)[:_REASON] or type(error).__name__})")

    def _request(self, name: str, key: str) -> Request:
        headers = {
            "User-Agent": "nightcrew",
            "Accept": "*/*",
            "Idempotency-Key": sha256(f"{self._method} {self._url} {key}".encode()).hexdigest()[:40],
        }
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        body = b"" if self._method != "DELETE" else None
        return Request(self._url.replace(KEY, name), body, headers, method=self._method)  # noqa: S310 - it is of http


class _Silence(Refusal):
    """That nobody answered a call."""


class _NoRedirect(HTTPRedirectHandler):
    """A call is for whom it was meant for, and so is its secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def template(url: str) -> str:
    """Return a URL of http or https that has its host written out and a place for the key; raises ConfigurationError.

    The key may be a part of the path, or a value of the query.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        good = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and KEY not in parts.netloc and parts.port != 0
        )
    except ValueError:
        good = False
    if not good or "@" in urlsplit(text).netloc or any(sign.isspace() for sign in text):
        raise ConfigurationError(
            "url of calls is no URL of http or https without a password; write it out, and the host"
        )
    if text.count(KEY) != 1 or KEY in parts.fragment:
        raise ConfigurationError(
            f"url of calls has no single {KEY} in it; write 'https://api.example.com/things/{KEY}'"
        )
    return text


def verb(method: str) -> str:
    """Return a method of HTTP by which something can be removed; raises ConfigurationError for another."""
    known = method.strip().upper()
    if known in METHODS:
        return known
    raise ConfigurationError(f"there is no method {method[:20]!r}{did_you_mean(known, METHODS)}")
