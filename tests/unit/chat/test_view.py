"""The items of a thread as a turn sees them."""

from collections.abc import Sequence
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.chatkit import AssistantMessageItem, ThreadItem
from workers.chat.rows import Window
from workers.chat.view import ThreadView

AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # ChatKit's times are naive and local


def item(id_: str) -> ThreadItem:
    return AssistantMessageItem(id=id_, thread_id="thr_1", created_at=AT, content=[])


def view_of(*ids: str, reaches_start: bool = True) -> ThreadView:
    view = ThreadView()
    view.take(Window([item(id_) for id_ in ids], 7, reaches_start))
    return view


def ids(items: Sequence[ThreadItem]) -> str:
    return "".join(one.id for one in items)


def test_a_new_thread_has_no_items_and_nothing_to_be_read() -> None:
    view = ThreadView()
    assert view.covers(None, 20, "asc")
    assert view.page(None, 20, "desc").data == []
    assert not view.may_hold("a")


def test_new_items_come_last_and_changed_ones_stay_in_place() -> None:
    view = view_of("a", "b")
    view.put(item("c"))
    view.put(item("a"))
    assert ids(view.recent(10)) == "abc"
    assert ids(view.written()) == "ca"
    assert ids(view.recent(2)) == "bc"


def test_a_removed_item_is_to_be_deleted_and_not_to_be_written() -> None:
    view = view_of("a")
    view.put(item("b"))
    view.remove("b")
    view.remove("a")
    assert view.recent(10) == []
    assert view.written() == []
    assert sorted(view.deleted()) == ["a", "b"]


def test_an_item_that_comes_back_is_not_deleted() -> None:
    view = view_of("a")
    view.remove("a")
    view.put(item("a"))
    assert view.deleted() == []
    assert ids(view.written()) == "a"


def test_what_is_committed_is_written_no_more() -> None:
    view = view_of("a")
    view.put(item("b"))
    view.remove("a")
    view.committed()
    assert (view.written(), view.deleted()) == ([], [])
    assert ids(view.recent(10)) == "b"


def test_older_items_join_in_front_without_undoing_changes() -> None:
    view = view_of("c", "d", reaches_start=False)
    changed = AssistantMessageItem.model_validate(item("b").model_dump() | {"content": [{"text": "changed"}]})
    view.put(changed)
    view.remove("a")
    view.take(Window([item("a"), item("b")], 1, reaches_start=True))
    assert ids(view.recent(10)) == "bcd"
    assert view.get("b") == changed
    assert view.first_seq == 1


def test_only_items_that_were_not_read_may_be_held_elsewhere() -> None:
    view = view_of("c", reaches_start=False)
    view.remove("b")
    assert view.may_hold("a")
    assert not view.may_hold("b")
    assert not view_of("c").may_hold("a")


def test_a_window_covers_the_newest_pages_only() -> None:
    view = view_of("a", "b", "c", "d", reaches_start=False)
    assert view.covers(None, 3, "desc")
    assert not view.covers(None, 4, "desc")  # whether there is more is not known
    assert view.covers("c", 1, "desc")
    assert not view.covers("c", 2, "desc")
    assert not view.covers(None, 1, "asc")
    assert not view.covers("unread", 1, "desc")


@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(["asc", "desc"]))
def test_pages_give_every_item_once(count: int, limit: int, order: str) -> None:
    wanted = [f"{number:x}" for number in range(count)]
    view = view_of(*wanted)
    seen: list[str] = []
    more, after = True, None
    while more:
        page = view.page(after, limit, order)
        assert len(page.data) <= limit
        assert (page.after is None) == (not page.has_more)
        seen += [one.id for one in page.data]
        more, after = page.has_more, page.after
    assert seen == (wanted if order == "asc" else wanted[::-1])
