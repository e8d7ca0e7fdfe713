"""Password: the desk of a service that has no users of its own, behind one password."""

from base64 import b64decode
from hashlib import sha256
from hmac import compare_digest

from nightcrew.web.dashboard.access import Authorize, Grant
from nightcrew.web.dashboard.request import Request

CHALLENGE = 'Basic realm="nightcrew", charset="UTF-8"'


def by_password(password: str) -> Authorize:
    """Let in whoever knows a password, by HTTP's Basic scheme; the audit calls them by the name that they type."""
    right = _digest(password)

    async def authorize(request: Request) -> Grant:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, given = b64decode(sent.strip(), validate=True).decode().partition(":")
        except ValueError:
            return None
        return ("all", name.strip() or "somebody") if compare_digest(_digest(given), right) else None

    return authorize


def _digest(text: str) -> bytes:
    # Files and shells leave a newline at the end, and lengths are nobody's business.
    return sha256(text.strip().encode("utf-8", "surrogatepass")).digest()
