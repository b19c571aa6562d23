"""The catalogue of metrics: every name with its meaning, declared once. Labels are bounded: never an id.

Counters and histograms are of one process and add up over all of them. What is marked "deployment" describes the
shared state: every process that exports it tells the same, so take the maximum, not the sum.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "chatkit"

SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class SharedCounter(Collector):
    """A counter that the shared state keeps: a process exports what it has read there."""

    _labelnames = ()

    def __init__(self, name: str, meaning: str) -> None:
        self._name, self._meaning = name, meaning
        self._total = 0

    def set(self, total: int) -> None:
        """What the state says."""
        self._total = total

    def describe(self) -> list[Metric]:
        return [CounterMetricFamily(self._name, self._meaning)]

    def collect(self) -> list[Metric]:
        return [CounterMetricFamily(self._name, self._meaning, value=self._total)]


class Metrics:
    """All metrics of one process, on one registry (a scrape reads it; tests make their own)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        # -- events ---------------------------------------------------------------------------------------------
        # Events that ended. type: one of schemas.events.event_types(); outcome: done, dropped, cancelled or dead.
        self.events = self._counter("events_total", "Events that ended", ("type", "outcome"))
        # Deployment: events that have not ended. state: queued, running, waiting_retry or waiting_limit.
        self.events_waiting = self._gauge("events_waiting", "Events that have not ended, by state", ("state",))
        # Deployment: how long the oldest event has been waiting for its turn. What to alert and to scale on.
        self.oldest_event_age = self._gauge("oldest_event_age_seconds", "Age of the oldest event that waits")
        # Runs that have to be repeated. reason: one of schemas.outcome.RetryReason.
        self.attempts = self._counter("attempts_total", "Attempts that failed and are repeated", ("reason",))
        # Deployment: dead letters ever written (a gauge, since the shared state counts them). reason: DeadReason.
        self.dead_letters = self._gauge("dead_letters", "Dead letters written, by reason", ("reason",))

        # -- turns ----------------------------------------------------------------------------------------------
        # Where a turn's time went. stage: queue (until begun), limit (parked), model (the run), relay (to the stream).
        self.turn_seconds = self._histogram("turn_seconds", "Time of a turn, by stage", ("stage",), LONG_SECONDS)
        # From acceptance to the first text of the answer, as a user feels it.
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From acceptance to the first text of the answer", (), SHORT_SECONDS
        )
        # Tokens that the provider charged. model: a configured one; kind: input or output.
        self.tokens = self._counter("tokens_total", "Tokens used", ("model", "kind"))

        # -- limits ---------------------------------------------------------------------------------------------
        # How long a turn stood in line for a limit. model: a configured one.
        self.limit_wait = self._histogram("limit_wait_seconds", "Wait for a limit", ("model",), LONG_SECONDS)
        # Deployment: used share of a limit, 0 to 1. kind: rpm, tpm or concurrency.
        self.limit_used = self._gauge("limit_used_ratio", "Used share of a limit", ("model", "kind"))

        # -- lanes and streams ----------------------------------------------------------------------------------
        # Deployment: events that a worker holds under a lease.
        self.leases = self._gauge("leases", "Events held under a lease")
        # Deployment: writes of stale workers that were refused, ever. Anything but a rare one means stalls or a lease
        # that is too short. Counted by the state, since the worker that was stale may be gone.
        self.fenced_writes = SharedCounter(f"{PREFIX}_fenced_writes", "Writes refused because the lease was lost")
        self.registry.register(self.fenced_writes)
        # Frames that this process appended to streams.
        self.stream_frames = self._counter("stream_frames_total", "Frames appended to streams")
        # Streams that this gateway is sending to clients now.
        self.streams_open = self._gauge("streams_open", "Streams open to clients")

        # -- workers --------------------------------------------------------------------------------------------
        # Turns that this worker runs now, and how many it may run.
        self.worker_inflight = self._gauge("worker_inflight", "Turns that run in this worker")
        self.worker_capacity = self._gauge("worker_capacity", "Turns that this worker may run at once")

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self.registry)
