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
_OUTBOX = "drain-outbox"  # a job's own function may enter any word
_COUNTED = frozenset(("batch", "settled", "waited", "contended"))


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
        self._blobs: Counter[str] = Counter()
        self._contended: Counter[str] = Counter()
        self._waited: dict[str, float] = {}

    def hears(self, kind: str) -> bool:
        """Tell whether a kind is counted."""
        return kind in _COUNTED or kind in _ENDS

    def __call__(self, entry: Entry) -> None:
        """Count a batch, what held one back, a slot that was lost, blobs that went, or a run that ended for now."""
        if entry.kind in _COUNTED:
            with self._lock:
                self._count(entry)
        elif entry.job is not None and "durationMs" in entry.facts:  # others tell of the same words, such as of a pause
            said = str(entry.facts.get("trigger"))
            with self._lock:
                self._runs[Ends(entry.job, entry.kind, said if said in _TRIGGERS else _OTHER)] += 1

    def _count(self, entry: Entry) -> None:
        job, facts = entry.job or "", entry.facts
        if entry.kind == "batch":
            self._rows.update(facts.get("counts") or {})
        elif entry.kind == "contended":
            self._contended[job] += 1
        elif entry.kind == "settled" and job == _OUTBOX:
            self._blobs[facts["store"]] += facts["settled"]
        elif entry.kind == "waited" and isinstance(facts.get("by"), dict):
            self._waited[job] = self._waited.get(job, 0.0) + facts["seconds"]

    def runs(self) -> Mapping[Ends, int]:
        """Return how many runs have ended how."""
        with self._lock:
            return dict(self._runs)

    def rows(self) -> Mapping[str, int]:
        """Return how many rows of each table were removed, or changed by a policy whose rows stay."""
        with self._lock:
            return dict(self._rows)

    def blobs(self) -> Mapping[str, int]:
        """Return how many blobs and keys that were owed were removed from each store."""
        with self._lock:
            return dict(self._blobs)

    def contended(self) -> Mapping[str, int]:
        """Return how many slots of each job were asked for here, and were taken, or over, by then."""
        with self._lock:
            return dict(self._contended)

    def waited(self) -> Mapping[str, float]:
        """Return for how many seconds gauges have held back the runs of each job."""
        with self._lock:
            return dict(self._waited)
