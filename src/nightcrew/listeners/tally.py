"""Tally: what one process counts of its own runs, to be added up with what the others count."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import NamedTuple

from nightcrew.ledger import Entry
from nightcrew.outcome import Outcome

_ENDS = frozenset(
    (Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO, Outcome.PARTIAL, Outcome.FAILED, Outcome.REFUSED, Outcome.CANCELLED)
)
_TRIGGERS = frozenset(("ticker", "http", "cli", "manual", "celery", "dashboard", "failsafe"))
_OTHER = "other"


class Ends(NamedTuple):
    """Runs of a job that ended with an outcome, by what had started them."""

    job: str
    outcome: str
    trigger: str


class Tally:
    """The listener that counts. What it counts by has few values: names of jobs and tables, never an id."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: Counter[Ends] = Counter()
        self._rows: Counter[str] = Counter()

    def hears(self, kind: str) -> bool:
        """Tell whether a kind is counted."""
        return kind == "batch" or kind in _ENDS

    def __call__(self, entry: Entry) -> None:
        """Count a batch, or a run that ended for now."""
        if entry.kind == "batch":
            with self._lock:
                self._rows.update(entry.facts.get("counts") or {})
        elif entry.job is not None and "durationMs" in entry.facts:  # others tell of the same words, such as of a pause
            said = str(entry.facts.get("trigger"))
            with self._lock:
                self._runs[Ends(entry.job, entry.kind, said if said in _TRIGGERS else _OTHER)] += 1

    def runs(self) -> Mapping[Ends, int]:
        """Return how many runs have ended how."""
        with self._lock:
            return dict(self._runs)

    def rows(self) -> Mapping[str, int]:
        """Return how many rows of each table were removed, or changed by a policy whose rows stay."""
        with self._lock:
            return dict(self._rows)
