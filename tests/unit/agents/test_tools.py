"""What the agents' tools do to the thread and show in it."""

import asyncio
from typing import Any

import pytest
from agents import Agent, Handoff, Model
from chatkit.agents import AgentContext

from schemas.chatkit import (
    ClientEffectEvent,
    NoticeEvent,
    ProgressUpdateEvent,
    StructuredInputItem,
    ThreadItemDoneEvent,
    ThreadStreamEvent,
    WidgetItem,
)
from tests.unit.agents.turns import FakeTurn, answer, new_context, text_of
from workers.agents.ports import ServiceRecord
from workers.agents.responder import AgentResponder
from workers.agents.services import SampleServices
from workers.agents.team import Team, build_team
from workers.testing.model import Call, DeltaModel, StepModel, words

INTEGRATION, UI, SERVICES = range(3)


async def use(
    who: int, call: Call, context: AgentContext[Any] | None = None
) -> tuple[list[ThreadStreamEvent], StepModel]:
    """Let one agent call one tool and then say ok; the model's second input holds the tool's result."""
    model = StepModel(call, words("ok"))
    agent = build_team(model).agents[who]
    return await answer(AgentResponder(Team((agent,))), "hi", context), model


def result_of(model: StepModel) -> str:
    last: Any = model.inputs[1][-1]
    return str(last["output"])


async def test_the_title_of_the_thread_is_set() -> None:
    context = new_context()
    await use(INTEGRATION, Call("set_thread_title", {"title": "  Lunch \n plans "}), context)
    assert context.thread.title == "Lunch plans"


async def test_an_empty_title_is_refused_and_the_model_is_told() -> None:
    context = new_context()
    _, model = await use(INTEGRATION, Call("set_thread_title", {"title": "  "}), context)
    assert context.thread.title is None
    assert "empty" in result_of(model)


@pytest.mark.parametrize("status", ["locked", "closed"])
async def test_the_status_of_the_thread_is_set_with_its_reason(status: str) -> None:
    context = new_context()
    await use(INTEGRATION, Call("set_thread_status", {"status": status, "reason": "Solved"}), context)
    assert context.thread.status.model_dump() == {"type": status, "reason": "Solved"}


async def test_a_custom_action_reaches_the_open_pages() -> None:
    events, _ = await use(UI, Call("send_custom_action", {"action_type": "highlight", "payload": {"id": [1, 2]}}))
    assert ClientEffectEvent(name="highlight", data={"id": [1, 2]}) in events


async def test_notices_and_progress_are_shown() -> None:
    events, _ = await use(UI, Call("show_notice", {"message": "Mind the *gap*", "level": "warning"}))
    assert NoticeEvent(level="warning", message="Mind the *gap*") in events
    events, _ = await use(UI, Call("show_progress", {"text": "Thinking"}))
    assert ProgressUpdateEvent(text="Thinking") in events


async def test_a_card_is_a_widget_whose_button_sends_its_action_back() -> None:
    call = Call(
        "show_card",
        {"title": "Ready?", "lines": ["One"], "button_label": "Go", "button_action": "go", "button_payload": {"n": 1}},
    )
    events, _ = await use(UI, call)
    item = next(event.item for event in events if isinstance(event, ThreadItemDoneEvent))
    assert isinstance(item, WidgetItem)
    widget = item.widget.model_dump(exclude_none=True)
    assert widget["type"] == "Card"
    assert widget["children"][-1]["onClickAction"]["type"] == "go"
    assert widget["children"][-1]["onClickAction"]["payload"] == {"n": 1}
    assert item.copy_text == "Ready?\nOne"


async def test_questions_become_a_pending_structured_input_and_end_the_turn() -> None:
    questions = [
        {"id": "size", "question": "Which size?", "options": ["S", "L"], "multiple": False},
        {"id": "note", "question": "Anything else?", "options": [], "multiple": False},
    ]
    events, model = await use(UI, Call("ask_user", {"questions": questions}))
    item = next(event.item for event in events if isinstance(event, ThreadItemDoneEvent))
    assert isinstance(item, StructuredInputItem)
    assert [question.type for question in item.inputs] == ["multiple_choice", "freeform"]
    assert model.calls == 1


async def test_the_turns_context_is_told_to_the_model() -> None:
    context = new_context(FakeTurn(event_id="evt_9", attempt=3, user="grace"))
    _, model = await use(INTEGRATION, Call("get_turn_context"), context)
    assert '"event_id": "evt_9"' in result_of(model)
    assert '"attempt": 3' in result_of(model)
    assert '"user": "grace"' in result_of(model)


async def test_wrong_arguments_are_told_to_the_model_and_show_nothing() -> None:
    events, model = await use(UI, Call("show_notice", {"message": "x", "level": "shouting"}))
    assert not any(isinstance(event, NoticeEvent) for event in events)
    assert "failed" in result_of(model)


async def test_look_ups_are_made_for_the_user_of_the_turn() -> None:
    asked: list[tuple[str, str, str, str]] = []

    class Recording(SampleServices):
        async def look_up(self, kind: str, key: str, *, tenant: str, user: str) -> ServiceRecord | None:
            asked.append((kind, key, tenant, user))
            return await super().look_up(kind, key, tenant=tenant, user=user)

    model = StepModel(Call("look_up_record", {"kind": "Order", "key": "#1042"}), words("ok"))
    agent = build_team(model, Recording()).agents[SERVICES]
    await answer(AgentResponder(Team((agent,))), "hi")
    assert asked == [("order", "#1042", "acme", "ada")]
    assert '"status": "shipped"' in result_of(model)


async def test_a_look_up_that_takes_too_long_does_not_hold_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(SampleServices):
        async def look_up(self, kind: str, key: str, *, tenant: str, user: str) -> ServiceRecord | None:
            await asyncio.Event().wait()
            raise AssertionError("never set")

    monkeypatch.setattr("workers.agents.tools.LOOK_UP_SECONDS", 0.02)
    model = StepModel(Call("look_up_record", {"kind": "order", "key": "1"}), words("later then"))
    agent = build_team(model, Slow()).agents[SERVICES]
    assert text_of(await answer(AgentResponder(Team((agent,))), "hi")) == "later then"
    assert "timed out" in result_of(model)


def test_every_agent_can_pass_the_conversation_on_and_says_what_it_is_for() -> None:
    team = build_team(DeltaModel(1))
    for agent in team.agents:
        assert {other.agent_name for other in agent.handoffs if isinstance(other, Handoff)} == {
            other.name for other in team.agents if other is not agent
        }
        assert agent.handoff_description
        assert isinstance(agent.instructions, str)
        assert agent.instructions.startswith("# System context")
        assert isinstance(agent.model, Model)


def test_a_team_refuses_a_model_that_is_looked_up_by_name() -> None:
    with pytest.raises(TypeError, match="give the agent a Model"):
        Team((Agent(name="Named", model="gpt-4.1"),))
