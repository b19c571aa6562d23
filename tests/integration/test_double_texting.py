"""A message that meets a running answer: what is stored, and what is on the screens, when one stops the other."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from schemas.chatkit import ThreadStreamEvent
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done, Retry
from tests.builders import create_event, message_event
from tests.conformance.chats import Context, says
from tests.integration.test_chat_turns import Worker, half_an, worker
from workers.errors import TransientError
from workers.lanes.lanes import Lanes
from workers.lanes.records import Accepted, Settled, Settlement, SettleRefused

pytestmark = pytest.mark.redis

__all__ = ["worker"]

MODES = [
    ("interrupt", CancelReason.INTERRUPTED, ["hello", "half an", "and then?", "answer"]),
    ("rollback", CancelReason.ROLLED_BACK, ["and then?", "answer"]),
]


async def accept(worker: Worker, event: Event) -> Accepted:
    [answer] = await worker.lanes.accept([(event, "q")])
    assert isinstance(answer, Accepted)
    return answer


def following(event: Event, mode: str) -> Event:
    return message_event(str(event.thread_id), double_text=mode)


@pytest.mark.parametrize(("mode", "reason", "stored"), MODES)
async def test_a_turn_that_is_stopped_in_the_middle_leaves_what_the_mode_says(
    worker: Worker, mode: str, reason: CancelReason, stored: list[str]
) -> None:
    event, shown = create_event("hello"), asyncio.Event()

    async def talks(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for frame in half_an(worker, event)(context):
            yield frame
        shown.set()
        await asyncio.Event().wait()

    worker.responder.steps = [talks, says("answer")]
    await accept(worker, event)
    run = asyncio.create_task(worker.turns(await worker.begin(event)))
    await shown.wait()
    run.cancel()  # as a worker that is killed: it writes nothing
    await asyncio.gather(run, return_exceptions=True)
    new = following(event, mode)
    assert (await accept(worker, new)).wake is None
    await worker.die(event)
    assert await worker.run(event) == Cancelled(reason)
    kept = ["hello", "half an"] if mode == "interrupt" else []
    assert await worker.stored(event) == await worker.seen(event) == kept
    assert await worker.run(new) == Done()
    assert await worker.stored(event) == stored


@pytest.mark.parametrize(("mode", "reason", "stored"), MODES)
async def test_a_turn_that_waits_for_its_retry_is_stopped_by_a_worker(
    worker: Worker, mode: str, reason: CancelReason, stored: list[str]
) -> None:
    event = create_event("hello")
    worker.responder.steps = [half_an(worker, event, then=TransientError("cut")), says("answer")]
    await accept(worker, event)
    assert isinstance(await worker.run(event), Retry)
    new = following(event, mode)
    wake = (await accept(worker, new)).wake
    assert wake is not None
    assert wake.event_id == event.event_id
    assert await worker.run(event) == Cancelled(reason)
    assert await worker.run(new) == Done()
    assert await worker.stored(event) == stored


async def test_a_rollback_takes_back_an_answer_that_was_stored_and_not_yet_settled(worker: Worker) -> None:
    event = create_event("hello")
    await accept(worker, event)
    assert await worker.turns(await worker.begin(event)) == Done()
    assert await worker.stored(event) == ["hello", "answer"]
    new = following(event, "rollback")
    await accept(worker, new)
    await worker.die(event)
    assert await worker.run(event) == Cancelled(CancelReason.ROLLED_BACK)
    assert await worker.stored(event) == await worker.seen(event) == []
    assert await worker.run(new) == Done()
    assert await worker.stored(event) == ["and then?", "answer"]


async def test_a_rollback_that_comes_just_before_the_end_is_carried_out_by_the_same_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = create_event("hello")
    new, settle, answers = following(event, "rollback"), Lanes.settle, list[Settled | SettleRefused]()

    async def late(lanes: Lanes, settlements: Sequence[Settlement]) -> list[Settled | SettleRefused]:
        if not answers:
            await accept(worker, new)
        answers.extend(await settle(lanes, settlements))
        return answers[-1:]

    await accept(worker, event)
    monkeypatch.setattr(Lanes, "settle", late)
    assert await worker.run(event) == Cancelled(CancelReason.ROLLED_BACK)
    assert answers[0] == SettleRefused("rollback")
    assert await worker.stored(event) == await worker.seen(event) == []
    assert await worker.run(new) == Done()
    assert await worker.stored(event) == ["and then?", "answer"]


@pytest.mark.parametrize(
    ("mode", "stored"), [("interrupt", ["hello", "and then?", "answer"]), ("rollback", ["and then?", "answer"])]
)
async def test_a_conversation_whose_beginning_still_waits_is_begun_by_the_message_that_stops_it(
    worker: Worker, mode: str, stored: list[str]
) -> None:
    event = create_event("hello")
    new = following(event, mode)
    await accept(worker, event)
    await accept(worker, new)
    assert isinstance(await worker.run(event), Cancelled)
    assert await worker.run(new) == Done()
    assert await worker.stored(event) == stored
