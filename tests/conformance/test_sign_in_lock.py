"""A turn that waits for a sign-in: the composer is locked on the screen and in the store, and free again in both."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from schemas.chatkit import (
    ActiveStatus,
    ClientEffectEvent,
    LockedStatus,
    ProgressUpdateEvent,
    ThreadCreatedEvent,
    ThreadUpdatedEvent,
)
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done
from tests.builders import create_event, message_event, request_event
from tests.conformance.chats import Chat, Context, Step, begins, fails, says, texts
from workers.chat.sign_in_lock import REASON
from workers.chat.take_back import TakeBack
from workers.errors import AuthenticationError, DatabaseError, TransientError
from workers.policies.delivery import StopSignal

REFUSED = AuthenticationError("HTTP 401")
WAYS = pytest.mark.parametrize("create", [True, False])


async def question(chat: Chat, create: bool) -> Event:
    return create_event("hello") if create else message_event(str((await chat.thread()).thread_id), "and then?")


async def refused(chat: Chat, event: Event, step: Step | None = None) -> None:
    """An attempt that ends with a 401."""
    chat.responder.steps = [step or fails(REFUSED)]
    with pytest.raises(AuthenticationError):
        await chat.run(event)


def composer(chat: Chat, event: Event) -> Any:
    """The status that is on the screen of whoever followed the event."""
    told = [f.thread.status for f in chat.frames(event) if isinstance(f, ThreadCreatedEvent | ThreadUpdatedEvent)]
    return told[-1] if told else ActiveStatus()


async def check(chat: Chat, event: Event, *, locked: bool) -> None:
    """The screen and the store say the same of the composer."""
    stored = (await chat.stored_thread(event)).status
    assert composer(chat, event) == stored == (LockedStatus(reason=REASON) if locked else ActiveStatus())


def asked(chat: Chat, event: Event) -> list[str]:
    """How the user was asked to sign in."""
    effects = [frame.name for frame in chat.frames(event) if isinstance(frame, ClientEffectEvent)]
    said = [
        "text" for frame in chat.frames(event) if isinstance(frame, ProgressUpdateEvent) and "sign in" in frame.text
    ]
    return said + effects


async def given_up(chat: Chat, event: Event) -> None:
    """What a runner does for an event that ends without its answer."""
    look = await TakeBack(chat.database, chat.recorder)(chat.delivery(event))
    chat.recorder.streams[event.event_id] += look.frames


@WAYS
async def test_a_refused_turn_locks_the_composer_and_lets_the_page_ask(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    await check(chat, event, locked=True)
    assert asked(chat, event) == ["text", "reauthenticate"]
    [effect] = [frame for frame in chat.frames(event) if isinstance(frame, ClientEffectEvent)]
    assert effect.data == {"event_id": event.event_id}


@WAYS
async def test_a_page_that_is_loaded_meanwhile_shows_the_lock_and_nothing_of_how_it_is_kept(
    chat: Chat, create: bool
) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    thread = await chat.ask("threads.get_by_id", {"thread_id": event.thread_id})
    assert thread["status"] == {"type": "locked", "reason": REASON}
    assert not thread.get("metadata")


@WAYS
async def test_after_the_sign_in_the_answer_comes_and_the_composer_is_free(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    chat.responder.steps = [says("welcome back")]
    assert await chat.run(event) == Done()
    await check(chat, event, locked=False)
    assert texts(await chat.items(event))[-1] == chat.screen(event)[-1] == "welcome back"
    assert (await chat.stored_thread(event)).metadata == {}
    told = [frame for frame in chat.frames(event) if isinstance(frame, ThreadUpdatedEvent)]
    assert len(told) == 2, "locked once, freed once"


@WAYS
async def test_it_is_free_as_soon_as_the_answer_begins(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    chat.responder.steps = [begins("half an", then=TransientError("cut"))]
    with pytest.raises(TransientError):
        await chat.run(event)
    await check(chat, event, locked=False)


@WAYS
async def test_an_attempt_that_is_refused_again_leaves_the_lock_and_asks_once_more_in_words(
    chat: Chat, create: bool
) -> None:
    event = await question(chat, create)
    for _ in range(3):
        await refused(chat, event)
        await check(chat, event, locked=True)
    assert asked(chat, event) == ["text", "text", "text", "reauthenticate"]
    assert await chat.run(event) == Done()
    await check(chat, event, locked=False)


@WAYS
async def test_refused_in_the_middle_of_an_answer_it_is_locked_as_well(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event, begins("half an", then=REFUSED))
    await check(chat, event, locked=True)
    await refused(chat, event, begins("half an", then=REFUSED))
    await check(chat, event, locked=True)
    assert await chat.run(event) == Done()
    await check(chat, event, locked=False)
    assert chat.screen(event) == texts(await chat.items(event))[0 if create else 2 :]


@WAYS
async def test_a_cancel_while_it_waits_frees_the_composer(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    stopped = chat.delivery(event, stop=StopSignal(CancelReason.USER))
    assert await chat.handler()(stopped) == Cancelled(CancelReason.USER)
    await given_up(chat, event)
    await check(chat, event, locked=False)
    assert (await chat.stored_thread(event)).metadata == {}


@WAYS
async def test_an_event_that_is_given_up_frees_the_composer(chat: Chat, create: bool) -> None:
    event = await question(chat, create)
    await refused(chat, event)
    await given_up(chat, event)
    await check(chat, event, locked=False)
    await given_up(chat, event)
    await check(chat, event, locked=False)


@pytest.mark.parametrize("word", [b'"locked"', b'"active"'])
async def test_a_worker_that_died_between_store_and_screen_leaves_them_alike_in_the_end(
    chat: Chat, word: bytes
) -> None:
    event, died = await question(chat, create=False), 0

    async def dies(_: str, __: int, frame: bytes) -> None:
        nonlocal died
        if frame.startswith(b'{"type":"thread.updated"') and word in frame and not died:
            died += 1
            raise asyncio.CancelledError

    chat.recorder.before_frame = dies
    for step in (fails(REFUSED), says("welcome")):
        chat.responder.steps = [step]
        with suppress(AuthenticationError, asyncio.CancelledError):
            await chat.run(event)
    assert died
    assert await chat.run(event) == Done()
    await check(chat, event, locked=False)


async def test_a_lock_that_was_stored_and_not_shown_is_shown_by_the_next_attempt(chat: Chat) -> None:
    event = await question(chat, create=False)

    async def dies(_: str, __: int, frame: bytes) -> None:
        if b'"locked"' in frame:
            raise asyncio.CancelledError

    chat.recorder.before_frame = dies
    chat.responder.steps = [fails(REFUSED)]
    with pytest.raises(asyncio.CancelledError):
        await chat.run(event)
    assert isinstance((await chat.stored_thread(event)).status, LockedStatus)
    chat.recorder.before_frame = None
    await refused(chat, event)
    await check(chat, event, locked=True)


async def test_a_thread_that_was_locked_for_another_reason_is_so_again(chat: Chat) -> None:
    event = await question(chat, create=False)

    async def closes(context: Context) -> Any:
        context.thread.status = LockedStatus(reason="An operator looks at this.")
        async for frame in says("one moment")(context):
            yield frame

    chat.responder.steps = [closes]
    assert await chat.run(event) == Done()
    again = message_event(str(event.thread_id), "still there?")
    await refused(chat, again)
    await check(chat, again, locked=True)
    assert await chat.run(again) == Done()
    assert composer(chat, again) == LockedStatus(reason="An operator looks at this.")
    assert (await chat.stored_thread(again)).status == composer(chat, again)


async def test_a_title_that_was_changed_by_hand_meanwhile_stays(chat: Chat) -> None:
    event = await question(chat, create=False)
    await refused(chat, event)
    await chat.ask("threads.update", {"thread_id": event.thread_id, "title": "Renamed"})
    assert await chat.run(event) == Done()
    stored = await chat.stored_thread(event)
    assert (stored.title, stored.status) == ("Renamed", ActiveStatus())


async def test_a_store_that_is_away_costs_only_the_lock(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    event = await question(chat, create=False)

    async def away(*_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr("workers.chat.unit_of_work.TurnStore.change_now", away)
    await refused(chat, event)
    assert asked(chat, event) == ["text"]
    await check(chat, event, locked=False)


async def test_what_is_answered_by_json_locks_nothing(chat: Chat) -> None:
    thread = await chat.thread()

    def refuses(*_: Any) -> Any:
        return fails(REFUSED)(None)  # type: ignore[arg-type]  # same

    chat.actions["pick"] = refuses  # type: ignore[assignment]  # it asks nothing of it
    params = {"thread_id": str(thread.thread_id), "action": {"type": "pick", "payload": {}}, "item_id": None}
    event = request_event("threads.sync_custom_action", params)
    with pytest.raises(AuthenticationError):
        await chat.run(event)
    assert asked(chat, event) == ["text"]
    assert (await chat.stored_thread(thread)).status == ActiveStatus()
