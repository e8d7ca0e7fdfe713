"""Censor: what is never said aloud, wherever a text leaves for the log, the ledger or a caller."""

import re
from typing import Any
from urllib.parse import unquote

_SHORTEST = 4  # hiding every “a” would say what the secret is
# What follows is bounded, for else a long text with many such beginnings would be read through from each of them.
_IN_URL = re.compile(r"(://[^\s:/@]{0,500}):\S{1,500}@")
_NAMED = re.compile(
    r"(?i)(password|passwd|pwd|secret|token)(['\"]?\s{0,9}[=:]\s{0,9})"
    r"('[^']{0,500}'|\"[^\"]{0,500}\"|[^\s&,;]+)"
)
_SIGNS = ("://", "passw", "pwd", "secret", "token")  # most texts have none of them, which is seen at once
_PASSWORD = re.compile(r"://[^\s:/@]*:(.*)@")
_LONGEST, _SHOWN = 27, 8  # characters of a key that is shown whole, and of a longer one
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class Censor:
    """Takes the secrets it knows, and whatever looks like a password, out of texts; it shows none in its repr.

    >>> Censor("hunter2-hunter2")("login with hunter2-hunter2, or as redis://:abc@cache")
    'login with ***, or as redis://:***@cache'
    """

    def __init__(self, *secrets: str | None, url: str | None = None) -> None:
        self._known: set[str] = set()
        for secret in secrets:
            self.learn(secret)
        self.learn_url(url)

    def learn_url(self, url: str | None) -> None:
        """Know the password of a database's URL, as it is written there and as it is sent."""
        if found := _PASSWORD.search(url or ""):
            self.learn(found[1])
            self.learn(unquote(found[1]))

    def __call__(self, text: str) -> str:
        """Return the text without them."""
        for known in self._known:
            if known in text:
                text = re.sub(rf"(?<!\w){re.escape(known)}(?!\w)", "***", text)
        if _has_sign(text.casefold()):
            text = _NAMED.sub(r"\1\2***", _IN_URL.sub(r"\1:***@", text))
        return text

    def value(self, value: Any) -> Any:
        """Return a text or an exception as a text without them, alone or in a list, and any other value as it is."""
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        if isinstance(value, BaseException):
            return self(repr(value))
        return self(value) if type(value) is str else value

    def learn(self, secret: str | None) -> None:
        """Know one more secret, unless it is so short that hiding it would tell it."""
        if secret and len(secret.strip()) >= _SHORTEST:
            self._known.add(secret.strip())


def _has_sign(text: str) -> bool:
    for sign in _SIGNS:  # noqa: SIM110 - a generator for each of hundreds of texts a second takes twice as long
        if sign in text:
            return True
    return False


def shown(value: Any) -> Any:
    """Return a key's value as JSON has it; of a long text the beginning only, for it may be a secret by itself."""
    if isinstance(value, int | float):
        return value
    word = value.hex() if isinstance(value, bytes) else str(value)
    return word if len(word) <= _LONGEST or _UUID.fullmatch(word) else f"{word[:_SHOWN]}…"
