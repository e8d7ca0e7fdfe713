"""Files that people attach: judged as strangers' words, kept in the store before their rows, owed to it after them."""

import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from nightcrew.crew import Nightcrew

STORE = "uploads"
LARGEST = 5 * 1024 * 1024  # bytes, of all files of one message
MOST = 5
ATTACHED, OF_PROJECTS = "chat-attachments", "project-sources"
"""What the keys of files begin with; the key of whom they belong to comes next, so that an erasure finds them all."""
LONGEST_NAME = 200
_LONGEST_ENDING = 20
ANY_KIND = "application/octet-stream"
PNG = "image/png"
_KIND = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,39}/[a-z0-9][a-z0-9!#$&^_.+-]{0,39}")


class Origin(StrEnum):
    """Where a message has a file from."""

    UPLOAD = "upload"
    PASTE = "paste"
    """A text that was too long for a message."""
    PROJECT = "project"
    """A file of the chat's project, which the two share."""
    IMAGE = "image"
    """Drawn by us for an answer, as a PNG."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it came, under a name and of a media type that can be shown and kept."""

    name: str
    media_type: str
    data: bytes
    origin: Origin = Origin.UPLOAD


def upload(name: str, media_type: str, data: bytes) -> Upload:
    """Return what a browser sent as a file; it may say anything of its name and type."""
    kind = media_type.partition(";")[0].strip().lower()
    return Upload(safe(name), kind if _KIND.fullmatch(kind) else ANY_KIND, data)


def disposition(name: str) -> str:
    """Return the Content-Disposition of a file that is to be kept by its reader, never opened as a page of ours."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


class Files:
    """The crew's store of uploads: a file comes before its row, and goes after it."""

    def __init__(self, crew: Nightcrew) -> None:
        self._crew = crew

    def keep(self, folder: str, owner: str, file: Upload) -> dict[str, Any]:
        """Write a file under a new key and return what its row says; without a row, the orphan sweep removes it."""
        key = f"{folder}/{owner}/{secrets.token_hex(16)}"
        self.put(key, file.data)
        return {"name": file.name, "media_type": file.media_type, "size": len(file.data), "blob_key": key}

    def put(self, key: str, data: bytes) -> None:
        """Write a file under a key that its row already has."""
        self._crew.stores.blobs(STORE).put(key, data)

    def get(self, key: str) -> bytes | None:
        """Return a file, or None where it has gone."""
        return self._crew.stores.blobs(STORE).get(key)

    def owe(self, connection: Connection, keys: Iterable[str]) -> None:
        """Owe files to the store in the transaction that removes their rows."""
        self._crew.owe(connection, STORE, keys)


def safe(name: str) -> str:
    """Return the last part of a path, without what turns a line around, or breaks or hides it."""
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    seen = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in last)
    words = " ".join(seen.split()).strip(". ")
    ending = PurePosixPath(words).suffix
    ending = ending if len(ending) <= _LONGEST_ENDING else ""
    return words.removesuffix(ending)[: LONGEST_NAME - len(ending)] + ending or "file"
