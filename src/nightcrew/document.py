"""Document: a TOML file that knows on which line every key stands."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from nightcrew.errors import ConfigurationError

Lookup: TypeAlias = Callable[[str], str | None]
"""The value of an environment variable, or None."""

# What tomllib says, and what the person in front of the file can do about it; the first that fits speaks.
_REMEDIES = (
    ("Cannot declare", "this table is there twice; rename one, or merge the two"),
    ("Cannot overwrite", "this key is there twice; remove one"),
    ("Cannot mutate", "this table is closed already; move the key into it"),
    ("Unclosed array", "an array is not closed; put a ] behind it and a comma between its values"),
    ("Unclosed inline table", "an inline table is not closed; put a } behind it, on the same line"),
    ("at the end of a table declaration", "a table's name is not closed; write [jobs.NAME]"),
    ("Expected '='", 'a key has no value; write key = "value"'),
    ("Expected newline", "something stands behind the value; put it on a line of its own"),
    ("Unescaped '\\'", r"a text holds a bare \; write \\, or put the text in single quotes"),
    ("in a string", "a text holds what cannot stand in it; write it as an escape such as \\n"),
    ("Invalid value", "a value cannot be read; put text in quotes, write true and false small"),
    ("Exceeds the limit", "a number in it is too long; shorten it"),
    ("Illegal character", "a line ends inside a text; close its quotes"),
    ("Expected \"", "a text is not closed; close its quotes"),
    ("Expected '", "a text is not closed; close its quotes"),
)  # fmt: skip
_UNFINISHED = "the value that starts here is not finished; close its quotes and brackets, with commas between values"
_WHERE = re.compile(r" \((?:at line (\d+), column \d+|at end of document)\)$")
_LARGEST = 256 * 1024  # bytes: thousands of jobs
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Document:
    """What a TOML file holds, as tomllib reads it, and its text."""

    path: Path
    text: str
    values: Mapping[str, Any]

    def line(self, *keys: str) -> int:
        """Return the line on which a table or key starts, or else the nearest table around it."""
        lines, _ = _lines(self.text)
        return next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), 1)


def read(path: Path) -> Document:
    """Read a file; one that is missing or no TOML is a ConfigurationError that names file, line and remedy."""
    text = _text(path)
    try:
        return Document(path, text, tomllib.loads(text))
    except RecursionError:
        line = _lines(text)[1]
        raise ConfigurationError(f"{path}:{line}: brackets are nested too deep to read; take some out") from None
    except ValueError as problem:
        raise ConfigurationError(_syntax(path, text, str(problem))) from None


def fill(text: str, lookup: Lookup) -> str:
    """Replace every ${NAME} by the environment's value; $${ stands for a plain ${."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, closed = found.groups()
        if not closed or not _NAME.fullmatch(name):
            raise ConfigurationError("'${' starts no variable; write ${NAME}, or $${ for the two signs themselves")
        if not (content := lookup(name)):
            raise ConfigurationError(
                f"environment variable {name} is {'not set' if content is None else 'empty'}; "
                "export it, or put it into .env beside this file"
            )
        return content

    return _VARIABLE.sub(value, text)


def variables(raw: object) -> list[str]:
    """Return the names of the variables in a text, or in the texts of an array or a table."""
    if isinstance(raw, str):
        return [f"${{{found[1]}}}" for found in _VARIABLE.finditer(raw) if found[0] != "$${"]
    items = raw.values() if isinstance(raw, Mapping) else raw if isinstance(raw, list) else ()
    return [name for item in items for name in variables(item)]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist; write one with 'nightcrew init'") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a directory; name the file in it") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise ConfigurationError(f"{str(path)!r} cannot be read ({reason}); fix the path or its permissions") from None
    if len(content) > _LARGEST:
        raise ConfigurationError(f"{path} is larger than {_LARGEST // 1024} KiB; name a nightcrew.toml")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        byte = content[problem.start]
        raise ConfigurationError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


def _syntax(path: Path, text: str, problem: str) -> str:
    """Say where a text is no TOML and what to do; tomllib's own place is where it gave up, often lines later."""
    where = _WHERE.search(problem)
    start = _lines(text)[1]
    end = text.count("\n") + 1 if where else start
    line = int(where[1]) if where and where[1] else end
    if start < line and "Cannot" not in problem:
        return f"{path}:{start}: not valid TOML: {_UNFINISHED}"
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in problem), "correct this line")
    return f"{path}:{line}: not valid TOML: {remedy}"


@lru_cache(maxsize=1)
def _lines(text: str) -> tuple[dict[tuple[str, ...], int], int]:
    """Return the line on which every key of a document starts, and the one on which its last statement does.

    A TOML statement ends with its line unless that leaves a bracket or a quote open. So lines are added to a
    statement until tomllib can read it alone, and then tomllib has also understood its quoted and dotted keys.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement, start = (f"{statement}\n{line}", start) if statement else (line, number)
        try:
            paths = list(_paths(tomllib.loads(statement)))
        except (ValueError, RecursionError):
            continue
        header = statement.lstrip().startswith("[")
        for path in paths:
            lines.setdefault(path if header else (*table, *path), start)
        if header:
            table = paths[-1]
        statement = ""
    return lines, start


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Walk all keys, at any depth; a loop, since dotted keys may nest deeper than Python calls."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while waiting:
        path, value = waiting.pop()
        if path:
            yield path
        if isinstance(value, Mapping):
            waiting += [((*path, key), inner) for key, inner in value.items()]


# ── what stands under a key ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table: how it is written, and how its value is read, which may raise ConfigurationError."""

    example: str
    read: Callable[[Any], Any] = lambda value: value
    kind: type | tuple[type, ...] = str


def read_key(name: str, raw: object, key: Key, lookup: Lookup) -> Any:
    """Return the value of a key, its variables filled in."""
    if odd := odd_kind(raw, key.kind):
        remedy = f"write {name} = {key.example}" if key.example else f"write a table [{name}]"
        raise ConfigurationError(f"{name} is {odd}; {remedy}")
    if key.kind is Mapping:
        return raw
    value = _filled(raw, lookup)
    try:
        return key.read(value)
    except ConfigurationError as problem:
        raise ConfigurationError(discreet(str(problem), name, raw, key)) from None


def _filled(raw: object, lookup: Lookup) -> object:
    if isinstance(raw, str):
        return fill(raw, lookup)
    if isinstance(raw, list):
        return [_filled(item, lookup) for item in raw]
    if isinstance(raw, dict):
        return {key: _filled(item, lookup) for key, item in raw.items()}
    return raw


def discreet(sentence: str, name: str, raw: object, key: Key) -> str:
    """Return a problem's sentence, or one that does not quote the value when that came from the environment."""
    if not (names := variables(raw)):
        return sentence
    return (
        f"{name} comes from {' and '.join(names)}, whose value cannot be used (it is not shown);"
        f" set it as in {name} = {key.example}"
    )


_KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number", datetime: "a date", date: "a date",
          time: "a time", list: "an array", dict: "a table"}  # fmt: skip


def odd_kind(value: object, kind: type | tuple[type, ...]) -> str:
    """Return what a value is if it is not of the kind it should be, else nothing."""
    word = _KINDS.get(type(value), "something else")
    if isinstance(value, list) and kind is list:
        return next((f"an array with {odd} in it" for item in value if (odd := odd_kind(item, str))), "")
    if isinstance(value, dict) and kind is dict:
        return next((f"a table with {_KINDS[type(item)]} in it" for item in value.values() if not _constant(item)), "")
    return "" if isinstance(value, kind) else word


def _constant(value: object) -> bool:
    """Tell whether a value can be written into a column: a constant, or { sql = "…" }."""
    expression = value.get("sql") if isinstance(value, dict) and len(value) == 1 else value
    return isinstance(expression, str) or (expression is value and isinstance(value, bool | int | float))
