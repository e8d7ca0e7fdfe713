"""Mailbox: the letters in a folder of `.eml` files, read as strangers' words, whoever has put them there."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr
from pathlib import Path

from nightcrew.demo.forms import plain
from nightcrew.unsubscribe import PATH

_LARGEST = 1024 * 1024  # bytes of a letter that are read, and
_HEAD = 16 * 1024  # of one in a list
_LONGEST = 1000  # characters of a header that are shown
_SHOWN = ("From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post")
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)_.{1,64}_([0-9a-f]{16})\.eml")
_LINK = re.compile(rf"<[^>]*{re.escape(PATH)}([A-Za-z0-9_-]+)>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Heading:
    """A letter as a list shows it; `moment` is when it was handed over, as the name of its file says."""

    id: str
    moment: datetime
    sender: str
    to: str
    subject: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A letter as it is read; `unsubscribe` is the path by which its reader leaves with one click, if it has one."""

    heading: Heading
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str | None
    unsubscribe: str | None


class Mailbox:
    """The letters of a folder, which may not be there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def names(self) -> list[str]:
        """The files of letters, the newest first; a folder that cannot be looked into has none."""
        try:
            found = [path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(found, reverse=True)

    def headings(self, names: list[str]) -> list[Heading]:
        """Return what a list shows of some letters; one that has gone meanwhile is left out."""
        return [_heading(name, message) for name in names if (message := self._read(name, _HEAD)) is not None]

    def raw(self, key: str) -> bytes | None:
        """Return the file of a letter as it is."""
        return next((self._bytes(name, _LARGEST) for name in self.names if _key(name) == key), None)

    def opened(self, key: str) -> Opened | None:
        """Return a letter, or None where there is none of that key."""
        name = next((name for name in self.names if _key(name) == key), "")
        message = self._read(name, _LARGEST) if name else None
        if message is None:
            return None
        html = _part(message, "text/html")
        headers = tuple((field, _header(message, field)) for field in _SHOWN if message[field] is not None)
        return Opened(_heading(name, message), headers, _part(message, "text/plain") or "", html, _way_out(message))

    def _read(self, name: str, most: int) -> Message | None:
        content = self._bytes(name, most)
        if content is None:
            return None
        try:
            return message_from_bytes(content, policy=policy.compat32)
        except (ValueError, LookupError, RecursionError):  # what the parser makes of some files that are no letters
            return Message()

    def _bytes(self, name: str, most: int) -> bytes | None:
        path = self._folder / name
        try:
            if path.is_symlink() or not path.is_file():
                return None
            with path.open("rb") as file:
                return file.read(most)
        except OSError:
            return None


def _key(name: str) -> str:
    return name[-20:-4]


def _heading(name: str, message: Message) -> Heading:
    try:
        moment = datetime.strptime(name[:19], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        moment = datetime.min.replace(tzinfo=UTC)
    sender, to = (_whom(message, field) for field in ("From", "To"))
    return Heading(_key(name), moment, sender, to, _header(message, "Subject"))


def _whom(message: Message, field: str) -> str:
    """Return who a header names, as a person would write it."""
    name, address = parseaddr(_header(message, field))
    return f"{name} <{address}>" if name and address else address or _header(message, field)


def _header(message: Message, field: str) -> str:
    """Return a header in one line, its encoded words read where they can be."""
    raw = str(message.get(field, ""))
    try:
        said = str(make_header(decode_header(raw)))
    except (ValueError, LookupError):
        said = raw
    return plain(_CONTROL.sub(" ", said[:_LONGEST])).strip()


def _part(message: Message, kind: str) -> str | None:
    """Return the first part of a kind as text, whatever its encoding claims to be."""
    part = next((each for each in message.walk() if each.get_content_type() == kind), None)
    if part is None or part.is_multipart():
        return None
    try:
        data = part.get_payload(decode=True)
    except (ValueError, LookupError):
        data = None
    if not isinstance(data, bytes):
        return ""
    try:
        return plain(data.decode(str(part.get_content_charset() or "utf-8"), "replace"))
    except (ValueError, LookupError):
        return plain(data.decode("utf-8", "replace"))


def _way_out(message: Message) -> str | None:
    """Return the path of the link to unsubscribe by one click, where it is one that this site answers (RFC 8058)."""
    found = _LINK.search(_header(message, "List-Unsubscribe"))
    if found is None or "One-Click" not in _header(message, "List-Unsubscribe-Post"):
        return None
    return f"{PATH}{found[1]}"
