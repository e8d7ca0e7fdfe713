"""Reading: the tables of a document by the keys that they may have, and whatever is wrong on the way."""

from collections.abc import Callable, Mapping
from typing import Any

from nightcrew import document
from nightcrew.document import Document, Key, Lookup, read_key
from nightcrew.errors import ConfigurationError, NoDatabase, did_you_mean
from nightcrew.keys import LATER


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
