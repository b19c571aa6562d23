"""Nobody reads or changes what is another's: not another user of the tenant, not the same user of another tenant."""

from typing import Any

import pytest
from chatkit.store import NotFoundError as StoreNotFoundError

from schemas.chatkit import FileAttachment, ThreadMetadata
from schemas.errors import WorkersError
from schemas.events import ACTION_SEND
from schemas.outcome import Done
from tests.builders import create_event, delivery_of, feedback_event, message_event, request_event, user_input
from tests.conformance.chats import AT, Chat, shows
from tests.conformance.test_store import item
from tests.conformance.test_turns import answering, pressing, question, widget
from workers.chat.context import TurnContext
from workers.chat.store import SqlStore
from workers.chat.tables import feedback
from workers.chat.unit_of_work import TurnStore
from workers.errors import LeaseLostError, NotFoundError
from workers.lanes.records import Owner

pytestmark = pytest.mark.parametrize("stranger", [Owner("default", "u2"), Owner("other", "u1")], ids=["user", "tenant"])


def theirs(event: Any, stranger: Owner) -> Any:
    return event.model_copy(update={"tenant": stranger.tenant, "userid": stranger.user})


async def untouched(chat: Chat, event: Any) -> None:
    """Check that the owner finds everything as it was."""
    assert await chat.kinds(event) == ["user_message", "widget", "structured_input"]
    assert (await chat.stored_thread(event)).title is None
    assert [thread["id"] for thread in (await chat.ask("threads.list", {}))["data"]] == [event.thread_id]


@pytest.fixture
async def event(chat: Chat) -> Any:
    chat.responder.steps = [shows(widget(), question())]
    return await chat.thread()


async def test_a_stranger_is_refused_at_the_door_and_nobody_else(chat: Chat, event: Any, stranger: Owner) -> None:
    thread_id = str(event.thread_id)
    await chat.reads.check_thread(thread_id, tenant=event.tenant, user=event.userid)
    await chat.reads.check_thread("thr_to_come", tenant=stranger.tenant, user=stranger.user)
    if stranger.tenant != event.tenant:  # another tenant may well use the same id
        await chat.reads.check_thread(thread_id, tenant=stranger.tenant, user=stranger.user)
        return
    with pytest.raises(NotFoundError):
        await chat.reads.check_thread(thread_id, tenant=stranger.tenant, user=stranger.user)


async def test_every_method_of_the_store_refuses_a_stranger(chat: Chat, event: Any, stranger: Owner) -> None:
    store, context, thread_id = SqlStore(chat.database), TurnContext(stranger, "evt_x"), str(event.thread_id)
    for attack in (
        store.load_thread(thread_id, context),
        store.save_thread(ThreadMetadata(id=thread_id, created_at=AT, title="mine"), context),
        store.load_thread_items(thread_id, None, 10, "asc", context),
        store.load_item(thread_id, "wid_1", context),
        store.add_thread_item(thread_id, item("a"), context),
        store.save_item(thread_id, item("wid_1"), context),
    ):
        with pytest.raises(StoreNotFoundError):
            await attack
    assert (await store.load_threads(10, None, "asc", context)).data == []
    assert (await store.load_threads(10, thread_id, "asc", context)).data == []
    await store.delete_thread_item(thread_id, "wid_1", context)
    await store.delete_thread(thread_id, context)
    await untouched(chat, event)


async def test_every_request_of_a_turn_refuses_a_stranger(chat: Chat, event: Any, stranger: Owner) -> None:
    thread_id = str(event.thread_id)
    asked = len(chat.responder.asked)
    for attack in (
        message_event(thread_id, "let me in"),
        answering(thread_id),
        pressing(thread_id),
        pressing(thread_id, sync=True),
        request_event("threads.add_client_tool_output", {"thread_id": thread_id, "result": 1}),
        request_event("threads.retry_after_item", {"thread_id": thread_id, "item_id": (await chat.items(event))[0].id}),
    ):
        with pytest.raises(NotFoundError):
            await chat.run(theirs(attack, stranger))
        assert chat.recorder.streams[attack.event_id] == []
    assert len(chat.responder.asked) == asked
    await untouched(chat, event)


async def test_every_request_of_the_gateway_refuses_a_stranger(chat: Chat, event: Any, stranger: Owner) -> None:
    as_stranger = {"tenant": stranger.tenant, "user": stranger.user}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("threads.get_by_id", {}),
        ("items.list", {}),
        ("threads.update", {"title": "mine"}),
        ("items.feedback", {"item_ids": ["wid_1"], "kind": "negative"}),
    ]
    for type_, params in asked:
        with pytest.raises(NotFoundError):
            await chat.ask(type_, {"thread_id": event.thread_id, **params}, **as_stranger)
    await chat.ask("threads.delete", {"thread_id": event.thread_id}, **as_stranger)
    assert (await chat.ask("threads.list", {}, **as_stranger))["data"] == []
    await untouched(chat, event)


async def test_every_light_event_refuses_a_stranger(chat: Chat, event: Any, stranger: Owner) -> None:
    thread_id = str(event.thread_id)
    attacks = [
        feedback_event(thread_id),
        request_event("threads.update", {"thread_id": thread_id, "title": "mine"}),
        request_event("threads.get_by_id", {"thread_id": thread_id}),
        request_event("items.list", {"thread_id": thread_id}),
        feedback_event(thread_id).model_copy(
            update={"type": ACTION_SEND, "data": {"thread_id": thread_id, "message": "spam"}}
        ),
    ]
    results = await chat.light([delivery_of(theirs(attack, stranger)) for attack in attacks])
    assert all(isinstance(result, WorkersError) and frames == [] for result, frames in results), results
    deletion = request_event("threads.delete", {"thread_id": thread_id})
    assert await chat.light([delivery_of(theirs(deletion, stranger))]) == [(Done(), [b"{}"])]
    assert await chat.database.read(lambda connection: connection.execute(feedback.select()).all()) == []
    await untouched(chat, event)


async def test_an_attachment_is_its_owners(chat: Chat, event: Any, stranger: Owner) -> None:
    made = await chat.ask("attachments.create", {"name": "a.txt", "size": 3, "mime_type": "text/plain"})
    store, context = SqlStore(chat.database), TurnContext(stranger, "evt_x")
    with pytest.raises(StoreNotFoundError):
        await store.load_attachment(made["id"], context)
    if stranger.tenant == "default":  # another tenant may well use the same id
        with pytest.raises(StoreNotFoundError):
            await store.save_attachment(FileAttachment(id=made["id"], name="x", mime_type="y"), context)
    await store.delete_attachment(made["id"], context)
    given = user_input("look") | {"attachments": [made["id"]]}
    with pytest.raises(NotFoundError):
        await chat.run(theirs(request_event("threads.create", {"input": given}), stranger))
    found = await store.load_attachment(made["id"], TurnContext(Owner("default", "u1"), "evt_x"))
    assert found.name == "a.txt"


async def test_nobody_takes_a_thread_over_by_making_it(chat: Chat, event: Any, stranger: Owner) -> None:
    thief = TurnStore(chat.database, stranger, "evt_thief", epoch=1_000_000)
    thread = ThreadMetadata(id=str(event.thread_id), created_at=AT, title="stolen")
    await thief.save_thread(thread, TurnContext(stranger, "evt_thief"))
    if stranger.tenant == "default":
        with pytest.raises(LeaseLostError):
            await thief.commit()
    else:
        await thief.commit()  # a thread of that tenant's own, which has nothing to do with this one
    await untouched(chat, event)


async def test_the_same_event_of_two_tenants_makes_two_threads(chat: Chat, event: Any, stranger: Owner) -> None:
    made = create_event("mine", userid="u1")
    other = theirs(made, Owner("other", stranger.user))
    assert await chat.run(made) == Done()
    chat.recorder.streams.clear()
    assert await chat.run(other) == Done()
    ids = [(await chat.items(one))[0].id for one in (made, other)]
    assert len(set(ids)) == 2
