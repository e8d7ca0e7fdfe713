"""Traces: each run is a span of OpenTelemetry, and each of its batches one below it.

OpenTelemetry has no convention for jobs; names and attributes are `nightcrew.…`, and none of them holds a secret, a row
or a person.
"""

from collections import OrderedDict
from threading import Lock
from typing import Any

from nightcrew.clock import Clock, SystemClock
from nightcrew.errors import MissingExtra
from nightcrew.ledger import Entry
from nightcrew.outcome import Outcome

try:
    from opentelemetry import trace
except ModuleNotFoundError:
    trace = None  # type: ignore[assignment]

_MOST = 10_000  # runs that are open at once; of one that never ends here, another process has taken over
_ENDS = frozenset((*map(str, Outcome), "buried"))
_BAD = (Outcome.FAILED, Outcome.REFUSED, "buried")


class Traces:
    """The listener that makes spans: `Nightcrew(listeners=[Traces()])`; by the global TracerProvider, or one of yours.

    Raises MissingExtra where OpenTelemetry is not installed.
    """

    def __init__(self, provider: Any = None, clock: Clock | None = None) -> None:
        if trace is None:
            raise MissingExtra("traces need opentelemetry-api; run: pip install 'nightcrew[otel]'")
        self._tracer = trace.get_tracer("nightcrew", tracer_provider=provider)
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._open: OrderedDict[str, Any] = OrderedDict()

    def hears(self, kind: str) -> bool:
        """Tell whether a kind begins or ends a span."""
        return kind in ("begun", "batch") or kind in _ENDS

    def __call__(self, entry: Entry) -> None:
        """Begin a run's span, put a batch below it, or end it."""
        if entry.job is None or entry.run is None:
            return
        if entry.kind == "begun":
            self._begin(entry, entry.job, entry.run)
        elif entry.kind == "batch":
            self._batch(entry, entry.run)
        elif "durationMs" in entry.facts or entry.kind == "buried":
            self._end(entry, entry.run)

    def _begin(self, entry: Entry, job: str, run: str) -> None:
        facts = {name: entry.facts.get(name) for name in ("trigger", "slot", "schedule", "timezone")}
        said = {f"nightcrew.{name}": str(value) for name, value in facts.items() if value is not None}
        span = self._tracer.start_span(f"nightcrew.run {job}", attributes={"nightcrew.task": job, **said})
        span.set_attribute("nightcrew.run_id", run)
        with self._lock:
            self._open[run] = span
            lost = self._open.popitem(last=False)[1] if len(self._open) > _MOST else None
        if lost is not None:
            lost.end()

    def _batch(self, entry: Entry, run: str) -> None:
        """Make a span of what is over: it began as long ago as it took."""
        with self._lock:
            span = self._open.get(run)
        if span is None or "ms" not in entry.facts:
            return
        now = round(self._clock.now().timestamp() * 1e9)
        rows = {f"nightcrew.{name}": entry.facts[name] for name in ("rows", "load") if name in entry.facts}
        below = trace.set_span_in_context(span)
        start = now - round(entry.facts["ms"] * 1e6)
        self._tracer.start_span("nightcrew.batch", below, attributes=rows, start_time=start).end(now)

    def _end(self, entry: Entry, run: str) -> None:
        with self._lock:
            span = self._open.pop(run, None)
        if span is None:
            return
        span.set_attribute("nightcrew.outcome", entry.kind)
        span.set_attribute("nightcrew.rows", int(entry.facts.get("deletedCount") or 0))
        if entry.kind in _BAD:
            said = str(entry.facts.get("message") or entry.facts.get("reason") or "")
            span.set_status(trace.Status(trace.StatusCode.ERROR, said))
        span.end()
