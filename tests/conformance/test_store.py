"""The laws of ChatKit's Store, for the store outside of turns and for the store of a turn."""

from typing import Any

import pytest
from chatkit.store import NotFoundError, Store

from schemas.chatkit import FileAttachment, ThreadItem
from schemas.events import Event, thread_id_of
from tests.conformance.chats import AT, Chat, context_of, says
from tests.conformance.test_turns import tool_call, widget
from workers.chat.context import TurnContext
from workers.chat.store import SqlStore
from workers.chat.unit_of_work import WINDOW, TurnStore

AnyStore = Store[TurnContext]


@pytest.fixture
async def event(chat: Chat) -> Event:
    """A thread with a question and its answer."""
    return await chat.thread("hello")


@pytest.fixture(params=["rows", "turn"])
async def store(request: pytest.FixtureRequest, chat: Chat, event: Event) -> AnyStore:
    if request.param == "rows":
        return SqlStore(chat.database)
    turn = TurnStore(chat.database, context_of(event).owner, "evt_turn", epoch=1_000_000)
    await turn.open(str(event.thread_id), create=False)
    return turn


def item(id_: str, text: str = "text") -> ThreadItem:
    call = tool_call()
    call.id, call.name = id_, text
    return call


async def ids(store: AnyStore, event: Event, *, order: str = "asc", limit: int = 100, after: str | None = None) -> Any:
    page = await store.load_thread_items(str(event.thread_id), after, limit, order, context_of(event))
    return [one.id for one in page.data], page.has_more, page.after


async def test_a_saved_item_is_found_at_the_end(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    await store.add_thread_item(thread_id, item("a"), context)
    await store.save_item(thread_id, item("b"), context)
    assert (await ids(store, event))[0][2:] == ["a", "b"]
    assert await store.load_item(thread_id, "b", context) == item("b")


async def test_saving_an_item_again_changes_it_where_it_stands(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    for id_ in ("a", "b"):
        await store.add_thread_item(thread_id, item(id_), context)
    await store.add_thread_item(thread_id, item("a", "changed"), context)
    await store.save_item(thread_id, item("b", "changed"), context)
    page = await store.load_thread_items(thread_id, None, 100, "asc", context)
    assert [(one.id, getattr(one, "name", "")) for one in page.data[2:]] == [("a", "changed"), ("b", "changed")]


async def test_items_are_paged_without_gap_or_overlap(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    for number in range(5):
        await store.add_thread_item(thread_id, item(f"i{number}"), context)
    whole = (await ids(store, event))[0]
    for order in ("asc", "desc"):
        seen: list[str] = []
        more, after = True, None
        while more:
            page, more, after = await ids(store, event, order=order, limit=3, after=after)
            seen += page
        assert seen == (whole if order == "asc" else whole[::-1])


async def test_a_page_that_holds_everything_has_nothing_after_it(store: AnyStore, event: Event) -> None:
    page, more, after = await ids(store, event, limit=2)
    assert (len(page), more, after) == (2, False, None)


async def test_nothing_comes_after_an_unknown_item(store: AnyStore, event: Event) -> None:
    assert await ids(store, event, after="nowhere") == ([], False, None)


async def test_a_deleted_item_is_gone_and_deleting_it_again_is_no_error(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    await store.add_thread_item(thread_id, item("a"), context)
    for _ in range(2):
        await store.delete_thread_item(thread_id, "a", context)
    with pytest.raises(NotFoundError):
        await store.load_item(thread_id, "a", context)
    assert "a" not in (await ids(store, event))[0]


async def test_what_is_not_there_is_not_found(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    with pytest.raises(NotFoundError):
        await store.load_item(thread_id, "nowhere", context)
    with pytest.raises(NotFoundError):
        await store.load_attachment("nowhere", context)
    for lost in (
        store.load_thread("thr_nowhere", context),
        store.load_thread_items("thr_nowhere", None, 10, "asc", context),
        store.load_item("thr_nowhere", "a", context),
        store.save_item("thr_nowhere", item("a"), context),
        store.add_thread_item("thr_nowhere", item("a"), context),
    ):
        with pytest.raises(NotFoundError):
            await lost


async def test_a_saved_title_is_loaded(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    thread = await store.load_thread(thread_id, context)
    thread.title = "Order 4711"
    await store.save_thread(thread, context)
    assert (await store.load_thread(thread_id, context)).title == "Order 4711"


async def test_every_kind_of_character_comes_back(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    said = "quotes \" ' \\ %s :name ? 日本語 🙂 \x00 \u2028 end"
    await store.save_item(thread_id, item("a", said), context)
    if isinstance(store, TurnStore):
        await store.commit()
    stored = await SqlStore(store._database).load_item(thread_id, "a", context)  # type: ignore[attr-defined]  # both have it
    assert stored == item("a", said)


async def test_an_attachment_is_saved_changed_and_loaded(store: AnyStore, event: Event) -> None:
    context = context_of(event)
    file = FileAttachment(id="atc_1", name="a.txt", mime_type="text/plain", metadata={"size_bytes": 3})
    await store.save_attachment(file, context)
    await store.save_attachment(file.model_copy(update={"thread_id": event.thread_id}), context)
    found = await store.load_attachment("atc_1", context)
    assert (found.name, found.thread_id, found.metadata) == ("a.txt", event.thread_id, {"size_bytes": 3})


async def test_ids_are_derived_from_the_event_and_long_enough(store: AnyStore, event: Event) -> None:
    first, again = context_of(event), context_of(event)
    thread = await store.load_thread(str(event.thread_id), first)
    made = [store.generate_item_id("message", thread, first) for _ in range(3)]
    assert made == [store.generate_item_id("message", thread, again) for _ in range(3)]
    assert len({*made, store.generate_item_id("workflow", thread, first)}) == 4
    assert all(len(id_.removeprefix("msg_")) == 26 for id_ in made)
    assert store.generate_thread_id(first) == thread_id_of(event.event_id) == event.thread_id


async def test_threads_are_paged_in_the_order_in_which_they_were_made(chat: Chat, event: Event) -> None:
    made = [str(event.thread_id), *[str((await chat.thread()).thread_id) for _ in range(4)]]
    first = await chat.ask("threads.list", {"limit": 2, "order": "asc"})
    second = await chat.ask("threads.list", {"limit": 2, "order": "asc", "after": first["after"]})
    assert [thread["id"] for thread in first["data"] + second["data"]] == made[:4]
    assert (first["has_more"], second["has_more"]) == (True, True)
    newest = await chat.ask("threads.list", {})
    assert [thread["id"] for thread in newest["data"]] == made[::-1]
    assert "after" not in newest
    assert not newest["has_more"]


@pytest.mark.parametrize("limit", [-1, 1, 1_000_000])
async def test_no_request_gets_an_unbounded_page(chat: Chat, event: Event, limit: int) -> None:
    store, context = SqlStore(chat.database), context_of(event)
    for number in range(120):
        await store.save_item(str(event.thread_id), item(f"i{number}"), context)
    page = await chat.ask("items.list", {"thread_id": event.thread_id, "limit": limit})
    assert len(page["data"]) == min(max(limit, 1), 100)
    assert page["has_more"]


async def test_a_turn_sees_what_it_has_changed_before_the_database_does(chat: Chat, event: Event) -> None:
    turn = TurnStore(chat.database, context_of(event).owner, "evt_turn", epoch=1_000_000)
    await turn.open(str(event.thread_id), create=False)
    context, thread_id = context_of(event), str(event.thread_id)
    [question, answer] = await chat.items(event)
    await turn.save_item(thread_id, item("new"), context)
    await turn.delete_thread_item(thread_id, answer.id, context)
    assert (await ids(turn, event))[0] == [question.id, "new"]
    assert [one.id for one in await chat.items(event)] == [question.id, answer.id]
    await turn.commit()
    assert [one.id for one in await chat.items(event)] == [question.id, "new"]


async def test_a_turn_pages_through_changes_in_a_thread_that_is_longer_than_its_window(
    chat: Chat, event: Event
) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    rows = SqlStore(chat.database)
    for number in range(2 * WINDOW + 20):
        await rows.save_item(thread_id, item(f"i{number}"), context)
    turn = TurnStore(chat.database, context.owner, "evt_turn", epoch=1_000_000)
    await turn.open(thread_id, create=False)
    await turn.delete_thread_item(thread_id, "i3", context)
    await turn.save_item(thread_id, item("i5", "changed"), context)
    await turn.save_item(thread_id, item("new"), context)
    with pytest.raises(NotFoundError):
        await turn.load_item(thread_id, "i3", context)
    assert await turn.load_item(thread_id, "i4", context) == item("i4")
    seen: list[str] = []
    more, after = True, None
    while more:
        page, more, after = await ids(turn, event, order="desc", limit=50, after=after)
        seen += page
    wanted = [*(f"i{number}" for number in range(2 * WINDOW + 20) if number != 3), "new"]
    assert seen[::-1][2:] == wanted
    assert (await turn.load_item(thread_id, "i5", context)) == item("i5", "changed")


async def test_a_widget_comes_back_as_it_was(store: AnyStore, event: Event) -> None:
    context, thread_id = context_of(event), str(event.thread_id)
    shown = widget("a card")
    shown.thread_id = thread_id
    await store.save_item(thread_id, shown, context)
    found = await store.load_item(thread_id, "wid_1", context)
    assert found.model_dump(exclude_none=True) == shown.model_dump(exclude_none=True)


async def test_times_are_kept_as_given(chat: Chat, event: Event) -> None:
    await SqlStore(chat.database).save_item(str(event.thread_id), item("a"), context_of(event))
    stored = (await chat.items(event))[-1]
    assert stored.created_at == AT
    assert stored.created_at.tzinfo is None


async def test_a_turn_that_writes_nothing_still_marks_its_event(chat: Chat, event: Event) -> None:
    turn = TurnStore(chat.database, context_of(event).owner, "evt_turn", epoch=1_000_000)
    await turn.open(str(event.thread_id), create=False)
    await turn.commit(final=True)
    chat.responder.steps = [says("never asked")]
    assert await turn.answer(str(event.thread_id)) == []
