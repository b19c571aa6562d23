"""Foreign items on Celery's lists on a real Redis: a stock worker would die of them, or lose them."""

import base64
import json

import pytest
from celery import Celery
from kombu.messaging import Producer

from schemas.outcome import DeadReason
from schemas.records import DeadLetter
from tests.eventually import eventually
from tests.integration.ingest_process import ingest_process
from tests.integration.ingest_stack import CELERY_QUEUE, IngestStack, ingest_stack
from workers.ingest.redis_transport import is_message

pytestmark = pytest.mark.redis

MALFORMED: list[object] = [1, None, "x", [], {}, [[]], [[], [], {}], [3, {}, None], [["hi"], {}, 3], {"args": 3}]
"""Bodies that no Celery makes. Of most of them a stock worker dies, and so does the next one that gets the message."""

JUNK = [b"hello", b'{"specversion": "1.0", "id": "1"}', b"\xff\xfe", b"[]", b'{"properties": {}}']


async def buried(stack: IngestStack, count: int) -> list[DeadLetter]:
    async def enough() -> list[DeadLetter]:
        letters = await stack.letters()
        return letters if len(letters) >= count else []

    return await eventually(enough, within=10)


async def test_foreign_items_are_kept_and_the_worker_goes_on(redis_url: str, prefix: str) -> None:
    sender = Celery("sender", broker=redis_url, set_as_current=False)
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", redis_url, redis_url, prefix) as worker:
            for item in JUNK:
                await stack.state.lpush(CELERY_QUEUE, item)
            letters = await buried(stack, len(JUNK))
            with sender.connection_for_write() as connection:
                sender.send_task("echo", ["hi"], queue=CELERY_QUEUE, connection=connection)
            assert await eventually(lambda: stack.state.lrange(f"{prefix}:echo", 0, -1)) == [b"hi"]
            assert worker.poll() is None
    assert sorted(base64.b64decode(letter.body or "") for letter in letters) == sorted(JUNK)
    assert {(letter.reason, letter.source) for letter in letters} == {(DeadReason.INVALID, f"queue {CELERY_QUEUE}")}


async def test_an_unknown_task_is_kept(redis_url: str, prefix: str) -> None:
    sender = Celery("sender", broker=redis_url, set_as_current=False)
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", redis_url, redis_url, prefix) as worker:
            with sender.connection_for_write() as connection:
                sender.send_task("nobody.knows", ["hi"], queue=CELERY_QUEUE, connection=connection)
            [letter] = await buried(stack, 1)
            assert worker.poll() is None
    kept = json.loads(base64.b64decode(letter.body or ""))
    assert kept["headers"]["task"] == "nobody.knows"
    assert "unknown task" in (letter.error or "")


async def test_task_messages_of_another_shape_are_kept_and_the_worker_goes_on(redis_url: str, prefix: str) -> None:
    sender = Celery("sender", broker=redis_url, set_as_current=False)
    async with ingest_stack(redis_url, prefix) as stack:
        with ingest_process("celery", redis_url, redis_url, prefix) as worker:
            with sender.connection_for_write() as connection, connection.channel() as channel:
                for body, headers in [*((body, {"id": "1"}) for body in MALFORMED), ([["hi"], {}, {}], {})]:
                    Producer(channel).publish(  # type: ignore[no-untyped-call]  # kombu has no types
                        body,
                        serializer="json",
                        routing_key=CELERY_QUEUE,
                        headers={"task": "echo", "lang": "py", **headers},
                    )
                letters = await buried(stack, len(MALFORMED) + 1)
                sender.send_task("echo", ["hi"], queue=CELERY_QUEUE, connection=connection)
            assert await eventually(lambda: stack.state.lrange(f"{prefix}:echo", 0, -1)) == [b"hi"]
            assert worker.poll() is None
    kept = [json.loads(base64.b64decode(letter.body or ""))["body"] for letter in letters]
    assert sorted(base64.urlsafe_b64decode(body).decode() for body in kept) == sorted(
        map(json.dumps, [*MALFORMED, [["hi"], {}, {}]])
    )
    assert {(letter.reason, letter.source) for letter in letters} == {(DeadReason.INVALID, f"queue {CELERY_QUEUE}")}


@pytest.mark.parametrize("item", JUNK)
def test_junk_is_told_from_messages(item: bytes) -> None:
    assert not is_message(item)


def test_a_message_of_kombu_is_one() -> None:
    info = {"exchange": "", "routing_key": "q"}
    properties = {"delivery_tag": "1", "delivery_info": info, "body_encoding": "base64"}
    assert is_message(json.dumps({"body": "e30=", "headers": {}, "properties": properties}))
