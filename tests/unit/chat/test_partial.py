"""What clients have seen, played back from the frames."""

from datetime import datetime
from typing import Any

from schemas.chatkit import (
    AssistantMessageItem,
    Thread,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadUpdatedEvent,
    UserMessageItem,
)
from workers.chat.database import Database
from workers.chat.partial import Shown, shown_by
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore

AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # ChatKit's times are naive and local
BASE = {"thread_id": "thr_1", "created_at": AT}


def said(id_: str, text: str = "") -> ThreadItem:
    content = [{"text": text}] if text else []
    return AssistantMessageItem.model_validate({**BASE, "id": id_, "content": content})


def asked(id_: str = "q") -> ThreadItem:
    return UserMessageItem.model_validate({**BASE, "id": id_, "content": [], "inference_options": {}})


def delta(id_: str, text: str) -> ThreadItemUpdatedEvent:
    update = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": text}
    return ThreadItemUpdatedEvent.model_validate({"item_id": id_, "update": update})


def thread(title: str | None = None) -> Thread:
    return Thread.model_validate({"id": "thr_1", "created_at": AT, "title": title, "items": {"data": []}})


def play(*events: Any) -> Shown:
    frames = [event if isinstance(event, bytes) else event.model_dump_json().encode() for event in events]
    return shown_by(frames, ReadServer(SqlStore(Database("sqlite+aiosqlite:///unused"))))


def kept_texts(shown: Shown) -> list[str]:
    return [
        "".join(part.text for part in item.content) for item in shown.kept if isinstance(item, AssistantMessageItem)
    ]


def test_deltas_add_up_to_what_was_seen() -> None:
    shown = play(ThreadItemAddedEvent(item=said("a")), delta("a", "half "), delta("a", "an"))
    assert shown.answer_ids == ["a"]
    assert kept_texts(shown) == ["half an"]


def test_an_unfinished_item_that_says_nothing_is_on_the_screen_and_not_kept() -> None:
    shown = play(ThreadItemAddedEvent(item=said("a")), delta("a", " \n"))
    assert shown.answer_ids == ["a"]
    assert shown.kept == []


def test_a_finished_item_is_kept_as_it_ended() -> None:
    shown = play(ThreadItemAddedEvent(item=said("a")), delta("a", "draft"), ThreadItemDoneEvent(item=said("a", "done")))
    assert kept_texts(shown) == ["done"]
    assert shown.pending == {}


def test_the_users_message_is_no_part_of_the_answer() -> None:
    shown = play(ThreadItemDoneEvent(item=asked()), ThreadItemDoneEvent(item=said("a", "x")))
    assert shown.answer_ids == ["a"]
    assert [item.id for item in shown.kept] == ["q", "a"]


def test_removed_items_are_gone_and_may_come_again() -> None:
    removed = ThreadItemRemovedEvent(item_id="a")
    assert play(ThreadItemDoneEvent(item=said("a", "x")), removed).kept == []
    assert play(ThreadItemAddedEvent(item=said("a")), removed).answer_ids == []
    again = play(ThreadItemDoneEvent(item=said("a", "x")), removed, ThreadItemDoneEvent(item=said("a", "y")))
    assert kept_texts(again) == ["y"]


def test_an_earlier_item_that_was_changed_is_kept_and_not_taken_back() -> None:
    shown = play(ThreadItemReplacedEvent(item=said("earlier", "changed")))
    assert shown.answer_ids == []
    assert kept_texts(shown) == ["changed"]


def test_an_own_item_that_was_replaced_stays_an_own_item() -> None:
    shown = play(ThreadItemAddedEvent(item=said("a")), ThreadItemReplacedEvent(item=said("a", "new")))
    assert shown.answer_ids == ["a"]
    assert (shown.pending, shown.replaced) == ({}, {})


def test_the_thread_is_as_it_was_last_shown() -> None:
    shown = play(ThreadCreatedEvent(thread=thread()), ThreadUpdatedEvent(thread=thread("Order 4711")))
    assert shown.created is not None
    assert shown.updated is not None
    assert (shown.created.title, shown.updated.title) == (None, "Order 4711")


def test_other_frames_leave_nothing_on_the_screen() -> None:
    shown = play(b'{"type":"progress_update","text":"x"}', b'{"updated_item":null}', b'{"type":"stream_options"}')
    assert (shown.kept, shown.answer_ids, shown.created, shown.updated) == ([], [], None, None)
