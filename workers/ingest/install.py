"""Hooking the ways in into a Celery app."""

from typing import Any

from workers.ingest.amqp import AdmissionOf, LoopOf, PlainEventsStep
from workers.ingest.dropped import KeepDroppedStep, keep_popped
from workers.ingest.redis_transport import guard_redis_lists


def install(app: Any, *, loop_of: LoopOf, admission_of: AdmissionOf) -> None:
    """Add the consumer of plain events on AMQP, and keep what Celery or kombu would drop or die of.

    Args:
        app: the Celery app, before its worker is made.
        loop_of: the pool's event loop; asked for when the first message comes.
        admission_of: the worker's admission, asked for likewise.
    """
    app.steps["consumer"].add(PlainEventsStep.wired(loop_of, admission_of))
    app.steps["consumer"].add(KeepDroppedStep.wired(loop_of, admission_of))
    if str(app.conf.broker_url).startswith(("redis://", "rediss://")):
        guard_redis_lists(keep_popped(loop_of, admission_of))
