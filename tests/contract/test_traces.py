"""Runs as spans of OpenTelemetry, collected by its own SDK."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.conftest import Yard

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.errors import MissingExtra
from nightcrew.listeners import traces
from nightcrew.listeners.traces import Traces
from nightcrew.policy import Policy


def spans_of(url: str, job: Job) -> list[ReadableSpan]:
    """Run a job by hand, and return its spans in the order in which they ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    crew = Nightcrew(url, jobs=[job], settings=Settings(secret="s" * 32), listeners=[Traces(provider)])
    crew.migrate()
    crew.run(job.name, now=True)
    crew.close()
    return list(exporter.get_finished_spans())


def test_a_sweep_is_a_span_with_its_batches_below_it(yard: Yard) -> None:
    yard.run("CREATE TABLE sessions (id INTEGER PRIMARY KEY, expires_at TIMESTAMP NULL)")
    yard.fill("sessions", *({"id": n, "expires_at": datetime(2020, 1, 1, tzinfo=UTC)} for n in range(1, 6)))
    policy = Policy("sessions", "expires_at", max_fraction=1)
    *batches, run = spans_of(yard.url, Job("end-sessions", every("1 hour"), policy=policy))
    assert run.name == "nightcrew.run end-sessions"
    assert run.status.status_code is not StatusCode.ERROR
    assert (run.attributes["nightcrew.outcome"], run.attributes["nightcrew.rows"]) == ("succeeded", 5)
    assert run.attributes["nightcrew.task"] == "end-sessions"
    assert {batch.name for batch in batches} == {"nightcrew.batch"}
    assert sum(batch.attributes["nightcrew.rows"] for batch in batches) == 5
    for batch in batches:
        assert batch.parent.span_id == run.context.span_id
        assert run.start_time - 5_000_000 <= batch.start_time <= batch.end_time <= run.end_time + 5_000_000


def test_a_run_that_fails_is_an_error(yard: Yard) -> None:
    def breaks(run: object) -> int:
        raise ValueError("no such bucket")

    (run,) = spans_of(yard.url, Job("breaks", every("1 hour"), function=breaks))
    assert run.status.status_code is StatusCode.ERROR
    assert "no such bucket" in run.status.description
    assert run.attributes["nightcrew.outcome"] == "failed"


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "trace", None)
    with pytest.raises(MissingExtra, match=r"nightcrew\[otel\]"):
        Traces()
