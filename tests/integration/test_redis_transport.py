"""kombu's Redis transport as the workers use it, on a real Redis: nothing popped is lost, acks go out together."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu.asynchronous import Hub
from kombu.connection import Connection
from redis import Redis

from workers.ingest import redis_transport
from workers.ingest.redis_transport import STOP_ACKS, transport_class

pytestmark = pytest.mark.redis

PREFETCH = 10


class Bench:
    """A queue, a consumer with its own channel, and what they did."""

    def __init__(self, connection: Connection, redis: Redis, queue: str) -> None:
        self.connection, self.redis, self.queue = connection, redis, queue
        self.channel: Any = connection.channel()  # type: ignore[no-untyped-call]  # kombu has no types
        self.messages: list[Any] = []
        self.fails_at: int | None = None
        self.channel.basic_qos(0, PREFETCH, False)
        self.channel.basic_consume(queue, no_ack=False, callback=self._on_message, consumer_tag="c")

    def _on_message(self, message: Any) -> None:
        if message.payload == self.fails_at:
            raise RuntimeError("the consumer fails")
        self.messages.append(message)

    def drain(self) -> None:
        self.connection.drain_events(timeout=2)  # type: ignore[no-untyped-call]  # kombu has no types

    @property
    def bodies(self) -> list[Any]:
        return [message.payload for message in self.messages]

    @property
    def waiting(self) -> int:
        return int(self.redis.llen(self.queue))

    @property
    def unacked(self) -> set[str]:
        """The messages that the broker would give to somebody else; the index must name the same."""
        tags = {tag.decode() for tag in self.redis.hkeys("unacked")}  # type: ignore[union-attr]  # a sync client
        index = {tag.decode() for tag in self.redis.zrange("unacked_index", 0, -1)}  # type: ignore[union-attr]  # same
        assert tags == index
        return tags


@contextmanager
def bench(url: str, queue: str, *, junk: list[tuple[str, bytes]] | None = None) -> Iterator[Bench]:
    sunk = [] if junk is None else junk
    transport = transport_class(lambda name, item: sunk.append((name, item)))
    with Redis.from_url(url) as redis, Connection(url, transport=transport) as connection:  # type: ignore[no-untyped-call]
        yield Bench(connection, redis, queue)


def publish(url: str, queue: str, count: int) -> None:
    with Connection(url) as connection, connection.Producer() as producer:  # type: ignore[no-untyped-call]
        for number in range(count):
            producer.publish(number, routing_key=queue, serializer="json")


def test_what_waits_is_taken_together_and_in_order_up_to_the_prefetch(redis_url: str) -> None:
    publish(redis_url, "q", 3 * PREFETCH)
    with bench(redis_url, "q") as parts:
        parts.drain()
        assert parts.bodies == list(range(PREFETCH))
        assert parts.unacked == {message.delivery_tag for message in parts.messages}
        assert parts.waiting == 2 * PREFETCH


def test_what_a_dead_consumer_took_comes_back(redis_url: str) -> None:
    publish(redis_url, "q", 5)
    with bench(redis_url, "q") as parts:
        parts.drain()
        parts.messages[0].ack()
        assert len(parts.unacked) == 4
        for tag in parts.unacked:  # as kombu's sweep does with what was not acknowledged for long
            parts.channel.qos.restore_by_tag(tag)
        assert (parts.unacked, parts.waiting) == (set(), 4)


def test_a_consumer_that_fails_halfway_gives_the_rest_back(redis_url: str) -> None:
    publish(redis_url, "q", 6)
    with bench(redis_url, "q") as parts:
        parts.fails_at = 2
        with pytest.raises(RuntimeError, match="the consumer fails"):
            parts.drain()
        assert parts.bodies == [0, 1]
        assert (len(parts.unacked), parts.waiting) == (3, 3)  # the one that failed goes back with its connection
    with bench(redis_url, "q") as parts:
        parts.drain()
        assert sorted(parts.bodies) == [0, 1, 2, 3, 4, 5]


def test_junk_between_messages_goes_to_the_sink(redis_url: str) -> None:
    junk: list[tuple[str, bytes]] = []
    almost = json.dumps({"properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}}})
    with Redis.from_url(redis_url) as redis:
        publish(redis_url, "q", 1)
        redis.lpush("q", b"\xff not a message", "[" * 5000, almost)
        publish(redis_url, "q", 1)
    with bench(redis_url, "q", junk=junk) as parts:
        parts.drain()
        assert parts.bodies == [0, 0]
        assert [item[:5] for _, item in junk] == [b"\xff not", b"[[[[[", b'{"pro']
        assert parts.waiting == 0
        parts.channel.qos.send_acks()
        assert parts.unacked == {message.delivery_tag for message in parts.messages}


def test_acknowledgements_of_one_turn_of_the_hub_go_out_together(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(redis_url, "q", 5)
    monkeypatch.setattr(redis_transport, "ACKS_SECONDS", 0.05)
    hub = Hub()  # type: ignore[no-untyped-call]  # kombu has few types
    with bench(redis_url, "q") as parts:
        parts.connection.transport.register_with_event_loop(parts.connection.connection, hub)
        turns = hub.create_loop()  # type: ignore[no-untyped-call]  # same
        while len(parts.messages) < 5:
            next(turns)
        for message in parts.messages[:3]:
            message.ack()
        assert len(parts.unacked) == 5
        for _ in range(2):
            next(turns)
        assert parts.unacked == {message.delivery_tag for message in parts.messages[3:]}
        parts.messages[3].ack()  # a worker that drains does not turn its hub any more, but fires its timers
        while len(parts.unacked) > 1:
            hub.fire_timers()  # type: ignore[no-untyped-call]  # same
        parts.messages[4].ack()
    with Redis.from_url(redis_url) as redis:
        assert (redis.hlen("unacked"), redis.llen("q")) == (0, 0)  # closing sends what is left
    hub.close()  # type: ignore[no-untyped-call]  # same


def test_a_connection_that_is_made_anew_leaves_nothing_on_the_hub(redis_url: str) -> None:
    hub = Hub()  # type: ignore[no-untyped-call]  # kombu has few types
    with bench(redis_url, "q") as first, bench(redis_url, "q") as second:
        first.connection.transport.register_with_event_loop(first.connection.connection, hub)
        stop_first = getattr(hub, STOP_ACKS)
        second.connection.transport.register_with_event_loop(second.connection.connection, hub)
        assert [callback.__name__ for callback in hub.on_tick].count("send_acks") == 1
        assert getattr(hub, STOP_ACKS) is not stop_first
        timers = [scheduled.entry for scheduled in hub.timer.queue if "send_acks" in repr(scheduled.entry)]
        assert [timer.canceled for timer in timers].count(False) == 1
    hub.close()  # type: ignore[no-untyped-call]  # same
