"""Where mail goes: what a mailer's URL says, read without asking anybody."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from nightcrew.errors import ConfigurationError, did_you_mean

KINDS = ("smtp", "smtps", "file", "resend")
PORTS = {"smtp": 587, "smtps": 465, "resend": 443}
RESEND = "api.resend.com"
_EXAMPLES = "'smtp://user@mail.example.com', 'smtps://user@mail.example.com', 'resend://' or 'file:///srv/mail'"
_SWITCHES = {"smtp": "starttls", "resend": "tls"}


@dataclass(frozen=True, slots=True)
class Place:
    """A server and who logs in there, or a folder. `encrypted` is false where its URL says that nothing need be."""

    kind: str
    host: str = ""
    port: int = 0
    user: str | None = None
    encrypted: bool = True
    path: Path = Path()

    def __str__(self) -> str:
        """Write it as a URL, without who logs in and without options."""
        if self.kind == "file":
            return f"file://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}" + (f":{self.port}" if self.port != PORTS[self.kind] else "")


def address(url: str) -> Place:
    """Read a mailer's URL, or the path of a folder; raises ConfigurationError for one that cannot be one.

    The user's `@` may be written as it is. A login, and a key of Resend's, leaves this machine encrypted only.
    """
    text = url.strip()
    if text.startswith(("/", "./", "../")):
        return Place("file", path=_folder(text))
    scheme, parted, rest = text.partition("://")
    kind = scheme.lower()
    if not parted or kind not in KINDS:
        raise ConfigurationError(f"url {_shown(text)} is no way out for mail; write {_EXAMPLES}")
    if kind == "file":
        return Place(kind, path=_folder(unquote(rest)))
    place = _server(kind, text)
    if not (place.encrypted or _is_here(place.host)) and (place.user or kind == "resend"):
        option = _SWITCHES[kind]
        raise ConfigurationError(f"url {_shown(text)} would send a secret for all to read: leave {option}=off out")
    return place


def _server(kind: str, url: str) -> Place:
    """Read the URL of a server."""
    before, at, after = url.partition("://")[2].rpartition("@")
    try:
        parts = urlsplit(f"{kind}://{after}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", 0
    if port == 0 or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise ConfigurationError(f"url {_shown(url)} cannot be read: write {_EXAMPLES}")
    if ":" in before or (at and kind == "resend"):
        raise ConfigurationError(
            f"url {kind}://… has a password in it (it is not shown): leave it to the option secret"
        )
    if parts.path.strip("/") or parts.fragment or not (host or kind == "resend"):
        raise ConfigurationError(f"url {_shown(url)} names no server alone; write {_EXAMPLES}")
    user = unquote(before) if at else None
    return Place(kind, host or RESEND, port or PORTS[kind], user or None, _encrypted(kind, url, parts))


def _encrypted(kind: str, url: str, parts: SplitResult) -> bool:
    """Read the only option there is, which lets a server be that can do without encryption."""
    known = [_SWITCHES[kind]] if kind in _SWITCHES else []
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name not in known:
            raise ConfigurationError(f"url {_shown(url)} has no option {name!r}{did_you_mean(name, known)}")
        if value not in ("on", "off"):
            raise ConfigurationError(f"option {name} of url {_shown(url)} is {value[:20]!r}; it can be 'on' or 'off'")
    return "off" not in options.values()


def _folder(path: str) -> Path:
    if not path.strip("/.") or "\0" in path or not path.startswith(("/", ".")):
        raise ConfigurationError(f"url {path[:60]!r} names no folder for mail; write 'file:///srv/mail'")
    return Path(path)


def _is_here(host: str) -> bool:
    """Tell whether what is sent to a host stays on this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Show a URL without what may be secret in it."""
    scheme, parted, rest = url.partition("://")
    bare = f"{scheme}{parted}{rest.rpartition('@')[2]}".partition("?")[0]
    return repr(bare if len(bare) <= 60 else f"{bare[:59]}…")
