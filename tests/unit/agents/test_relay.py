"""The relay between a model and the turn that calls it."""

import copy
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool

from tests.unit.agents.turns import FakeTurn, answer, new_context, streamed_text_of, text_of
from workers.agents.relay import RelayedModel
from workers.agents.responder import AgentResponder
from workers.agents.team import Team
from workers.testing.model import Call, DeltaModel, Say, StepModel


async def test_outside_of_a_turn_a_relayed_model_is_just_the_model() -> None:
    agent = Agent(name="Solo", model=RelayedModel(DeltaModel(4)))
    run = Runner.run_streamed(agent, "hi", run_config=RunConfig(tracing_disabled=True))
    types = [event.data.type async for event in run.stream_events() if event.type == "raw_response_event"]
    assert types.count("response.output_text.delta") == 4


async def test_a_model_that_streams_from_a_plain_iterator_is_relayed() -> None:
    class PlainIterator:
        """An iterator that has no `aclose`."""

        def __init__(self, source: AsyncIterator[Any]) -> None:
            self._source = source

        def __aiter__(self) -> "PlainIterator":
            return self

        async def __anext__(self) -> Any:
            return await self._source.__anext__()

    class PlainModel(DeltaModel):
        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            return PlainIterator(super().stream_response(*args, **kwargs))

    events = await answer(AgentResponder(Team((Agent(name="Solo", model=PlainModel(3)),))), "hi")
    assert streamed_text_of(events) == text_of(events) == "word " * 3


async def test_a_relayed_model_can_be_copied_and_closed() -> None:
    relayed = RelayedModel(DeltaModel(3, piece="x"))
    assert copy.deepcopy(relayed).text == "xxx"
    await relayed.close()


async def test_every_call_of_a_turn_is_announced_before_it_is_made_those_of_its_tools_included() -> None:
    """The provider counts them all, and so do the limits."""

    class Counting(FakeTurn):
        announced = 0

        async def next_call(self) -> None:
            self.announced += 1
            assert self.announced == outer.calls + inner.calls + 1

    outer, inner = StepModel(Call("ask_another"), Say(("done",))), StepModel(Say(("yes",)))
    another = Agent(name="Another", model=RelayedModel(inner))

    @function_tool
    async def ask_another() -> str:
        result = await Runner.run(another, "well?", run_config=RunConfig(tracing_disabled=True))
        return str(result.final_output)

    turn = Counting()
    team = Team((Agent(name="Solo", model=outer, tools=[ask_another]),))
    assert text_of(await answer(AgentResponder(team), "hi", new_context(turn))) == "done"
    assert turn.announced == 3
