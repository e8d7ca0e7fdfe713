"""Query: which slot a call means or none, and how long it may work."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from urllib.parse import parse_qsl

from nightcrew import duration
from nightcrew.errors import DurationError, UsageError

LONGEST_DEADLINE = timedelta(hours=1)
_KEYS = ("deadline", "now", "slot")
_SWITCH = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+ -]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """What one call asks for: a slot, or with `now` a run that belongs to none; without both the latest that is due."""

    slot: datetime | None = None
    deadline: timedelta | None = None
    now: bool = False

    @classmethod
    def read(cls, raw: bytes) -> "Query":
        """Read a raw query string.

        Foreign keys are ignored, for monitors and proxies add their own; but one that looks like a misspelt key of
        ours is refused, for the run would not do what was asked.

        Raises UsageError with one sentence for the caller.
        """
        asked = _pairs(raw)
        return cls(
            instant_of(asked["slot"], "slot") if "slot" in asked else None,
            _deadline(asked["deadline"]) if "deadline" in asked else None,
            _now(asked["now"]) if "now" in asked else False,
        )


def _pairs(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise UsageError(
            "the query string has too many parts; only 'deadline', 'now' and 'slot' mean anything."
        ) from None
    asked: dict[str, str] = {}
    for key, value in pairs:
        if key in asked:
            raise UsageError(f"?{key}= is given twice; give it once.")
        if key in _KEYS:
            asked[key] = value
        elif near := get_close_matches(key.lower()[:40], _KEYS, n=1, cutoff=0.75):
            raise UsageError(f"?{_shown(key)}= means nothing here; did you mean ?{near[0]}=?")
    return asked


def _now(text: str) -> bool:
    if (switch := _SWITCH.get(text.strip().lower())) is None:
        raise UsageError(f"now {_shown(text)!r} is neither yes nor no; write ?now=true, or leave it out.")
    return switch


def _deadline(text: str) -> timedelta:
    try:
        plain = text.isascii() and text.isdigit() and len(text) < 6
        deadline = timedelta(seconds=int(text)) if plain else duration.parse(text)
    except DurationError:
        deadline = timedelta(0)
    if timedelta(0) < deadline <= LONGEST_DEADLINE:
        return deadline
    raise UsageError(
        f"deadline {_shown(text)!r} is no time to work for; write whole seconds such as 20, or 20s or 5m, at most 1h."
    )


def instant_of(text: str, name: str) -> datetime:
    """Read an instant as RFC 3339 has it; a “+” that the query string turned into a space is understood."""
    example = "write an instant such as 2026-03-29T01:00:00Z."
    found = _INSTANT.fullmatch(text.strip().upper())
    if not found:
        raise UsageError(f"{name} {_shown(text)!r} cannot be read; {example}")
    date, time, offset = found.groups()
    if offset is None:
        raise UsageError(f"{name} {_shown(text)!r} has no offset from UTC; {example}")
    try:
        return datetime.fromisoformat(f"{date}T{time}{offset.replace(' ', '+')}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{name} {_shown(text)!r} is no instant of the calendar; {example}") from None


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
