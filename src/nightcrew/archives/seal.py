"""Seal: frames are encrypted with AES-256-GCM, each under a key of its own, which is wrapped by the archive's.

The wrapped key is kept beside the rows in the database and not with the frame: once its row has gone, the frame cannot
be read any more, wherever a copy of it may be.
"""

import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from nightcrew.errors import ArchiveError, ConfigurationError, MissingExtra

_LENGTH = 32  # bytes of a key
_NONCE = 12
_ONCE = bytes(_NONCE)  # each frame has a key of its own, which is used once
_REMEDY = "write 32 bytes as 64 hex digits, as 'nightcrew secret new' prints them, or in base64"


class Keyring:
    """The archive's key, and the one before; without a key, frames are not sealed."""

    def __init__(self, key: str | None = None, previous: str | None = None) -> None:
        self._keys: Mapping[str, bytes] = {}
        self._current: str | None = None
        for name, given in (("NIGHTCREW_ARCHIVE_KEY_PREVIOUS", previous), ("NIGHTCREW_ARCHIVE_KEY", key)):
            if given:
                master = _read(name, given)
                self._keys = {**self._keys, _mark(master): master}
                self._current = _mark(master) if given is key else self._current

    @property
    def seals(self) -> bool:
        """Whether frames are sealed from now on."""
        return self._current is not None

    def seal(self, data: bytes, name: str) -> tuple[bytes, str | None]:
        """Encrypt a frame that is kept under a name; return it with the seal that opens it again, None without."""
        if self._current is None:
            return data, None
        gcm, own, nonce = _gcm(), secrets.token_bytes(_LENGTH), secrets.token_bytes(_NONCE)
        wrapped = nonce + gcm(self._keys[self._current]).encrypt(nonce, own, name.encode())
        sealed: bytes = gcm(own).encrypt(_ONCE, data, name.encode())
        return sealed, f"{self._current}.{b64encode(wrapped).decode()}"

    def open(self, data: bytes, name: str, seal: str | None) -> bytes:
        """Decrypt what is kept under a name; raises ArchiveError for another key's, and for what somebody changed."""
        if seal is None:
            return data
        mark, _, rest = seal.partition(".")
        if mark not in self._keys:
            raise ArchiveError(
                f"it is sealed with the key {mark}, and NIGHTCREW_ARCHIVE_KEY"
                f" {f'is {self._current}' if self._current else 'is not set'}: set that one, here or as"
                " NIGHTCREW_ARCHIVE_KEY_PREVIOUS"
            )
        gcm, wrapped = _gcm(), b64decode(rest)
        try:
            own = gcm(self._keys[mark]).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], name.encode())
            opened: bytes = gcm(own).decrypt(_ONCE, data, name.encode())
        except _invalid() as error:
            raise ArchiveError("it is not what was sealed: somebody has changed it") from error
        return opened


def _read(name: str, given: str) -> bytes:
    text = given.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _LENGTH else b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _LENGTH:
        raise ConfigurationError(f"{name} is no key (it is not shown): {_REMEDY}")
    _gcm()
    return key


def _mark(master: bytes) -> str:
    """Tell keys apart without telling what they are."""
    return sha256(b"nightcrew archive " + master).hexdigest()[:8]


def _gcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise MissingExtra("a sealed archive needs cryptography; run: pip install 'nightcrew[archive]'") from None
    return AESGCM


def _invalid() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    return InvalidTag
