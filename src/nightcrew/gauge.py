"""Gauge: what one look at the strain on a database said, and which looks a job asks for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from nightcrew.errors import ConfigurationError, did_you_mean

PERIOD = 0.25  # seconds between two readings of one source, however many sweeps look at it
LONGEST = 1.0  # seconds a reading may take before it counts as one that failed


class Level(IntEnum):
    """What a gauge asks of a sweep."""

    GREEN = 0
    """Go on as before."""
    BRAKE = 1
    """Smaller batches, and longer rests between them."""
    STOP = 2
    """No batch until this has passed."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One reading: whose, what it asks for, and in words what was seen."""

    name: str
    level: Level = Level.GREEN
    seen: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.name}: {self.seen}" if self.seen else self.name


class Source(Protocol):
    """Whatever can be read; where `patient`, a sweep begins without its first reading."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def patient(self) -> bool:
        """Whether a sweep need not wait for the first reading."""

    def read(self) -> Gauge:
        """Look now. Whatever it raises, or takes too long for, counts as a brake."""


def worst(gauges: Iterable[Gauge]) -> Gauge:
    """Return the gauge that asks for most; the first one of equals."""
    return max(gauges, key=lambda gauge: gauge.level, default=Gauge("nothing"))


def unreadable(name: str, why: object) -> Gauge:
    """Return the gauge of a source that could not be read: it brakes, for nobody knows that all is well."""
    return Gauge(name, Level.BRAKE, f"cannot be read ({why})")


# ── the looks that an application asks for ───────────────────────────────────────────────────────────────────────────

Judge: TypeAlias = Callable[[], Any]
"""A function of the application's: None or False lets the sweep go on, True or a text (the reason) stops it, and a
Level is that level."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A look as an application asks for it: `kind` is "sql", "file", "http" or "function", `of` what it looks at."""

    kind: str
    of: str | Judge

    def __str__(self) -> str:
        """Write it as it was given, without what a URL may hide."""
        if not isinstance(self.of, str):
            return f"function {getattr(self.of, '__qualname__', repr(self.of))}"
        text = _discreet(self.of) if self.kind == "http" else f"{self.kind}:{self.of}"
        return text if len(text) <= 80 else f"{text[:79]}…"


def hook(given: object) -> Hook:
    """Read a hook: "sql:SELECT …", "file:/run/nightcrew.stop", "https://…", or a function that takes nothing.

    Raises ConfigurationError for anything else.
    """
    if isinstance(given, Hook):
        return given
    if callable(given):
        return Hook("function", given)
    text = given.strip() if isinstance(given, str) else ""
    kind, colon, rest = text.partition(":")
    read = _KINDS.get(kind.strip().lower()) if colon else None
    if read is None:
        near = did_you_mean(kind.strip().lower(), _KINDS) if colon else ""
        raise ConfigurationError(
            f"throttle {_shown(given)} is no gauge{near}; write 'sql:SELECT …', 'file:/run/nightcrew.stop' or 'https://…'"
        )
    return read(text, rest.strip())


def hooks(given: object) -> tuple[Hook, ...]:
    """Read several hooks; one alone counts as a list of one."""
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return tuple(dict.fromkeys(hook(each) for each in several))


def _sql(text: str, statement: str) -> Hook:
    statement = statement.rstrip("; \n\t")
    if statement.partition(" ")[0].split("\n")[0].lower() not in {"select", "with"} or ";" in statement:
        raise ConfigurationError(
            f"throttle {_shown(text)} is not one question; write 'sql:SELECT …', which stops a sweep when it is above 0"
        )
    return Hook("sql", statement)


def _file(text: str, path: str) -> Hook:
    path = path.removeprefix("//")
    if not path.startswith("/") or path == "/":
        raise ConfigurationError(
            f"throttle {_shown(text)} names no whole path; write 'file:/run/nightcrew.stop', which stops a sweep as"
            " long as it exists"
        )
    return Hook("file", path)


def _http(text: str, rest: str) -> Hook:
    if not rest.removeprefix("//").strip("/") or not rest.startswith("//") or any(sign.isspace() for sign in text):
        raise ConfigurationError(
            f"throttle {_shown(text)} is no URL; write 'https://host/path', which stops a sweep unless it answers 2xx"
        )
    return Hook("http", text)


_KINDS = {"sql": _sql, "file": _file, "http": _http, "https": _http}


def _discreet(url: str) -> str:
    """Return a URL without what may be secret in it: user, password and query."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".partition("?")[0].partition("#")[0]


def _shown(given: object) -> str:
    text = _discreet(given) if isinstance(given, str) and "://" in given else str(given)
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
