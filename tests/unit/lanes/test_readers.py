"""A turn whose last reader has been gone for the grace is stopped; whoever comes back in time saves it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import CancelReason, EventState
from tests.builders import message_event
from tests.lane_builders import FRAME, Deployment, done, event, parked
from workers.lanes.readers import BEAT, GONE_AFTER, LIMIT, Abandoned, Readers
from workers.lanes.records import Append, Wake

GRACE = timedelta(seconds=30)
MOMENT = timedelta(milliseconds=1)


def message(thread: str = "thr_1") -> Event:
    return message_event(thread, tenant="acme")


@dataclass
class Stage:
    """Two gateways, and the workers' look at what nobody reads."""

    deployment: Deployment
    here: Readers
    there: Readers
    wakes: list[Wake] = field(default_factory=list)
    out_of_line: list[str] = field(default_factory=list)

    def reads(self, item: Event, gateway: Readers | None = None) -> AbstractContextManager[None]:
        return (gateway or self.here).event(item.lane, item.event_id)

    async def told(self) -> None:
        await self.here.tell()
        await self.there.tell()

    async def passes(self, duration: timedelta) -> None:
        """Time passes, while both gateways live."""
        while duration > timedelta(0):
            step = min(duration, BEAT)
            self.deployment.clock.turn(step)
            duration -= step
            await self.here.beat()
            await self.there.beat()
            await self.told()
            await self.stop()

    async def stop(self) -> None:
        await self._abandoned().stop()

    def _abandoned(self) -> Abandoned:
        async def wake(wakes: Sequence[Wake]) -> None:
            self.wakes += wakes

        return Abandoned(
            self.deployment.state,
            self.deployment.keys,
            grace=GRACE,
            retention=timedelta(days=1),
            wake=wake,
            leave_line=self.out_of_line.extend,
            clock=self.deployment.clock,
        )

    async def state_of(self, item: Event) -> tuple[EventState, str | None]:
        found = await self.deployment.lanes.status(item.event_id)
        assert found is not None
        return found[0].state, found[0].reason


@pytest.fixture
def stage(deployment: Deployment) -> Stage:
    def gateway(name: str) -> Readers:
        return Readers(deployment.state, deployment.keys, name=name, clock=deployment.clock)

    return Stage(deployment, gateway("g1"), gateway("g2"))


async def test_a_running_turn_is_stopped_when_its_last_reader_has_been_gone_for_the_grace(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item):
        await stage.told()
        await stage.deployment.lanes.append([Append(lease, 1, [FRAME])])
        await stage.passes(2 * GRACE)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]
    await stage.told()
    await stage.passes(GRACE - MOMENT)
    assert await stage.deployment.lanes.renew([lease]) == ["held"]
    await stage.passes(MOMENT)
    assert await stage.deployment.lanes.renew([lease]) == [CancelReason.DISCONNECTED]
    assert stage.out_of_line == [item.event_id]


async def test_a_reader_that_comes_back_in_time_to_any_gateway_saves_it(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item):
        await stage.told()
    await stage.told()
    await stage.passes(GRACE - MOMENT)
    with stage.reads(item, stage.there):
        await stage.told()
        await stage.passes(2 * GRACE)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]
    await stage.told()
    await stage.passes(GRACE)
    assert await stage.deployment.lanes.renew([lease]) == [CancelReason.DISCONNECTED]


async def test_the_last_of_many_readers_counts_wherever_they_are(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item, stage.there):
        with stage.reads(item), stage.reads(item):
            await stage.told()
        await stage.told()
        await stage.passes(2 * GRACE)
    await stage.passes(GRACE - MOMENT)
    assert await stage.deployment.lanes.renew([lease]) == ["held"]


async def test_a_turn_that_never_had_a_reader_goes_on(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    await stage.passes(10 * GRACE)
    assert await stage.deployment.lanes.renew([lease]) == ["held"]


async def test_a_turn_that_waits_ends_and_the_next_one_is_woken(stage: Stage) -> None:
    waiting, following = message(), message()
    lease = await stage.deployment.started(waiting, following)
    await stage.deployment.lanes.settle([parked(lease, timedelta(hours=1))])
    with stage.reads(waiting):
        await stage.told()
    await stage.told()
    await stage.passes(GRACE)
    assert await stage.state_of(waiting) == (EventState.CANCELLED, "disconnected")
    assert [wake.event_id for wake in stage.wakes] == [following.event_id]


async def test_the_readers_of_a_gateway_that_was_killed_run_out(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item):
        await stage.told()
        stage.here = Readers(stage.deployment.state, stage.deployment.keys, name="g3", clock=stage.deployment.clock)
        await stage.passes(GONE_AFTER + GRACE - BEAT)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]
        await stage.passes(2 * BEAT)
        assert await stage.deployment.lanes.renew([lease]) == [CancelReason.DISCONNECTED]


async def test_a_gateway_that_was_taken_for_gone_tells_of_its_readers_again(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item):
        await stage.told()
        stage.deployment.clock.turn(GONE_AFTER + MOMENT)  # as long as the state was away
        await stage.stop()
        await stage.passes(2 * GRACE)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]


async def test_a_turn_of_a_thread_that_is_followed_is_not_without_a_reader(stage: Stage) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.there.thread(item.lane):
        with stage.reads(item):
            await stage.told()
        await stage.told()
        await stage.passes(2.5 * GRACE)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]
    await stage.told()
    await stage.passes(GRACE - MOMENT)
    assert await stage.deployment.lanes.renew([lease]) == ["held"], "its grace begins when the follower goes"
    await stage.passes(MOMENT)
    assert await stage.deployment.lanes.renew([lease]) == [CancelReason.DISCONNECTED]


async def test_what_has_ended_or_needs_no_turn_leaves_nothing(stage: Stage) -> None:
    item, light = message(), event("e1", "thr_2")
    lease = await stage.deployment.started(item)
    await stage.deployment.accepted(light)
    with stage.reads(item), stage.reads(light):
        await stage.told()
        await stage.deployment.lanes.settle([done(lease)])
    await stage.told()
    with stage.reads(item):
        await stage.told()
    await stage.told()
    await stage.passes(GRACE)
    assert await stage.state_of(item) == (EventState.DONE, None)
    assert await stage.state_of(light) == (EventState.QUEUED, None)
    tags = [stage.deployment.keys.tag(shard) for shard in range(stage.deployment.keys.shards)]
    kept: list[Any] = [await stage.deployment.state.keys(f"{tag.replace('{', '?').replace('}', '?')}*") for tag in tags]
    assert not [key for keys in kept for key in keys if b"readers:" in key or key.endswith(b"left")]


async def test_a_stream_that_opens_or_closes_costs_one_write_and_further_readers_none(stage: Stage) -> None:
    item = message()
    await stage.deployment.started(item)
    with stage.reads(item):
        assert len(stage.here._changed) == 1
        await stage.told()
        with stage.reads(item), stage.reads(item):
            assert stage.here._changed == {}
    assert len(stage.here._changed) == 1


async def test_a_change_that_could_not_be_told_is_told_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    with stage.reads(item):
        await stage.told()

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(stage.here._scripts, "run", away)
        with pytest.raises(ConnectionError):
            await stage.here.tell()
    await stage.told()
    await stage.passes(GRACE)
    assert await stage.deployment.lanes.renew([lease]) == [CancelReason.DISCONNECTED]


async def test_the_loop_tells_soon_and_a_last_time_when_it_ends(deployment: Deployment) -> None:
    readers, item = Readers(deployment.state, deployment.keys, name="g1", clock=deployment.clock), message()
    await deployment.started(item)
    key = f"{deployment.keys.tag_of(item.lane)}readers:g1"
    loop = asyncio.create_task(readers.run())

    async def is_told() -> None:
        while not await deployment.state.scard(key):
            await asyncio.sleep(0.01)

    with readers.event(item.lane, item.event_id):
        await asyncio.wait_for(is_told(), 5)
        loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert await deployment.state.scard(key) == 0


async def test_a_gateway_that_was_taken_for_gone_by_halves_tells_of_its_readers_again(stage: Stage) -> None:
    """A round takes so many readers from it. One that beats before the next round has lost those all the same."""
    items = [message(f"thr_{number}") for number in range(3 * LIMIT)]
    shards = Counter(stage.deployment.keys.tag_of(item.lane) for item in items)
    assert min(shards.values()) > LIMIT
    await stage.deployment.accepted(*items)
    with ExitStack() as reading:
        for item in items:
            reading.enter_context(stage.reads(item))
        await stage.told()
        stage.deployment.clock.turn(GONE_AFTER + MOMENT)
        await stage.stop()
        await stage.passes(2 * GRACE)
        assert [one for one in items if (await stage.state_of(one))[0] is not EventState.QUEUED] == []


async def test_a_gateway_that_did_not_hear_that_it_was_taken_for_gone_tells_of_its_readers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = message()
    lease = await stage.deployment.started(item)
    run = stage.here._scripts.run

    async def unheard(*arguments: Any) -> None:
        await run(*arguments)
        raise ConnectionError

    with stage.reads(item):
        await stage.told()
        stage.deployment.clock.turn(GONE_AFTER + MOMENT)
        await stage.stop()
        with monkeypatch.context() as patched:
            patched.setattr(stage.here._scripts, "run", unheard)
            with pytest.raises(ConnectionError):
                await stage.here.beat()
        await stage.passes(2 * GRACE)
        assert await stage.deployment.lanes.renew([lease]) == ["held"]


async def test_a_message_is_read_as_long_as_another_of_its_burst_is(stage: Stage) -> None:
    first, second = (message_event("thr_1", tenant="acme", debounce=50) for _ in range(2))
    await stage.deployment.accepted(first, second)
    with stage.reads(second):
        with stage.reads(first):
            await stage.told()
        await stage.told()
        await stage.passes(1.5 * GRACE)
        assert await stage.state_of(first) == (EventState.QUEUED, None), "it is to be answered with the second one"
    await stage.told()
    await stage.passes(GRACE - MOMENT)
    assert await stage.state_of(first) == (EventState.QUEUED, None), "its grace begins when the other's reader goes"
    await stage.passes(MOMENT)
    assert await stage.state_of(first) == (EventState.CANCELLED, "disconnected")
    assert await stage.state_of(second) == (EventState.CANCELLED, "disconnected")
