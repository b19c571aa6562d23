"""The catalogue of metrics: every name with its meaning, declared once. Labels are bounded: never an id.

A gateway's `/metrics` exports all of them. All but `streams_open` are of the whole deployment, added up in the shared
state: every gateway tells the same, so over several of them take the maximum, not the sum. Counters and histograms go
back neither when a worker dies nor when one starts; a worker that is killed takes what it had not told yet with it, a
second's worth of `turn_seconds`, `time_to_first_token_seconds`, `limit_wait_seconds` and `tokens_total`.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "chatkit"

SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

QUEUE, LIMIT, MODEL, RELAY = STAGES = ("queue", "limit", "model", "relay")


class SharedCounter(Collector):
    """A counter that the shared state keeps: a process exports what it has read there."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        self._name, self._meaning = name, meaning
        self._labelnames = tuple(labels)
        self._totals: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def set(self, total: int, *labels: str) -> None:
        """What the state says."""
        self._totals[labels] = total

    def describe(self) -> list[Metric]:
        return [CounterMetricFamily(self._name, self._meaning, labels=self._labelnames)]

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labelnames)
        for labels, total in self._totals.items():
            family.add_metric(labels, total)
        return [family]


class Metrics:
    """All metrics, on one registry. A worker observes those of `counted`, a gateway exports all."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        # -- events ---------------------------------------------------------------------------------------------
        # Events that ended, a redriven one again. type: one of schemas.events.event_types(); outcome: done, dropped,
        # cancelled or dead.
        self.events = self._shared("events_total", "Events that ended", ("type", "outcome"))
        # Events that have not ended. state: queued, running, waiting_retry or waiting_limit.
        self.events_waiting = self._gauge("events_waiting", "Events that have not ended, by state", ("state",))
        # How long the oldest event has not ended. What to alert and to scale on.
        self.oldest_event_age = self._gauge("oldest_event_age_seconds", "Age of the oldest event that waits")
        # Runs that have to be repeated. reason: one of schemas.outcome.RetryReason.
        self.attempts = self._shared("attempts_total", "Attempts that failed and are repeated", ("reason",))
        # Dead letters ever written, those of what never was an event as well. reason: of schemas.outcome.DeadReason.
        self.dead_letters = self._gauge("dead_letters", "Dead letters written, by reason", ("reason",))

        # -- turns ----------------------------------------------------------------------------------------------
        # Where the time of turns goes; each wait and each run is observed once. stage: queue (from accepted, given back
        # or due until begun), limit (parked, for whatever reason, until begun), model (a run that called the model),
        # relay (the first text of the answer, from the model's event until it is in the stream).
        self.turn_seconds = self._histogram("turn_seconds", "Time of a turn, by stage", ("stage",), LONG_SECONDS)
        # From acceptance until the first text of the answer is in the stream, as a user feels it.
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From acceptance to the first text of the answer", (), SHORT_SECONDS
        )
        # Tokens that the provider says were used. model: a configured one; kind: input or output.
        self.tokens = self._counter("tokens_total", "Tokens used", ("model", "kind"))

        # -- limits ---------------------------------------------------------------------------------------------
        # How long a turn stood in line for a limit, or waited for it between two calls. model: a configured one.
        self.limit_wait = self._histogram("limit_wait_seconds", "Wait for a limit", ("model",), LONG_SECONDS)
        # Used share of a limit, 0 to 1. kind: rpm, tpm or concurrency, as far as they are set.
        self.limit_used = self._gauge("limit_used_ratio", "Used share of a limit", ("model", "kind"))

        # -- lanes and streams ----------------------------------------------------------------------------------
        # Events that a worker holds under a lease.
        self.leases = self._gauge("leases", "Events held under a lease")
        # Writes of stale workers that were refused, ever. Anything but a rare one means stalls or a lease that is too
        # short. Counted by the state, since the worker that was stale may be gone.
        self.fenced_writes = self._shared("fenced_writes_total", "Writes refused because the lease was lost")
        # Frames in streams, ever: each once, however often it was sent.
        self.stream_frames = self._shared("stream_frames_total", "Frames appended to streams")
        # Streams that this gateway is sending to clients now. Add these up.
        self.streams_open = self._gauge("streams_open", "Streams open to clients")

        # -- workers --------------------------------------------------------------------------------------------
        # Tasks that all live workers run now (turns, batches of `chatkit.ingest`), and how many they may run.
        self.worker_inflight = self._gauge("worker_inflight", "Tasks that run in the workers")
        self.worker_capacity = self._gauge("worker_capacity", "Tasks that the workers may run at once")
        # What `GET /v1/scale` answers. Ready: could run now, so neither waits for a limit or a retry nor behind another
        # event of its conversation.
        self.events_ready = self._gauge("events_ready", "Events that could run now")
        self.ready_age = self._gauge("ready_age_seconds", "How long the first of them could have run")
        self.workers = self._gauge("workers", "Workers that take work")
        self.workers_desired = self._gauge("workers_desired", "Workers that there should be")

    def counted(self) -> list[Counter | Histogram]:
        """What workers count, and the state adds up."""
        return [self.turn_seconds, self.time_to_first_token, self.tokens, self.limit_wait]

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self.registry)

    def _shared(self, name: str, meaning: str, labels: Sequence[str] = ()) -> SharedCounter:
        counter = SharedCounter(f"{PREFIX}_{name}".removesuffix("_total"), meaning, labels)
        self.registry.register(counter)
        return counter

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self.registry)
