"""Owing: a column of keys, and the store that what they name is kept in; and Trace: keys that are named after a row."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

from nightcrew.errors import PolicyError, did_you_mean, misfit

_T = TypeVar("_T", "Owing", "Trace")
_EXAMPLE = "{ store = 'uploads', table = 'message_source', column = 'blob_key' }"


@dataclass(frozen=True, slots=True)
class Owing:
    """The keys in `table`.`column` are those of things that `store` keeps; NULL is none."""

    store: str
    table: str
    column: str

    def __str__(self) -> str:
        """Name the column."""
        return f"{self.table}.{self.column}"


def owings(given: object) -> tuple[Owing, ...]:
    """Return what is owed as it is said in code or in a file, each once.

    Raises PolicyError for what says no store, table and column.
    """
    return _each("blobs", given, Owing, _EXAMPLE)


def _each(key: str, given: object, kind: type[_T], example: str) -> tuple[_T, ...]:
    """Return the entries of a policy's key, each a table of texts or what is made of one."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise PolicyError(f"{key} {misfit(given, (), f'write a list, such as [{example}]')}", key=key)
    return tuple(dict.fromkeys(_entry(key, each, kind, example) for each in given))


def _entry(key: str, given: Any, kind: type[_T], example: str) -> _T:
    if isinstance(given, kind):
        return given
    if wrong := misfit(given, Mapping, f"write {example}"):
        raise PolicyError(f"an entry of {key} {wrong}", key=key)
    names = [one.name for one in fields(kind)]
    for name in given:
        if name not in names:
            raise PolicyError(f"{key} has no {name!r}{did_you_mean(str(name), names)}", key=key)
    for name in names:
        if wrong := misfit(given.get(name), str, f"write {example}"):
            raise PolicyError(f"{name} of an entry of {key} {wrong}", key=key)
    return kind(**given)


_TRACED = "{ store = 'uploads', keys = 'users/{id}/*' }"
_PART = re.compile(r"\{([^{}*]+)\}|(\*)|([^{}*]+)")
_GLOB = re.compile(r"([*?\[\]\\])")


@dataclass(frozen=True, slots=True)
class Trace:
    """Keys of a `store` that are named after a row: in `keys`, `{column}` stands for a value of it, and * for any text.

    Raises PolicyError for a pattern that could name what belongs to another row.
    """

    store: str
    keys: str

    def __post_init__(self) -> None:
        if "".join(match[0] for match in _PART.finditer(self.keys)) != self.keys:
            raise PolicyError(f"traces {self.keys!r} has a brace too many; write {_TRACED}", key="traces")
        if not self.columns:
            raise PolicyError(
                f"traces {self.keys!r} names keys of everybody: say whose, by a column, as in {_TRACED}", key="traces"
            )
        parts = [match[0] for match in _PART.finditer(self.keys)]
        for one, other in pairwise(parts):
            if (one[0] == "{" and not _parts(other)) or (other[0] == "{" and one == "*"):
                raise PolicyError(
                    f"traces {self.keys!r}: what others have could go on between {one} and {other}, as 42 does after 4;"
                    f" put a sign there, as in {_TRACED}",
                    key="traces",
                )

    def __str__(self) -> str:
        """Write the pattern."""
        return self.keys

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values it names."""
        return tuple(dict.fromkeys(match[1] for match in _PART.finditer(self.keys) if match[1]))

    @property
    def whole(self) -> bool:
        """Whether it names one key."""
        return "*" not in self.keys

    def prefix(self, values: Mapping[str, str]) -> str:
        """Return what all its keys begin with, or the one key that it names."""
        return self._written(values, lambda text: text, "\0").partition("\0")[0]

    def glob(self, values: Mapping[str, str]) -> str:
        """Return a pattern as Redis reads it."""
        return self._written(values, lambda text: _GLOB.sub(r"\\\1", text), "*")

    def finds(self, values: Mapping[str, str]) -> re.Pattern[str]:
        """Return what matches its keys, and no other, from the first letter to the last."""
        return re.compile(self._written(values, re.escape, ".*"), re.DOTALL)

    def ambiguous(self, values: Mapping[str, str]) -> str | None:
        """Name a column whose value has the sign by which it ends, so that others' keys could begin like that."""
        parts = list(_PART.finditer(self.keys))
        for one, other in pairwise(parts):
            if one[1] and other[3] and other[3][0] in values[one[1]] and not self.whole:
                return one[1]
        return None

    def _written(self, values: Mapping[str, str], text: Callable[[str], str], star: str) -> str:
        return "".join(
            text(values[match[1]]) if match[1] else star if match[2] else text(match[3])
            for match in _PART.finditer(self.keys)
        )


def _parts(text: str) -> bool:
    """Tell whether no value goes on with a text."""
    return not text[0].isalnum() and text[0] not in "*{"


def traces(given: object) -> tuple[Trace, ...]:
    """Return the traces that are said in code or in a file, each once; raises PolicyError for what says none."""
    return _each("traces", given, Trace, _TRACED)
