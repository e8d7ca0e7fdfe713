"""Append-only account; an Entry is at once record, event and metric."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from nightcrew.books import Books
from nightcrew.censor import Censor
from nightcrew.database import Connection


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact: what happened (`kind`), to which job and run, with the figures that belong to it."""

    kind: str
    job: str | None = None
    run: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def censored(self, censor: Censor) -> "Entry":
        """Return the same without the secrets in its texts."""
        return replace(self, facts={name: censor.value(value) for name, value in self.facts.items()})


Listener: TypeAlias = Callable[[Entry], None]


class Audience:
    """Everybody who listens, and what they must not hear; one that fails fails no run, and the others hear of it."""

    def __init__(self, listeners: Iterable[Listener], censor: Censor | None = None) -> None:
        self._listeners = tuple(listeners)
        self.censor = censor or Censor()

    def join(self, listener: Listener) -> None:
        """Let one more listen, from now on."""
        self._listeners = (*self._listeners, listener)

    def tell(self, entry: Entry) -> None:
        """Let every listener hear an entry, without the secrets in it."""
        entry = entry.censored(self.censor)
        for listener in self._listeners:
            try:
                listener(entry)
            except Exception as error:  # noqa: BLE001 - whatever a listener does is its own affair
                if entry.kind != "listener_failed":
                    facts = {"listener": getattr(listener, "__qualname__", repr(listener)), "error": str(error)}
                    self.tell(Entry("listener_failed", entry.job, entry.run, facts))


class Ledger:
    """Writes entries into the books, and lets the audience hear them once they are committed."""

    def __init__(self, books: Books, audience: Audience) -> None:
        self._books = books
        self.tell = audience.tell
        self.censor = audience.censor

    def write(self, entry: Entry, connection: Connection | None = None) -> None:
        """Append an entry of a run, inside the transaction of the work it tells of if it tells of any."""
        self._books.append(connection, str(entry.run), entry.kind, entry.censored(self.censor).facts)
