"""Plain JSON on a real RabbitMQ, taken by a real Celery worker process."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu.connection import Connection

from schemas.outcome import DeadReason
from schemas.records import DeadLetter
from tests.builders import feedback_event
from tests.eventually import eventually
from tests.integration.ingest_process import ingest_process
from tests.integration.ingest_stack import CELERY_QUEUE, IngestStack, ingest_stack
from tests.integration.tcp_proxy import TcpProxy
from workers.publisher import Publisher
from workers.publisher.amqp import declare
from workers.publisher.topology import EVENTS_EXCHANGE, PLAIN_QUEUE

pytestmark = [pytest.mark.redis, pytest.mark.rabbitmq]


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    """A channel of an upstream service. The queues are empty."""
    confirmed = {"confirm_publish": True}  # a quorum queue promises nothing without
    with Connection(rabbitmq_url, transport_options=confirmed) as connection:  # type: ignore[no-untyped-call]
        channel = connection.channel()
        declare(channel)
        channel.queue_purge(PLAIN_QUEUE.name)
        yield channel


def put(channel: Any, body: bytes, exchange: str = EVENTS_EXCHANGE.name, key: str = "any", **properties: Any) -> None:
    """Publish raw bytes, as any AMQP client would."""
    message = channel.prepare_message(body, properties={"delivery_mode": 2}, **properties)
    channel.basic_publish(message, exchange=exchange, routing_key=key)


async def ran(stack: IngestStack, count: int) -> list[str]:
    async def enough() -> list[str]:
        ids = await stack.runs.ran()
        return ids if len(ids) >= count else []

    return await eventually(enough, within=20)


async def buried(stack: IngestStack, count: int = 1) -> list[DeadLetter]:
    async def enough() -> list[DeadLetter]:
        letters = await stack.letters()
        return letters if len(letters) >= count else []

    return await eventually(enough, within=10)


async def test_published_events_run_in_order_per_thread(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    events = [feedback_event(f"thr_{number % 5}") for number in range(1_000)]
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", rabbitmq_url, redis_url, prefix), Publisher(rabbitmq_url) as publisher:
            await publisher.apublish_many(events)
            ids = await ran(stack, len(events))
    assert len(ids) == len(set(ids)) == len(events)
    for thread in range(5):
        published = [event.event_id for event in events[thread::5]]
        assert [id_ for id_ in ids if id_ in set(published)] == published


async def test_junk_is_kept_and_the_queue_and_its_worker_go_on(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    junk = [b"hello", b"\xff\xfe", b"{}", b"[]", b""]
    good = feedback_event("thr_1")
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", rabbitmq_url, redis_url, prefix) as worker:
            for body in junk:
                put(channel, body)
            put(channel, b"\xff\xfe\xfd", content_type="application/json", content_encoding="utf-8")
            put(channel, b"not zipped", headers={"compression": "application/x-gzip"})
            put(channel, good.to_json().encode(), key="")
            assert await ran(stack, 1) == [good.event_id]
            letters = await buried(stack, 7)
            assert worker.poll() is None
    assert {letter.reason for letter in letters} == {DeadReason.INVALID}
    bodies = [base64.b64decode(letter.body or "") for letter in letters]
    assert sorted(bodies) == sorted([*junk, b"\xff\xfe\xfd", b"not zipped"])


async def test_killing_the_consumer_in_the_middle_loses_nothing_and_keeps_the_order(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    events = [feedback_event(f"thr_{number % 5}") for number in range(2_000)]
    async with ingest_stack(redis_url, prefix) as stack:
        with Publisher(rabbitmq_url) as publisher:
            await publisher.apublish_many(events)
        with ingest_process("celery", rabbitmq_url, redis_url, prefix) as victim:
            await ran(stack, 200)
            victim.kill()
        with ingest_process("celery", rabbitmq_url, redis_url, prefix):
            await eventually(lambda: stack.all_accepted([event.event_id for event in events]), within=20)
        numbers = await stack.acceptances([event.event_id for event in events])
    for thread in range(5):
        assert numbers[thread::5] == sorted(set(numbers[thread::5]))


async def test_a_connection_that_is_cut_again_and_again_costs_no_event_and_no_worker(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    events = [feedback_event(f"thr_{number % 5}") for number in range(900)]
    port = urlsplit(rabbitmq_url).port or 5672
    async with ingest_stack(redis_url, prefix) as stack:
        with TcpProxy(port) as proxy:
            through = rabbitmq_url.replace(f":{port}", f":{proxy.port}", 1)
            with ingest_process("celery", through, redis_url, prefix) as worker, Publisher(rabbitmq_url) as publisher:
                before = proxy.connections
                for part in range(3):
                    await publisher.apublish_many(events[part * 300 : part * 300 + 300])
                    proxy.cut()
                # Celery waits for seconds between its attempts to connect
                await eventually(lambda: stack.all_accepted([event.event_id for event in events]), within=60)
                assert worker.poll() is None
                assert proxy.connections > before
        numbers = await stack.acceptances([event.event_id for event in events])
    for thread in range(5):
        assert numbers[thread::5] == sorted(set(numbers[thread::5]))


async def test_what_celery_would_drop_is_kept_and_tasks_go_on(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", rabbitmq_url, redis_url, prefix) as worker:
            for kind in ("plain", "not json", "unknown task"):
                _send_to_celery(channel, kind)
            letters = await buried(stack, 3)
            _send_to_celery(channel, "echo")
            await eventually(lambda: stack.state.lrange(f"{prefix}:echo", 0, -1))
            assert worker.poll() is None
    errors = sorted(letter.error or "" for letter in letters)
    assert [error.partition(":")[0] for error in errors] == [
        "the message cannot be decoded",
        "the message is no task message",
        "the message names an unknown task",
    ]
    assert {letter.source for letter in letters} == {f"queue {CELERY_QUEUE}"}


def _send_to_celery(channel: Any, kind: str) -> None:
    """A message on the queue of Celery's tasks."""
    headers = {
        "lang": "py",
        "id": kind,
        "task": "echo" if kind == "echo" else "nobody.knows",
        "argsrepr": "",
        "root_id": kind,
    }
    body = b'[["hi"], {}, {}]' if kind in ("echo", "unknown task") else b'{"a": 1}' if kind == "plain" else b"junk"
    put(
        channel,
        body,
        exchange="chatkit.tasks",
        key=CELERY_QUEUE,
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers if kind in ("echo", "unknown task") else {},
    )


async def test_what_comes_after_a_worker_stopped_is_taken_by_the_next_one_and_nothing_twice(
    rabbitmq_url: str, redis_url: str, prefix: str, channel: Any
) -> None:
    first, second = feedback_event("thr_1"), feedback_event("thr_1")
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", rabbitmq_url, redis_url, prefix) as worker:
            put(channel, first.to_json().encode())
            await ran(stack, 1)
            worker.terminate()
            assert await asyncio.to_thread(worker.wait, 20) == 0
        put(channel, second.to_json().encode())
        with ingest_process("celery", rabbitmq_url, redis_url, prefix):
            assert await ran(stack, 2) == [first.event_id, second.event_id]
