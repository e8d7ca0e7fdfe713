"""Secret: who may knock."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import TypeAlias

from nightcrew.settings import SHORTEST_SECRET, Settings

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Refusal(StrEnum):
    """Why a call was not let in; told to the operator, never to the caller."""

    MISSING = "no secret was sent"
    MALFORMED = "the Authorization header is not 'Bearer SECRET'"
    REPEATED = "a secret was sent twice in one kind of header"
    WRONG = "the secret is wrong"


@dataclass(frozen=True, slots=True)
class Key:
    """One secret that opens the door, kept as its digest."""

    name: str
    digest: bytes

    @property
    def fingerprint(self) -> str:
        """The first 8 hex digits of the digest: enough to tell two secrets apart, useless for guessing one."""
        return self.digest.hex()[:8]


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every secret that opens the door; an unset, short or placeholder secret is not among them."""

    keys: tuple[Key, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """Return the current and the previous secret of the settings, as far as they are fit to be secrets."""
        named = {"current": settings.secret, "previous": settings.previous_secret}
        return cls(tuple(Key(name, _digest(text)) for name, text in named.items() if text and usable(text)))

    @classmethod
    def of_monitors(cls, settings: Settings) -> "Keyring":
        """Return the secrets that open what is only looked at: those of the job routes, and one that opens no other."""
        own = settings.monitor_secret
        monitor = (Key("monitor", _digest(own)),) if own and usable(own) else ()
        return cls((*cls.of(settings).keys, *monitor))

    def admit(self, headers: Headers) -> Key | Refusal:
        """Return the key that a call brought, or why it is refused; every secret it sends must be right."""
        bearers, tokens = _sent(headers)
        if len(bearers) > 1 or len(tokens) > 1:
            return Refusal.REPEATED
        for bearer in bearers:
            scheme, _, token = bearer.partition(b" ")
            if scheme.lower() != b"bearer" or not token:
                return Refusal.MALFORMED
            tokens.append(token)
        if not tokens:
            return Refusal.MISSING
        found = [key for token in tokens if (key := self._find(token))]
        return found[0] if len(found) == len(tokens) else Refusal.WRONG

    def _find(self, token: bytes) -> Key | None:
        digest, found = sha256(token).digest(), None
        for key in self.keys:  # no early exit: the time taken must not tell which of them is near
            if compare_digest(digest, key.digest):
                found = found or key
        return found


def usable(secret: str) -> bool:
    """Whether a text is long enough for a secret; 'undefined', 'None', 'null' and '${CRON_SECRET}' are not."""
    return len(secret.strip()) >= SHORTEST_SECRET and not secret.strip().startswith(("${", "$(", "{{"))


def fingerprint(secret: str) -> str:
    """Return the 8 hex digits by which a secret is named in logs and in a run's caller."""
    return Key("", _digest(secret)).fingerprint


def _sent(headers: Headers) -> tuple[list[bytes], list[bytes]]:
    bearers, tokens = [], []
    for name, value in headers:
        match name.lower():
            case b"authorization":
                bearers.append(value)
            case b"x-cron-secret":
                tokens.append(value)
    return bearers, tokens


def _digest(secret: str) -> bytes:
    # Files and shells leave a newline at the end; no HTTP client can send one, so it cannot be meant.
    return sha256(secret.strip().encode("utf-8", "surrogatepass")).digest()
