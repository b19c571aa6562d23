"""A turn that is stopped: what clients have seen of it stays, and nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from schemas.chatkit import (
    ClientToolCallItem,
    ThreadItemDoneEvent,
    ThreadStreamEvent,
)
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done
from tests.builders import create_event, message_event, request_event
from tests.conformance.chats import Chat, Context, begins, dying_at, message, says, shows, texts
from tests.conformance.test_turns import answering, question, tool_call
from tests.eventually import eventually
from workers.errors import (
    CancelRequestedError,
    TransientError,
)
from workers.policies.delivery import StopSignal


@pytest.mark.parametrize(("create", "k"), [(True, k) for k in range(8)] + [(False, k) for k in range(7)])
async def test_a_cancel_at_any_frame_keeps_what_was_shown(chat: Chat, create: bool, k: int) -> None:
    event = create_event("again") if create else message_event(str((await chat.thread()).thread_id), "again")
    stop = StopSignal()
    chat.responder.steps = [says("one two three")]
    chat.recorder.before_frame = dying_at(k, stop)
    assert await chat.handler()(chat.delivery(event, stop=stop)) == Cancelled(CancelReason.USER)
    shown = [text for text in chat.screen(event) if text]
    if create and k == 0:
        assert (await chat.ask("threads.list", {}))["data"] == []
        return
    stored = texts(await chat.items(event))[0 if create else 2 :]
    assert stored[1:] == shown[1:]
    assert stored[:1] in (shown[:1], ["again"])  # the question is stored before its answer begins, shown or not
    assert (await chat.kinds(event))[-1] == "sdk_hidden_context"


async def cancelled_mid_way(chat: Chat, event: Any, reason: CancelReason | None) -> Any:
    """Run an event and cancel it while it streams, after "half an"; the outcome."""
    reached = asyncio.Event()

    async def streaming(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for frame in begins("half an")(context):
            yield frame
        reached.set()
        await asyncio.Event().wait()
        yield ThreadItemDoneEvent(item=message(context, "never"))

    chat.responder.steps.append(streaming)
    stop = StopSignal()
    run = asyncio.create_task(chat.handler()(chat.delivery(event, stop=stop)))
    await reached.wait()
    stop.reason = reason
    run.cancel()
    return await run


@pytest.mark.parametrize("reason", [CancelReason.USER, CancelReason.OPERATOR])
async def test_a_cancel_keeps_exactly_what_was_shown_and_says_so_to_the_agents(
    chat: Chat, reason: CancelReason
) -> None:
    event = create_event("hello")
    assert await cancelled_mid_way(chat, event, reason) == Cancelled(reason)
    assert texts(await chat.items(event)) == chat.screen(event) == ["hello", "half an"]
    assert await chat.kinds(event) == ["user_message", "assistant_message", "sdk_hidden_context"]
    assert await chat.run(event) == Done()
    assert len(chat.responder.asked) == 1


async def test_a_cancelled_turn_leaves_its_task_as_one_that_was_not_cancelled(chat: Chat) -> None:
    event, stop = create_event("hello"), StopSignal()
    chat.recorder.before_frame = dying_for_real(stop)

    async def run() -> int:
        await chat.handler()(chat.delivery(event, stop=stop))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()  # what a `timeout` or a group around it would go by

    assert await asyncio.create_task(run()) == 0


def dying_for_real(stop: StopSignal) -> Any:
    """Cancel the task at its third frame, as a cancelled turn is."""

    async def die(_: str, count: int, __: bytes) -> None:
        if count == 3 and stop.reason is None:
            stop.reason = CancelReason.USER
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    return die


async def test_a_cancel_because_the_thread_is_deleted_stores_nothing(chat: Chat) -> None:
    event = create_event("hello")
    outcome = await cancelled_mid_way(chat, event, CancelReason.THREAD_DELETED)
    assert outcome == Cancelled(CancelReason.THREAD_DELETED)
    assert await chat.kinds(event) == ["user_message"]


async def test_a_drain_writes_nothing_and_the_turn_runs_again(chat: Chat) -> None:
    event = create_event("hello")
    with pytest.raises(asyncio.CancelledError):
        await cancelled_mid_way(chat, event, None)
    assert await chat.kinds(event) == ["user_message"]
    assert await chat.run(event) == Done()
    assert chat.screen(event) == texts(await chat.items(event)) == ["hello", "answer"]


async def shown(chat: Chat, event: Event, text: str) -> None:
    async def is_there() -> bool:
        return text in chat.screen(event)

    assert await eventually(is_there)


async def test_a_refused_append_ends_the_turn_with_what_was_appended(chat: Chat) -> None:
    event = create_event("hello")
    closed: list[str] = []

    async def streaming(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        try:
            async for frame in says("one two three")(context):
                if "two" in frame.model_dump_json():
                    await shown(chat, event, "one")  # else both may be in one append
                yield frame
        finally:
            closed.append("closed")

    async def refuse(_: str, __: int, frame: bytes) -> None:
        if b"two" in frame:
            raise CancelRequestedError("stop")

    chat.responder.steps = [streaming]
    chat.recorder.before_frame = refuse
    assert await chat.run(event) == Cancelled(CancelReason.USER)
    assert closed == ["closed"]
    assert texts(await chat.items(event)) == chat.screen(event) == ["hello", "one"]


async def test_a_cancel_before_anything_was_shown_leaves_no_thread(chat: Chat) -> None:
    event = create_event("hello")

    async def refuse(*_: object) -> None:
        raise CancelRequestedError("stop")

    chat.recorder.before_frame = refuse
    assert await chat.run(event) == Cancelled(CancelReason.USER)
    assert (await chat.ask("threads.list", {}))["data"] == []


async def test_a_cancel_between_two_attempts_keeps_what_the_first_one_showed(chat: Chat) -> None:
    event = create_event("hello")
    chat.responder.steps = [begins("half an", then=TransientError("cut"))]
    with pytest.raises(TransientError):
        await chat.run(event)
    stopped = await chat.run(event, attempt=2, stop=StopSignal(CancelReason.USER))
    assert stopped == Cancelled(CancelReason.USER)
    assert texts(await chat.items(event)) == chat.screen(event) == ["hello", "half an"]


async def test_a_cancelled_answer_to_a_tool_keeps_the_tools_output(chat: Chat) -> None:
    chat.responder.steps = [shows(tool_call())]
    event = await chat.thread()
    output = request_event("threads.add_client_tool_output", {"thread_id": event.thread_id, "result": 3})
    assert await cancelled_mid_way(chat, output, CancelReason.USER) == Cancelled(CancelReason.USER)
    call = (await chat.items(event))[1]
    assert isinstance(call, ClientToolCallItem)
    assert (call.status, call.output) == ("completed", 3)


async def test_a_cancelled_answer_to_a_structured_input_keeps_the_input(chat: Chat) -> None:
    chat.responder.steps = [shows(question())]
    event = await chat.thread()
    given = answering(str(event.thread_id))
    assert await cancelled_mid_way(chat, given, CancelReason.USER) == Cancelled(CancelReason.USER)
    kinds = await chat.kinds(event)
    assert kinds == ["user_message", "structured_input", "assistant_message", "sdk_hidden_context"]
    assert (await chat.items(event))[1].status == "answered"  # type: ignore[union-attr]  # the structured input


async def test_a_title_that_was_shown_stays_after_a_cancel(chat: Chat) -> None:
    event = create_event("hello")

    async def titled(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        context.thread.title = "shown"
        async for frame in says("one two")(context):
            yield frame

    async def refuse(_: str, __: int, frame: bytes) -> None:
        if b"two" in frame:
            raise CancelRequestedError("stop")

    chat.responder.steps = [titled]
    chat.recorder.before_frame = refuse
    await chat.run(event)
    assert (await chat.stored_thread(event)).title == "shown"
