"""Visit: one request to the desk, who makes it, and the few ways to answer it."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from nightcrew.web.dashboard.access import Access, Permission
from nightcrew.web.dashboard.crew import Crew
from nightcrew.web.dashboard.request import Request

COOKIE = "nightcrew_desk"
LONGEST = 16 * 1024  # bytes of a form: a reason, and a few words


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a page, a file, or the way to another page."""

    status: int
    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who may look; `badge` is the browser's own random name, of which seals are made."""

    crew: Crew
    request: Request
    access: Access
    badge: str
    path: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def seal(self) -> str:
        """What every form carries: nobody writes it who does not know the browser's cookie and the service's secret.

        Whoever can plant a cookie, as pages of a neighbouring subdomain can, knows only the one of the two.
        """
        settings = self.crew.settings
        key = f"{self.badge} {settings.secret or settings.dashboard_password or ''}"
        return hmac.new(key.encode(), self.access.actor.encode(), sha256).hexdigest()

    @property
    def sealed(self) -> bool:
        """Whether the form that was sent is one of ours, and came from a page of this place."""
        ours = hmac.compare_digest(self.form.get("seal", "").encode(), self.seal.encode())
        known = bool(self.request.cookies.get(COOKIE))
        return ours and known and self.request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}

    def may(self, permission: Permission | str) -> bool:
        """Tell whether they may do this."""
        return permission in self.access.may

    def url(self, *parts: str, **asked: object) -> str:
        """Return the address of a page, wherever the desk is mounted."""
        path = "/".join(quote(part, safe="") for part in parts)
        query = urlencode({name: str(value) for name, value in asked.items() if value not in (None, "")})
        return f"{self.request.base}/{path}{'?' if query else ''}{query}"

    def go(self, *parts: str, **asked: object) -> Answer:
        """Answer an act: go to a page."""
        return Answer(303, headers=(("Location", self.url(*parts, **asked)),))

    @staticmethod
    def key() -> str:
        """Return what tells one showing of a form from all others: sent twice, it is one act."""
        return token_urlsafe(16)


Handler: TypeAlias = Callable[[Visit], Answer]


class Way(NamedTuple):
    """One route; an act (POST) needs a permission. `{name}` in its path is any text without a slash."""

    method: str
    path: str
    handler: Handler
    permission: Permission | None = None


def new_badge() -> str:
    """Return a name for a browser that has none."""
    return token_urlsafe(24)
