"""The figures of the deployment that a gateway exports: each scrape reads them from the state."""

import logging

from prometheus_client import generate_latest

from workers.gateway.ports import GatewayLanes
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Depth
from workers.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

NAMES = ("events_waiting", "oldest_event_age_seconds", "dead_letters", "leases", "fenced_writes_total")
"""Those of the catalogue that the state knows."""


async def deployment_figures(lanes: GatewayLanes) -> bytes:
    """In the format of Prometheus; nothing while the state is away, which the absence tells."""
    try:
        depth = await lanes.depth()
    except STATE_ERRORS as error:
        log.warning("figures_not_read", extra={"error": type(error).__name__})
        return b""
    metrics = Metrics()
    _fill(metrics, depth)
    return generate_latest(metrics.registry.restricted_registry([f"chatkit_{name}" for name in NAMES]))


def _fill(metrics: Metrics, depth: Depth) -> None:
    for state, count in depth.states.items():
        if not state.ended:
            metrics.events_waiting.labels(state).set(count)
    for reason, count in depth.dead.items():
        metrics.dead_letters.labels(reason).set(count)
    metrics.oldest_event_age.set(depth.oldest_age_seconds)
    metrics.leases.set(depth.leases)
    metrics.fenced_writes.set(depth.fenced_writes)
