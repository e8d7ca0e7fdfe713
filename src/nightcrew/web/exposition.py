"""Exposition: the vitals of a crew, and what this process counts, as Prometheus reads them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from nightcrew.errors import MissingExtra
from nightcrew.listeners.tally import Tally
from nightcrew.vitals import Vital, Vitals

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.metrics_core import Metric
except ImportError:
    raise MissingExtra(
        "/metrics needs prometheus-client, which is not installed: pip install 'nightcrew[metrics]'"
    ) from None

KIND = CONTENT_TYPE_LATEST

_GAUGES: Mapping[str, tuple[str, Callable[[Vital], datetime | float | None]]] = {
    "job_registered_timestamp_seconds": (
        "Since when the job is known with its schedule.",
        lambda job: job.status.standing.epoch_at,
    ),
    "job_last_success_timestamp_seconds": (
        "When a run of the job last ended well.",
        lambda job: job.status.standing.last_ok_at,
    ),
    "job_last_completion_timestamp_seconds": (
        "When a run of the job last ended, however it did.",
        lambda job: job.ended.finished_at if job.ended else None,
    ),
    "job_last_duration_seconds": (
        "How long the run took that ended last.",
        lambda job: None if job.took is None else job.took.total_seconds(),
    ),
    "job_next_slot_timestamp_seconds": (
        "When the job is due next; none while it is paused or disabled.",
        lambda job: job.status.next_slot,
    ),
    "job_interval_seconds": (
        "The longer one of the gaps between the job's slots around now.",
        lambda job: job.interval.total_seconds(),
    ),
    "job_max_runtime_seconds": (
        "How long a run may take: twice what the last one took, a minute at least.",
        lambda job: job.longest.total_seconds(),
    ),
    "job_paused": (
        "1 while nothing runs the job on purpose: it is paused or disabled, or every job is stopped.",
        lambda job: job.status.paused or not job.status.job.enabled,
    ),
    "job_running": ("1 while a run of the job is open.", lambda job: job.status.standing.run is not None),
    "job_fail_streak": (
        "How many runs of the job have failed in a row.",
        lambda job: job.status.standing.fail_streak,
    ),
    "breaker_open": (
        "1 where a safety rail refused the job's last run, which waits for a person.",
        lambda job: job.refused,
    ),
}
_TASK = ["task"]  # Prometheus itself has a label “job”


class Page:
    """All that is shown at one moment, as a collector of prometheus-client."""

    def __init__(self, found: Vitals, tally: Tally, version: str) -> None:
        self._found = found
        self._tally = tally
        self._version = version

    def text(self) -> bytes:
        """Return it as Prometheus's text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: whoever registers this asks for it once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give every metric with its values."""
        built = GaugeMetricFamily("nightcrew_build_info", "The version of nightcrew, as a label.", labels=["version"])
        built.add_metric([self._version], 1)
        yield built
        for name, (says, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"nightcrew_{name}", says, labels=_TASK)
            for job in self._found.jobs:
                if (given := value(job)) is not None:
                    gauge.add_metric([job.name], given.timestamp() if isinstance(given, datetime) else float(given))
            yield gauge
        yield self._runs()
        for counter, label, said, counted in self._counters():
            family = CounterMetricFamily(f"nightcrew_{counter}", said, labels=[label])
            for of, number in sorted(counted.items()):
                family.add_metric([of], number)
            yield family

    def _runs(self) -> Metric:
        said = "Runs that this process has ended since it started, by outcome and by what had started them."
        counted = CounterMetricFamily("nightcrew_job_runs", said, labels=[*_TASK, "outcome", "trigger"])
        for ends, number in sorted(self._tally.runs().items()):
            counted.add_metric([*ends], number)
        return counted

    def _counters(self) -> Iterator[tuple[str, str, str, Mapping[str, float]]]:
        """Give what is counted by one label: the metric, the label, what it says, and the numbers."""
        tally, since = self._tally, "since it started"
        rows = f"Rows that this process has removed {since}, or changed where they stay."
        yield "rows_deleted", "table", rows, tally.rows()
        blobs = f"Blobs and keys that rows owed to a store, and that this process has removed from it {since}."
        yield "blobs_deleted", "store", blobs, tally.blobs()
        waited = f"Seconds for which gauges have held sweeps of this process back {since}."
        yield "throttle_wait_seconds", "task", waited, tally.waited()
        contended = f"Slots that this process has asked for {since}, and that were taken, or over, by then."
        yield "slot_contended", "task", contended, tally.contended()
