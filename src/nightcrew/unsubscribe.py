"""The link by which a person leaves a topic: signed, never expiring, and the same for whoever clicks it.

A link says itself what it is for, so that nothing has to be kept for it, and one in an old mail still works. It is
signed and not secret: whoever holds it reads the person's id and the topic in it.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Iterable
from urllib.parse import urlsplit

from nightcrew.errors import UsageError

PATH = "/api/emails/unsubscribe/"
"""What the paths of links begin with; the token follows."""
LONGEST_PERSON, LONGEST_TOPIC = 255, 64  # bytes in UTF-8
LONGEST_URL = 900  # characters; a header's line has 998 (RFC 5322, 2.1.1), and must not be folded within a URL
LONGEST_TOKEN = 450  # characters, of the longest person and topic
_VERSION = b"\x01"
_MARK = 16  # bytes of an HMAC-SHA256: half of it, which RFC 2104 (5) has as the least
_PURPOSE = b"nightcrew unsubscribe "  # a key that signs other things too signs none of these
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_TOKEN}}}")
_SITE = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*"
)


def link(base_url: str, key: str, person: str, topic: str) -> str:
    """Return the address where a person leaves a topic, below the application's own; it is the same at every call.

    Raises UsageError for a base that is no address of a site, and for a person or topic that is empty or too long.
    """
    if not _SITE.fullmatch(base_url):
        raise UsageError(f"{base_url!r} is no address that links can start with: write it as https://app.example.org")
    url = f"{base_url.rstrip('/')}{PATH}{token(key, person, topic)}"
    if len(url) > LONGEST_URL:
        raise UsageError(
            f"the unsubscribe link has {len(url)} characters, and {LONGEST_URL} at most: shorten {base_url!r}"
        )
    return url


def token(key: str, person: str, topic: str) -> str:
    """Return what a link ends with, in letters, digits, `-` and `_`; raises UsageError as `link` does."""
    if not key:
        raise UsageError("an unsubscribe link needs a key: set NIGHTCREW_UNSUBSCRIBE_KEY")
    named = _bytes("topic", topic, LONGEST_TOPIC)
    payload = _VERSION + bytes([len(named)]) + named + _bytes("person", person, LONGEST_PERSON)
    return _written(_mark(key, payload) + payload)


def read(keys: Iterable[str], token: str) -> tuple[str, str] | None:
    """Return (person, topic) of a token that was signed with one of the keys, or None for any other text."""
    raw = _raw(token)
    mark, payload = raw[:_MARK], raw[_MARK:]
    genuine = [hmac.compare_digest(mark, _mark(key, payload)) for key in keys if key]
    if not any(genuine) or payload[:1] != _VERSION:
        return None
    length = payload[1]
    return payload[2 + length :].decode(), payload[2 : 2 + length].decode()


def headers(url: str, *, development: bool = False) -> dict[str, str]:
    """Return the headers by which a mail program offers to leave with one click (RFC 8058, 2).

    They are to be signed by DKIM, or mail programs do not trust them. Raises UsageError for a link that is not https,
    unless in `development`: RFC 8058 asks for it, and over http anybody on the way reads it.
    """
    if not url.startswith("https://") and not (development and url.startswith("http://")):
        raise UsageError(
            f"one-click unsubscribing needs a link with https, not {urlsplit(url).scheme}: give its https address"
        )
    return {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def _bytes(what: str, text: str, longest: int) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"a {what} of an unsubscribe link holds half a character: give it as whole text") from None
    if not 0 < len(raw) <= longest:
        raise UsageError(f"a {what} of an unsubscribe link has {len(raw)} bytes, and is to have 1 to {longest}")
    return raw


def _mark(key: str, payload: bytes) -> bytes:
    return hmac.digest(key.encode(), _PURPOSE + payload, "sha256")[:_MARK]


def _written(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _raw(token: str) -> bytes:
    """Return the bytes of a token that is written as we write it, or none: another spelling is another token."""
    if not _TOKEN.fullmatch(token):
        return b""
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except NoBase64:
        return b""
    return raw if _written(raw) == token else b""
