"""The Celery app: `celery -A workers.app worker`."""

import asyncio
import sys
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue

from workers import tasks
from workers.dispatch import QUEUE_INTERACTIVE, QUEUES
from workers.ingest.install import install
from workers.pool import current_loop, on_loop_start, on_loop_stop
from workers.runtime import WorkerProcess
from workers.settings import Settings, load_settings

DELIVERY_LIMIT = 20
"""How often RabbitMQ hands out a message that kills its consumer before it drops it (3.10 has no default)."""


def queues(settings: Settings) -> list[Queue]:
    """The queues that a worker consumes; on RabbitMQ quorum queues with a delivery limit."""
    arguments: dict[str, Any] = {}
    if settings.broker_url.startswith("amqp"):
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    exchange = Exchange("chatkit.tasks", type="direct")  # type: ignore[no-untyped-call]  # kombu has no types
    return [
        Queue(name, exchange, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]  # same
        for name in QUEUES
    ]


def make_app(settings: Settings) -> Celery:
    """Build the app of a deployment."""
    app = Celery("chatkit-workers", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # 100 by default: a worker must outlive a long outage
        broker_transport_options=transport_options(settings),
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,  # the tracer's result calls would block the loop; outcomes are on the event's record
        task_ignore_result=True,
        task_queues=queues(settings),
        task_default_queue=QUEUE_INTERACTIVE,
        task_acks_late=False,  # turns are acked early, alarms recover them
        worker_pool="workers.pool:TaskPool",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not settings.broker_url.startswith("amqp"),  # else a full worker hoards wake-ups
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease, not the connection, owns a turn
    )
    worker = WorkerProcess(settings, app)
    tasks.register(app, worker)
    install(app, loop_of=running_loop, admission_of=lambda: worker.runtime.admission)
    on_loop_start(worker.open)
    on_loop_stop(worker.close)
    return app


def running_loop() -> asyncio.AbstractEventLoop:
    """The pool's loop; a message can only come while it runs."""
    loop = current_loop()
    if loop is None:
        raise RuntimeError("the pool does not run")
    return loop


def transport_options(settings: Settings) -> dict[str, Any]:
    """Bounded waits on the broker's connections. kombu's defaults wait for ever on a dead one."""
    if settings.broker_url.startswith("amqp"):
        return {"confirm_publish": False}
    return {
        "visibility_timeout": 3600,
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


app = make_app(load_settings())


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _say_ready(**_: Any) -> None:
    print("ready", file=sys.stderr, flush=True)  # noqa: T201  # what process supervisors and tests wait for
