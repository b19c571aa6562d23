"""kombu's Redis transport, made safe against list items that are no message, and quick.

kombu pops an item and only then looks inside: one that is not its own raises out of the worker's main loop, which ends
the worker, and the item is gone. Here such an item is handed to a sink, and the queue goes on.

kombu also makes two round trips for each message that it takes and one for each that is acknowledged. Here its blocking
pop only finds the first message; those behind it come together, popped and recorded as taken by one script, where
kombu would lose what it has popped and not yet recorded. Acknowledgements go out together likewise.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, cast

import pydantic_core
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from workers.ingest.wary_broker import WaryConnection, WaryPool, WarySslConnection

log = logging.getLogger(__name__)

TAKE = (files("workers.ingest") / "take.lua").read_text(encoding="utf-8")
TAKEN_TOGETHER = 25
"""A message takes about half a millisecond of the main thread, which has control commands to see to as well."""

ACKS_SECONDS = 0.5
STOP_ACKS = "_chatkit_stop_acks"

Sink = Callable[[str, bytes], None]
"""Called in the worker's main thread with the name of the queue and the item."""


def guard_redis_lists(sink: Sink) -> None:
    """Have every Redis connection that kombu makes in this process hand what is no message to `sink`.

    The schemes keep their names: Celery's `broker_transport` would be lost at the first reconnect, when kombu takes
    the transport from the URL again, and `rediss` under another name would lose its TLS.
    """
    guarded = transport_class(sink)
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = cast("str", lambda: guarded)  # it may be callable, which its type does not say
        _transport_cache.pop(scheme, None)


def transport_class(sink: Sink) -> type[Any]:
    """The transport whose channels have this sink."""
    channel = type("Channel", (GuardedChannel,), {"sink": staticmethod(sink)})
    return type("Transport", (GuardedTransport,), {"Channel": channel})


class GroupedQoS(kombu_redis.QoS):
    """Sends the acknowledgements of one turn of the hub together."""

    hub_thread: int | None = None
    """The thread whose hub calls `send_acks`; acknowledgements from elsewhere go out at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # kombu has no types
        self.recorded: set[str] = set()
        self._acked: list[str] = []

    def room(self) -> int:
        """How many more messages may be taken now."""
        if not self.can_consume():  # type: ignore[no-untyped-call]  # kombu has no types
            return 0
        room = self.can_consume_max_estimate()  # type: ignore[no-untyped-call]  # kombu has no types
        return TAKEN_TOGETHER if room is None else min(TAKEN_TOGETHER, room)

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self.recorded:
            self.recorded.remove(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def ack(self, delivery_tag: str) -> None:
        if threading.get_ident() != self.hub_thread:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
            return
        self._acked.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def forget(self, delivery_tag: str) -> None:
        """Have the broker forget what turned out to be no message, though it has a delivery tag."""
        self._acked += [delivery_tag] if delivery_tag else []

    def send_acks(self) -> None:
        """Have the broker forget what was acknowledged. What cannot be sent now is sent with the next."""
        if not self._acked:
            return
        with self.pipe_or_acquire() as pipe:
            pipe.zrem(self.unacked_index_key, *self._acked).hdel(self.unacked_key, *self._acked).execute()
        self._acked = []


class GuardedChannel(kombu_redis.Channel):
    """A channel whose pops hand what is no message to the sink."""

    connection_class = WaryConnection
    connection_class_ssl = WarySslConnection

    QoS = GroupedQoS
    qos: GroupedQoS
    sink: Sink
    _kept: Any = None
    _script: Any = None

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # of the connections that are waited on; kombu itself looks whether they answer
            return super()._get_pool(asynchronous)  # type: ignore[no-untyped-call]  # kombu has no types
        parameters = self._connparams()  # type: ignore[no-untyped-call]  # same
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=parameters["db"])
        return WaryPool(**parameters)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu has no types
            client.parse_response = _guard(client.parse_response, self.sep, self.sink)
            return client
        # kombu makes a client for each command, which costs more than the command; its pool is what changes
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]  # kombu has no types
            self._script = self._kept.register_script(TAKE)
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:
        """Take the message that was waited for, then those behind it."""
        taken = super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has no types
        messages = self._take()
        try:
            while messages:
                queue, message = messages.pop(0)
                self.connection._deliver(message, queue)  # noqa: SLF001  # as kombu's own pop does
        finally:
            for _, message in messages:  # a delivery has failed, and the connection goes with it
                self.qos.recorded.discard(_tag(message))
                self.qos.restore_by_tag(_tag(message))  # type: ignore[no-untyped-call]  # kombu has no types
        return taken

    def _take(self) -> list[tuple[str, Any]]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        room = self.qos.room()
        if not queues or not room:
            return []
        lists = [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]  # type: ignore[no-untyped-call]  # same
        keys = [*lists, self.qos.unacked_index_key, self.qos.unacked_key]
        with self.conn_or_acquire() as client:
            reply = self._script(keys, [room, time.time()], client)
        messages: list[tuple[str, Any]] = []
        for list_, item, tag in reply:
            queue = bytes_to_str(list_).rsplit(self.sep, 1)[0]  # type: ignore[no-untyped-call]  # same
            if not is_message(item):
                _hand_over(self.sink, queue, item)
                self.qos.forget(bytes_to_str(tag))  # type: ignore[no-untyped-call]  # kombu has no types
                continue
            message = loads(bytes_to_str(item))  # type: ignore[no-untyped-call]  # kombu has no types
            if tag:
                self.qos.recorded.add(_tag(message))
            messages.append((queue, message))
        return messages

    def close(self) -> None:
        with suppress(Exception):  # what was not acknowledged comes again, to whom it has come before
            self.qos.send_acks()
        super().close()  # type: ignore[no-untyped-call]  # kombu has no types


class GuardedTransport(kombu_redis.Transport):
    """A transport of such channels."""

    Channel = GuardedChannel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]  # same
        hub_thread = threading.get_ident()

        def send_acks() -> None:
            for channel in filter(None, self.channels):
                channel.qos.hub_thread = hub_thread
                channel.qos.send_acks()

        stop_earlier = getattr(loop, STOP_ACKS, None)  # of a connection that was lost: a hub keeps what it was given
        if stop_earlier is not None:
            stop_earlier()
        loop.on_tick.add(send_acks)
        timer = loop.call_repeatedly(ACKS_SECONDS, send_acks)  # of a worker that drains, only the timers go on

        def stop() -> None:
            loop.on_tick.discard(send_acks)
            timer.cancel()

        setattr(loop, STOP_ACKS, stop)


def _tag(message: Any) -> str:
    return str(message["properties"]["delivery_tag"])


def _hand_over(sink: Sink, queue: str, item: bytes | str) -> None:
    try:
        sink(queue, item if isinstance(item, bytes) else str(item).encode())
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the worker
        log.error("message_not_kept", extra={"queue": queue, "error": type(error).__name__})


def _guard(parse_response: Callable[..., Any], separator: str, sink: Sink) -> Callable[..., Any]:
    def guarded(connection: Any, command_name: str, **options: Any) -> Any:
        reply = parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply or is_message(reply[1]):
            return reply
        key, item = reply
        queue = (key.decode() if isinstance(key, bytes) else str(key)).rsplit(separator, 1)[0]
        _hand_over(sink, queue, item)
        return None

    return guarded


def is_message(item: bytes | str) -> bool:
    """Whether a list item has the shape that kombu relies on."""
    try:
        payload = pydantic_core.from_json(item)
    except ValueError:
        return False
    properties = payload.get("properties") if isinstance(payload, dict) else None
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        return False
    info = properties.get("delivery_info")
    return (
        isinstance(info, dict)
        and {"exchange", "routing_key"} <= info.keys()
        and isinstance(payload.get("body"), str)
        and isinstance(payload.get("headers", {}), dict)
    )
