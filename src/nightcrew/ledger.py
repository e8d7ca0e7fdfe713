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
"""Hears entries; one with a method `hears`, which takes a kind, hears those that it says True of, and no others."""


class Audience:
    """Everybody who listens, and what they must not hear; one that fails fails no run, and the others hear of it."""

    def __init__(self, listeners: Iterable[Listener], censor: Censor | None = None) -> None:
        self._listeners = tuple(listeners)
        self.censor = censor or Censor()

    def join(self, listener: Listener) -> None:
        """Let one more listen, from now on."""
        self._listeners = (*self._listeners, listener)

    def hears(self, kind: str) -> bool:
        """Tell whether anybody listens to entries of a kind; who has no method `hears` that says so listens to all."""
        for listener in self._listeners:  # noqa: SIM110 - a generator for each of hundreds of runs a second costs more
            if _hears(listener, kind):
                return True
        return False

    def tell(self, entry: Entry) -> None:
        """Let every listener hear an entry that listens to its kind, without the secrets in it."""
        entry = entry.censored(self.censor)
        for listener in self._listeners:
            if not _hears(listener, entry.kind):
                continue
            try:
                listener(entry)
            except Exception as error:  # noqa: BLE001 - whatever a listener does is its own affair
                if entry.kind != "listener_failed":
                    facts = {"listener": getattr(listener, "__qualname__", repr(listener)), "error": str(error)}
                    self.tell(Entry("listener_failed", entry.job, entry.run, facts))


def _hears(listener: Listener, kind: str) -> bool:
    """Ask a listener whether it listens to a kind; who cannot say listens to all."""
    try:
        return bool(getattr(listener, "hears", _everything)(kind))
    except Exception:  # noqa: BLE001 - whatever a listener does is its own affair
        return True


def _everything(_kind: str) -> bool:
    return True


class Ledger:
    """Writes entries into the books, and lets the audience hear them once they are committed."""

    def __init__(self, books: Books, audience: Audience) -> None:
        self._books = books
        self.tell = audience.tell
        self.hears = audience.hears
        self.censor = audience.censor

    def write(self, entry: Entry, connection: Connection | None = None) -> None:
        """Append an entry of a run, inside the transaction of the work it tells of if it tells of any."""
        self._books.append(connection, str(entry.run), entry.kind, entry.censored(self.censor).facts)
