"""One event, delivered again and again: one thread, one answer, nothing of a stale worker, nothing half done."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.chatkit import (
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadStreamEvent,
)
from schemas.outcome import Done
from tests.builders import create_event, message_event, request_event
from tests.conformance.chats import Chat, Context, begins, dying_at, fails, message, says, shows, texts
from tests.conformance.test_turns import answering, pressing, question, tool_call
from workers.chat.tables import turns
from workers.errors import (
    LeaseLostError,
    NotFoundError,
    PermanentError,
    RateLimitedError,
    TransientError,
)


async def test_three_deliveries_give_one_thread_and_one_answer(chat: Chat) -> None:
    event = create_event("hello")
    for _ in range(3):
        assert await chat.run(event) == Done()
    assert texts(await chat.items(event)) == ["hello", "answer"]
    assert len(chat.responder.asked) == 1
    assert len((await chat.ask("threads.list", {}))["data"]) == 1


async def test_three_deliveries_at_once_give_one_thread_and_one_answer(chat: Chat) -> None:
    event = create_event("hello")
    deliveries = [chat.delivery(event) for _ in range(3)]
    ends = await asyncio.gather(*(chat.handler()(one) for one in deliveries), return_exceptions=True)
    assert Done() in ends
    assert all(end == Done() or isinstance(end, LeaseLostError) for end in ends), ends
    assert texts(await chat.items(event)) == ["hello", "answer"]


@pytest.mark.parametrize("type_", ["threads.create", "threads.add_user_message"])
async def test_an_event_that_comes_back_after_its_stream_is_gone_shows_the_stored_answer(
    chat: Chat, type_: str
) -> None:
    event = await chat.thread("hello")
    if type_ == "threads.add_user_message":
        event = message_event(str(event.thread_id), "hello")
        await chat.run(event)
    calls = len(chat.responder.asked)
    chat.recorder.streams.clear()
    assert await chat.run(event) == Done()
    assert len(chat.responder.asked) == calls
    assert chat.screen(event) == ["hello", "answer"]
    assert len(await chat.items(event)) in (2, 4)


async def test_a_deleted_thread_does_not_come_back_with_its_first_event(chat: Chat) -> None:
    event = await chat.thread()
    await chat.ask("threads.delete", {"thread_id": event.thread_id})
    chat.recorder.streams.clear()
    assert await chat.run(event) == Done()
    assert (await chat.ask("threads.list", {}))["data"] == []


@pytest.mark.parametrize(
    "first", [begins("half an ans", then=TransientError("cut")), says("wrong", then=TransientError("cut"))]
)
async def test_a_failed_attempt_is_taken_back_before_the_next_one_streams(chat: Chat, first: Any) -> None:
    event = create_event("hello")
    chat.responder.steps = [first, says("the answer")]
    with pytest.raises(TransientError):
        await chat.run(event)
    assert texts(await chat.items(event)) == ["hello"]
    assert await chat.run(event, attempt=2) == Done()
    assert texts(await chat.items(event)) == ["hello", "the answer"]
    shown = [frame.type for frame in chat.frames(event)]
    assert shown.count("thread.created") == 1
    assert shown.count("thread.item.removed") == 1
    assert chat.screen(event) == ["hello", "the answer"]


async def test_what_was_taken_back_twice_is_removed_once_each_time(chat: Chat) -> None:
    event = create_event("hello")
    chat.responder.steps = [
        begins("one", then=TransientError("cut")),
        says("two", then=TransientError("cut")),
        fails(TransientError("cut")),
        says("three"),
    ]
    for attempt in (1, 2, 3):
        with pytest.raises(TransientError):
            await chat.run(event, attempt=attempt)
    assert await chat.run(event, attempt=4) == Done()
    assert chat.screen(event) == ["hello", "three"]
    assert [frame.type for frame in chat.frames(event)].count("thread.item.removed") == 2


async def test_no_error_frame_is_shown_for_a_failure_that_is_tried_again(chat: Chat) -> None:
    event = create_event("hello")
    chat.responder.steps = [fails(RateLimitedError("429", retry_after=timedelta(seconds=3))), fails(KeyError("bug"))]
    with pytest.raises(RateLimitedError) as limited:
        await chat.run(event)
    assert limited.value.retry_after == timedelta(seconds=3)
    with pytest.raises(KeyError):
        await chat.run(event)
    assert b'"error"' not in b"".join(chat.recorder.streams[event.event_id])


async def test_the_next_attempt_goes_on_with_the_thread_as_the_last_one_left_it(chat: Chat) -> None:
    event = create_event("hello")
    titles: list[str | None] = []

    async def titled(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        await chat.ask("threads.update", {"thread_id": event.thread_id, "title": "by hand"})
        raise TransientError("cut")
        yield

    async def sticky(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        titles.append((await chat.stored_thread(event)).title)
        context.thread.metadata["agent"] = "UI coordination agent"
        async for frame in says("answer")(context):
            yield frame

    chat.responder.steps = [titled, sticky]
    with pytest.raises(TransientError):
        await chat.run(event)
    made = (await chat.stored_thread(event)).created_at
    await chat.run(event, attempt=2)
    thread = await chat.stored_thread(event)
    assert titles == ["by hand"]
    assert (thread.title, thread.metadata) == ("by hand", {"agent": "UI coordination agent"})
    assert thread.created_at == made


async def test_a_worker_that_dies_when_all_is_shown_and_nothing_stored_leaves_one_answer(chat: Chat) -> None:
    event = create_event("hello")
    chat.recorder.before_commit = dying_once()
    with pytest.raises(asyncio.CancelledError):
        await chat.run(event)
    assert await chat.run(event) == Done()
    assert chat.screen(event) == texts(await chat.items(event)) == ["hello", "answer"]


async def test_the_one_frame_of_a_synchronous_action_is_shown_once(chat: Chat) -> None:
    event = await chat.thread()
    pressed = pressing(str(event.thread_id), sync=True, item_id=None)
    chat.recorder.before_commit = dying_once()
    with pytest.raises(asyncio.CancelledError):
        await chat.run(pressed)
    assert await chat.kinds(event) == ["user_message", "assistant_message"]
    assert await chat.run(pressed) == Done()
    assert len(chat.recorder.streams[pressed.event_id]) == 1
    assert await chat.kinds(event) == ["user_message", "assistant_message", "hidden_context_item"]


def dying_once() -> Callable[[], None]:
    died = False

    def die() -> None:
        nonlocal died
        if not died:
            died = True
            raise asyncio.CancelledError

    return die


async def test_a_tools_output_is_found_again_by_the_next_attempt(chat: Chat) -> None:
    chat.responder.steps = [shows(tool_call()), fails(TransientError("cut")), says("blue")]
    event = await chat.thread()
    output = request_event("threads.add_client_tool_output", {"thread_id": event.thread_id, "result": 3})
    with pytest.raises(TransientError):
        await chat.run(output)
    assert await chat.run(output, attempt=2) == Done()
    assert await chat.run(output, attempt=2) == Done()
    items = await chat.items(event)
    assert [item.type for item in items] == ["user_message", "client_tool_call", "assistant_message"]
    assert items[1].output == 3  # type: ignore[union-attr]  # the call


async def test_a_structured_input_survives_the_attempt_that_failed_after_it(chat: Chat) -> None:
    chat.responder.steps = [shows(question()), begins("half", then=TransientError("cut")), says("found")]
    event = await chat.thread()
    given = answering(str(event.thread_id))
    with pytest.raises(TransientError):
        await chat.run(given)
    assert await chat.run(given, attempt=2) == Done()
    assert await chat.run(given, attempt=2) == Done()
    items = await chat.items(event)
    assert [item.type for item in items] == ["user_message", "structured_input", "assistant_message"]
    assert items[1].status == "answered"  # type: ignore[union-attr]  # the structured input
    removed = [frame.item_id for frame in chat.frames(given) if frame.type == "thread.item.removed"]
    assert "si_1" not in removed
    assert len(removed) == 1


async def test_a_stale_worker_writes_nothing_before_the_new_turn_ends(chat: Chat) -> None:
    event = await chat.thread()
    again = message_event(str(event.thread_id), "and?")
    stale, fresh = chat.delivery(again), chat.delivery(again)
    taken = asyncio.Event()

    async def slow(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        context.thread.title = "stale"
        async for frame in says("stale")(context):
            yield frame
        await taken.wait()

    async def quick(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        taken.set()
        with pytest.raises(LeaseLostError):
            await run
        assert texts(await chat.items(event)) == ["hello", "answer", "and?"]
        async for frame in says("fresh")(context):
            yield frame

    chat.responder.steps = [slow, quick]
    run = asyncio.create_task(chat.handler()(stale))
    while not chat.responder.asked[1:]:
        await asyncio.sleep(0)
    assert await chat.handler()(fresh) == Done()
    assert texts(await chat.items(event)) == ["hello", "answer", "and?", "fresh"]
    assert (await chat.stored_thread(event)).title is None


async def test_a_stale_worker_writes_nothing_after_the_new_turn_has_ended(chat: Chat) -> None:
    event = await chat.thread()
    again = message_event(str(event.thread_id), "and?")
    stale, fresh = chat.delivery(again), chat.delivery(again)

    async def overtaken(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        assert await chat.handler()(fresh) == Done()
        async for frame in says("stale")(context):
            yield frame

    chat.responder.steps = [overtaken, says("fresh")]
    with pytest.raises(LeaseLostError):
        await chat.handler()(stale)
    assert texts(await chat.items(event)) == ["hello", "answer", "and?", "fresh"]
    with pytest.raises(LeaseLostError):
        await chat.handler()(replace(stale, event=message_event(str(event.thread_id), "late")))
    assert texts(await chat.items(event)) == ["hello", "answer", "and?", "fresh"]


async def test_a_turn_with_an_older_epoch_does_not_even_begin(chat: Chat) -> None:
    event = await chat.thread()
    newer, older = (message_event(str(event.thread_id), text) for text in ("newer", "older"))
    assert await chat.handler()(chat.delivery(newer, epoch=1000)) == Done()
    with pytest.raises(LeaseLostError):
        await chat.handler()(chat.delivery(older, epoch=999))
    assert texts(await chat.items(event)) == ["hello", "answer", "newer", "answer"]
    assert chat.recorder.streams[older.event_id] == []


@pytest.mark.parametrize(("create", "k"), [(True, k) for k in range(8)] + [(False, k) for k in range(7)])
async def test_a_worker_that_dies_at_any_frame_leaves_one_whole_answer(chat: Chat, create: bool, k: int) -> None:
    event = create_event("again") if create else message_event(str((await chat.thread()).thread_id), "again")
    chat.responder.steps = [says("one two three"), says("one two three")]
    chat.recorder.before_frame = dying_at(k)
    with pytest.raises(asyncio.CancelledError):
        await chat.run(event)
    assert await chat.run(event) == Done()
    assert texts(await chat.items(event)) == [*([] if create else ["hello", "answer"]), "again", "one two three"]
    assert chat.screen(event) == ["again", "one two three"]
    assert [frame.type for frame in chat.frames(event)].count("thread.created") == int(create)


async def test_a_turn_in_a_thread_that_is_deleted_meanwhile_leaves_nothing(chat: Chat) -> None:
    event = create_event("hello")

    async def deleted(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        await chat.ask("threads.delete", {"thread_id": event.thread_id})
        async for frame in says("to nobody")(context):
            yield frame

    chat.responder.steps = [deleted]
    with pytest.raises(LeaseLostError):
        await chat.run(event)
    with pytest.raises(NotFoundError):
        await chat.ask("threads.get_by_id", {"thread_id": event.thread_id})


async def test_a_turn_that_takes_too_long_is_a_failure_that_may_pass(chat: Chat) -> None:
    event = create_event("hello")

    async def endless(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        await asyncio.Event().wait()
        yield ThreadItemDoneEvent(item=message(context, "never"))

    chat.responder.steps = [endless]
    with pytest.raises(TransientError, match="took more than"):
        await chat.handler(longest=timedelta(milliseconds=200))(chat.delivery(event))
    assert await chat.kinds(event) == ["user_message"]


async def test_an_answer_that_was_replaced_is_taken_back_too(chat: Chat) -> None:
    event = create_event("hello")

    async def replacing(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        item = message(context, "draft")
        yield ThreadItemDoneEvent(item=item)
        yield ThreadItemReplacedEvent(item=message(context, "final", item_id=item.id))
        raise TransientError("cut")

    chat.responder.steps = [replacing, says("answer")]
    with pytest.raises(TransientError):
        await chat.run(event)
    await chat.run(event, attempt=2)
    assert chat.screen(event) == texts(await chat.items(event)) == ["hello", "answer"]


async def test_only_answered_events_are_marked(chat: Chat) -> None:
    event = create_event("hello")
    chat.responder.steps = [fails(PermanentError("refused")), says("answer")]
    with pytest.raises(PermanentError):
        await chat.run(event)

    async def marks() -> list[str]:
        return await chat.database.read(lambda connection: list(connection.execute(turns.select()).scalars()))

    assert await marks() == []
    await chat.run(event)
    assert len(await marks()) == 1
