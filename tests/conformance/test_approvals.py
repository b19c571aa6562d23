"""A consent that is asked in the thread: given or refused later, by the thread's owner, in any process, once."""

import json
from datetime import timedelta
from typing import Any

import pytest
from agents import Agent, FunctionTool, function_tool
from sqlalchemy import select

from schemas.actions import APPROVAL_DECIDE
from schemas.chatkit import AssistantMessageItem, ThreadItemReplacedEvent, WidgetItem
from schemas.events import Event
from schemas.outcome import Done
from tests.builders import create_event, message_event, request_event
from tests.conformance.chats import Chat
from workers.agents.card_tools import card_tools
from workers.agents.durable_tools import idempotency_key, once
from workers.agents.ports import ToolContext
from workers.agents.responder import AgentResponder
from workers.agents.team import Team
from workers.allow_lists import ANY_ACTION
from workers.chat.approval_cards import APPROVED, REJECTED, TOO_OLD
from workers.chat.approvals import EXPIRED, GONE, NOT_NOW
from workers.chat.database import Database
from workers.chat.tables import approvals as table
from workers.errors import NotFoundError, PermanentError, TransientError
from workers.testing.model import Call, StepModel, words


class Shop:
    """A chat with an agent that refunds orders, once its user agrees. Each instance stands for a process."""

    def __init__(self, database: Database, effects: list[tuple[str, str]] | None = None) -> None:
        self.database, self.effects = database, effects if effects is not None else []
        self.chat = Chat(database)

    def plays(self, *steps: Any, tools: bool = True, only_once: bool = False) -> StepModel:
        """Answer with these steps from now on."""
        model = StepModel(*steps)
        refund = self.refund(only_once=only_once)
        first = Agent[Any](name="first", model=model)
        second = Agent[Any](name="second", model=model, tools=[refund, look] if tools else [look])
        self.chat.responder = AgentResponder(Team((first, second)))  # type: ignore[assignment]  # the real one
        return model

    def refund(self, *, only_once: bool) -> FunctionTool:
        @function_tool(needs_approval=True, failure_error_function=None)
        async def refund(wrapper: ToolContext, order: str) -> str:
            """Refund an order."""
            self.effects.append((order, idempotency_key()))
            return f"refunded {order}"

        return once(refund) if only_once else refund

    def restarted(self) -> "Shop":
        """Another process over the same database; the frames of the streams stay."""
        shop = Shop(self.database, self.effects)
        shop.chat.recorder = self.chat.recorder
        shop.chat._epochs = self.chat._epochs
        return shop

    async def asks(self, *calls: Call, only_once: bool = False) -> Event:
        """A thread in which consent was asked."""
        self.plays([Call("transfer_to_second")], [words("one moment"), *(calls or [REFUND])], only_once=only_once)
        return await self.chat.thread("refund order 1042")

    async def card(self, event: Event) -> WidgetItem:
        [item] = [item for item in await self.chat.items(event) if isinstance(item, WidgetItem)]
        return item

    async def text(self, event: Event) -> str:
        """What the agents have said so far."""
        said = [item for item in await self.chat.items(event) if isinstance(item, AssistantMessageItem)]
        return " | ".join(part.text for item in said for part in item.content)

    async def rows(self) -> list[Any]:
        return await self.database.read(lambda connection: list(connection.execute(select(table)).all()))


REFUND = Call("refund", {"order": "1042"})


@function_tool
async def look(wrapper: ToolContext) -> str:
    """Look."""
    return "looked"


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


def decision(event: Event, card: WidgetItem, *, approve: bool = True, **attributes: Any) -> Event:
    """The click on a button, as the page sends it."""
    payload = next(child for child in buttons(card) if child["payload"]["approve"] is approve)["payload"]
    action = {"type": APPROVAL_DECIDE, "payload": payload}
    params = {"thread_id": event.thread_id, "item_id": card.id, "action": action}
    return request_event("threads.custom_action", params, **attributes)


def buttons(card: WidgetItem) -> list[dict[str, Any]]:
    children = card.widget.model_dump(mode="json")["children"]
    return [child["onClickAction"] for child in children if child["type"] == "Button"]


def shown(card: WidgetItem) -> list[str]:
    children = card.widget.model_dump(mode="json")["children"]
    return [child["value"] for child in children if child["type"] != "Button"]


async def test_the_card_shows_what_would_be_done_and_nothing_is_done(shop: Shop) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    assert shown(card) == ["May this be done?", "refund", "order: 1042"]
    assert [button["payload"] for button in buttons(card)] == [
        {"approval": card.id, "approve": True},
        {"approval": card.id, "approve": False},
    ]
    assert shop.effects == []
    assert await shop.text(event) == "one moment"
    [row] = await shop.rows()
    assert (row.tenant, row.user_id, row.thread_id, row.decided_by) == ("default", "u1", event.thread_id, None)


async def test_approved_in_another_process_the_call_is_made_and_the_answer_goes_on(shop: Shop) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    later = shop.restarted()
    model = later.plays([words("it is refunded")])
    click = decision(event, card)
    assert await later.chat.run(click) == Done()
    assert [order for order, _ in shop.effects] == ["1042"]
    assert await shop.text(event) == "one moment | it is refunded"
    assert shown(await shop.card(event)) == ["May this be done?", "refund", "order: 1042", APPROVED]
    assert buttons(await shop.card(event)) == []
    assert [frame.item.id for frame in later.chat.frames(click) if isinstance(frame, ThreadItemReplacedEvent)] == [
        card.id
    ]
    assert "refunded 1042" in json.dumps(model.inputs[0], default=str)
    assert (await shop.chat.stored_thread(event)).metadata["agent"] == "second"
    [row] = await shop.rows()
    assert (row.decided_by, row.approved, row.state) == (click.event_id, 1, None)


async def test_rejected_the_call_is_not_made_and_the_agent_is_told(shop: Shop) -> None:
    event = await shop.asks()
    later = shop.restarted()
    model = later.plays([words("as you wish")])
    assert await later.chat.run(decision(event, await shop.card(event), approve=False)) == Done()
    assert shop.effects == []
    assert await shop.text(event) == "one moment | as you wish"
    assert shown(await shop.card(event))[-1] == REJECTED
    assert "The user rejected this call" in json.dumps(model.inputs[0], default=str)


@pytest.mark.parametrize("again", [True, False])
async def test_a_second_click_runs_nothing_and_says_so(shop: Shop, again: bool) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    shop.plays([words("it is refunded")])
    assert await shop.chat.run(decision(event, card)) == Done()
    model = shop.plays()
    assert await shop.chat.run(decision(event, card, approve=again)) == Done()
    assert len(shop.effects) == 1
    assert model.calls == 0
    assert (await shop.text(event)).endswith("You have approved this before; nothing was done once more.")
    assert shown(await shop.card(event)) == ["May this be done?", "refund", "order: 1042", APPROVED]


async def test_a_worker_that_dies_after_the_call_does_not_make_it_again(shop: Shop) -> None:
    event = await shop.asks()
    click = decision(event, await shop.card(event))
    shop.plays(TransientError("the provider is away"))
    with pytest.raises(TransientError):
        await shop.chat.run(click)
    assert len(shop.effects) == 1
    later = shop.restarted()
    later.plays([words("it is refunded")])
    assert await later.chat.run(click, attempt=2) == Done()
    assert len(shop.effects) == 1
    assert await shop.text(event) == "one moment | it is refunded"


async def test_a_worker_that_dies_within_the_call_makes_it_again_with_the_same_key(shop: Shop) -> None:
    event = await shop.asks()
    click = decision(event, await shop.card(event))
    die_once = iter([TransientError("the worker dies here")])
    keep = shop.chat.recorder.keep

    async def dying(event_id: str, step: Any) -> bool:
        for error in die_once:
            raise error
        return await keep(event_id, step)

    shop.chat.recorder.keep = dying  # type: ignore[method-assign]  # the journal is not reached in time
    shop.plays()
    with pytest.raises(TransientError):
        await shop.chat.run(click)
    later = shop.restarted()
    later.plays([words("it is refunded")])
    assert await later.chat.run(click, attempt=2) == Done()
    assert len(shop.effects) == 2
    assert len(set(shop.effects)) == 1


async def test_wherever_a_decision_is_cut_off_the_call_takes_effect_once(shop: Shop) -> None:
    for number in range(20):
        event = await shop.asks()
        click = decision(event, await shop.card(event))
        shop.effects.clear()
        cut = iter([TransientError("the worker dies here")])

        async def die(
            event_id: str, count: int, _: bytes, at: int = number, cut: Any = cut, click: Event = click
        ) -> None:
            if event_id == click.event_id and count == at:
                for error in cut:
                    raise error

        shop.chat.recorder.before_frame = die
        shop.plays([words("it is refunded")])
        try:
            await shop.chat.run(click)
        except TransientError:
            later = shop.restarted()
            later.plays([words("it is refunded")])
            assert await later.chat.run(click, attempt=2) == Done()
        else:
            break
        assert len(set(shop.effects)) == 1
        assert await shop.text(event) == "one moment | it is refunded"
        assert buttons(await shop.card(event)) == []
    assert number > 4


async def test_a_click_on_a_decision_whose_event_was_given_up_runs_nothing(shop: Shop) -> None:
    event = await shop.asks(only_once=True)
    card = await shop.card(event)
    shop.plays(TransientError("the provider is away"), only_once=True)
    with pytest.raises(TransientError):
        await shop.chat.run(decision(event, card))
    shop.plays()
    assert await shop.chat.run(decision(event, card)) == Done()
    assert len(shop.effects) == 1
    assert shown(await shop.card(event))[-1] == APPROVED


@pytest.mark.parametrize("attributes", [{"userid": "u2"}, {"tenant": "umbrella"}])
async def test_nobody_but_the_owner_of_the_thread_decides(shop: Shop, attributes: dict[str, Any]) -> None:
    event = await shop.asks()
    shop.plays()
    with pytest.raises(NotFoundError):
        await shop.chat.run(decision(event, await shop.card(event), **attributes))
    assert shop.effects == []
    [row] = await shop.rows()
    assert row.decided_by is None


async def test_an_approval_is_decided_by_its_own_card_alone(shop: Shop) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    other = await shop.asks()
    shop.plays()
    action = {"type": APPROVAL_DECIDE, "payload": buttons(card)[0]["payload"]}
    elsewhere = {"thread_id": other.thread_id, "item_id": (await shop.card(other)).id, "action": action}
    nowhere = {"thread_id": event.thread_id, "action": action}
    for params in (elsewhere, nowhere):
        with pytest.raises(PermanentError, match="it must come from the card that asks"):
            await shop.chat.run(request_event("threads.custom_action", params))
    assert shop.effects == []


async def test_no_agent_puts_a_consent_behind_a_button_or_changes_the_card_that_asks(shop: Shop) -> None:
    event = await shop.asks()
    asking = await shop.card(event)
    payload = {"approval": asking.id, "approve": True}
    button = {"button_label": "Nice", "button_action": APPROVAL_DECIDE, "button_payload": payload}
    bait = Call("show_card", {"title": "A picture", "lines": [], **button})
    change = Call("update_card", {"card_id": asking.id, "title": "A picture", "lines": []})
    model = StepModel([bait], [change], [words("well")])
    agent = Agent[Any](name="first", model=model, tools=[*card_tools(ANY_ACTION)])
    shop.chat.responder = AgentResponder(Team((agent,)))  # type: ignore[assignment]  # the real one
    assert await shop.chat.run(message_event(str(event.thread_id), "show me a picture")) == Done()
    assert await shop.card(event) == asking
    told = json.dumps(model.inputs[-1], default=str)
    assert "belongs to the system" in told
    assert "card_id names no card" in told


async def test_a_decision_that_comes_too_late_says_so(shop: Shop) -> None:
    event = await shop.asks()
    shop.plays()
    shop.chat.approval_ttl = timedelta(0)
    assert await shop.chat.run(decision(event, await shop.card(event))) == Done()
    assert shop.effects == []
    assert EXPIRED in await shop.text(event)
    assert shown(await shop.card(event))[-1] == TOO_OLD


async def test_a_question_that_is_too_old_is_deleted_with_the_next_one(shop: Shop) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    shop.chat.approval_ttl = timedelta(0)
    other = await shop.asks()
    assert [row.thread_id for row in await shop.rows()] == [other.thread_id]
    assert await shop.chat.run(decision(event, card)) == Done()
    assert GONE in await shop.text(event)


async def test_when_the_tool_is_gone_nothing_runs_and_the_buttons_stay(shop: Shop) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    later = shop.restarted()
    later.plays(tools=False)
    assert await later.chat.run(decision(event, card)) == Done()
    assert NOT_NOW in await shop.text(event)
    assert len(buttons(await shop.card(event))) == 2
    again = shop.restarted()
    again.plays([words("it is refunded")])
    assert await again.chat.run(decision(event, card)) == Done()
    assert len(shop.effects) == 1


async def test_several_calls_are_asked_together_and_made_together(shop: Shop) -> None:
    event = await shop.asks(REFUND, Call("look"), Call("refund", {"order": "1043"}))
    card = await shop.card(event)
    assert shown(card) == ["May this be done?", "refund", "order: 1042", "refund", "order: 1043"]
    shop.plays([words("both are refunded")])
    assert await shop.chat.run(decision(event, card)) == Done()
    assert sorted(order for order, _ in shop.effects) == ["1042", "1043"]
    assert len({key for _, key in shop.effects}) == 2


async def test_what_goes_on_may_ask_again(shop: Shop) -> None:
    event = await shop.asks()
    shop.plays([Call("refund", {"order": "7"})])
    assert await shop.chat.run(decision(event, await shop.card(event))) == Done()
    [first, second] = [item for item in await shop.chat.items(event) if isinstance(item, WidgetItem)]
    assert buttons(first) == []
    assert shown(second) == ["May this be done?", "refund", "order: 7"]
    shop.plays([words("done, too")])
    assert await shop.chat.run(decision(event, second)) == Done()
    assert [order for order, _ in shop.effects] == ["1042", "7"]


async def test_the_conversation_may_go_on_before_the_decision(shop: Shop) -> None:
    event = await shop.asks()
    shop.plays([words("sure")])
    assert await shop.chat.run(message_event(str(event.thread_id), "by the way")) == Done()
    shop.plays([words("it is refunded")])
    assert await shop.chat.run(decision(event, await shop.card(event))) == Done()
    assert await shop.text(event) == "one moment | sure | it is refunded"


async def test_an_attempt_that_died_before_its_commit_asks_with_the_same_card(shop: Shop) -> None:
    died = iter([TransientError("the worker dies here")])

    def die() -> None:
        for error in died:
            raise error

    shop.chat.recorder.before_commit = die
    shop.plays([Call("transfer_to_second")], [words("one moment"), REFUND])
    event = create_event("refund order 1042")
    with pytest.raises(TransientError):
        await shop.chat.run(event)
    assert await shop.rows() == []
    shop.plays()
    assert await shop.chat.run(event, attempt=2) == Done()
    card = await shop.card(event)
    assert len(shop.chat.screen(event)) == 3
    shop.plays([words("it is refunded")])
    assert await shop.chat.run(decision(event, card)) == Done()
    assert len(shop.effects) == 1


async def test_arguments_cannot_look_like_others_than_they_are(shop: Shop) -> None:
    event = await shop.asks(Call("refund", {"order": "1\namount: 5\u202e\u2028x"}))
    assert shown(await shop.card(event))[2:] == ['order: "1\\namount: 5\\u202e\\u2028x"']
    hidden = await shop.asks(Call("refund", {"order": "1\u202e2"}))
    assert shown(await shop.card(hidden))[2:] == ["order: 1\\u{202e}2"]


@pytest.mark.parametrize("payload", [{}, {"approval": "x"}, {"approval": "x", "approve": "yes"}, None, {"approve": 1}])
async def test_an_action_that_is_no_decision_is_refused(shop: Shop, payload: Any) -> None:
    event = await shop.asks()
    card = await shop.card(event)
    action = {"type": APPROVAL_DECIDE, "payload": payload}
    params = {"thread_id": event.thread_id, "item_id": card.id, "action": action}
    with pytest.raises(PermanentError, match=r"approval\.decide: its payload must be"):
        await shop.chat.run(request_event("threads.custom_action", params))
    with pytest.raises(PermanentError):
        await shop.chat.run(request_event("threads.sync_custom_action", params))


async def test_a_deleted_thread_takes_its_questions_along(shop: Shop) -> None:
    event = await shop.asks()
    await shop.chat.ask("threads.delete", {"thread_id": event.thread_id})
    assert await shop.rows() == []


async def test_tokens_are_counted_by_the_turn_that_uses_them(shop: Shop) -> None:
    event = await shop.asks()
    shop.plays([words("one two three")])
    delivery = shop.chat.delivery(decision(event, await shop.card(event)))
    assert await shop.chat.handler()(delivery) == Done()
    assert delivery.use.requests == 1
    assert delivery.use.output_tokens <= 5
