"""The stream on a real Redis: order, takeover, junk, outages."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.outcome import DeadReason
from tests import services
from tests.builders import create_event, feedback_event, message_event
from tests.eventually import eventually
from tests.integration.ingest_process import ingest_process
from tests.integration.ingest_stack import IngestStack, ingest_stack
from workers.ingest.drain_lease import DrainLease
from workers.ingest.ingress import Ingress, connect_ingress
from workers.ingest.letters import MAX_KEPT_BYTES
from workers.publisher import Publisher

pytestmark = pytest.mark.redis


@asynccontextmanager
async def draining(ingress: Ingress) -> AsyncIterator[None]:
    """The drain, running beside the test."""
    task = asyncio.create_task(ingress.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ran(stack: IngestStack, count: int) -> list[str]:
    """The event ids that ran, once they are that many."""

    async def enough() -> list[str]:
        ids = await stack.runs.ran()
        return ids if len(ids) >= count else []

    return await eventually(enough, within=20)


async def left(stack: IngestStack) -> int:
    return int(await stack.state.xlen(stack.keys.ingress))


async def emptied(stack: IngestStack) -> bool:
    return await left(stack) == 0


async def test_what_is_published_runs_in_order_per_thread_and_leaves_the_stream_empty(
    redis_url: str, prefix: str
) -> None:
    events = [feedback_event(f"thr_{number % 7}") for number in range(700)]
    async with ingest_stack(redis_url, prefix) as stack, draining(stack.ingress(redis_url)):
        with Publisher(redis_url, prefix=prefix) as publisher:
            await publisher.apublish_many(events)
        ids = await ran(stack, len(events))
        await eventually(lambda: emptied(stack))
    assert len(ids) == len(set(ids)) == len(events)
    for thread in range(7):
        published = [event.event_id for event in events[thread::7]]
        assert [id_ for id_ in ids if id_ in set(published)] == published


async def test_a_turn_is_accepted_and_woken_but_not_run(redis_url: str, prefix: str) -> None:
    event = create_event()
    async with ingest_stack(redis_url, prefix) as stack, draining(stack.ingress(redis_url)):
        with Publisher(redis_url, prefix=prefix) as publisher:
            await publisher.apublish(event)
        assert await eventually(stack.runs.woken) == [event.event_id]
        assert await stack.runs.ran() == []


async def test_a_published_event_is_taken_within_milliseconds_after_a_quiet_time(redis_url: str, prefix: str) -> None:
    async with ingest_stack(redis_url, prefix) as stack, draining(stack.ingress(redis_url)):
        await asyncio.sleep(1.2)  # longer than one blocking read
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await stack.state.xadd(stack.keys.ingress, {"event": feedback_event("thr_1").to_json()})
        await ran(stack, 1)
        assert loop.time() - begun < 0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"event": b"hello"}, "is not JSON"),
        ({"event": b"\xff\xfe\xfd"}, "is not UTF-8"),
        ({"event": b"x" * 1_100_000}, "at most"),
        ({"event": b'{"specversion":"1.0"}'}, "id"),
        ({"other": b"1"}, "no field 'event'"),
    ],
)
async def test_junk_is_kept_with_its_reason_and_the_queue_goes_on(
    redis_url: str, prefix: str, fields: dict[str, bytes], words: str
) -> None:
    good = feedback_event("thr_1")
    async with ingest_stack(redis_url, prefix) as stack, draining(stack.ingress(redis_url)):
        await stack.state.xadd(stack.keys.ingress, fields)  # type: ignore[arg-type]  # a dict's key type is invariant
        await stack.state.xadd(stack.keys.ingress, {"event": good.to_json()})
        assert await ran(stack, 1) == [good.event_id]
        await eventually(lambda: emptied(stack))
        [letter] = await stack.letters()
    assert letter.reason is DeadReason.INVALID
    assert words in (letter.error or "")
    if "event" in fields:
        assert base64.b64decode(letter.body or "") == fields["event"][:MAX_KEPT_BYTES]


async def test_an_event_for_a_full_lane_is_kept_as_overflow(redis_url: str, prefix: str) -> None:
    events = [message_event("thr_1") for _ in range(3)]
    async with ingest_stack(redis_url, prefix, lane=2) as stack, draining(stack.ingress(redis_url)):
        with Publisher(redis_url, prefix=prefix) as publisher:
            await publisher.apublish_many(events)
        await eventually(lambda: emptied(stack))
        [letter] = await stack.letters()
    assert (letter.id, letter.reason) == (events[2].event_id, DeadReason.OVERFLOW)


async def test_a_full_system_leaves_what_it_cannot_take_in_the_stream(redis_url: str, prefix: str) -> None:
    events = [message_event("thr_1") for _ in range(3)]
    async with ingest_stack(redis_url, prefix, system=4) as stack, draining(stack.ingress(redis_url)):
        with Publisher(redis_url, prefix=prefix) as publisher:
            await publisher.apublish_many(events)
        await eventually(stack.runs.woken)
        await asyncio.sleep(0.2)
        assert await left(stack) >= 2
        numbers = await stack.acceptances([event.event_id for event in events])
        assert [number > 0 for number in numbers] == [True, False, False]
        assert await stack.letters() == []


async def test_only_one_of_two_drains_at_a_time_and_the_other_takes_over_when_it_stops(
    redis_url: str, prefix: str
) -> None:
    async with ingest_stack(redis_url, prefix) as stack:
        async with draining(stack.ingress(redis_url, "w1")), draining(stack.ingress(redis_url, "w2")):
            await eventually(lambda: stack.state.get(f"{stack.keys.ingress}:lease"))
        async with draining(stack.ingress(redis_url, "w3")):
            await stack.state.xadd(stack.keys.ingress, {"event": feedback_event("thr_1").to_json()})
            await ran(stack, 1)
            assert await stack.state.get(f"{stack.keys.ingress}:lease") == b"w3"


async def test_the_lease_has_one_owner_under_a_race_and_goes_back_only_from_its_owner(
    redis_url: str, prefix: str
) -> None:
    client = connect_ingress(redis_url)
    leases = [DrainLease(client, f"{prefix}:lease", f"w{number}", timedelta(seconds=5)) for number in range(20)]
    held = await asyncio.gather(*(lease.hold() for lease in leases))
    assert held.count(True) == 1
    owner = leases[held.index(True)]
    for lease in leases:
        if lease is not owner:
            await lease.release()
    assert await owner.hold()
    await owner.release()
    assert await leases[0].hold()
    await client.aclose()


async def test_killing_the_drain_in_the_middle_loses_nothing_and_doubles_nothing(redis_url: str, prefix: str) -> None:
    events = [feedback_event(f"thr_{number % 5}", id=f"{prefix}-{number}") for number in range(3_000)]
    with ingest_process("drain", redis_url, prefix, "victim") as victim:
        async with ingest_stack(redis_url, prefix) as stack:
            with Publisher(redis_url, prefix=prefix) as publisher:
                await publisher.apublish_many(events)
            await ran(stack, 300)
            victim.kill()
            async with draining(stack.ingress(redis_url, "heir")):
                await eventually(lambda: emptied(stack), within=20)
            acceptances = await stack.acceptances([event.event_id for event in events])
    assert 0 not in acceptances
    for thread in range(5):
        numbers = acceptances[thread::5]
        assert numbers == sorted(set(numbers)), "accepted in the order of publishing, each once"


async def test_the_same_event_over_several_ways_at_once_is_accepted_once(redis_url: str, prefix: str) -> None:
    event = feedback_event("thr_1")
    async with ingest_stack(redis_url, prefix) as stack, draining(stack.ingress(redis_url)):
        with Publisher(redis_url, prefix=prefix) as publisher:
            submissions = [stack.intake.submit([event]) for _ in range(40)]
            raws = [stack.admission.admit([event.to_json().encode()], source="test") for _ in range(30)]
            published = [publisher.apublish(event) for _ in range(30)]
            answers, *_ = await asyncio.gather(
                asyncio.gather(*submissions), asyncio.gather(*raws), asyncio.gather(*published)
            )
        await eventually(lambda: emptied(stack))
        assert {answer.acceptance for [answer] in answers if not hasattr(answer, "reason")} == {1}
        assert await stack.runs.ran() == [event.event_id]


async def test_a_redis_that_restarts_and_one_that_forgets_everything_are_survived(tmp_path: Path, prefix: str) -> None:
    server = services.RedisServer(tmp_path).start()
    try:
        async with ingest_stack(server.url, prefix) as stack, draining(stack.ingress(server.url)):
            await stack.state.xadd(stack.keys.ingress, {"event": feedback_event("thr_1").to_json()})
            await ran(stack, 1)
            server.kill()
            await asyncio.sleep(0.2)
            server.start()
            again = feedback_event("thr_1")
            await eventually(lambda: _added(stack, again.to_json()), within=20)
            assert await ran(stack, 1) == [again.event_id]
            await stack.state.flushall()
            third = feedback_event("thr_1")
            await _added(stack, third.to_json())
            assert await ran(stack, 1) == [third.event_id]
    finally:
        server.stop()


async def _added(stack: IngestStack, body: str) -> bool:
    return bool(await stack.state.xadd(stack.keys.ingress, {"event": body}))
