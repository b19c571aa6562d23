"""The publisher without a broker: what is checked, filled in, cut, retried, batched; and how light it is."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from schemas.errors import EventTooLargeError, InvalidEventError
from schemas.events import parse_event
from tests.builders import NOW, create_event, feedback_event, message_event
from workers.errors import PublishError, SettingsError
from workers.publisher import Publisher
from workers.publisher.batcher import Batcher
from workers.publisher.prepare import Prepared, chunks, prepare, prepare_all
from workers.publisher.transport import BrokerAwayError, BrokerRefusedError, RetrySchedule, send_with_retries

LIMIT = 1_048_576
QUICK = RetrySchedule(total_seconds=1.0, base_seconds=0.001, cap_seconds=0.002)


class RememberedSends:
    """A transport that remembers, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent: list[Prepared] = []
        self.sizes: list[int] = []
        self.closed = False

    def send(self, batch: Sequence[Prepared], *, timeout_seconds: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.sent += batch
        self.sizes.append(len(batch))

    def close(self) -> None:
        self.closed = True


def publisher_over(transport: RememberedSends, **options: float) -> Publisher:
    publisher = Publisher("redis://127.0.0.1:1/0", **options)  # type: ignore[arg-type]  # floats only
    publisher._transport = transport
    return publisher


def prepared(count: int) -> list[Prepared]:
    return [prepare(feedback_event("thr_1"), now=NOW, max_bytes=LIMIT) for _ in range(count)]


def test_importing_the_publisher_loads_no_worker_no_sql_and_no_agents() -> None:
    program = "import sys, workers.publisher; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "workers.publisher" in loaded
    assert not {"celery", "sqlalchemy", "agents", "openai", "chatkit.server", "fastapi"} & set(loaded)


def test_publishing_tells_the_ids_that_the_system_will_use() -> None:
    event = create_event()
    published = publisher_over(RememberedSends()).publish(event)
    assert (published.id, published.thread_id) == (event.event_id, event.thread_id)


def test_a_missing_time_is_filled_in_and_nothing_else_is_touched() -> None:
    event = feedback_event("thr_1", partitionkey="p1")
    sent = parse_event(prepare(event, now=NOW, max_bytes=LIMIT).body)
    assert sent.time == NOW
    assert sent == event.model_copy(update={"time": NOW})


def test_a_given_time_is_kept() -> None:
    event = feedback_event("thr_1", time="2020-01-01T00:00:00Z")
    assert parse_event(prepare(event, now=NOW, max_bytes=LIMIT).body).time == event.time


def test_dicts_strings_bytes_and_events_are_the_same_event() -> None:
    event = feedback_event("thr_1", time="2020-01-01T00:00:00Z")
    text = event.to_json()
    forms = [prepare(form, now=NOW, max_bytes=LIMIT) for form in (event, text, text.encode(), json.loads(text))]
    assert {(form.published.id, form.body) for form in forms} == {(event.event_id, text.encode())}


def test_an_invalid_event_is_refused_before_anything_is_sent() -> None:
    transport = RememberedSends()
    with pytest.raises(InvalidEventError) as caught:
        publisher_over(transport).publish({"specversion": "1.0", "id": "1"})
    assert {problem.field for problem in caught.value.problems} >= {"source", "type", "userid", "data"}
    assert transport.sent == []


def test_an_object_that_is_too_large_is_refused() -> None:
    event = message_event("thr_1", text="x" * 2_000).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(EventTooLargeError):
        prepare(event, now=NOW, max_bytes=1_500)


def test_one_wrong_event_of_many_stops_them_all_and_is_named_by_its_place() -> None:
    transport = RememberedSends()
    with pytest.raises(InvalidEventError) as caught:
        publisher_over(transport).publish_many([feedback_event("thr_1"), "{}", b"nonsense"])
    fields = {problem.field for problem in caught.value.problems}
    assert "events[1].id" in fields
    assert "events[2].event" in fields
    assert transport.sent == []


def test_an_error_about_thousands_of_wrong_events_stays_readable() -> None:
    with pytest.raises(InvalidEventError) as caught:
        prepare_all(["nonsense"] * 1_000, now=NOW, max_bytes=LIMIT)
    assert len(caught.value.problems) == 21
    assert "980 more" in str(caught.value)


def test_many_events_are_sent_in_bounded_chunks_in_order() -> None:
    transport = RememberedSends()
    events = [feedback_event("thr_1") for _ in range(1_100)]
    published = publisher_over(transport).publish_many(events)
    assert transport.sizes == [500, 500, 100]
    assert [item.published.id for item in transport.sent] == [event.event_id for event in events]
    assert [item.id for item in published] == [event.event_id for event in events]


def test_chunks_are_bounded_in_bytes_too() -> None:
    large = [Prepared(item.published, item.type, b"x" * 3_000_000) for item in prepared(3)]
    assert [len(chunk) for chunk in chunks(large)] == [1, 1, 1]
    assert list(chunks([])) == []


def test_a_broker_that_comes_back_gets_the_event() -> None:
    transport = RememberedSends(BrokerAwayError("gone"), BrokerAwayError("gone"))
    send_with_retries(transport, prepared(1), QUICK)
    assert transport.sizes == [1]


def test_a_broker_that_stays_away_is_an_error_in_bounded_time() -> None:
    transport = RememberedSends(*[BrokerAwayError("gone")] * 10_000)
    begun = time.monotonic()
    with pytest.raises(PublishError, match="no broker after"):
        send_with_retries(transport, prepared(1), RetrySchedule(total_seconds=0.2, base_seconds=0.01))
    assert time.monotonic() - begun < 1.0


def test_a_refusal_is_not_retried() -> None:
    transport = RememberedSends(BrokerRefusedError("wrong password"))
    with pytest.raises(PublishError, match="wrong password"):
        send_with_retries(transport, prepared(1), QUICK)
    assert transport.failures == []


def test_pauses_grow_and_keep_a_floor_of_half_the_interval() -> None:
    least = RetrySchedule(10.0, random=lambda: 0.0)
    most = RetrySchedule(10.0, random=lambda: 1.0)
    assert [least.pause_seconds(n) for n in (1, 2, 3, 100)] == [0.025, 0.05, 0.1, 0.5]
    assert [most.pause_seconds(n) for n in (1, 2, 3, 100)] == [0.05, 0.1, 0.2, 1.0]


def test_an_unknown_scheme_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="redis, rediss, amqp and amqps"):
        Publisher("http://127.0.0.1")


def test_lingering_events_go_out_together_and_flush_confirms_them() -> None:
    transport = RememberedSends()
    with publisher_over(transport, linger_seconds=5.0) as publisher:
        events = [feedback_event("thr_1") for _ in range(20)]
        for event in events:
            publisher.publish(event)
        assert transport.sent == []
        publisher.flush()
        assert transport.sizes == [20]
        assert [item.published.id for item in transport.sent] == [event.event_id for event in events]
    assert transport.closed


def test_lingering_events_go_out_by_themselves_after_the_linger_time() -> None:
    transport = RememberedSends()
    with publisher_over(transport, linger_seconds=0.02) as publisher:
        publisher.publish(feedback_event("thr_1"))
        deadline = time.monotonic() + 5
        while not transport.sent and time.monotonic() < deadline:
            time.sleep(0.005)
        assert transport.sizes == [1]


def test_closing_sends_what_lingers() -> None:
    transport = RememberedSends()
    publisher = publisher_over(transport, linger_seconds=60.0)
    publisher.publish(feedback_event("thr_1"))
    publisher.close()
    assert transport.sizes == [1]


def test_what_lingered_and_failed_is_raised_by_flush_once() -> None:
    publisher = publisher_over(RememberedSends(BrokerRefusedError("no")), linger_seconds=60.0)
    publisher.publish(feedback_event("thr_1"))
    publisher.publish(feedback_event("thr_1"))
    with pytest.raises(PublishError, match="2 events were not sent"):
        publisher.flush()
    publisher.flush()
    publisher.close()


def test_events_behind_a_failed_batch_do_not_overtake_it() -> None:
    sizes: list[int] = []
    begun, fail = threading.Event(), threading.Event()

    def send(batch: Sequence[Prepared]) -> None:
        sizes.append(len(batch))
        begun.set()
        assert fail.wait(5)
        raise PublishError("gone")

    batcher = Batcher(send, linger_seconds=0.0, max_batch=1)
    first = batcher.put(prepared(1))
    assert begun.wait(5)
    behind = batcher.put(prepared(3))
    fail.set()
    assert all(isinstance(future.exception(5), PublishError) for future in [*first, *behind])
    assert sizes == [1]
    batcher.close()


async def test_concurrent_async_publishing_shares_round_trips() -> None:
    transport = RememberedSends()
    publisher = publisher_over(transport)
    events = [feedback_event(f"thr_{number}") for number in range(300)]
    published = await asyncio.gather(*(publisher.apublish(event) for event in events))
    assert [item.id for item in published] == [event.event_id for event in events]
    assert len(transport.sizes) < 300
    publisher.close()


async def test_async_publishing_raises_what_went_wrong_at_its_caller() -> None:
    publisher = publisher_over(RememberedSends(BrokerRefusedError("no")))
    with pytest.raises(PublishError):
        await publisher.apublish(feedback_event("thr_1"))
    await publisher.apublish(feedback_event("thr_1"))
    publisher.close()


async def test_many_events_can_be_published_from_asyncio() -> None:
    transport = RememberedSends()
    publisher = publisher_over(transport)
    events = [feedback_event("thr_1") for _ in range(700)]
    await publisher.apublish_many(events)
    assert [item.published.id for item in transport.sent] == [event.event_id for event in events]
    publisher.close()


async def test_a_closed_publisher_publishes_no_more() -> None:
    publisher = publisher_over(RememberedSends())
    publisher.close()
    publisher.close()
    with pytest.raises(PublishError, match="closed"):
        publisher.publish(feedback_event("thr_1"))
    with pytest.raises(PublishError, match="closed"):
        await publisher.apublish(feedback_event("thr_1"))
