"""The relay: gives a model's events to the turn as they come, and the SDK's run only what it acts on.

A run queues every event, text deltas included, for a reader that then tells a tool's events from the model's without
knowing which came first. Relayed at the source they are in order, and a delta costs a fraction of it.
"""

from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse
from agents.items import TResponseStreamEvent

from workers.agents.feed import CURRENT_FEED, ModelEvent

SHOWN = frozenset(
    {
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.output_item.added",
        "response.output_item.done",
        "response.image_generation_call.partial_image",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
    }
)
"""The events that ChatKit's converter looks at."""

WITHHELD = frozenset({"response.output_text.delta", "response.function_call_arguments.delta"})
"""The events that a run only passes on: it reads finished items."""


class RelayedModel(Model):
    """A model whose events also go to the feed of the turn that calls it. Everything else is the model's own.

    A streamed run that a tool starts inside a turn would be shown as part of the answer: start those unstreamed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # not set yet: a copy is being made
            raise AttributeError(name)
        return getattr(self._model, name)  # the SDK asks models for optional abilities by name

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return await self._model.get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        feed = CURRENT_FEED.get()
        number = await feed.next_response() if feed is not None else 0
        stream: Any = self._model.stream_response(*args, **kwargs)
        try:
            async for event in stream:
                if feed is not None and event.type in SHOWN:
                    feed.push(ModelEvent(event, number))
                if feed is None or event.type not in WITHHELD:
                    yield event
        finally:
            # a cancelled run must close the connection now; an iterator that is no generator has nothing to close
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    def get_retry_advice(self, request: Any) -> Any:
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        await self._model.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)  # noqa: SLF001  # the SDK's hook of every model
