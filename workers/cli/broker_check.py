"""The part of `doctor` that looks at RabbitMQ."""

import asyncio
from typing import Literal

from kombu.connection import Connection

from workers.cli.connections import cause
from workers.settings import masked_url
from workers.tls import tls_options

OLDEST_RABBITMQ = (3, 10)
SECONDS = 5.0

Found = tuple[Literal["ok", "warn", "fail"], str, str | None]


async def check_rabbitmq(url: str) -> list[Found]:
    """Level, finding and remedy: whether it answers, its version, and so whether it has the quorum queues we use."""
    try:
        product, version = await asyncio.to_thread(_ask, url)
    except Exception as error:  # noqa: BLE001  # py-amqp raises errors of many unrelated classes
        said = f"{masked_url(url)} cannot be reached: {cause(error)}"
        return [("fail", said, "start it, check user and virtual host, or set CHATKIT_BROKER_URL")]
    answers: Found = ("ok", f"{masked_url(url)} answers", None)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if product != "RabbitMQ":
        return [answers, ("warn", f"{product} {version} was never tested", "use RabbitMQ 3.10 or newer")]
    if numbers < OLDEST_RABBITMQ:
        return [answers, ("fail", f"RabbitMQ {version} has no delivery limit on quorum queues", "use 3.10 or newer")]
    return [answers, ("ok", f"RabbitMQ {version}, quorum queues with a delivery limit", None)]


def _ask(url: str) -> tuple[str, str]:
    with Connection(url, ssl=tls_options(url), connect_timeout=SECONDS) as connection:  # type: ignore[no-untyped-call]  # kombu has no types
        connection.ensure_connection(max_retries=0)
        properties = connection.connection.server_properties
        return str(properties.get("product")), str(properties.get("version"))
