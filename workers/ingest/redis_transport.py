"""kombu's Redis transport, made safe against list items that are no message.

kombu pops an item and only then looks inside: one that is not its own raises out of the worker's main loop, which ends
the worker, and the item is gone. Here such an item is handed to a sink, and the queue goes on.
"""

import logging
from collections.abc import Callable
from typing import Any, cast

import pydantic_core
from kombu.transport import TRANSPORT_ALIASES, _transport_cache
from kombu.transport import redis as kombu_redis

log = logging.getLogger(__name__)

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
    """kombu's transport with the guard."""

    class GuardedChannel(kombu_redis.Channel):
        """A channel whose blocking pop answers "nothing" instead of an item that is no message."""

        _kept: Any = None

        def _create_client(self, asynchronous: bool = False) -> Any:
            if asynchronous:
                client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu has no types
                client.parse_response = _guard(client.parse_response, self.sep, sink)
                return client
            # kombu makes a client for each command, which costs more than the command; its pool is what changes
            if self._kept is None or self._kept.connection_pool is not self.pool:
                self._kept = super()._create_client()  # type: ignore[no-untyped-call]  # kombu has no types
            return self._kept

    class GuardedTransport(kombu_redis.Transport):
        Channel = GuardedChannel

    return GuardedTransport


def _guard(parse_response: Callable[..., Any], separator: str, sink: Sink) -> Callable[..., Any]:
    def guarded(connection: Any, command_name: str, **options: Any) -> Any:
        reply = parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply or is_message(reply[1]):
            return reply
        key, item = reply
        queue = (key.decode() if isinstance(key, bytes) else str(key)).rsplit(separator, 1)[0]
        try:
            sink(queue, item if isinstance(item, bytes) else str(item).encode())
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the worker
            log.error("message_not_kept", extra={"queue": queue, "error": type(error).__name__})
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
