"""Durable turns: whatever cuts a run off, the next one goes on from the first step that is missing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from agents import Agent, FunctionTool, Model, ModelResponse, StopAtTools, function_tool
from agents.items import TResponseInputItem, TResponseStreamEvent
from chatkit.agents import AgentContext
from chatkit.widgets import DynamicWidgetRoot
from openai.types.responses import (
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningSummaryTextDoneEvent,
)

from schemas.chatkit import ProgressUpdateEvent, ThreadItemDoneEvent, ThreadItemRemovedEvent, frame_of
from schemas.outcome import Done, Outcome
from tests.builders import create_event
from tests.conformance.chats import Chat, Recorder
from workers.agents.durable_tools import UNFINISHED, idempotency_key, once
from workers.agents.ports import ToolContext
from workers.agents.replies import Answer, Call, Reply, words
from workers.agents.responder import AgentResponder
from workers.agents.team import Team
from workers.agents.tools import STOPPING_TOOLS, ask_user, call_client_tool
from workers.chat.database import Database
from workers.errors import TransientError
from workers.lanes.records import JournalStep

STEPS: list[list[Reply]] = [
    [words("let me look"), Call("charge", {"amount": 5})],
    [Call("card", {"title": "paid"})],
    [words("now over to"), Call("transfer_to_second")],
    [words("all of it is done")],
]


class FollowingModel(Model):
    """Answers by what it is given: the reply after as many calls as the input holds. Counts what it is asked."""

    def __init__(self, steps: Sequence[list[Reply]] = STEPS) -> None:
        self.asked: Counter[int] = Counter()
        self.finished: Counter[int] = Counter()
        self.steps = list(steps)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002  # the SDK's name
        *_: Any,
        **__: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        step = sum(item.get("type") == "function_call" for item in input if isinstance(item, dict))
        self.asked[step] += 1
        async for event in Answer.to(input, self.steps[step], model="m", instructions=None).stream(0):
            yield event
        self.finished[step] += 1


class ThinkingModel(FollowingModel):
    """Thinks aloud before each of its responses."""

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        thought = ResponseReasoningItem.model_validate(
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm, let me think"}]}
        )
        place: dict[str, Any] = {"output_index": 0, "sequence_number": 0}
        part: dict[str, Any] = {"item_id": "rs_1", "summary_index": 0, **place}
        async for event in super().stream_response(*args, **kwargs):
            if event.type == "response.completed":
                event.response.output.insert(0, thought)
            elif (index := getattr(event, "output_index", None)) is not None:
                event.output_index = index + 1  # type: ignore[union-attr]  # it has one
            yield event
            if event.type == "response.created":
                yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=thought, **place)
                for piece in ("hm, ", "let me ", "think"):
                    yield ResponseReasoningSummaryTextDeltaEvent(
                        type="response.reasoning_summary_text.delta", delta=piece, **part
                    )
                yield ResponseReasoningSummaryTextDoneEvent(
                    type="response.reasoning_summary_text.done", text="hm, let me think", **part
                )
                yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=thought, **place)


class Effects:
    """What tools did to the world, and with which keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.may_go_on.set()

    def charge(self, *, only_once: bool = False) -> FunctionTool:
        async def charge(wrapper: ToolContext, amount: int) -> str:
            """Charge."""
            self.begun.set()
            await self.may_go_on.wait()
            self.keys.append(idempotency_key())
            await wrapper.context.stream(ProgressUpdateEvent(text="charging"))
            wrapper.context.thread.title = f"charged {amount}"
            return f"charged {amount}"

        tool = function_tool(charge, failure_error_function=None)
        return once(tool) if only_once else tool


@function_tool
async def card(wrapper: ToolContext, title: str) -> str:
    """Show a card."""
    children = [{"type": "Text", "value": title}]
    await wrapper.context.stream_widget(DynamicWidgetRoot.model_validate({"type": "Card", "children": children}))
    return "shown"


class Shop:
    """A chat whose answer takes four responses of a model, two tools and a handoff."""

    def __init__(
        self,
        chat: Chat,
        *,
        only_once: bool = False,
        steps: Sequence[list[Reply]] = STEPS,
        model: type[FollowingModel] = FollowingModel,
    ) -> None:
        self.chat, self.model, self.effects = chat, model(steps), Effects()
        tools: list[Any] = [self.effects.charge(only_once=only_once), card, ask_user, call_client_tool]
        stop = StopAtTools(stop_at_tool_names=list(STOPPING_TOOLS))
        first, second = (
            Agent[AgentContext[Any]](name=name, model=self.model, tools=tools, tool_use_behavior=stop)
            for name in ("first", "second")
        )
        chat.responder = AgentResponder(Team((first, second)))  # type: ignore[assignment]  # the real one for once
        self.event = create_event("please")

    async def run(self) -> Outcome:
        return await self.chat.run(self.event)

    async def until_done(self, most: int = 5) -> int:
        """Run it as workers would that die; how many of them did."""
        for deaths in range(most):
            try:
                assert await self.run() == Done()
            except asyncio.CancelledError:
                continue
            return deaths
        raise AssertionError("it does not come to its end")

    @property
    def calls(self) -> int:
        return sum(self.model.asked.values())

    async def result(self) -> tuple[list[str], list[str], str | None]:
        stored = await self.chat.stored_thread(self.event)
        return self.chat.screen(self.event), await self.chat.kinds(self.event), stored.title


class DyingRecorder(Recorder):
    """A worker dies while it keeps a step: before it is there, or when it is and nobody has heard of it."""

    def __init__(self, step: int, *, after: bool) -> None:
        super().__init__()
        self._left, self._after = step, after

    async def keep(self, event_id: str, step: JournalStep) -> bool:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise asyncio.CancelledError
        kept = await super().keep(event_id, step)
        if self._left == 0:
            raise asyncio.CancelledError
        return kept


def once_at(k: int) -> Callable[[str, int, bytes], Awaitable[None]]:
    died = False

    async def die(_: str, count: int, __: bytes) -> None:
        nonlocal died
        if count == k and not died:
            died = True
            raise asyncio.CancelledError

    return die


@pytest.fixture
def new_chat(database: Database) -> Callable[[], Chat]:
    return partial(Chat, database)


@pytest.fixture
async def reference(new_chat: Callable[[], Chat]) -> tuple[tuple[list[str], list[str], str | None], int, int]:
    """The undisturbed answer: what is left of it, and how many frames and journal writes it takes."""
    shop = Shop(new_chat())
    assert await shop.run() == Done()
    journal = shop.chat.recorder.journals[shop.event.event_id]
    return await shop.result(), len(shop.chat.recorder.streams[shop.event.event_id]), len(journal)


async def test_a_death_at_any_frame_costs_at_most_one_call_and_repeats_nothing(
    new_chat: Callable[[], Chat], reference: tuple[Any, int, int]
) -> None:
    result, frames, _ = reference
    for k in range(frames):
        shop = Shop(new_chat())
        shop.chat.recorder.before_frame = once_at(k)
        deaths = await shop.until_done()
        assert (k, await shop.result()) == (k, result)
        assert (k, shop.calls <= len(STEPS) + deaths) == (k, True)
        assert (k, len(set(shop.effects.keys))) == (k, 1)
        assert (k, max(shop.model.finished.values()) <= 2) == (k, True)


ENDINGS: dict[str, list[list[Reply]]] = {
    "a question to the user": [
        STEPS[0],
        [words("one question"), Call("ask_user", {"questions": [{"id": "q", "question": "which?"}]})],
    ],
    "a tool of the page": [
        STEPS[0],
        [words("the page knows"), Call("call_client_tool", {"name": "cart", "arguments": {"all": True}})],
    ],
    "two tools at once": [[Call("charge", {"amount": 5}), Call("card", {"title": "a"})], [], [words("both done")]],
}


@pytest.mark.parametrize("model", [FollowingModel, ThinkingModel])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_questions_tools_of_the_page_and_thoughts_survive_a_death_at_any_frame(
    new_chat: Callable[[], Chat], ending: str, model: type[FollowingModel]
) -> None:
    steps = ENDINGS[ending]
    undisturbed = Shop(new_chat(), steps=steps, model=model)
    assert await undisturbed.run() == Done()
    result = await undisturbed.result()
    for k in range(len(undisturbed.chat.recorder.streams[undisturbed.event.event_id])):
        shop = Shop(new_chat(), steps=steps, model=model)
        shop.chat.recorder.before_frame = once_at(k)
        deaths = await shop.until_done()
        assert (k, await shop.result()) == (k, result)
        assert (k, shop.calls <= sum(map(bool, steps)) + deaths) == (k, True)
        assert (k, len(set(shop.effects.keys))) == (k, 1)


@pytest.mark.parametrize("after", [False, True], ids=["lost", "kept"])
async def test_a_death_at_any_write_of_the_journal_costs_at_most_one_call(
    new_chat: Callable[[], Chat], reference: tuple[Any, int, int], after: bool
) -> None:
    result, _, writes = reference
    for k in range(1, writes + 1):
        shop = Shop(new_chat())
        shop.chat.recorder = DyingRecorder(k, after=after)
        deaths = await shop.until_done()
        assert deaths == 1
        assert (k, await shop.result()) == (k, result)
        assert (k, shop.calls) == (k, len(STEPS) if after else shop.calls)
        assert shop.calls <= len(STEPS) + 1
        assert (k, set(shop.effects.keys), after and len(shop.effects.keys) > 1) == (k, set(shop.effects.keys), False)


async def test_frames_of_completed_steps_are_not_repeated(new_chat: Callable[[], Chat]) -> None:
    shop = Shop(new_chat())
    shop.model.steps[3] = []  # the last response is cut off
    boom = FailingOnce(shop.model, at=3)
    shop.chat.responder = AgentResponder(  # type: ignore[assignment]  # the real one for once
        Team(tuple(Agent(name=n, model=boom, tools=[shop.effects.charge(), card]) for n in ("first", "second")))
    )
    shop.model.steps = list(STEPS)
    with pytest.raises(TransientError):
        await shop.run()
    before = len(shop.chat.recorder.streams[shop.event.event_id])
    assert await shop.run() == Done()
    again = [frame.type for frame in shop.chat.frames(shop.event)[before:]]
    assert "thread.item.removed" in again  # the message that was cut off
    done = [f.item.id for f in shop.chat.frames(shop.event) if isinstance(f, ThreadItemDoneEvent)]
    assert len(done) == len(set(done))
    assert len(shop.effects.keys) == 1
    assert shop.model.asked == {0: 1, 1: 1, 2: 1, 3: 2}


class FailingOnce(Model):
    """Cuts one response off, once, after its first words."""

    def __init__(self, model: FollowingModel, at: int) -> None:
        self._model, self._at, self._failed = model, at, False

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        async for event in self._model.stream_response(*args, **kwargs):
            yield event
            words_came = event.type == "response.output_text.delta"
            if words_came and not self._failed and self._model.asked[self._at]:
                self._failed = True
                raise TransientError("cut")


async def test_a_journal_that_does_not_fit_any_more_is_left_and_the_rest_is_run_live(
    new_chat: Callable[[], Chat],
) -> None:
    shop = Shop(new_chat())
    shop.chat.recorder = DyingRecorder(4, after=True)  # two responses and two tools are kept
    with pytest.raises(asyncio.CancelledError):
        await shop.run()
    changed = Shop(shop.chat, steps=[STEPS[0], [words("never mind")]])
    changed.event = shop.event
    agent: Agent[AgentContext[Any]] = Agent(name="first", model=changed.model, tools=[changed.effects.charge()])
    shop.chat.responder = AgentResponder(Team((agent,)))  # type: ignore[assignment]  # the real one for once
    assert await changed.run() == Done()
    assert changed.model.asked == {1: 1}  # the card tool is gone, so its response does not fit
    assert not changed.effects.keys
    screen, kinds, _ = await changed.result()
    assert screen == ["please", "let me look", "never mind"]
    assert kinds == ["user_message", "assistant_message", "assistant_message"]


async def test_an_unfinished_call_of_a_once_tool_is_reported_and_not_repeated(new_chat: Callable[[], Chat]) -> None:
    shop = Shop(new_chat(), only_once=True)
    shop.effects.may_go_on.clear()
    run = asyncio.create_task(shop.run())
    await shop.effects.begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    shop.effects.may_go_on.set()
    assert await shop.run() == Done()
    assert shop.effects.keys == []
    journal = shop.chat.recorder.journals[shop.event.event_id]
    assert any(UNFINISHED.encode() in entry for entry in journal.values())


async def test_a_redriven_event_shows_its_completed_steps_again_after_they_were_taken_back(
    new_chat: Callable[[], Chat], reference: tuple[Any, int, int]
) -> None:
    shop = Shop(new_chat())
    shop.chat.recorder = DyingRecorder(4, after=True)
    with pytest.raises(asyncio.CancelledError):
        await shop.run()
    stream = shop.chat.recorder.streams[shop.event.event_id]
    shown = [f.item.id for f in shop.chat.frames(shop.event) if isinstance(f, ThreadItemDoneEvent)]
    stream += [frame_of(ThreadItemRemovedEvent(item_id=item_id)) for item_id in shown[1:]]  # as a dead letter does
    assert await shop.run() == Done()
    assert (await shop.result())[0] == reference[0][0]
    assert shop.calls == len(STEPS)
