"""The relay: gives a model's events to the turn as they come, and the SDK's run only what it acts on.

A run queues every event, text deltas included, for a reader that then tells a tool's events from the model's without
knowing which came first. Relayed at the source they are in order, and a delta costs a fraction of it.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agents import AgentOutputSchemaBase, Handoff, Model, ModelResponse, ModelSettings, Tool
from agents.items import TResponseInputItem, TResponseStreamEvent

from schemas.chatkit import ThreadItemRemovedEvent
from workers import failpoints
from workers.agents.feed import CURRENT_FEED, ModelEvent, ToolEvent, TurnFeed
from workers.agents.steering import joined, recalled
from workers.agents.steps import ResponseStep, fingerprint, response_step, steps_from
from workers.failpoints import FailPoint
from workers.telemetry.spans import Kind, begin, span

log = logging.getLogger(__name__)

Ask = Callable[[str | list[TResponseInputItem]], AsyncIterator[TResponseStreamEvent]]
"""Asks the model with this input."""

CALL = "model"
"""Name of the spans of calls."""

# the names that OpenTelemetry has for these
MODEL, READ, WROTE = "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"

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
        if (feed := CURRENT_FEED.get()) is not None:  # of a run that a tool has started
            await feed.next_call()
        with span(CALL, kind=Kind.CLIENT, attributes={MODEL: self._name}) as call:
            answer = await self._model.get_response(*args, **kwargs)
            call.set({READ: answer.usage.input_tokens, WROTE: answer.usage.output_tokens})
        return answer

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002  # the SDK's name
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        *args: Any,
        **kwargs: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        feed = CURRENT_FEED.get()

        def ask(asked: str | list[TResponseInputItem]) -> AsyncIterator[TResponseStreamEvent]:
            return self._model.stream_response(
                system_instructions, asked, model_settings, tools, output_schema, handoffs, *args, **kwargs
            )

        if feed is None:
            events = ask(input)
        else:
            feed.next_response()
            kept = _kept(feed, await recalled(feed, input), tools, handoffs)
            events = _relayed(feed, ask, input, self._name) if kept is None else _replayed(feed, kept)
        try:
            async for event in events:
                yield event
        finally:
            await _close(events)

    @property
    def _name(self) -> str:
        """One that the deployment is configured with."""
        return str(getattr(self._model, "model", "unknown"))

    def get_retry_advice(self, request: Any) -> Any:
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        await self._model.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)  # noqa: SLF001  # the SDK's hook of every model


def _kept(
    feed: TurnFeed, input_: str | list[TResponseInputItem], tools: Sequence[Tool], handoffs: Sequence[Handoff[Any, Any]]
) -> ResponseStep | None:
    """The response that an earlier attempt got at this place. One that does not fit is forgotten, with what follows."""
    number, journal = feed.response, feed.journal
    entry = journal.get(response_step(number)) if journal is not None else None
    kept = ResponseStep.of(entry) if entry is not None else None
    if journal is not None and kept is not None and not kept.fits(fingerprint(input_), tools, handoffs):
        log.warning("journal_does_not_fit", extra={"step": response_step(number)})
        for item_id in journal.forget(steps_from(number, journal.steps())):
            feed.push(ToolEvent(ThreadItemRemovedEvent(item_id=item_id)))
        kept = None
    feed.replay(on=kept is not None)
    return kept


async def _replayed(feed: TurnFeed, kept: ResponseStep) -> AsyncIterator[TResponseStreamEvent]:
    """A response from the journal: its items are made again, and the run goes on from it."""
    for event in kept.shown():
        feed.push(ModelEvent(event, feed.response, response_step(feed.response), replayed=True))
    yield kept.completed()


async def _relayed(
    feed: TurnFeed, ask: Ask, input_: str | list[TResponseInputItem], model: str
) -> AsyncIterator[TResponseStreamEvent]:
    """A response of the model. The run hears of its end, and starts tools, when it is in the journal."""
    await feed.next_call()
    input_ = await joined(feed, input_)
    # not the one that the task is inside of: a generator may be closed in another task than it was begun in
    call = begin(CALL, kind=Kind.CLIENT, attributes={MODEL: model})
    stream = ask(input_)
    number, step = feed.response, response_step(feed.response)
    failpoints.hit(FailPoint.BEFORE_MODEL_CALL, number)
    try:
        async for event in stream:
            if event.type in SHOWN:
                feed.push(ModelEvent(event, number, step))
            failpoints.hit(FailPoint.AFTER_MODEL_CHUNK, next(feed.chunks))
            if event.type == "response.completed" and feed.journal is not None:
                await feed.end_step(step, ResponseStep(fingerprint(input_), event.response).to_json())
                failpoints.hit(FailPoint.AFTER_MODEL_RESPONSE, number)
            if event.type == "response.completed" and event.response.usage is not None:
                call.set({READ: event.response.usage.input_tokens, WROTE: event.response.usage.output_tokens})
            if event.type not in WITHHELD:
                yield event
    except Exception as error:
        call.fail(type(error).__name__)
        raise
    finally:
        call.end()
        await _close(stream)


async def _close(stream: AsyncIterator[TResponseStreamEvent]) -> None:
    """A cancelled run must close the connection now; an iterator that is no generator has nothing to close."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
