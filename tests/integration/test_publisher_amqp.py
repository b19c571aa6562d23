"""The publisher against a real RabbitMQ: plain JSON, persistent, confirmed."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu.connection import Connection
from kombu.messaging import Consumer

from tests.builders import feedback_event
from tests.integration.tcp_proxy import TcpProxy
from workers.errors import PublishError
from workers.publisher import Publisher
from workers.publisher.topology import PLAIN_QUEUE

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    """A channel beside the publisher's. The queue is emptied before and after."""
    with Connection(rabbitmq_url) as connection:  # type: ignore[no-untyped-call]  # kombu has no types
        plain: Any = PLAIN_QUEUE(connection.default_channel)
        plain.declare()
        plain.purge()
        yield connection.default_channel
        PLAIN_QUEUE(connection.channel()).purge()  # type: ignore[no-untyped-call]  # a test may have lost the first one


def messages_of(channel: Any, count: int) -> list[Any]:
    """Consumes that many messages. (A quorum queue with a single active consumer answers no basic.get.)"""
    messages: list[Any] = []
    consumer: Any = Consumer(  # type: ignore[no-untyped-call]  # kombu has no types
        channel.connection.channel(), [PLAIN_QUEUE], on_message=messages.append, no_ack=True
    )
    with consumer:
        while len(messages) < count:
            channel.connection.drain_events(timeout=5)
    return messages


def ids_of(messages: list[Any]) -> list[str]:
    return [json.loads(message.body)["id"] for message in messages]


def proxy_of(url: str) -> TcpProxy:
    return TcpProxy(urlsplit(url).port or 5672)


def through(proxy: TcpProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}", 1)


def test_events_arrive_as_plain_persistent_json_in_the_order_of_publishing(rabbitmq_url: str, channel: Any) -> None:
    events = [feedback_event("thr_1", id=str(number)) for number in range(620)]
    with Publisher(rabbitmq_url) as publisher:
        publisher.publish(events[0])
        publisher.publish_many(events[1:])
    messages = messages_of(channel, 620)
    assert ids_of(messages) == [event.id for event in events]
    first = messages[0]
    assert first.content_type == "application/cloudevents+json"
    assert first.properties["delivery_mode"] == 2
    assert first.properties["message_id"] == events[0].event_id
    assert first.delivery_info["routing_key"] == events[0].type


def test_a_stopped_broker_is_an_error_in_bounded_time(free_port: int) -> None:
    begun = time.monotonic()
    publisher = Publisher(f"amqp://guest:guest@127.0.0.1:{free_port}//", timeout_seconds=0.5)
    with publisher, pytest.raises(PublishError, match="no broker after"):
        publisher.publish(feedback_event("thr_1"))
    assert time.monotonic() - begun < 3


def test_a_connection_that_is_cut_is_made_anew(rabbitmq_url: str, channel: Any) -> None:
    with proxy_of(rabbitmq_url) as proxy, Publisher(through(proxy, rabbitmq_url)) as publisher:
        publisher.publish(feedback_event("thr_1", id="1"))
        proxy.cut()
        publisher.publish(feedback_event("thr_1", id="2"))
    assert ids_of(messages_of(channel, 2)) == ["1", "2"]


def test_a_half_open_connection_is_given_up_in_bounded_time(rabbitmq_url: str, channel: Any) -> None:
    with proxy_of(rabbitmq_url) as proxy, Publisher(through(proxy, rabbitmq_url), timeout_seconds=1.0) as publisher:
        publisher.publish(feedback_event("thr_1", id="1"))
        proxy.freeze()
        begun = time.monotonic()
        with pytest.raises(PublishError):
            publisher.publish(feedback_event("thr_1", id="2"))
        assert time.monotonic() - begun < 5
        proxy.thaw()
        publisher.publish(feedback_event("thr_1", id="3"))
    # the second one was refused to its publisher, but may be there: the frozen bytes flowed on
    assert ids_of(messages_of(channel, 2))[0] == "1"


def test_a_wrong_password_is_refused_at_once(rabbitmq_url: str) -> None:
    parts = urlsplit(rabbitmq_url)
    wrong = f"amqp://guest:wrong@{parts.hostname}:{parts.port}{parts.path}"
    with Publisher(wrong, timeout_seconds=5.0) as publisher, pytest.raises(PublishError, match="refused"):
        publisher.publish(feedback_event("thr_1"))


def test_a_queue_that_was_deleted_is_declared_again_and_the_event_is_in_it(rabbitmq_url: str, channel: Any) -> None:
    with Publisher(rabbitmq_url) as publisher:
        publisher.publish(feedback_event("thr_1", id="1"))
        PLAIN_QUEUE(channel).delete()  # type: ignore[no-untyped-call]  # kombu has no types
        publisher.publish(feedback_event("thr_1", id="2"))
    assert ids_of(messages_of(channel, 1)) == ["2"]
