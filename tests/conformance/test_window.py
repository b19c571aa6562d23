"""A long conversation over a real database: what a summary leaves in the thread, and who sees it."""

import asyncio
import json
from typing import Any

import pytest
from agents import Agent, ModelResponse

from schemas.events import Event
from schemas.outcome import Done
from tests.builders import message_event
from tests.conformance.chats import Chat, dying_at, says
from workers.agents.responder import AgentResponder
from workers.agents.summaries import HEAD
from workers.agents.team import Team
from workers.agents.window import SUMMARY_KEY, Window
from workers.chat.fence import claim
from workers.errors import LeaseLostError
from workers.lanes.records import Owner
from workers.testing.model import StepModel, words


async def long_thread(chat: Chat) -> str:
    """A thread that is larger than a window of 1000 tokens."""
    event = await chat.thread("question 0 " + "x" * 100)
    for number in range(1, 12):
        chat.responder.steps = [says(f"answer {number} " + "y" * 100)]
        assert await chat.run(message_event(str(event.thread_id), f"question {number} " + "x" * 100)) == Done()
    return str(event.thread_id)


def ask_agents(chat: Chat, model: StepModel) -> None:
    anybody: Any = chat
    anybody.responder = AgentResponder(Team((Agent(name="Solo", model=model),)), window=Window(tokens=1000))


def summaries(items: list[Any]) -> list[str]:
    return [item.content for item in items if item.type == "sdk_hidden_context" and item.content.startswith(HEAD)]


async def test_a_summary_is_stored_with_the_turn_hidden_from_its_user_and_read_by_the_next_one(chat: Chat) -> None:
    thread_id = await long_thread(chat)
    model = StepModel(words("Ada wants a size L."), words("ok"), words("ok again"))
    ask_agents(chat, model)
    event = message_event(thread_id, "now")
    assert await chat.run(event) == Done()
    assert summaries(await chat.items(event)) == [HEAD + "Ada wants a size L."]
    assert (await chat.stored_thread(event)).metadata[SUMMARY_KEY]["item"]
    listed = await chat.ask("items.list", {"thread_id": thread_id, "limit": 100})
    assert "Ada wants" not in json.dumps(listed) + str(chat.frames(event))
    assert "question 0 " in json.dumps(listed), "the thread keeps everything"

    assert await chat.run(message_event(thread_id, "and then")) == Done()
    read = json.dumps(model.inputs[2])
    assert ("Ada wants a size L." in read, "question 0 " in read, "and then" in read) == (True, False, True)
    assert model.calls == 3


@pytest.mark.parametrize("frame", range(1, 5))
async def test_a_worker_that_dies_after_the_summary_leaves_it_to_the_next(chat: Chat, frame: int) -> None:
    model = StepModel(words("A summary."), words("a cut answer"), words("an answer"))
    event: Event = message_event(await long_thread(chat), "now")
    ask_agents(chat, model)
    chat.recorder.before_frame = dying_at(frame)
    died = False
    try:
        await chat.run(event)
    except asyncio.CancelledError:
        died = True
        assert await chat.run(event) == Done()
    assert died
    assert len(summaries(await chat.items(event))) == 1
    asked = [json.dumps(input_) for input_ in model.inputs if "Sum up" in json.dumps(input_)]
    assert len(asked) == 1, "it is made once, in all attempts"


async def test_a_worker_that_has_lost_the_thread_meanwhile_leaves_no_summary(chat: Chat) -> None:
    thread_id = await long_thread(chat)

    class Slow(StepModel):
        """While it sums up, another worker claims the thread."""

        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            me = Owner("default", "u1")
            await chat.database.write(lambda sql: claim(sql, me, thread_id, 10_000, missing_ok=False))
            return await super().get_response(*args, **kwargs)

    ask_agents(chat, Slow(words("A summary."), words("late")))
    event = message_event(thread_id, "now")
    with pytest.raises(LeaseLostError):
        await chat.run(event)
    assert summaries(await chat.items(event)) == []
    assert SUMMARY_KEY not in (await chat.stored_thread(event)).metadata
