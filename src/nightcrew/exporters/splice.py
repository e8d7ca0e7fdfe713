"""Splice: a value of a JSON text is replaced where it stands, so that all the rest keeps its look to the byte."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Item:
    """A member of an object, or an element of an array (whose `key` is None), and where its value stands."""

    key: str | None
    value: Any
    start: int
    end: int


def items(text: str, start: int = 0) -> Iterator[Item]:
    """Yield what the object or array that begins at `start` holds, in order; raises ValueError for no JSON."""
    at = _skip(text, start)
    opening = text[at : at + 1]
    closing = {"{": "}", "[": "]"}.get(opening)
    if closing is None:
        raise ValueError("it is no object and no array")
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        key = None
        if opening == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _expect(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, at := _skip(text, at))
        yield Item(key, value, at, end)
        at = _skip(text, end)
        if text[at : at + 1] != closing:
            at = _skip(text, _expect(text, at, ","))
            if text[at : at + 1] == closing:
                raise ValueError(f"there is a comma before the {closing!r} of line {text.count(chr(10), 0, at) + 1}")


def member(text: str, key: str) -> Item | None:
    """Return a member of the object that a text is; raises ValueError for what is no JSON object."""
    if not isinstance(json.loads(text), dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of a text, not of an argument
    found = [item for item in items(text) if item.key == key]
    if len(found) > 1:
        raise ValueError(f"it has {key!r} twice")
    return found[0] if found else None


def put(text: str, key: str, value: str) -> str:
    """Return a text, which is a JSON object, with a value, which is JSON too, as the member of this key."""
    found = member(text, key)
    if found is not None:
        return text[: found.start] + value + text[found.end :]
    last = max((item.end for item in items(text)), default=None)
    new = f"{json.dumps(key)}: {value}"
    if last is None:
        begin, end = text.index("{"), text.rindex("}")
        return f"{text[: begin + 1]}\n  {new}\n{text[end:]}"
    return f"{text[:last]},\n{indent(text)}{new}{text[last:]}"


def drop(text: str, key: str) -> str:
    """Return a text, which is a JSON object, without the member of this key, and the comma that parted it."""
    every = list(items(text))
    number = next((number for number, item in enumerate(every) if item.key == key), None)
    if number is None:
        return text
    if number:
        return text[: every[number - 1].end] + text[every[number].end :]
    begin = text.index("{") + 1
    if len(every) == 1:
        return text[:begin] + text[text.rindex("}") :]
    following = text.index(",", every[0].end) + 1
    return text[:begin] + text[following:]


def indent(text: str) -> str:
    """Return by what the members of the object are set off: two spaces where nothing tells."""
    match = re.search(r"\{[ \t]*\r?\n([ \t]+)", text)
    return match[1] if match else "  "


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"there should be a {sign!r} in line {text.count(chr(10), 0, at) + 1}")
    return at + 1
