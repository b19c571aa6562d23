"""What a gateway exports: the figures of the deployment, which each scrape reads from the state, and its own."""

import logging

from prometheus_client import CollectorRegistry, generate_latest

from schemas.outcome import DeadReason, RetryReason
from workers.autoscale.scale import Scale, Scaler
from workers.gateway.ports import GatewayRuntime
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.figures import Load, Told
from workers.lanes.records import Depth
from workers.limits.limiter import ModelStatus
from workers.telemetry.metrics import STAGES, Metrics
from workers.telemetry.totals import TotalOf

log = logging.getLogger(__name__)


async def figures_of(runtime: GatewayRuntime) -> bytes:
    """In the format of Prometheus. While the state is away only what this gateway knows by itself: the absence of the
    rest tells."""
    metrics = Metrics()
    metrics.streams_open.set(runtime.reader.open_count)
    try:
        scaler = Scaler(runtime.settings, runtime.state, runtime.lanes)
        depth, told, models = await scaler.read()
        scale = await scaler.decide(depth, told, models)
    except STATE_ERRORS as error:
        log.warning("figures_not_read", extra={"error": type(error).__name__})
        return generate_latest(metrics.registry.restricted_registry(["chatkit_streams_open"]))
    _fill(metrics, depth)
    _fill_limits(metrics, models)
    _fill_loads(metrics, list(told.loads.values()))
    _fill_scale(metrics, scale)
    counted = _totals(metrics, told)
    return counted + generate_latest(metrics.registry)


def _fill(metrics: Metrics, depth: Depth) -> None:
    for state, count in depth.states.items():
        if not state.ended:
            metrics.events_waiting.labels(state).set(count)
    for (type_, state), count in depth.ended.items():
        metrics.events.set(count, type_, state)
    for retry_reason in RetryReason:  # zeros as well: of a series that begins with 1 no rate shows the first
        metrics.attempts.set(depth.retried.get(retry_reason, 0), retry_reason)
    for dead_reason in DeadReason:
        metrics.dead_letters.labels(dead_reason).set(depth.dead.get(dead_reason, 0))
    metrics.oldest_event_age.set(depth.oldest_age_seconds)
    metrics.leases.set(depth.leases)
    metrics.fenced_writes.set(depth.fenced_writes)
    metrics.stream_frames.set(depth.frames)


def _fill_limits(metrics: Metrics, models: list[ModelStatus]) -> None:
    for one in models:
        for kind, used in (("rpm", one.used_rpm), ("tpm", one.used_tpm), ("concurrency", one.used_concurrency)):
            if used is not None:
                metrics.limit_used.labels(one.model, kind).set(used)


def _fill_loads(metrics: Metrics, loads: list[Load]) -> None:
    metrics.worker_inflight.set(sum(load.running for load in loads))
    metrics.worker_capacity.set(sum(load.limit for load in loads))


def _fill_scale(metrics: Metrics, scale: Scale) -> None:
    metrics.events_ready.set(scale.readings.ready)
    metrics.ready_age.set(scale.readings.oldest_age_seconds)
    metrics.workers.set(scale.readings.workers)
    metrics.workers_desired.set(scale.decision.workers)


def _totals(metrics: Metrics, told: Told) -> bytes:
    """What the workers have counted, taken out of the registry of the rest."""
    for stage in STAGES:
        metrics.turn_seconds.labels(stage)
    registry = CollectorRegistry()
    for metric in metrics.counted():
        metrics.registry.unregister(metric)
        registry.register(TotalOf(metric, told.totals))
    return generate_latest(registry)
