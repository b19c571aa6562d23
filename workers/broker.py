"""What every Celery app of a deployment must agree on: the queues as they are declared, and bounded connections."""

from datetime import timedelta
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from workers.plugins import router_of
from workers.settings import Settings
from workers.tls import tls_options

DELIVERY_LIMIT = 20
"""How often RabbitMQ hands out a message that kills its consumer before it drops it (3.10 has no default)."""


def sending_app(settings: Settings, *, name: str | None = None) -> Celery:
    """An app that sends wake-ups and runs nothing, for processes that are no workers. `name`: what Redis calls its
    connections."""
    app = Celery("chatkit-sender", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_transport_options=transport_options(settings, name),
        broker_use_ssl=tls_options(settings.broker_url),
        task_serializer="json",
        task_ignore_result=True,
        task_queues=queues(settings),
    )
    return app


def reach_broker(url: str, within: timedelta) -> None:
    """Connect once, as a worker does. Blocks for about as long; raises whatever kombu and its transport raise."""
    seconds = within.total_seconds()
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds} if url.startswith("redis") else {}
    with Connection(  # type: ignore[no-untyped-call]  # kombu has no types
        url, ssl=tls_options(url), connect_timeout=seconds, transport_options=options
    ) as connection:
        connection.ensure_connection(max_retries=0, timeout=seconds)


def queues(settings: Settings) -> list[Queue]:
    """The queues that a worker consumes; on RabbitMQ quorum queues with a delivery limit."""
    arguments: dict[str, Any] = {}
    if settings.broker_url.startswith("amqp"):
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    exchange = Exchange("chatkit.tasks", type="direct")  # type: ignore[no-untyped-call]  # kombu has no types
    return [
        Queue(name, exchange, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]  # same
        for name in router_of(settings).queues
    ]


def transport_options(settings: Settings, name: str | None = None) -> dict[str, Any]:
    """Bounded waits on the broker's connections. kombu's defaults wait for ever on a dead one.

    On AMQP heartbeats (`broker_heartbeat`) do it, and py-amqp's TCP_USER_TIMEOUT of a second for what is sent."""
    if settings.broker_url.startswith("amqp"):
        return {"confirm_publish": False}
    return {
        # What a worker that was killed has taken comes back after this. No message is held for as long: turns are
        # acknowledged when they begin, ingested events when they are kept; and taking one twice does no harm.
        "visibility_timeout": 300,
        # A half-open connection is found out after two health checks, or by the first command that it swallows.
        "socket_timeout": 3,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 2,
        "client_name": name,
    }
