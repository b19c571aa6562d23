"""Publishing on AMQP: persistent messages to the exchange `chatkit.events`, with publisher confirms."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from amqp import Connection as AmqpConnection
from amqp.exceptions import AccessRefused, NotAllowed, PreconditionFailed
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from workers.publisher.prepare import Prepared
from workers.publisher.topology import CONTENT_TYPE, DEAD_QUEUE, EVENTS_EXCHANGE, PLAIN_QUEUE
from workers.publisher.transport import BrokerAwayError, BrokerRefusedError
from workers.tls import tls_options

REFUSED = (AccessRefused, NotAllowed, PreconditionFailed)
"""Wrong credentials, no such virtual host, an entity of the same name but of another kind."""

AWAY = (OSError, *AmqpConnection.connection_errors, *AmqpConnection.channel_errors, AttributeError, IndexError)
"""Any other protocol error closes the channel or the connection: as good as away. The last two are what py-amqp
raises on a connection that is lost halfway."""


class AmqpTransport:
    """Sends a batch without waiting in between, then waits for the confirms of all of it.

    kombu's own `confirm_publish` waits for each message in turn, and so for a disk write of the broker each.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._channel: Any = None
        self._confirms = _Confirms()

    def send(self, batch: Sequence[Prepared], *, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        try:
            self._connect(timeout_seconds)
            for item in batch:
                self._publish(item)
            while self._confirms.missing:
                self._connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))
        except BrokerAwayError:  # a nack or a return, raised by a callback below
            self._drop()
            raise
        except (OperationalError, *AWAY) as error:
            self._drop()  # confirms of a batch that was given up must not meet the next one
            cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
            kind = BrokerRefusedError if isinstance(cause, REFUSED) else BrokerAwayError
            raise kind(_words(cause)) from error

    def close(self) -> None:
        """Say goodbye to the broker; a connection that is lost already just goes."""
        if self._connection is not None:
            with suppress(*AWAY):
                self._connection.close()
            self._drop()

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(*AWAY):
                connection.collect(socket_timeout=0.5)

    def _connect(self, timeout_seconds: float) -> None:
        if self._connection is not None:
            return
        self._connection = Connection(  # type: ignore[no-untyped-call]  # kombu has no types
            self._url,
            ssl=tls_options(self._url),
            connect_timeout=timeout_seconds,
            heartbeat=0,  # nobody would send them while the publisher is idle
            transport_options={"read_timeout": timeout_seconds, "write_timeout": timeout_seconds},
        )
        self._connection.ensure_connection(max_retries=0)  # one retry layer only: ours
        self._channel = self._connection.channel()
        declare(self._channel)
        self._channel.confirm_select()
        self._confirms = _Confirms()
        self._channel.events["basic_ack"].add(self._confirms.on_ack)
        self._channel.events["basic_nack"].add(self._confirms.on_nack)
        self._channel.events["basic_return"].add(self._confirms.on_return)

    def _publish(self, item: Prepared) -> None:
        message = self._channel.prepare_message(
            item.body,
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            properties={"delivery_mode": 2, "message_id": item.published.id},
        )
        self._confirms.sent()
        # mandatory: a queue that somebody deleted is found out (and declared again) instead of losing the event
        self._channel.basic_publish(message, exchange=EVENTS_EXCHANGE.name, routing_key=item.type, mandatory=True)


class _Confirms:
    """The confirms that a channel still owes. Delivery tags count from 1 on each channel."""

    def __init__(self) -> None:
        self._last = 0
        self._open: set[int] = set()

    @property
    def missing(self) -> int:
        return len(self._open)

    def sent(self) -> None:
        self._last += 1
        self._open.add(self._last)

    def on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._open = {waiting for waiting in self._open if waiting > tag}
        else:
            self._open.discard(tag)

    def on_nack(self, _tag: int, _multiple: bool) -> None:
        raise BrokerAwayError("the broker could not take the message")

    def on_return(self, error: Exception, *_message: object) -> None:
        raise BrokerAwayError(f"no queue is bound to {EVENTS_EXCHANGE.name}: {_words(error)}")


def declare(channel: Any) -> None:
    """Declare the exchanges and queues of the plain way in."""
    for queue in (DEAD_QUEUE, PLAIN_QUEUE):
        bound: Any = queue(channel)
        bound.declare()


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
