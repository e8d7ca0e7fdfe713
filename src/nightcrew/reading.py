"""Reading: the tables of a document by the keys that they may have, and whatever is wrong on the way."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nightcrew import document
from nightcrew.document import Document, Key, Lookup, read_key
from nightcrew.errors import ConfigurationError, NoDatabase, did_you_mean
from nightcrew.keys import LATER

_T = TypeVar("_T")


class Reading:
    """Reads one document, and notes whatever is wrong: (line, sentence)."""

    def __init__(self, found: Document, lookup: Lookup) -> None:
        self.problems: list[tuple[int, str]] = []
        self.document = found
        self.lookup = lookup

    def table(
        self, keys: tuple[str, ...], values: Mapping[str, Any], allowed: Mapping[str, Key], whose: str
    ) -> dict[str, Any]:
        """Return what can be read of a table's keys, and note the others."""
        given = {}
        for name, raw in values.items():
            if name not in allowed:
                near = did_you_mean(name, allowed) or "; this version has none like it, remove it"
                self.note((*keys, name), f"{whose}unknown key {name!r}{near}")
                continue
            try:
                given[name] = read_key(name, raw, allowed[name], self.lookup)
            except ConfigurationError as problem:
                self.note((*keys, name), f"{whose}{problem}")
        return given

    def texts(
        self, keys: tuple[str, ...], values: Mapping[str, Any], allowed: Mapping[str, Key], whose: str
    ) -> dict[str, Any]:
        """Read a table of which some texts may have variables: these are given by functions."""
        varied = {key for key in LATER if isinstance(values.get(key), str) and document.variables(values[key])}
        given = self.table(keys, {key: raw for key, raw in values.items() if key not in varied}, allowed, whose)
        return given | {key: self.later((*keys, key), values[key]) for key in varied if key in allowed}

    def later(self, keys: tuple[str, ...], raw: object) -> Callable[[], str] | None:
        """Return what gives a text; it is looked at now, its variables when it is needed."""
        if raw is None:
            return None
        try:
            read_key(keys[-1], raw, LATER[keys[-1]], lambda name: name)
        except ConfigurationError as problem:
            self.note(keys, str(problem))
            return None

        def text() -> str:
            try:
                return document.fill(str(raw), self.lookup)
            except ConfigurationError as problem:
                kind = NoDatabase if keys[-1] == "database" else ConfigurationError
                raise kind(f"{self.document.path}:{self.document.line(*keys)}: {problem}") from None

        return text

    def note(self, keys: tuple[str, ...], sentence: str) -> None:
        """Note what is wrong at the line of a key, which is named by the tables that it is in and itself."""
        line = self.document.line(*keys)
        self.problems.append((line, f"{self.document.path}:{line}: {sentence.rstrip('.')}"))

    def built(self, keys: tuple[str, ...], whose: str, make: Callable[[], _T]) -> _T | None:
        """Return what is made of values that are right one by one, and note why there is none."""
        before = len(self.problems)
        try:
            made = make()
        except ConfigurationError as problem:
            self.note(keys, f"{whose}{str(problem).removeprefix(whose)}")
            return None
        return made if len(self.problems) == before else None
