"""The scripted model, through the SDK."""

import time
from datetime import timedelta
from typing import Any

import pytest
from agents import Agent, Model, RunConfig, Runner, function_tool

from schemas.chatkit import StructuredInputItem, ThreadItem, ThreadItemDoneEvent, WidgetItem
from tests.unit.agents.turns import FakeTurn, answer, new_context, streamed_text_of, text_of, types_of, user_says
from workers.agents.responder import AgentResponder
from workers.agents.script import ANSWERS, DEFAULT_ANSWER, LONG, OWN_TOOLS, RETRIED
from workers.agents.scripted import ScriptedModel
from workers.agents.team import build_team
from workers.errors import PermanentError


def responder(word_delay: timedelta = timedelta(0)) -> AgentResponder:
    return AgentResponder(build_team(ScriptedModel(word_delay=word_delay)))


async def test_a_plain_question_is_answered_word_by_word() -> None:
    events = await answer(responder(), "How does the queue work?")
    text = text_of(events)
    assert text.startswith("Each conversation has a lane")
    assert streamed_text_of(events) == text
    assert types_of(events).count("thread.item.updated") >= len(text.split())


async def test_an_order_is_handed_off_looked_up_and_answered() -> None:
    context = new_context()
    events = await answer(responder(), "Where is order 1043?", context)
    assert text_of(events) == "I looked it up for you: order 1043: status being packed, items 1, arrives next week."
    assert "progress_update" in types_of(events)
    assert context.thread.metadata == {"agent": "Service Orchestrator Agent"}


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("what about invoice 77", "amount 49.00 EUR"),
        ("what plan is my account on?", "plan team"),
        ("order 9999", "no such record"),
    ],
)
async def test_look_ups_tell_what_the_directory_knows(question: str, part: str) -> None:
    assert part in text_of(await answer(responder(), question))


async def test_a_form_is_handed_off_and_shown_before_the_answer() -> None:
    context = new_context()
    events = await answer(responder(), "Show me a form", context)
    done = [event.item for event in events if isinstance(event, ThreadItemDoneEvent)]
    assert isinstance(done[0], WidgetItem)
    assert "small form" in text_of(events)
    assert context.thread.metadata == {"agent": "UI Coordination Agent"}


async def test_a_choice_ends_the_turn_and_its_answer_is_understood() -> None:
    first = await answer(responder(), "Let me choose")
    item = next(event.item for event in first if isinstance(event, ThreadItemDoneEvent))
    assert isinstance(item, StructuredInputItem)
    assert item.status == "pending"
    answered = item.model_dump() | {"status": "answered"}
    answered["inputs"][0]["answer"] = {"values": ["Retries"]}
    context = new_context()
    history: list[ThreadItem] = [user_says("Let me choose"), StructuredInputItem.model_validate(answered)]
    events = [event async for event in responder().respond(context, history, "UI Coordination Agent")]
    assert text_of(events) == "Thank you. You chose: Retries."


async def test_a_sticky_agent_passes_on_what_is_not_its_own() -> None:
    context = new_context()
    await answer(responder(), 'Rename it to "Lunch"', context, active_agent="UI Coordination Agent")
    assert context.thread.title == "Lunch"
    assert context.thread.metadata == {"agent": "ChatKit Integration Agent"}


async def test_the_turn_is_looked_up_not_guessed() -> None:
    context = new_context(FakeTurn(event_id="evt_77", user="grace"))
    assert text_of(await answer(responder(), "Which event id is this turn?", context)) == (
        "You are grace, and this is event evt_77."
    )


async def test_a_turn_fails_when_it_is_asked_to_and_not_when_the_page_says_that_it_is_another_try() -> None:
    with pytest.raises(PermanentError, match="asked to fail"):
        await answer(responder(), "Please fail on purpose")
    again = new_context(FakeTurn(variables={"retry": True}))
    assert text_of(await answer(responder(), "Please fail on purpose", again)) == RETRIED


async def test_a_long_answer_comes_in_many_small_pieces() -> None:
    events = await answer(responder(), "Tell me at length how you work")
    assert text_of(events) == streamed_text_of(events) == LONG
    assert types_of(events).count("thread.item.updated") > 250


async def test_a_session_is_asked_for_in_the_users_own_name() -> None:
    said = text_of(await answer(responder(), "I need a new session", active_agent="UI Coordination Agent"))
    assert said.startswith("Not done: this deployment's workers have no key"), "as the tool says"


async def test_the_same_question_gets_the_same_frames() -> None:
    def frames(events: list[object]) -> list[object]:
        return [event for event in events if "created_at" not in repr(event)]

    first = frames(list(await answer(responder(), "order 1042")))
    assert first == frames(list(await answer(responder(), "order 1042")))


async def test_usage_is_counted_over_all_steps() -> None:
    turn = FakeTurn()
    await answer(responder(), "order 1042", new_context(turn))
    ((requests, input_tokens, output_tokens),) = turn.usage
    assert requests == 3
    assert input_tokens > output_tokens > 10


async def test_it_works_without_streaming() -> None:
    model = ScriptedModel(word_delay=timedelta(0))
    result = await Runner.run(
        build_team(model).agents[0], "hello", context=new_context(), run_config=RunConfig(tracing_disabled=True)
    )
    assert str(result.final_output).startswith("Hello!")


async def test_words_come_at_a_pace_that_one_can_watch() -> None:
    started = time.monotonic()
    events = await answer(responder(timedelta(milliseconds=2)), "thanks")
    assert time.monotonic() - started >= 0.002 * len(text_of(events).split())


async def test_no_answer_of_the_script_is_hidden_behind_another() -> None:
    questions = ["hello", "what if a worker fails", "the rate limit", "streaming", "how does a lane work", "thanks"]
    said = {text_of(await answer(responder(), question)) for question in questions}
    assert said == set(ANSWERS.values())
    assert text_of(await answer(responder(), "xyzzy")) == DEFAULT_ANSWER


async def test_an_agent_and_a_tool_of_a_plug_in_are_found_by_a_word_of_their_names_and_no_others() -> None:
    @function_tool
    def get_weather(city: str = "Oslo") -> str:
        """The weather."""
        return f"{city}: sunny"

    def build(model: Model) -> Agent[Any]:
        return Agent(name="Weather Agent", model=model, tools=[get_weather])

    team = build_team(ScriptedModel(word_delay=timedelta(0)), more={"weather": build})
    assert text_of(await answer(AgentResponder(team), "Weather, please")) == "Oslo: sunny"
    own = build_team(ScriptedModel())
    names = {tool.name for agent in own.agents for tool in agent.tools}
    assert names | {handoff.tool_name for agent in own.agents for handoff in agent.handoffs} == OWN_TOOLS  # type: ignore[union-attr]  # tied by the team
