"""The other side of OAuth: tools that live in this process, so that the demo never leaves the machine."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

CODE_LIFE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a person may connect."""

    key: str
    name: str
    about: str

    @property
    def url(self) -> str:
        """The address it would have."""
        return f"https://{self.key}.example/mcp"


TOOLS = {
    tool.key: tool
    for tool in (
        Tool("calendar", "Calendar", "read your appointments, suggest free times"),
        Tool("notebook", "Notebook", "search and quote your notes"),
        Tool("issues", "Issue tracker", "read issues and write comments"),
        Tool("drive", "Drive", "open the files you pick"),
    )
}


class _Grant(NamedTuple):
    challenge: str
    redirect_uri: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Provider:
    """A minimal authorization server: it hands out codes, and tokens for a code and its verifier."""

    _grants: dict[str, _Grant] = field(default_factory=dict)

    def grant(self, moment: datetime, challenge: str, redirect_uri: str) -> str:
        """Return a code that lives a minute and works once."""
        code = secrets.token_urlsafe(24)
        self._grants[code] = _Grant(challenge, redirect_uri, moment + CODE_LIFE)
        return code

    def exchange(self, moment: datetime, code: str, verifier: str, redirect_uri: str) -> tuple[str, str] | None:
        """Return an access and a refresh token, or None when code, verifier or address do not fit."""
        grant = self._grants.pop(code, None)
        if grant is None or moment > grant.until or redirect_uri != grant.redirect_uri:
            return None
        if not hmac.compare_digest(grant.challenge, challenge_of(verifier)):
            return None
        return f"at_{secrets.token_urlsafe(24)}", f"rt_{secrets.token_urlsafe(24)}"


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
