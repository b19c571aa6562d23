"""The scripted model: answers without a provider, so that the demo and the tests go through the whole SDK."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from agents import AgentOutputSchemaBase, Handoff, Model, ModelResponse, ModelSettings, ModelTracing, Tool
from agents.items import TResponseInputItem, TResponseStreamEvent

from workers.agents.replies import Answer
from workers.agents.script import Scene, next_reply

SCRIPTED_MODEL = "scripted"


class ScriptedModel(Model):
    """Plays `workers.agents.script`: the same conversation always gets the same answer.

    Args:
        word_delay: pause before each word, so that one can watch it; zero for tests.
    """

    def __init__(self, *, word_delay: timedelta = timedelta(milliseconds=15)) -> None:
        self._delay_seconds = word_delay.total_seconds()

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002  # the SDK's name
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        **_: Any,
    ) -> ModelResponse:
        return self._answer(system_instructions, input, tools, handoffs).model_response()

    def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002  # the SDK's name
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        **_: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        return self._answer(system_instructions, input, tools, handoffs).stream(self._delay_seconds)

    @staticmethod
    def _answer(
        instructions: str | None,
        input_: str | list[TResponseInputItem],
        tools: list[Tool],
        handoffs: list[Handoff[Any, Any]],
    ) -> Answer:
        known = frozenset([*(tool.name for tool in tools), *(handoff.tool_name for handoff in handoffs)])
        reply = next_reply(Scene.of(input_, known))
        return Answer.to(input_, [reply], model=SCRIPTED_MODEL, instructions=instructions)
