"""Taking back what was shown of an answer that does not come: the screen is left with what is stored."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.chatkit import ThreadItemRemovedEvent, stream_event_adapter
from schemas.events import Event
from schemas.outcome import Done
from tests.builders import create_event, message_event
from tests.conformance.chats import Chat, Step, begins, dying_at, says, texts
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
