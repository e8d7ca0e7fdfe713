"""Frame: one event of an answer as bytes that are ready to be sent, by the rules of server-sent events.

An event is as https://html.spec.whatwg.org/multipage/server-sent-events.html has it: lines end with LF, so that of a
text each of its own lines is one, whichever way they end; NUL and line ends are no part of a name.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from nightcrew.errors import UsageError

SSE, AI_SDK = "sse", "ai-sdk"
CODECS = (SSE, AI_SDK)
"""Events that say where they end, for a reader that comes back; and those of the AI SDK's, which never says so."""
_LINES = re.compile("\r\n|\r|\n")
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"^[^\r\n\0]{1,100}$")


def text_of(data: Any) -> str:
    """Return a text as it is, and anything else as JSON. Raises UsageError for what is neither."""
    if isinstance(data, str):
        return data
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"what is sent is a text, or what JSON can say: {error}") from None


def plain(text: str) -> str:
    """Return a text that can be sent and kept: half a surrogate pair is no character."""
    return text.encode("utf-8", "replace").decode()


def frame(data: Any, event: str | None, stream: str, offset: int, codec: str) -> bytes:
    """Return an event that begins at `offset` of a log; its ID, where it has one, says where it ends."""
    if event is not None and not _NAME.match(event):
        raise UsageError(f"event {event[:60]!r} is no name: one line of at most 100 characters")
    said = "".join(f"data: {line}\n" for line in _LINES.split(text_of(data)))
    rest = f"{f'event: {event}{chr(10)}' if event else ''}{said}\n".encode("utf-8", "replace")
    if codec == AI_SDK:
        return rest
    head = f"id: {stream}:".encode()
    size = len(head) + 1 + len(rest)
    end = offset + size
    while offset + size + len(str(end)) != end:  # the number is a part of what it counts
        end = offset + size + len(str(end))
    return head + str(end).encode() + b"\n" + rest


def events(log: bytes) -> Iterator[str]:
    """Read the texts of events back; one that was cut short is none."""
    for one in log.decode("utf-8", "replace").split("\n\n")[:-1]:
        yield "\n".join(line[6:] for line in one.split("\n") if line.startswith("data: "))


def place(last: str) -> tuple[str, int] | None:
    """Read an event's ID: its stream, and where it ended; None for what is none of ours."""
    stream, _, end = last.rpartition(":")
    return (stream, int(end)) if is_id(stream) and end.isascii() and end.isdecimal() and len(end) < 16 else None


def is_id(text: str) -> bool:
    """Whether it could be a stream's ID."""
    return _ID.fullmatch(text) is not None
