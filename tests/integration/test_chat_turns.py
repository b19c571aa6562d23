"""Turns over real lanes and streams: what a cancel and a lost lease leave in the store is what clients have seen."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from schemas.chatkit import ThreadItemDoneEvent, ThreadStreamEvent
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done
from tests.builders import create_event
from tests.conformance.chats import Context, ScriptedResponder, context_of, delta, message, says, texts
from workers.chat.database import Database
from workers.chat.partial import shown_by
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.chat.turn import TurnHandler
from workers.errors import LeaseLostError
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Begun, Start
from workers.policies.delivery import Delivery
from workers.runner import delivery_of
from workers.streams.replay import TurnStreams
from workers.streams.writer import FrameWriter

pytestmark = pytest.mark.redis


@dataclass
class Worker:
    """The parts of a worker that a turn goes through."""

    lanes: Lanes
    streams: TurnStreams
    store: SqlStore
    responder: ScriptedResponder
    turns: TurnHandler

    async def begin(self, event: Event) -> Delivery:
        [begun] = await self.lanes.begin([Start(event.lane, event.event_id, token="t", want_body=False)])
        assert isinstance(begun, Begun)
        return delivery_of(begun, event)

    async def stored(self, event: Event) -> list[str]:
        page = await self.store.load_thread_items(str(event.thread_id), None, 100, "asc", context_of(event))
        return texts(page.data)

    async def seen(self, delivery: Delivery) -> list[str]:
        """The texts on a client's screen."""
        frames = await self.streams.shown(delivery)
        return texts(shown_by(frames, ReadServer(self.store)).kept)


@pytest.fixture
async def worker(redis_url: str, sqlite_url: str) -> AsyncIterator[Worker]:
    state, keys = connect(redis_url), Keys("ck", 8)
    lanes = Lanes(
        state,
        keys,
        owner="w1",
        lease=timedelta(seconds=10),
        max_waiting_per_lane=10,
        max_waiting=1000,
        retention=timedelta(hours=1),
    )
    await lanes.check()
    database = Database(sqlite_url)
    await database.upgrade()
    writer, responder = FrameWriter(lanes), ScriptedResponder()
    streams = TurnStreams(writer, state, keys)
    turns = TurnHandler(database, responder, streams, longest=timedelta(seconds=20))
    yield Worker(lanes, streams, SqlStore(database), responder, turns)
    await writer.close()
    await database.close()
    await state.aclose()


async def test_a_cancelled_turn_stores_exactly_what_its_clients_have_seen(worker: Worker) -> None:
    event, talking = create_event("hello"), asyncio.Event()

    async def endless(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for frame in says("word")(context):
            if isinstance(frame, ThreadItemDoneEvent):
                break
            yield frame
            item_id = getattr(frame, "item_id", "")
        for number in range(100_000):
            yield delta(item_id, f" {number}")
            if number == 500:
                talking.set()
            await asyncio.sleep(0.0001)
        yield ThreadItemDoneEvent(item=message(context, "never"))

    worker.responder.steps = [endless]
    await worker.lanes.accept([(event, "q")])
    delivery = await worker.begin(event)
    run = asyncio.create_task(worker.turns(delivery))
    await talking.wait()
    await worker.lanes.cancel(event.event_id)
    acknowledged = await worker.streams.shown(delivery)
    assert await run == Cancelled(CancelReason.USER)  # found out by the refused append
    assert await worker.streams.shown(delivery) == acknowledged
    assert await worker.stored(event) == await worker.seen(delivery)
    assert (await worker.stored(event))[1].startswith("word 0 1 2 3")


async def test_a_turn_whose_lease_was_taken_over_stores_nothing_more(worker: Worker) -> None:
    event = create_event("hello")
    await worker.lanes.accept([(event, "q")])
    delivery = await worker.begin(event)

    async def overtaken(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        # the lane knows nothing of this lease, so that its frames are refused; but the database has seen its epoch
        lease = replace(delivery.lease, owner="w2", epoch=delivery.lease.epoch + 1)
        with pytest.raises(LeaseLostError):
            await worker.turns(replace(delivery, lease=lease))
        async for frame in says("too late")(context):
            yield frame

    worker.responder.steps = [overtaken, says("from a stranger")]
    with pytest.raises(LeaseLostError):
        await worker.turns(delivery)
    assert await worker.stored(event) == ["hello"]


async def test_a_whole_turn_is_in_the_stream_before_it_is_answered(worker: Worker) -> None:
    event = create_event("hello")
    await worker.lanes.accept([(event, "q")])
    delivery = await worker.begin(event)
    assert await worker.turns(delivery) == Done()
    assert await worker.seen(delivery) == await worker.stored(event) == ["hello", "answer"]
