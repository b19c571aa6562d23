"""Reads, small changes, batches, and who may do them."""

from typing import Any

import pytest

from schemas.chatkit import AssistantMessageContent, AssistantMessageItem, FileAttachment, Page, ThreadMetadata
from schemas.errors import WorkersError
from schemas.events import ACTION_SEND, parse_event
from schemas.outcome import Done
from tests.builders import create_event, delivery_of, feedback_event, message_event, request_event
from tests.conformance.conversation import Conversation
from tests.conformance.test_turns import ANSWER, began, now, texts
from workers.chat import rows
from workers.chat.context import Owner, TurnContext
from workers.chat.database import Database
from workers.chat.light import LightHandler
from workers.chat.store import SqlStore
from workers.chat.unit_of_work import WINDOW, TurnStore
from workers.errors import DatabaseError, LeaseLostError, NotFoundError


async def test_threads_and_items_are_paged_in_the_order_in_which_they_came(talk: Conversation) -> None:
    events = [await began(talk) for _ in range(5)]
    ids = [event.thread_id for event in events]
    first = await talk.read("threads.list", limit=2, order="asc")
    second = await talk.read("threads.list", limit=2, order="asc", after=first["after"])
    assert [thread["id"] for thread in first["data"] + second["data"]] == ids[:4]
    assert (first["has_more"], second["has_more"]) == (True, True)
    newest = await talk.read("threads.list", limit=10)
    assert [thread["id"] for thread in newest["data"]] == ids[::-1]
    assert not newest["has_more"]


async def test_items_page_through_a_thread_that_is_longer_than_a_turns_window(
    talk: Conversation, database: Database
) -> None:
    event = await began(talk)
    owner, thread_id = Owner("default", "u1"), str(event.thread_id)
    many = [
        rows.ItemRow(
            AssistantMessageItem(
                id=f"msg_{n}", thread_id=thread_id, created_at=now(), content=[AssistantMessageContent(text=str(n))]
            ),
            "evt_x",
        )
        for n in range(WINDOW + 20)
    ]
    await database.write(lambda c: rows.write_items(c, database.insert, owner, thread_id, many))
    store = TurnStore(database, owner, "evt_y", epoch=10_000)
    await store.open(thread_id, create=False)
    context = TurnContext(owner, "evt_y")
    for order in ("asc", "desc"):
        seen: list[str] = []
        after: str | None = None
        while True:
            page: Page[Any] = await store.load_thread_items(thread_id, after, 100, order, context)
            seen += [item.id for item in page.data]
            after = page.after
            if not page.has_more:
                break
        assert len(seen) == len(set(seen)) == WINDOW + 22
        assert seen[-1 if order == "asc" else 0] == f"msg_{WINDOW + 19}"


STRANGERS = [("default", "somebody-else"), ("other-tenant", "u1")]


@pytest.mark.parametrize(("tenant", "user"), STRANGERS)
async def test_nobody_else_reads_or_changes_a_thread(
    talk: Conversation, database: Database, tenant: str, user: str
) -> None:
    event = await began(talk)
    thread_id = str(event.thread_id)
    item_id = (await talk.items(thread_id))[1]["id"]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("threads.get_by_id", {}),
        ("items.list", {}),
        ("threads.update", {"title": "mine"}),
        ("items.feedback", {"item_ids": [item_id], "kind": "negative"}),
    ]
    for type_, params in asked:
        with pytest.raises(NotFoundError):
            await talk.read(type_, tenant=tenant, user=user, thread_id=thread_id, **params)
    await talk.read("threads.delete", tenant=tenant, user=user, thread_id=thread_id)
    assert (await talk.read("threads.list", tenant=tenant, user=user))["data"] == []
    store, context = SqlStore(database), TurnContext(Owner(tenant, user), "evt_x")
    item = AssistantMessageItem(id=item_id, thread_id=thread_id, created_at=now(), content=[])
    for attempt in (
        store.load_item(thread_id, item_id, context),
        store.save_item(thread_id, item, context),
        store.add_thread_item(thread_id, item, context),
    ):
        with pytest.raises(Exception, match=r"no (thread|item)"):
            await attempt
    await store.delete_thread_item(thread_id, item_id, context)
    with pytest.raises(NotFoundError):
        await talk.run(message_event(thread_id, "let me in", tenant=tenant, userid=user))
    assert await texts(talk, event) == ["hello", ANSWER]


async def test_nobody_else_takes_over_a_thread_by_making_it(talk: Conversation, database: Database) -> None:
    event = await began(talk)
    thief = TurnStore(database, Owner("default", "thief"), "evt_thief", epoch=10_000)
    context = TurnContext(Owner("default", "thief"), "evt_thief")
    await thief.save_thread(ThreadMetadata(id=str(event.thread_id), created_at=now(), title="stolen"), context)
    with pytest.raises(LeaseLostError):
        await thief.commit()
    assert await texts(talk, event) == ["hello", ANSWER]


async def test_attachments_are_their_owners(talk: Conversation, database: Database) -> None:
    made = await talk.read("attachments.create", name="a.txt", size=3, mime_type="text/plain")
    store = SqlStore(database)
    mine, foreign = TurnContext(Owner("default", "u1"), "e"), TurnContext(Owner("default", "u2"), "e")
    assert (await store.load_attachment(made["id"], mine)).name == "a.txt"
    with pytest.raises(Exception, match="no attachment"):
        await store.load_attachment(made["id"], foreign)
    with pytest.raises(Exception, match="no attachment"):
        await store.save_attachment(FileAttachment(id=made["id"], name="x", mime_type="y"), foreign)
    await store.delete_attachment(made["id"], foreign)
    event = create_event("look")
    event.data["params"]["input"]["attachments"] = [made["id"]]
    assert await talk.run(event) == Done()
    assert (await store.load_attachment(made["id"], mine)).thread_id == event.thread_id
    await talk.read("attachments.delete", attachment_id=made["id"])
    with pytest.raises(Exception, match="no attachment"):
        await store.load_attachment(made["id"], mine)


async def test_a_batch_of_light_events_fails_only_where_it_must(talk: Conversation, database: Database) -> None:
    event = await began(talk)
    thread_id = str(event.thread_id)
    ready = {
        "specversion": "1.0",
        "id": "r",
        "source": "/page",
        "type": "chatkit.ui.ready",
        "userid": "u1",
        "data": {},
    }
    send = {
        **ready,
        "id": "s",
        "type": ACTION_SEND,
        "data": {"thread_id": thread_id, "message": "Your order has left."},
    }
    effect = {**send, "id": "e", "data": {"thread_id": thread_id, "effect": {"name": "ring", "data": {"n": 1}}}}
    batch = [
        feedback_event(thread_id),
        feedback_event(thread_id, userid="u2"),
        request_event("threads.update", {"thread_id": thread_id, "title": "Renamed"}),
        request_event("threads.update", {"thread_id": "thr_nowhere", "title": "Renamed"}),
        parse_event(ready),
        parse_event(send),
        parse_event(effect),
        request_event("items.list", {"thread_id": thread_id}),
    ]
    results = await LightHandler(database)([delivery_of(one) for one in batch])
    failed = [isinstance(result, WorkersError) for result, _ in results]
    assert failed == [False, True, False, True, False, False, False, False]
    assert b"client_effect" in results[6][1][0]
    assert (await talk.read("threads.get_by_id", thread_id=thread_id))["title"] == "Renamed"
    assert await texts(talk, event) == ["hello", ANSWER, "Your order has left."]


async def test_light_events_may_be_delivered_twice(talk: Conversation, database: Database) -> None:
    event = await began(talk)
    light = LightHandler(database)
    again = [delivery_of(feedback_event(str(event.thread_id), "msg_1")) for _ in range(3)]
    assert [result for result, _ in await light(again)] == [Done()] * 3
    assert [result for result, _ in await light(again)] == [Done()] * 3


async def test_migrating_twice_changes_nothing(talk: Conversation, database: Database) -> None:
    event = await began(talk)
    await database.upgrade()
    await database.ping()
    assert await texts(talk, event) == ["hello", ANSWER]


async def test_a_database_that_is_away_is_said_to_be(free_port: int) -> None:
    database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port}/none")
    with pytest.raises(DatabaseError):
        await database.ping()
    with pytest.raises(DatabaseError):
        await Conversation(database, "default").run(create_event("hello"))
    await database.close()
