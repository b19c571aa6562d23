"""Turns over real lanes and streams: however a turn ends, what is in the store is what its clients have seen."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.chatkit import ThreadItemDoneEvent, ThreadStreamEvent
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, DeadLettered, Done, Retry
from tests.builders import create_event, no_floods
from tests.conformance.chats import Context, ScriptedResponder, Step, begins, context_of, delta, message, says, texts
from tests.eventually import eventually
from workers.chat.database import Database
from workers.chat.partial import shown_by
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.chat.take_back import TakeBack
from workers.chat.turn import TurnHandler
from workers.dispatch import Dispatcher
from workers.errors import LeaseLostError, PermanentError, TransientError
from workers.lanes.connection import State, connect
from workers.lanes.keeper import LeaseKeeper
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Begun, Cancellation, Start, Wake
from workers.policies.delivery import Delivery
from workers.runner import EventRunner, Verdict, delivery_of
from workers.settings import Settings
from workers.settle import Settler
from workers.streams.replay import TurnStreams
from workers.streams.writer import FrameWriter

pytestmark = pytest.mark.redis


@dataclass
class Worker:
    """The parts of a worker that a turn goes through."""

    state: State
    keys: Keys
    lanes: Lanes
    streams: TurnStreams
    store: SqlStore
    responder: ScriptedResponder
    turns: TurnHandler
    take_back: TakeBack

    async def wake(self, wakes: Sequence[Wake]) -> None:
        """Nobody: the tests run what they want to run."""

    async def run(self, event: Event) -> Verdict:
        """Run an event as a woken worker does."""
        keeper = LeaseKeeper(self.lanes, self.state, self.keys, lease=timedelta(seconds=10))
        dispatcher = Dispatcher(Settings(), self.turns, self.turns)
        runner = EventRunner(
            self.lanes, keeper, self, dispatcher, Settler("w1"), self.take_back, no_floods(self.lanes, self)
        )
        return await runner.run(event.lane, event.event_id)

    async def die(self, event: Event) -> None:
        """The worker that has begun the event is gone, and its lease has run out."""
        await self.state.delete(f"{self.keys.tag_of(event.lane)}lease:{event.lane}")

    async def begin(self, event: Event) -> Delivery:
        [begun] = await self.lanes.begin([Start(event.lane, event.event_id, token="t", want_body=False)])
        assert isinstance(begun, Begun)
        return delivery_of(begun, event)

    async def stored(self, event: Event) -> list[str]:
        page = await self.store.load_thread_items(str(event.thread_id), None, 100, "asc", context_of(event))
        return texts(page.data)

    async def frames(self, event: Event) -> list[bytes]:
        """What clients were shown."""
        entries: Any = await self.state.xrange(self.keys.stream(event.lane, event.event_id))
        return [fields[b"d"] for _, fields in entries if b"d" in fields]

    async def seen(self, event: Event) -> list[str]:
        """The texts on a client's screen."""
        return texts(shown_by(await self.frames(event), ReadServer(self.store)).kept)


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
    yield Worker(state, keys, lanes, streams, SqlStore(database), responder, turns, TakeBack(database, streams))
    await writer.close()
    await database.close()
    await state.aclose()


def half_an(worker: Worker, event: Event, then: Exception | None = None) -> Step:
    """Begin an answer, and wait until it is on the screens; `then` fails."""

    async def on_screen() -> bool:
        return await worker.seen(event) == ["hello", "half an"]

    async def step(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for frame in begins("half an")(context):
            yield frame
        await eventually(on_screen)
        if then is not None:
            raise then

    return step


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
    acknowledged = await worker.frames(event)
    assert await run == Cancelled(CancelReason.USER)  # found out by the refused append
    assert await worker.frames(event) == acknowledged
    assert await worker.stored(event) == await worker.seen(event)
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
    assert await worker.seen(event) == await worker.stored(event) == ["hello", "answer"]


async def test_a_cancel_while_the_worker_is_dead_stores_what_that_worker_had_shown(worker: Worker) -> None:
    event, shown = create_event("hello"), asyncio.Event()

    async def dies(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for frame in half_an(worker, event)(context):
            yield frame
        shown.set()
        await asyncio.Event().wait()

    worker.responder.steps = [dies]
    await worker.lanes.accept([(event, "q")])
    run = asyncio.create_task(worker.turns(await worker.begin(event)))
    await shown.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert (await worker.lanes.cancel(event.event_id)).result == "cancelling"
    await worker.die(event)
    assert await worker.run(event) == Cancelled(CancelReason.USER)
    assert await worker.seen(event) == await worker.stored(event) == ["hello", "half an"]


async def test_a_cancel_while_it_waits_for_its_retry_stores_what_the_first_attempt_had_shown(worker: Worker) -> None:
    event = create_event("hello")
    worker.responder.steps = [half_an(worker, event, then=TransientError("cut", retry_after=timedelta(minutes=5)))]
    await worker.lanes.accept([(event, "q")])
    assert isinstance(await worker.run(event), Retry)
    cancellation = await worker.lanes.cancel(event.event_id, CancelReason.OPERATOR)
    assert cancellation == Cancellation("cancelling", Wake(event.lane, event.event_id, event.type, "q"))
    acknowledged = await worker.frames(event)
    assert await worker.run(event) == Cancelled(CancelReason.OPERATOR)
    assert await worker.frames(event) == acknowledged
    assert await worker.seen(event) == await worker.stored(event) == ["hello", "half an"]


async def test_a_turn_that_fails_has_shown_all_of_what_it_sent(worker: Worker) -> None:
    event = create_event("hello")
    worker.responder.steps = [begins("one two three", then=TransientError("cut"))]
    await worker.lanes.accept([(event, "q")])
    delivery = await worker.begin(event)
    with pytest.raises(TransientError):
        await worker.turns(delivery)
    assert await worker.seen(event) == ["hello", "one two three"]


async def test_a_dead_letter_takes_its_half_answer_off_the_screen(worker: Worker) -> None:
    event = create_event("hello")
    worker.responder.steps = [begins("half an", then=PermanentError("400"))]
    await worker.lanes.accept([(event, "q")])
    assert isinstance(await worker.run(event), DeadLettered)
    assert b'"delta":" an"' in b"".join(await worker.frames(event))
    assert await worker.seen(event) == await worker.stored(event) == ["hello"]
    assert (await worker.frames(event))[-1].startswith(b'{"type":"error"')


async def test_an_event_whose_workers_died_after_they_stored_its_answer_is_done(worker: Worker) -> None:
    event = create_event("hello")
    await worker.lanes.accept([(event, "q")])
    for _ in range(3):  # each stores, or finds, the whole answer, and dies before it settles
        assert await worker.turns(await worker.begin(event)) == Done()
        await worker.die(event)
    assert await worker.run(event) == Done()
    assert await worker.seen(event) == await worker.stored(event) == ["hello", "answer"]
