"""Taking back what was shown of an answer that does not come: the screen is left with what is stored."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from chatkit.widgets import DynamicWidgetRoot

from schemas.chatkit import (
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadStreamEvent,
    WidgetItem,
    stream_event_adapter,
)
from schemas.events import Event
from schemas.outcome import Done
from tests.builders import create_event, message_event
from tests.conformance.chats import AT, Chat, Context, Step, begins, dying_at, says, shows, texts
from workers.chat.take_back import TakeBack
from workers.errors import TransientError
from workers.policies.delivery import LastLook


async def taken_back(chat: Chat, event: Event) -> list[str]:
    """Take back what can be; the ids of the items."""
    frames = (await TakeBack(chat.database, chat.recorder)(chat.delivery(event))).frames
    chat.recorder.streams[event.event_id] += frames
    removals = [stream_event_adapter().validate_json(frame) for frame in frames]
    return [removal.item_id for removal in removals if isinstance(removal, ThreadItemRemovedEvent)]


@pytest.mark.parametrize("step", [begins, says])
async def test_what_a_failed_turn_has_shown_goes_and_the_question_stays(chat: Chat, step: Callable[..., Step]) -> None:
    event = message_event(str((await chat.thread()).thread_id), "again")
    chat.responder.steps = [step("half an", then=TransientError("cut"))]
    with pytest.raises(TransientError):
        await chat.run(event)
    assert chat.screen(event) == ["again", "half an"]
    assert len(await taken_back(chat, event)) == 1
    assert chat.screen(event) == ["again"] == texts(await chat.items(event))[2:]
    assert await taken_back(chat, event) == []


async def test_a_question_that_was_shown_and_not_stored_goes_too(chat: Chat) -> None:
    event = message_event(str((await chat.thread()).thread_id), "again")
    chat.recorder.before_frame = dying_at(1)
    chat.responder.steps = [says("never")]
    with pytest.raises(asyncio.CancelledError):
        await chat.run(event)
    assert chat.screen(event) == ["again"]
    await taken_back(chat, event)
    assert chat.screen(event) == [] == texts(await chat.items(event))[2:]


async def test_an_answer_that_is_stored_stays(chat: Chat) -> None:
    event = create_event("hello")
    assert await chat.run(event) == Done()
    assert await TakeBack(chat.database, chat.recorder)(chat.delivery(event)) == LastLook([], answered=True)


async def test_an_event_that_has_shown_nothing_takes_nothing_back(chat: Chat) -> None:
    assert await taken_back(chat, create_event("hello")) == []


async def test_a_card_that_a_failed_turn_has_changed_is_shown_as_it_is_stored(chat: Chat) -> None:
    def widget(text: str) -> WidgetItem:
        tree = DynamicWidgetRoot.model_validate({"type": "Card", "children": [{"type": "Text", "value": text}]})
        return WidgetItem(id="msg_card", thread_id="", created_at=AT, widget=tree, copy_text=text)

    def changes(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async def step() -> AsyncGenerator[ThreadStreamEvent, None]:
            yield ThreadItemReplacedEvent(item=widget("new").model_copy(update={"thread_id": context.thread.id}))
            raise TransientError("cut")

        return step()

    chat.responder.steps = [shows(widget("old")), changes]
    event = message_event(str((await chat.thread()).thread_id), "again")
    with pytest.raises(TransientError):
        await chat.run(event)
    await taken_back(chat, event)
    last = chat.frames(event)[-1]
    assert isinstance(last, ThreadItemReplacedEvent)
    assert isinstance(last.item, WidgetItem)
    assert (last.item.id, last.item.copy_text) == ("msg_card", "old")
    assert last.item in await chat.items(event)
