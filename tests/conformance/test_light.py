"""Events that need no model: a batch at a time, and no event's failure is another's."""

import json
from datetime import timedelta
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy import Connection
from sqlalchemy import event as sqlalchemy_event

from schemas.errors import WorkersError
from schemas.events import Event, parse_event
from schemas.outcome import Done, Dropped, DropReason
from tests.builders import NOW, delivery_of, feedback_event, request_event
from tests.conformance.chats import Chat, texts
from tests.unit.policies.test_session import RevokedSessions
from workers.chat.database import Database
from workers.chat.light import LightHandler
from workers.chat.page_states import PageStates
from workers.chat.tables import feedback, sessions
from workers.errors import NotFoundError, PermanentError
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.policies.batch import LightResult
from workers.streams.outcomes import EffectOutcomes, action_id_of


def page_event(type_: str, data: dict[str, Any], **attributes: Any) -> Event:
    envelope = {"specversion": "1.0", "id": f"{type_}{json.dumps(data)}", "source": "/page", "userid": "u1"}
    return parse_event({**envelope, "type": type_, "data": data, **attributes})


async def handle(chat: Chat, *events: Event) -> list[Any]:
    return list(await chat.light([delivery_of(event) for event in events]))


async def said(database: Database) -> list[tuple[str, str, str]]:
    """All feedback: item, kind, user."""

    def read(connection: Connection) -> list[tuple[str, str, str]]:
        rows = connection.execute(feedback.select().order_by(feedback.c.item_id)).all()
        return [(row.item_id, row.kind, row.user_id) for row in rows]

    return await database.read(read)


async def session_of(chat: Chat, id_: str = "u1") -> Any:
    return await chat.database.read(
        lambda connection: connection.execute(sessions.select().where(sessions.c.id == id_)).one()
    )


async def test_a_batch_fails_only_where_it_must(chat: Chat) -> None:
    event = await chat.thread("hello")
    thread_id = str(event.thread_id)
    results = await handle(
        chat,
        feedback_event(thread_id),
        feedback_event(thread_id, userid="u2"),
        feedback_event("thr_nowhere"),
        request_event("threads.update", {"thread_id": thread_id, "title": "Renamed"}),
        request_event("threads.update", {"thread_id": "thr_nowhere", "title": "Renamed"}),
        page_event("chatkit.ui.ready", {}),
        page_event("chatkit.action.send", {"thread_id": thread_id, "message": "Your order has left."}),
        page_event("chatkit.action.send", {"thread_id": thread_id, "effect": {"name": "ring", "data": {"n": 1}}}),
        page_event("chatkit.action.send", {"thread_id": "thr_nowhere", "message": "lost"}),
        request_event("items.list", {"thread_id": thread_id}),
    )
    failed = [isinstance(result, WorkersError) for result, _ in results]
    assert failed == [False, True, True, False, True, False, False, False, True, False]
    assert all(result == Done() for result, _ in results if not isinstance(result, WorkersError))
    assert json.loads(results[7][1][0]) == {"type": "client_effect", "name": "ring", "data": {"n": 1}}
    assert (await chat.stored_thread(event)).title == "Renamed"
    assert texts(await chat.items(event)) == ["hello", "answer", "Your order has left."]
    assert await said(chat.database) == [("msg_1", "positive", "u1")]


async def test_a_pushed_message_is_shown_as_it_is_stored_and_only_once(chat: Chat) -> None:
    event = await chat.thread("hello")
    pushed = page_event("chatkit.action.send", {"thread_id": str(event.thread_id), "message": "Your order has left."})
    for _ in range(2):
        [(result, [frame])] = await handle(chat, pushed)
        assert result == Done()
    stored = await chat.items(event)
    shown = json.loads(frame)
    assert shown["type"] == "thread.item.done"
    assert shown["item"]["id"] == stored[-1].id
    assert texts(stored) == ["hello", "answer", "Your order has left."]


@pytest.mark.parametrize("id_", ["", "x" * 129, "nul\0", "white space", "\ud7ff" * 200])
async def test_an_id_that_no_item_can_have_spoils_only_its_own_event(chat: Chat, id_: str) -> None:
    event = await chat.thread()
    results = await handle(
        chat, feedback_event(str(event.thread_id), id_), feedback_event(str(event.thread_id), "msg_2")
    )
    assert isinstance(results[0][0], PermanentError)
    assert results[1] == (Done(), [b"{}"])
    assert [item_id for item_id, _, _ in await said(chat.database)] == ["msg_2"]


async def test_the_last_word_on_an_item_stays(chat: Chat) -> None:
    event = await chat.thread()
    params = {"thread_id": event.thread_id, "item_ids": ["a", "b", "a"]}
    await handle(
        chat,
        request_event("items.feedback", {**params, "kind": "positive"}),
        request_event("items.feedback", {**params, "item_ids": ["a"], "kind": "negative"}),
    )
    assert await said(chat.database) == [("a", "negative", "u1"), ("b", "positive", "u1")]
    await chat.ask("items.feedback", {**params, "kind": "positive"})
    assert await said(chat.database) == [("a", "positive", "u1"), ("b", "positive", "u1")]


async def test_a_hundred_feedback_events_take_one_question_and_one_insert(chat: Chat) -> None:
    events = [await chat.thread() for _ in range(3)]
    batch = [feedback_event(str(events[n % 3].thread_id), f"msg_{n}") for n in range(100)]
    statements: list[str] = []
    backend: Any = chat.database._backend
    engine = getattr(backend._engine, "sync_engine", backend._engine)

    @sqlalchemy_event.listens_for(engine, "before_cursor_execute")
    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement.split()[0])

    assert all(result == Done() for result, _ in await handle(chat, *batch))
    assert [statement for statement in statements if statement != "BEGIN"] == ["SELECT", "INSERT"]
    assert len(await said(chat.database)) == 100


async def test_a_session_is_what_its_page_said_last(chat: Chat) -> None:
    await handle(chat, page_event("chatkit.session.start", {}))
    started = await session_of(chat)
    assert (started.ready, started.last_event, started.open_thread_id) == (0, "start", "")
    assert started.last_seen.replace(tzinfo=None) == NOW.replace(tzinfo=None)
    await handle(chat, page_event("chatkit.ui.thread.change", {"threadId": "thr_1"}))
    await handle(chat, page_event("chatkit.ui.log", {"name": "x", "data": {"text": "secret words"}}))
    await handle(chat, page_event("chatkit.ui.error", {"error": {"name": "HttpError", "message": "secret words"}}))
    row = await session_of(chat)
    assert (row.ready, row.last_event, row.open_thread_id, row.last_error) == (1, "error", "thr_1", "HttpError")
    assert "secret" not in str(row)
    await handle(chat, page_event("chatkit.ui.thread.change", {"threadId": None}))
    assert (await session_of(chat)).open_thread_id == ""
    await handle(chat, page_event("chatkit.session.end", {}))
    assert (await session_of(chat)).ready == 0


async def test_a_session_is_not_another_users_to_change(chat: Chat) -> None:
    await handle(chat, page_event("chatkit.ui.thread.change", {"session_id": "s1", "threadId": "thr_1"}))
    stranger = page_event("chatkit.ui.thread.change", {"session_id": "s1", "threadId": "thr_2"}, userid="u2")
    assert await handle(chat, stranger) == [(Done(), [])]
    row = await session_of(chat, "s1")
    assert (row.user_id, row.open_thread_id) == ("u1", "thr_1")


async def test_an_errors_name_that_is_no_name_is_not_kept(chat: Chat) -> None:
    await handle(chat, page_event("chatkit.ui.error", {"error": {"name": "my card number is \0 1234"}}))
    assert (await session_of(chat)).last_error == "Error"


async def test_a_deleted_thread_takes_what_hangs_on_it_along(chat: Chat) -> None:
    made = await chat.ask("attachments.create", {"name": "a.txt", "size": 3, "mime_type": "text/plain"})
    event = await chat.thread()
    given = {"content": [{"type": "input_text", "text": "look"}], "attachments": [made["id"]], "inference_options": {}}
    await chat.run(request_event("threads.add_user_message", {"thread_id": event.thread_id, "input": given}))
    await handle(chat, feedback_event(str(event.thread_id)))
    deletion = request_event("threads.delete", {"thread_id": event.thread_id})
    for _ in range(2):
        assert await handle(chat, deletion) == [(Done(), [b"{}"])]
    assert await said(chat.database) == []
    with pytest.raises(NotFoundError):
        await chat.ask("items.list", {"thread_id": event.thread_id})
    again = request_event("threads.create", {"input": given})
    with pytest.raises(NotFoundError):
        await chat.run(again)


async def test_reads_from_the_queue_give_what_the_gateway_gives(chat: Chat) -> None:
    event = await chat.thread()
    for type_, params in (
        ("threads.get_by_id", {"thread_id": event.thread_id}),
        ("items.list", {"thread_id": event.thread_id}),
        ("threads.list", {}),
    ):
        [(result, [frame])] = await handle(chat, request_event(type_, params))
        assert result == Done()
        assert json.loads(frame) == await chat.ask(type_, params)


async def test_a_title_is_kept_as_given_but_for_what_no_database_can_hold(chat: Chat) -> None:
    event = await chat.thread()
    renamed = await chat.ask("threads.update", {"thread_id": event.thread_id, "title": "日本語 🙂 a\0b"})
    assert (await chat.stored_thread(event)).title == "日本語 🙂 ab"
    assert renamed["id"] == event.thread_id


async def test_a_request_that_needs_a_worker_is_not_answered_by_the_gateway(chat: Chat) -> None:
    event = await chat.thread()
    with pytest.raises(PermanentError):
        await chat.ask("threads.retry_after_item", {"thread_id": event.thread_id, "item_id": "msg_1"})
    with pytest.raises(PermanentError):
        await chat.ask("threads.update", {"thread_id": event.thread_id})


async def test_what_was_sent_in_a_session_that_is_revoked_by_now_is_left_out_of_its_batch(chat: Chat) -> None:
    sessions = RevokedSessions("ses_1")
    light = LightHandler(chat.database, sessions=sessions)
    thread_id = str((await chat.thread()).thread_id)
    events = [
        feedback_event(thread_id, "msg_1", sessionid="ses_1"),
        feedback_event(thread_id, "msg_2", sessionid="ses_2"),
        page_event("chatkit.ui.ready", {}, sessionid="ses_1"),
        request_event("threads.update", {"thread_id": thread_id, "title": "Renamed"}, sessionid="ses_1"),
    ]
    results = await light([delivery_of(event) for event in events])
    dropped: LightResult = (Dropped(DropReason.SESSION_REVOKED), [])
    assert results == [dropped, (Done(), [b"{}"]), dropped, dropped]
    assert await said(chat.database) == [("msg_2", "positive", "u1")]
    assert sessions.asked == 1


async def test_what_a_page_reports_of_an_effect_is_kept_for_the_agent_that_waits(chat: Chat) -> None:
    outcomes = EffectOutcomes(FakeAsyncRedis(), Keys("ck", 1))
    light = LightHandler(chat.database, outcomes=outcomes)
    action_id = action_id_of("evt_1:0:call_1")
    reports = [
        page_event("chatkit.ui.effect", {"name": "highlight", "data": {"action_id": action_id, "outcome": [1]}}),
        page_event("chatkit.ui.effect", {"name": "highlight"}),
        page_event("chatkit.ui.effect", {"name": "highlight", "data": {"action_id": "act_forged:x", "outcome": 1}}),
        page_event("chatkit.ui.log", {"name": "highlight", "data": {"action_id": action_id, "outcome": [2]}}),
    ]
    assert await light([delivery_of(event) for event in reports]) == [(Done(), [])] * 4
    found = await outcomes.wait(Owner("default", "u1"), action_id, timedelta(0))
    assert found is not None
    assert found.outcome == [1]
    assert await outcomes.wait(Owner("default", "u2"), action_id, timedelta(0)) is None
    assert "highlight" not in str(await session_of(chat))


async def test_the_state_of_a_session_is_put_right_by_a_page_that_is_loaded_again(chat: Chat) -> None:
    states, me = PageStates(chat.database), Owner("default", "u1")

    def told(name: str, data: dict[str, Any], session: str = "ses_1") -> Event:
        return page_event(f"chatkit.ui.{name}", data, sessionid=session)

    for event in (
        told("ready", {}),
        told("thread.change", {"threadId": "thr_1"}),
        told("error", {"error": {"name": "HttpError", "message": "secret words"}}),
        told("thread.change", {"threadId": "thr_2"}, "ses_2"),
    ):
        await handle(chat, event)
    state = await states.of(me, "ses_1")
    assert state is not None
    assert (state.ready, state.open_thread_id, state.last_event, state.last_error) == (
        True,
        "thr_1",
        "error",
        "HttpError",
    )
    assert state.last_seen_at == NOW
    other = await states.of(me, "ses_2")
    assert other is not None
    assert other.open_thread_id == "thr_2"

    await handle(chat, told("ready", {}))  # the page was loaded again
    state = await states.of(me, "ses_1")
    assert state is not None
    assert (state.ready, state.open_thread_id, state.last_error) == (True, None, None)
    await handle(chat, told("thread.change", {"threadId": "thr_1"}))
    state = await states.find("default", "ses_1")
    assert state is not None
    assert state.open_thread_id == "thr_1"


async def test_the_state_of_a_session_is_its_users_alone(chat: Chat) -> None:
    await handle(chat, page_event("chatkit.ui.thread.change", {"threadId": "thr_1"}, sessionid="ses_1"))
    states = PageStates(chat.database)
    assert await states.of(Owner("default", "u2"), "ses_1") is None
    assert await states.of(Owner("acme", "u1"), "ses_1") is None
    assert await states.find("acme", "ses_1") is None
    await handle(chat, page_event("chatkit.ui.ready", {}))  # of a page that names no session
    state = await states.of(Owner("default", "u1"), "ses_9")
    assert state is not None
    assert state.session_id == "u1"
