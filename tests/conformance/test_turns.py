"""What a turn leaves behind: in the stream, in the store, and when it is delivered again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from chatkit.agents import AgentContext

from schemas.chatkit import (
    ClientToolCallItem,
    HiddenContextItem,
    ProgressUpdateEvent,
    StructuredInputItem,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadStreamEvent,
    WidgetItem,
)
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done
from tests.builders import create_event, message_event, request_event
from tests.conformance.conversation import WORDS, Conversation, frames_of, text_of
from workers.chat.context import TurnContext
from workers.errors import LeaseLostError, NotFoundError, PermanentError, TransientError
from workers.policies.delivery import StopSignal

ANSWER = "".join(WORDS)
CARD = {"type": "Card", "children": [{"type": "Text", "value": "Pick one"}]}


def now() -> datetime:
    return datetime.now()  # noqa: DTZ005  # as ChatKit does


async def show_widget(
    context: AgentContext[TurnContext], items: Sequence[ThreadItem]
) -> AsyncIterator[ThreadStreamEvent]:
    item = {"type": "widget", "id": context.generate_id("message"), "thread_id": context.thread.id, "widget": CARD}
    yield ThreadItemDoneEvent(item=WidgetItem.model_validate({**item, "created_at": now()}))


async def call_page_tool(
    context: AgentContext[TurnContext], items: Sequence[ThreadItem]
) -> AsyncIterator[ThreadStreamEvent]:
    id_ = context.generate_id("tool_call")
    yield ThreadItemDoneEvent(
        item=ClientToolCallItem(
            id=id_, call_id=id_, thread_id=context.thread.id, created_at=now(), name="pick", arguments={}
        )
    )


async def ask(context: AgentContext[TurnContext], items: Sequence[ThreadItem]) -> AsyncIterator[ThreadStreamEvent]:
    item = {
        "type": "structured_input",
        "id": context.generate_id("message"),
        "thread_id": context.thread.id,
        "created_at": now(),
        "inputs": [{"type": "freeform", "id": "q", "question": "Which colour?"}],
    }
    yield ThreadItemDoneEvent(item=StructuredInputItem.model_validate(item))


async def fail(context: AgentContext[TurnContext], items: Sequence[ThreadItem]) -> AsyncIterator[ThreadStreamEvent]:
    for _ in items:
        raise TransientError("HTTP 503")
    yield ProgressUpdateEvent(text="never: there is always the user's message")


async def began(talk: Conversation, answer: Any = None) -> Event:
    """A thread with one question and one answer."""
    event = create_event("hello")
    if answer is not None:
        talk.responder.answer = answer
    assert await talk.run(event) == Done()
    return event


async def texts(talk: Conversation, event: Event) -> list[str]:
    """Who said what, as the store has it."""
    found = []
    for item in await talk.items(str(event.thread_id)):
        parts = item.get("content") or []
        found.append("".join(part["text"] for part in parts) if parts else item["type"])
    return found


async def test_a_conversation_is_stored_and_shown_alike(talk: Conversation) -> None:
    event = await began(talk)
    following = message_event(str(event.thread_id), "and then?")
    assert await talk.run(following) == Done()
    assert await texts(talk, event) == ["hello", ANSWER, "and then?", ANSWER]
    assert [text_of(item) for item in talk.screen(following).done.values()] == ["and then?", ANSWER]
    assert [text_of(item) for item in talk.responder.seen[-1]] == ["hello", ANSWER, "and then?"]


async def test_three_deliveries_of_one_event_are_one_thread_and_one_answer(talk: Conversation) -> None:
    event = await began(talk)
    shown = len(talk.frames.of(event))
    assert [await talk.run(event), await talk.run(event)] == [Done(), Done()]
    assert await texts(talk, event) == ["hello", ANSWER]
    assert len((await talk.read("threads.list"))["data"]) == 1
    assert len(talk.frames.of(event)) == shown
    assert len(talk.responder.seen) == 1


@pytest.mark.parametrize("k", range(7))
async def test_a_worker_that_dies_at_any_frame_leaves_one_whole_answer(talk: Conversation, k: int) -> None:
    died = False

    async def die(event_id: str, count: int) -> None:
        nonlocal died
        if count == k and not died:
            died = True
            raise asyncio.CancelledError

    first = await began(talk)
    event = message_event(str(first.thread_id), "again")
    talk.frames.before_frame = die
    with pytest.raises(asyncio.CancelledError):
        await talk.run(event)
    assert await talk.run(event) == Done()
    assert await texts(talk, event) == ["hello", ANSWER, "again", ANSWER]
    screen = talk.screen(event)
    assert [text_of(item) for item in screen.done.values()] == ["again", ANSWER]
    assert not screen.pending
    stored = [item["id"] for item in await talk.items(str(event.thread_id))]
    assert list(screen.done) == stored[2:]


@pytest.mark.parametrize("k", range(8))
async def test_a_new_thread_survives_a_death_at_any_frame(talk: Conversation, k: int) -> None:
    died = False

    async def die(event_id: str, count: int) -> None:
        nonlocal died
        if count == k and not died:
            died = True
            raise asyncio.CancelledError

    event = create_event("hello")
    talk.frames.before_frame = die
    with pytest.raises(asyncio.CancelledError):
        await talk.run(event)
    assert await talk.run(event) == Done()
    assert await texts(talk, event) == ["hello", ANSWER]
    created = [frame for frame in frames_of(talk.frames.of(event)) if frame.type == "thread.created"]
    assert len(created) == 1
    assert [text_of(item) for item in talk.screen(event).done.values()] == ["hello", ANSWER]


async def test_a_failure_shows_no_error_and_keeps_the_question(talk: Conversation) -> None:
    event = create_event("hello")
    talk.responder.answer = fail
    with pytest.raises(TransientError):
        await talk.run(event)
    assert await texts(talk, event) == ["hello"]
    assert b"error" not in b"".join(talk.frames.of(event))
    talk.responder.answer = type(talk.responder)().answer
    assert await talk.run(event) == Done()
    assert await texts(talk, event) == ["hello", ANSWER]


async def test_a_stale_turn_writes_nothing_after_a_later_one_has_begun(talk: Conversation) -> None:
    first = await began(talk)
    event = message_event(str(first.thread_id), "again")
    stale, late = asyncio.Event(), asyncio.Event()

    async def wait_for_the_other(event_id: str, count: int) -> None:
        if count == 3 and not late.is_set():
            stale.set()
            await late.wait()

    talk.frames.before_frame = wait_for_the_other
    old = asyncio.create_task(talk.turns(talk.delivery(event)))
    await stale.wait()
    talk.frames.streams[event.event_id] = []
    late_delivery = talk.delivery(event)
    late.set()
    assert await talk.turns(late_delivery) == Done()
    with pytest.raises(LeaseLostError):
        await old
    assert await texts(talk, event) == ["hello", ANSWER, "again", ANSWER]


async def test_a_turn_with_an_older_epoch_does_not_even_begin(talk: Conversation) -> None:
    first = await began(talk)
    newer = message_event(str(first.thread_id), "newer")
    assert await talk.turns(talk.delivery(newer, epoch=1000)) == Done()
    with pytest.raises(LeaseLostError):
        await talk.turns(talk.delivery(message_event(str(first.thread_id), "older"), epoch=999))
    assert await texts(talk, first) == ["hello", ANSWER, "newer", ANSWER]


@pytest.mark.parametrize(("create", "k"), [(True, k) for k in range(8)] + [(False, k) for k in range(7)])
async def test_a_cancel_keeps_exactly_what_was_shown(talk: Conversation, create: bool, k: int) -> None:
    stop = StopSignal()

    async def stop_here(event_id: str, count: int) -> None:
        if count == k and stop.reason is None and event_id == event.event_id:
            stop.reason = CancelReason.USER
            raise asyncio.CancelledError

    event = create_event("hello") if create else message_event(str((await began(talk)).thread_id), "again")
    talk.frames.before_frame = stop_here
    assert await talk.turns(talk.delivery(event, stop=stop)) == Cancelled(CancelReason.USER)
    screen = talk.screen(event)
    shown = [text_of(item) for item in [*screen.done.values(), *screen.pending.values()] if text_of(item)]
    if create and screen.thread is None:
        with pytest.raises(NotFoundError):
            await talk.items(str(event.thread_id))
        return
    said = await texts(talk, event)
    question = "hello" if create else "again"
    before = [] if create else ["hello", ANSWER]
    # the question is stored before its answer begins, shown or not
    assert said in ([*before, *shown], [*before, question])
    assert [text for text in said if text in ANSWER or text in WORDS] == [
        text for text in [*before, *shown] if text not in ("hello", "again")
    ]


async def test_a_title_given_by_hand_during_a_turn_survives_it(talk: Conversation) -> None:
    first = await began(talk)
    event = message_event(str(first.thread_id), "again")

    async def rename(event_id: str, count: int) -> None:
        if count == 3:
            await talk.read("threads.update", thread_id=first.thread_id, title="By hand")

    talk.frames.before_frame = rename
    assert await talk.run(event) == Done()
    assert (await talk.read("threads.get_by_id", thread_id=first.thread_id))["title"] == "By hand"


async def test_a_thread_that_is_deleted_during_a_turn_stays_deleted(talk: Conversation) -> None:
    first = await began(talk)
    event = message_event(str(first.thread_id), "again")

    async def delete(event_id: str, count: int) -> None:
        if count == 3:
            await talk.read("threads.delete", thread_id=first.thread_id)

    talk.frames.before_frame = delete
    with pytest.raises(LeaseLostError):
        await talk.run(event)
    with pytest.raises(NotFoundError):
        await talk.read("threads.get_by_id", thread_id=first.thread_id)


async def test_a_page_tools_output_goes_on_with_the_turn_once(talk: Conversation) -> None:
    first = await began(talk, call_page_tool)
    talk.responder.answer = type(talk.responder)().answer
    output = request_event(
        "threads.add_client_tool_output", {"thread_id": first.thread_id, "result": {"colour": "red"}}
    )
    assert await talk.run(output) == Done()
    assert await talk.run(output) == Done()  # delivered again: a finished step
    assert await texts(talk, first) == ["hello", "client_tool_call", ANSWER]
    assert (await talk.items(str(first.thread_id)))[1]["output"] == {"colour": "red"}


async def test_a_structured_input_is_taken_once_even_if_its_turn_fails_first(talk: Conversation) -> None:
    first = await began(talk, ask)
    item_id = (await talk.items(str(first.thread_id)))[1]["id"]
    answers = {"status": "answered", "answers": {"q": {"values": ["red"]}}}
    event = request_event(
        "threads.add_structured_input", {"thread_id": first.thread_id, "item_id": item_id, "input": answers}
    )
    talk.responder.answer = fail
    with pytest.raises(TransientError):
        await talk.run(event)
    talk.responder.answer = type(talk.responder)().answer
    assert [await talk.run(event), await talk.run(event)] == [Done(), Done()]
    items = await talk.items(str(first.thread_id))
    assert (items[1]["status"], items[1]["inputs"][0]["answer"]["values"]) == ("answered", ["red"])
    assert len(items) == 3


async def test_a_widgets_action_reaches_the_agents_and_is_not_shown(talk: Conversation) -> None:
    first = await began(talk, show_widget)
    widget = (await talk.items(str(first.thread_id)))[1]
    talk.responder.answer = type(talk.responder)().answer
    params = {"thread_id": first.thread_id, "item_id": widget["id"], "action": {"type": "pick", "payload": {"n": 1}}}
    assert await talk.run(request_event("threads.custom_action", params)) == Done()
    told = talk.responder.seen[-1][-1]
    assert isinstance(told, HiddenContextItem)
    assert "'pick'" in told.content
    assert await texts(talk, first) == ["hello", "widget", ANSWER]
    sync = request_event("threads.sync_custom_action", params)
    assert await talk.run(sync) == Done()
    [frame] = talk.frames.of(sync)
    assert b"updated_item" in frame


async def test_a_retry_after_an_item_replaces_what_came_after_it(talk: Conversation) -> None:
    first = await began(talk)
    await talk.run(message_event(str(first.thread_id), "second"))
    question = (await talk.items(str(first.thread_id)))[0]["id"]
    retry = request_event("threads.retry_after_item", {"thread_id": first.thread_id, "item_id": question})
    assert [await talk.run(retry), await talk.run(retry)] == [Done(), Done()]
    assert await texts(talk, first) == ["hello", ANSWER]


async def test_a_request_that_does_not_fit_the_thread_is_refused_for_good(talk: Conversation) -> None:
    first = await began(talk)
    output = request_event("threads.add_client_tool_output", {"thread_id": first.thread_id, "result": {}})
    with pytest.raises(PermanentError):
        await talk.run(output)
    with pytest.raises(NotFoundError):
        await talk.run(message_event("thr_nowhere", "hello?"))
    assert await texts(talk, first) == ["hello", ANSWER]
