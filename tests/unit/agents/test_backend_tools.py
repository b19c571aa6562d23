"""Backends as the agents see them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from agents import Agent, RunContextWrapper

from tests.backend_builders import SCHEMA, declared
from tests.unit.agents.turns import FakeTurn, answer, new_context, text_of
from workers.agents.backend_tools import CUT, backend_tool, bounded
from workers.agents.durable_tools import ONCE
from workers.agents.responder import AgentResponder
from workers.agents.service_orchestrator import build_service_orchestrator_agent
from workers.agents.services import SampleServices
from workers.agents.team import Team
from workers.backends.circuit import Circuit
from workers.backends.deployment import always
from workers.backends.guard import GuardedBackend
from workers.backends.ports import Answer, Caller, Description, Failure, Fault, Result
from workers.errors import SettingsError
from workers.testing.model import Call, StepModel, words


class Shop:
    """A backend that answers as it is told, and remembers who called."""

    def __init__(self, *results: Result) -> None:
        self.results, self.calls = list(results), list[tuple[Mapping[str, Any], Caller]]()

    async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
        self.calls.append((arguments, caller))
        return self.results.pop(0) if self.results else Answer("refunded")


def guarded(shop: Shop, name: str = "refund_order", **changes: Any) -> GuardedBackend:
    declaration = declared("https://shop", **changes)
    describe = always(Description.of(declaration.description, SCHEMA))
    return GuardedBackend(name, declaration, describe, shop, Circuit(declaration.circuit), sleep=no_pause)


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


def responder(model: StepModel, *backends: GuardedBackend) -> AgentResponder:
    tools = [backend_tool(backend) for backend in backends]
    return AgentResponder(Team((build_service_orchestrator_agent(model, SampleServices(), tools),)))


REFUND = Call("refund_order", {"order": "1042"})


async def test_the_service_is_called_in_the_name_of_the_turn() -> None:
    shop, model = Shop(), StepModel(REFUND, words("it is refunded"))
    assert text_of(await answer(responder(model, guarded(shop)), "refund it")) == "it is refunded"
    [(arguments, caller)] = shop.calls
    assert arguments == {"order": "1042"}
    assert (caller.tenant, caller.user, caller.event_id) == ("acme", "ada", "evt_abc")
    assert caller.key.startswith("evt_abc:")
    assert '"output": "refunded"' in json.dumps(model.inputs[1])


async def test_another_tenant_is_not_offered_the_tool_and_cannot_call_it() -> None:
    shop, model = Shop(), StepModel(REFUND, words("no"))
    agents = responder(model, guarded(shop))
    umbrella = new_context(FakeTurn(tenant="umbrella"))
    for context, offered in ((umbrella, False), (new_context(), True)):
        [agent] = agents.team.agents
        tools = await agent.get_all_tools(RunContextWrapper(context))
        assert ("refund_order" in {tool.name for tool in tools}) is offered
    assert "not available here" in (await guarded(shop).call('{"order": "1"}', Caller("umbrella", "u", "k", "e"))).text
    assert shop.calls == []


async def test_nobody_is_asked_to_approve_a_call_that_does_not_fit() -> None:
    shop, model = Shop(), StepModel(Call("refund_order", {"order": 7}), words("which one?"))
    turn = FakeTurn()
    assert text_of(await answer(responder(model, guarded(shop, approval=True)), "refund", new_context(turn))) == (
        "which one?"
    )
    assert shop.calls == []
    assert "Not called. order: 7 is not of type 'string'" in json.dumps(model.inputs[1])


async def test_a_call_that_needs_consent_ends_the_turn_with_the_question() -> None:
    shop, model = Shop(), StepModel(REFUND)
    turn = FakeTurn()
    await answer(responder(model, guarded(shop, approval=True)), "refund", new_context(turn))
    assert turn.asked is not None
    assert turn.asked[0] == [("refund_order", "order: 1042")]
    assert shop.calls == []


async def test_a_bug_of_a_backend_is_told_to_the_model_by_its_class_alone() -> None:
    class Broken(Shop):
        async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
            raise RuntimeError("s3cret")

    model = StepModel(REFUND, words("sorry"))
    assert text_of(await answer(responder(model, guarded(Broken())), "refund")) == "sorry"
    assert "RuntimeError" in json.dumps(model.inputs[1])
    assert "s3cret" not in json.dumps(model.inputs[1])


async def test_only_what_may_be_repeated_is_repeated() -> None:
    lost = Failure(Fault.UNANSWERED, "HTTP 500")
    for retry, calls in (("safe", 3), ("idempotent", 3), ("never", 1)):
        shop = Shop(lost, lost, lost, lost)
        await guarded(shop, retry=retry).call('{"order": "1"}', Caller("acme", "u", "k", "e"))
        assert len(shop.calls) == calls


def test_what_must_not_be_repeated_is_marked_so() -> None:
    assert hasattr(backend_tool(guarded(Shop(), retry="never")), ONCE)
    assert not hasattr(backend_tool(guarded(Shop(), retry="idempotent")), ONCE)


def test_a_result_is_clean_and_not_longer_than_declared() -> None:
    assert bounded(Answer("a\x00b\u202ec<HiddenContext>"), 100) == "abc&lt;HiddenContext>"
    assert bounded(Answer("ä" * 60), 100) == "ä" * 50 + CUT
    assert bounded(Answer("short", is_cut=True), 100) == "short" + CUT


def test_two_tools_of_one_name_stop_the_start() -> None:
    tool = backend_tool(guarded(Shop(), name="look_up_record"))
    with pytest.raises(SettingsError, match="CHATKIT_BACKENDS: look_up_record: a tool of this name exists"):
        build_service_orchestrator_agent(StepModel(), SampleServices(), [tool])


async def test_the_model_is_given_the_schema_of_the_service() -> None:
    tool = backend_tool(guarded(Shop(), description="Refund an order.\u202e "))
    agent = Agent[Any](name="a", tools=[tool])
    [offered] = await agent.get_all_tools(RunContextWrapper(new_context()))
    assert offered.description == "Refund an order. "  # type: ignore[union-attr]  # a function tool
    assert offered.params_json_schema == SCHEMA  # type: ignore[union-attr]  # same
