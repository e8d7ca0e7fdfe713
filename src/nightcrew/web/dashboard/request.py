"""Request: one request to the desk, as an application's `authorize` sees it."""

from collections.abc import Mapping
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote

from nightcrew.triggers.request import Request as Call

_FIELDS = 20


class Request:
    """One request; `scope` is that of ASGI, with all that middleware has put there: a session, a user."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.root: str = scope.get("root_path", "").rstrip("/")
        path: str = scope["path"]
        # Whether a host takes the point that it mounts at out of the path differs, also by its version.
        under = self.root and (path == self.root or path.startswith(f"{self.root}/"))
        self.path = (path[len(self.root) :] if under else path) or "/"

    @cached_property
    def base(self) -> str:
        """What the addresses of pages begin with: where the desk is mounted, in which a stranger may have had a say."""
        inner = self.root.lstrip("/")
        return f"/{quote(inner)}" if inner else ""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers, by their names in small letters."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]}

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies."""
        jar = SimpleCookie()
        for part in self.headers.get("cookie", "").split(";"):
            try:
                jar.load(part.strip())
            except CookieError:  # somebody else's, which must not hide ours
                continue
        return {name: morsel.value for name, morsel in jar.items()}

    @cached_property
    def query(self) -> Mapping[str, str]:
        """What the address asks for."""
        return pairs(self.scope.get("query_string", b""))

    @property
    def at_this_machine(self) -> bool:
        """Whether it comes from this machine, and was sent to it by a name of its own."""
        client = self.scope.get("client")
        return Call(self.method, self.path, b"", self.scope["headers"], client and client[0]).at_this_machine


def pairs(raw: bytes) -> Mapping[str, str]:
    """Return the fields of a form, or of a query; of too many none."""
    try:
        found = parse_qsl(raw.decode(errors="replace"), keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError:
        return {}
    return {name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in found}
