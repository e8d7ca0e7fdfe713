"""Owing: a column of keys, and the store that what they name is kept in; it is owed there once the row has gone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nightcrew.errors import PolicyError, did_you_mean, misfit

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


_NAMES = tuple(each.name for each in fields(Owing))


def owings(given: object) -> tuple[Owing, ...]:
    """Return what is owed as it is said in code or in a file, each once.

    Raises PolicyError for what says no store, table and column.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise PolicyError(f"blobs {misfit(given, (), f'write a list, such as [{_EXAMPLE}]')}", key="blobs")
    return tuple(dict.fromkeys(_owing(each) for each in given))


def _owing(given: Any) -> Owing:
    if isinstance(given, Owing):
        return given
    if wrong := misfit(given, Mapping, f"write {_EXAMPLE}"):
        raise PolicyError(f"an entry of blobs {wrong}", key="blobs")
    for name in given:
        if name not in _NAMES:
            raise PolicyError(f"blobs has no {name!r}{did_you_mean(str(name), _NAMES)}", key="blobs")
    for name in _NAMES:
        if wrong := misfit(given.get(name), str, f"write {_EXAMPLE}"):
            raise PolicyError(f"{name} of an entry of blobs {wrong}", key="blobs")
    return Owing(**given)
