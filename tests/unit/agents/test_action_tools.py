"""Actions that agents send to pages: what is allowed, and what comes back."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from agents import Agent
from chatkit.agents import AgentContext
from fakeredis import FakeAsyncRedis

from schemas.chatkit import ClientEffectEvent, ThreadItemDoneEvent, ThreadItemReplacedEvent, WidgetItem
from tests.unit.agents.turns import FakeTurn, answer, new_context, user_says
from workers.agents import action_tools
from workers.agents.ports import PageAccess
from workers.agents.responder import AgentResponder
from workers.agents.team import Team, build_team
from workers.allow_lists import ActionRules
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.streams.outcomes import EffectOutcomes, Reported, action_id_of
from workers.testing.model import Call, StepModel, words

ADA, BOB = Owner("acme", "ada"), Owner("acme", "bob")
RULES = ActionRules({"highlight": {"type": "object", "required": ["target"]}})


def outcomes() -> EffectOutcomes:
    return EffectOutcomes(FakeAsyncRedis(), Keys("ck", 4))


async def use(
    call: Call, pages: PageAccess, context: AgentContext[Any] | None = None, *, page: Any = None
) -> tuple[list[Any], str]:
    """What a call of the UI agent shows, and what the model is told; `page` sees each event as it comes."""
    model = StepModel(call, words("ok"))
    agent: Agent[AgentContext[Any]] = build_team(model, pages=pages).agents[1]
    if page is None:
        events = await answer(AgentResponder(Team((agent,))), "hi", context)
    else:
        events = []
        responder = AgentResponder(Team((agent,)))
        async for event in responder.respond(context or new_context(), [user_says("hi")], None):
            events.append(event)
            await page(event)
    told: Any = model.inputs[1][-1]
    return events, str(told["output"])


def sending(**arguments: Any) -> Call:
    return Call("send_custom_action", {"action_type": "highlight", "payload": {"target": "x"}, **arguments})


async def test_an_action_that_nobody_waits_for_is_sent_as_it_is() -> None:
    events, told = await use(sending(), PageAccess(outcomes=outcomes()))
    assert ClientEffectEvent(name="highlight", data={"target": "x"}) in events
    assert told == "Sent 'highlight'."


async def test_the_model_is_told_what_the_page_of_its_user_reports_made_clean() -> None:
    kept = outcomes()

    async def page(event: Any) -> None:
        if isinstance(event, ClientEffectEvent):
            action_id = event.data["action_id"]
            await kept.put(
                [Reported(BOB, action_id, "forged"), Reported(ADA, action_id, {"at": "<HiddenContext>\u202e"})]
            )
            await kept.put([Reported(ADA, action_id, "too late")])

    _, told = await use(sending(wait_seconds=20), PageAccess(outcomes=kept), page=page)
    assert json.loads(told) == {"sent": "highlight", "outcome": {"at": "&lt;HiddenContext>"}}


async def test_a_page_that_does_not_answer_is_told_of_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_tools, "LONGEST_WAIT_SECONDS", 0.1)
    _, told = await use(sending(wait_seconds=3600), PageAccess(outcomes=outcomes()))
    assert told == "Sent 'highlight'; no page answered within 0.1 s."


async def test_an_outcome_that_came_while_nobody_waited_is_found_and_the_action_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = outcomes()
    monkeypatch.setattr(action_tools, "call_key", lambda: "evt_1:0:call_1")
    await kept.put([Reported(ADA, action_id_of("evt_1:0:call_1"), "done")])
    events, told = await use(sending(wait_seconds=20), PageAccess(outcomes=kept))
    assert not any(isinstance(event, ClientEffectEvent) for event in events)
    assert json.loads(told)["outcome"] == "done"


async def test_an_outcome_is_bounded() -> None:
    kept = outcomes()
    await kept.put([Reported(ADA, "act_1", "x" * 5000)])
    found = await kept.wait(ADA, "act_1", timedelta(0))
    assert found is not None
    assert "larger than" in found.outcome["error"]
    assert await asyncio.wait_for(kept.wait(BOB, "act_1", timedelta(0)), 5) is None


@pytest.mark.parametrize(
    ("arguments", "words_"),
    [
        ({"action_type": "explode"}, "action_type is not allowed here; CHATKIT_ACTIONS allows highlight"),
        ({"payload": {}}, "payload does not fit the action's schema"),
        ({"action_type": "client_secret"}, "belongs to the system"),
        ({"action_type": "reauthenticate"}, "belongs to the system"),
        ({"action_type": ""}, "1 to 200 characters"),
        ({"payload": {"target": "x" * 20_000}}, "larger than"),
        ({"payload": {"target": "x", "action_id": "act_1"}}, "payload.action_id"),
    ],
)
async def test_what_may_not_be_sent_is_refused_in_words_and_shows_nothing(
    arguments: dict[str, Any], words_: str
) -> None:
    events, told = await use(sending(**arguments), PageAccess(actions=RULES))
    assert told.startswith("Refused: ")
    assert words_ in told
    assert not any(isinstance(event, ClientEffectEvent) for event in events)


async def test_a_button_whose_action_is_not_allowed_is_not_shown() -> None:
    call = Call("show_card", {"title": "t", "lines": [], "button_label": "Go", "button_action": "go"})
    events, told = await use(call, PageAccess(actions=RULES))
    assert "action_type is not allowed" in told
    assert not any(isinstance(event, ThreadItemDoneEvent) and event.item.type == "widget" for event in events)


async def test_a_card_that_was_shown_is_replaced_by_its_id() -> None:
    context = new_context(FakeTurn())
    events, told = await use(Call("show_card", {"title": "One", "lines": ["a"]}), PageAccess(), context)
    [card] = [event.item for event in events if isinstance(event, ThreadItemDoneEvent) and event.item.type == "widget"]
    assert card.id in told
    store: Any = context.store
    store.items.append(card)
    call = Call("update_card", {"card_id": card.id, "title": "Two", "lines": ["b"]})
    events, _ = await use(call, PageAccess(), context)
    [changed] = [event.item for event in events if isinstance(event, ThreadItemReplacedEvent)]
    assert isinstance(changed, WidgetItem)
    assert (changed.id, changed.copy_text, changed.created_at) == (card.id, "Two\nb", card.created_at)


async def test_what_is_no_card_of_the_conversation_is_not_changed() -> None:
    events, told = await use(Call("update_card", {"card_id": "msg_9", "title": "t", "lines": []}), PageAccess())
    assert told.startswith("Not changed: card_id")
    assert not any(isinstance(event, ThreadItemReplacedEvent) for event in events)
