"""Handoffs that change queues: the same turn as in one process, whatever is cut off on the way."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from agents import Agent
from chatkit.agents import AgentContext

from schemas.chatkit import ThreadItemDoneEvent, ThreadStreamEvent
from schemas.outcome import Cancelled, CancelReason, Done, Outcome, Released, ReleaseReason
from tests.builders import create_event, message_event
from tests.conformance.chats import Chat, Recorder, text_of
from tests.conformance.test_durable_turns import Effects, FollowingModel, ThinkingModel, card, once_at
from workers.agents.hops import MAX_HOPS
from workers.agents.replies import Call, Reply, words
from workers.agents.responder import AgentResponder
from workers.agents.team import Team
from workers.chat.database import Database
from workers.errors import LoopError
from workers.lanes.records import JournalStep
from workers.policies.delivery import StopSignal
from workers.routing import Route
from workers.testing.model import StepModel

START = "chatkit.interactive"
QUEUES = {"first": "chatkit.agent.first", "second": "chatkit.agent.second"}
STEPS: list[list[Reply]] = [
    [words("let me look"), Call("charge", {"amount": 5})],
    [words("over to the second"), Call("transfer_to_second")],
    [Call("card", {"title": "paid"})],
    [words("and back to the first"), Call("transfer_to_first")],
    [words("all of it is done")],
]
TO_AND_FRO: list[list[Reply]] = [[Call(f"transfer_to_{name}")] for _ in range(MAX_HOPS) for name in ("second", "first")]


class Team2:
    """A chat of two agents, run as the workers of their queues do: each run begins where the one before has led to."""

    def __init__(
        self,
        chat: Chat,
        queues: dict[str, str],
        steps: Sequence[list[Reply]] = STEPS,
        model: type[FollowingModel] = FollowingModel,
    ) -> None:
        self.chat, self.model, self.effects = chat, model(steps), Effects()
        tools: list[Any] = [self.effects.charge(), card]
        agents = tuple(
            Agent[AgentContext[Any]](name=name, model=self.model, tools=tools) for name in ("first", "second")
        )
        names = {"one": "first", "two": "second"}
        chat.responder = AgentResponder(Team(agents, names), queues=queues)  # type: ignore[assignment]  # the real one
        self.event = create_event("please")
        self.queue, self.visited, self.deaths = START, [START], 0

    async def run(self, **changes: Any) -> Outcome:
        """One delivery."""
        hops = len(self.visited) - 1
        outcome = await self.chat.run(self.event, queue=self.queue, hops=hops, **changes)
        if isinstance(outcome, Released):
            assert outcome.queue is not None
            self.queue = outcome.queue
            self.visited.append(self.queue)
        return outcome

    async def until_end(self) -> Outcome:
        """Deliver it until it ends, as often as it is released or its worker dies."""
        for _ in range(30):
            try:
                if not isinstance(outcome := await self.run(), Released):
                    return outcome
            except asyncio.CancelledError:
                self.deaths += 1
        raise AssertionError(f"it does not come to its end: {self.visited}")

    def frames(self) -> list[ThreadStreamEvent]:
        return self.chat.frames(self.event)

    async def result(self) -> tuple[list[str], list[str], dict[str, Any]]:
        thread = await self.chat.stored_thread(self.event)
        return self.chat.screen(self.event), await self.chat.kinds(self.event), thread.metadata


def comparable(frames: Sequence[ThreadStreamEvent]) -> list[str]:
    """Frames without their times, and with each id as the number of its first appearance."""
    seen: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"<{seen.setdefault(match[0], len(seen))}>"

    lines = [re.sub(r'"created_at":"[^"]*"', "", frame.model_dump_json()) for frame in frames]
    return [re.sub(r"(thr|msg|wf|tsk)_[a-z0-9_]+", number, line) for line in lines]


@pytest.fixture
def new_chat(database: Database) -> Callable[[], Chat]:
    return partial(Chat, database)


@pytest.mark.parametrize("model", [FollowingModel, ThinkingModel])
async def test_a_hop_shows_stores_and_costs_what_a_handoff_in_the_process_does(
    new_chat: Callable[[], Chat], model: type[FollowingModel]
) -> None:
    at_once, hopping = Team2(new_chat(), {}, model=model), Team2(new_chat(), QUEUES, model=model)
    assert [await at_once.until_end(), await hopping.until_end()] == [Done()] * 2
    assert (at_once.visited, hopping.visited) == ([START], [START, QUEUES["second"], QUEUES["first"]])
    assert comparable(hopping.frames()) == comparable(at_once.frames())
    assert await hopping.result() == await at_once.result()
    assert hopping.model.asked == at_once.model.asked == dict.fromkeys(range(len(STEPS)), 1)
    assert len(hopping.effects.keys) == 1
    assert (await hopping.result())[2]["agent"] == "first"


async def test_a_death_at_any_frame_leads_to_the_same_end_and_costs_at_most_one_call(
    new_chat: Callable[[], Chat],
) -> None:
    undisturbed = Team2(new_chat(), QUEUES)
    assert await undisturbed.until_end() == Done()
    for k in range(len(undisturbed.frames())):
        team = Team2(new_chat(), QUEUES)
        team.chat.recorder.before_frame = once_at(k)
        assert await team.until_end() == Done()
        assert (k, await team.result()) == (k, await undisturbed.result())
        assert (k, team.visited) == (k, undisturbed.visited)
        assert (k, sum(team.model.asked.values()) <= len(STEPS) + team.deaths) == (k, True)
        assert (k, len(set(team.effects.keys))) == (k, 1)


async def test_a_worker_that_dies_before_it_can_give_the_event_back_leaves_the_hop_to_the_next(
    new_chat: Callable[[], Chat],
) -> None:
    team = Team2(new_chat(), QUEUES)
    assert await team.run() == Released(ReleaseReason.HANDOFF, QUEUES["second"])
    team.queue, team.visited = START, [START]  # nobody has heard of it
    assert await team.until_end() == Done()
    assert team.visited == [START, QUEUES["second"], QUEUES["first"]]
    assert team.model.asked == dict.fromkeys(range(len(STEPS)), 1)
    progress = [frame for frame in team.frames() if frame.type == "progress_update"]
    assert [frame.text for frame in progress] == [
        "charging",
        "Handing over to the second",
        "Handing over to the first",
    ]


async def test_an_agent_that_is_in_its_own_queue_already_goes_on_there(new_chat: Callable[[], Chat]) -> None:
    team = Team2(new_chat(), {"second": QUEUES["second"]})
    team.queue = QUEUES["second"]
    team.visited = [team.queue]
    assert await team.until_end() == Done()
    assert team.visited == [QUEUES["second"]]


@pytest.mark.parametrize("queues", [{}, QUEUES, {"second": QUEUES["second"]}], ids=["process", "queues", "one queue"])
async def test_agents_that_hand_a_turn_to_and_fro_stop_at_the_limit_over_any_queues(
    new_chat: Callable[[], Chat], queues: dict[str, str]
) -> None:
    team = Team2(new_chat(), queues, TO_AND_FRO)
    with pytest.raises(LoopError, match="handed over more than 5 times: first > second > first > second"):
        await team.until_end()
    assert sum(team.model.asked.values()) == MAX_HOPS + 1
    assert len(team.visited) == {0: 1, 2: MAX_HOPS + 1, 1: 2}[len(queues)]


class FullRecorder(Recorder):
    """A journal without room from a step on."""

    async def keep(self, event_id: str, step: JournalStep) -> bool:
        return False


async def test_a_turn_that_could_not_be_replayed_stays_where_it_is(new_chat: Callable[[], Chat]) -> None:
    team = Team2(new_chat(), QUEUES)
    team.chat.recorder = FullRecorder()
    assert await team.until_end() == Done()
    assert team.visited == [START]


async def test_queues_that_change_again_and_again_though_no_path_tells_are_a_loop(new_chat: Callable[[], Chat]) -> None:
    team = Team2(new_chat(), QUEUES)
    team.visited = [START] * (MAX_HOPS + 1)
    with pytest.raises(LoopError, match=r"changed queues more than 5 times, to chatkit.agent.second at last"):
        await team.until_end()


async def test_a_cancel_between_two_queues_keeps_what_was_shown(new_chat: Callable[[], Chat]) -> None:
    team = Team2(new_chat(), QUEUES)
    assert isinstance(await team.run(), Released)
    shown = team.chat.screen(team.event)
    assert await team.run(stop=StopSignal(CancelReason.USER)) == Cancelled(CancelReason.USER)
    assert team.chat.screen(team.event) == shown == ["please", "let me look", "over to the second"]
    kinds = await team.chat.kinds(team.event)
    assert kinds == ["user_message", "assistant_message", "assistant_message", "sdk_hidden_context"]


async def test_the_agent_of_a_route_begins_its_turn_and_no_other(new_chat: Callable[[], Chat]) -> None:
    chat = new_chat()
    agents = tuple(
        Agent[AgentContext[Any]](name=name, model=StepModel(*[words(f"I am the {name}")] * 3))
        for name in ("first", "second")
    )
    team = Team(agents, {"one": "first", "two": "second"})
    chat.responder = AgentResponder(team)  # type: ignore[assignment]  # the real one
    chat.route = lambda event: Route(agent="two" if "second" in json.dumps(event.data) else None)
    event = await chat.thread("to whoever answers")
    for text in ("to the second", "to whoever answers"):
        following = message_event(str(event.thread_id), text)
        assert await chat.run(following) == Done()
    stored = [text_of(item) for item in await chat.items(event)]
    assert stored[1::2] == ["I am the first", "I am the second", "I am the first"]


async def test_a_handler_of_a_route_answers_in_place_of_the_agents(new_chat: Callable[[], Chat]) -> None:
    chat = new_chat()

    async def repeats(event: Any, thread: Any, context: Any) -> Any:
        said = event.data["params"]["input"]["content"][0]["text"]
        item: dict[str, Any] = {
            "id": context.next_id("message"),
            "thread_id": thread.id,
            "created_at": "2026-01-02T03:04:05",
            "type": "assistant_message",
            "content": [{"text": f"You said: {said}"}],
        }
        yield ThreadItemDoneEvent.model_validate({"item": item})

    chat.handlers["repeats"] = repeats
    chat.route = lambda _: Route(handler="repeats")
    event = create_event("hello")
    assert await chat.run(event) == Done()
    assert chat.screen(event) == ["hello", "You said: hello"]
    assert await chat.kinds(event) == ["user_message", "assistant_message"]
    assert chat.responder.asked == []
