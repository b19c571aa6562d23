"""The tool that a user has picked in the composer."""

from collections.abc import AsyncIterator
from typing import Any

from agents.items import TResponseStreamEvent

from schemas.chatkit import ThreadStreamEvent
from tests.unit.agents.turns import new_context, text_of, user_says
from workers.agents.responder import AgentResponder
from workers.agents.team import build_team
from workers.testing.model import Call, StepModel, words


class WatchedModel(StepModel):
    """Notes which tool each call has to use, and what it may use."""

    def __init__(self, *steps: Any) -> None:
        super().__init__(*steps)
        self.forced: list[object] = []
        self.offered: list[set[str]] = []

    def stream_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002  # the SDK's name
        model_settings: Any,
        tools: Any,
        *rest: Any,
        **more: Any,  # the SDK's name
    ) -> AsyncIterator[TResponseStreamEvent]:
        self.forced.append(model_settings.tool_choice)
        self.offered.append({tool.name for tool in tools})
        return super().stream_response(system_instructions, input)


async def picked(tool: str | None, model: StepModel) -> list[ThreadStreamEvent]:
    said = user_says("order 1042").model_copy(
        update={
            "inference_options": user_says("").inference_options.model_validate({"tool_choice": tool and {"id": tool}})
        }
    )
    responder = AgentResponder(build_team(model))
    return [event async for event in responder.respond(new_context(), [said], None)]


async def test_the_agent_that_has_the_tool_answers_and_begins_with_it() -> None:
    model = WatchedModel(Call("look_up_record", {"kind": "order", "key": "1042"}), words("It is shipped."))
    assert text_of(await picked("look_up_record", model)) == "It is shipped."
    assert model.forced == ["look_up_record", None], "once it was used, the model is free again"
    assert "look_up_record" in model.offered[0]


async def test_a_tool_that_no_agent_has_changes_nothing() -> None:
    for tool in (None, "of the page alone"):
        model = WatchedModel(words("ok"))
        await picked(tool, model)
        assert model.forced == [None]
        assert "set_thread_title" in model.offered[0]
