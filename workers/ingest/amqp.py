"""Plain CloudEvents JSON on AMQP: a step of Celery's consumer beside the one that takes task messages."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from amqp import Connection
from celery import bootsteps
from kombu.messaging import Consumer

from workers.ingest.admission import Admission
from workers.publisher.topology import DEAD_QUEUE, PLAIN_QUEUE

log = logging.getLogger(__name__)

BATCH = 100
PREFETCH = 3 * BATCH
"""One batch being accepted, one waiting, one on the wire."""

LOST = (OSError, AttributeError, *Connection.connection_errors, *Connection.channel_errors)
"""What acknowledging on a connection that is lost raises; AttributeError is py-amqp's way of saying so too."""

LoopOf = Callable[[], asyncio.AbstractEventLoop]
AdmissionOf = Callable[[], Admission]


class PlainEventsStep(bootsteps.ConsumerStep):  # type: ignore[misc]  # celery has no types
    """Consumes `chatkit.events.plain` on a channel of its own. `wired` makes the class that Celery builds.

    Callbacks run in the worker's main thread and an exception there would end the worker: they only hand the bytes
    over to the event loop. The loop admits them in order, then has the main thread acknowledge.
    """

    loop_of: LoopOf
    admission_of: AdmissionOf

    @classmethod
    def wired(cls, loop_of: LoopOf, admission_of: AdmissionOf) -> type["PlainEventsStep"]:
        """The step with its collaborators, which exist once the pool runs."""
        attributes = {"loop_of": staticmethod(loop_of), "admission_of": staticmethod(admission_of)}
        return type("WiredPlainEventsStep", (cls,), attributes)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._inbox: deque[Any] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._call_soon: Callable[..., Any] = c.call_soon

    def include_if(self, c: Any) -> bool:
        """Only on AMQP; on Redis plain events come through the stream."""
        return str(c.app.conf.broker_url or "").startswith(("amqp://", "amqps://", "pyamqp://"))

    def get_consumers(self, channel: Any) -> list[Any]:
        """Declare the topology and consume. Celery's own prefetch is of another channel, so this one sets its own."""
        kept: Any = DEAD_QUEUE(channel)
        kept.declare()
        consumer: Any = Consumer(  # type: ignore[no-untyped-call]  # kombu has no types
            channel,
            [PLAIN_QUEUE],
            on_message=self._on_message,
            on_decode_error=lambda message, _error: self._on_message(message),
            prefetch_count=PREFETCH,
        )
        consumer.qos(prefetch_count=PREFETCH)
        return [consumer]

    def stop(self, c: Any) -> None:
        """The connection goes: what was not acknowledged is delivered again, so forget what waits."""
        self._inbox.clear()
        super().stop(c)

    def _on_message(self, message: Any) -> None:
        self._inbox.append(message)
        try:
            self.loop_of().call_soon_threadsafe(self._wake)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the worker
            log.warning("plain_event_waits", extra={"error": type(error).__name__})

    def _wake(self) -> None:
        """On the loop: pump, unless it is pumping."""
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._admit_all(), name="plain-events")

    async def _admit_all(self) -> None:
        admission = self.admission_of()
        while self._inbox:
            messages = self._next_batch()
            try:
                await admission.admit([_bytes(message) for message in messages], source=f"queue {PLAIN_QUEUE.name}")
            except Exception:  # a loop guard; unacknowledged messages are delivered again
                log.exception("plain_events_failed")
                continue
            self._call_soon(acknowledge, messages)

    def _next_batch(self) -> list[Any]:
        messages: list[Any] = []
        while len(messages) < BATCH:
            try:
                messages.append(self._inbox.popleft())
            except IndexError:  # the main thread may clear it at any moment
                break
        return messages


def acknowledge(messages: list[Any]) -> None:
    """Acknowledge, in the main thread: kombu's channels belong to it."""
    try:
        for message in messages:
            message.ack()
    except LOST as error:  # delivered again on the next connection, and recognised
        log.info("messages_not_acknowledged", extra={"count": len(messages), "error": type(error).__name__})


def _bytes(message: Any) -> bytes:
    """The body as it was sent; py-amqp has decoded it when it carries a content encoding."""
    body = message.body
    return body if isinstance(body, bytes) else bytes(body) if isinstance(body, memoryview) else str(body).encode()
