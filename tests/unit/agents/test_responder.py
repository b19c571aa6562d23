"""The responder: ids, order, endings and failures of a turn."""

import asyncio
import gc
import inspect
import re
from typing import Any

import chatkit.agents
import pytest
from agents import Agent, GuardrailFunctionOutput, RunConfig, Runner, function_tool, output_guardrail
from chatkit.agents import AgentContext, stream_agent_response

from schemas.chatkit import (
    AssistantMessageItem,
    ClientToolCallItem,
    NoticeEvent,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)
from tests.unit.agents.turns import (
    FakeTurn,
    MemoryStore,
    answer,
    failing,
    new_context,
    streamed_text_of,
    text_of,
    types_of,
    user_says,
)
from workers.agents.failures import report_failure
from workers.agents.history import HistoryConverter
from workers.agents.hops import MAX_HOPS
from workers.agents.ports import ToolContext
from workers.agents.relay import SHOWN
from workers.agents.responder import TOO_MANY_STEPS, AgentResponder
from workers.agents.team import Team, build_team
from workers.agents.tools import show_notice
from workers.errors import DatabaseError, LeaseLostError, LoopError, PermanentError, TransientError
from workers.testing.model import Call, DeltaModel, Say, StepModel, words

NOTICE = Call("show_notice", {"message": "look", "level": "info"})


def playing(*steps: Any, **options: Any) -> AgentResponder:
    """A responder whose one agent has a notice tool and plays the steps."""
    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=StepModel(*steps, **options), tools=[show_notice])
    return AgentResponder(Team((agent,)))


def message_ids(events: list[ThreadStreamEvent]) -> list[str]:
    shown = [event for event in events if isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent)]
    ids = [event.item.id for event in shown if isinstance(event.item, AssistantMessageItem)]
    return ids + [event.item_id for event in events if isinstance(event, ThreadItemUpdatedEvent)]


async def test_frames_are_those_of_chatkits_own_converter() -> None:
    model = DeltaModel(5)
    ours = await answer(AgentResponder(Team((Agent(name="Solo", model=model),))), "hi")
    context = new_context()
    run = Runner.run_streamed(
        Agent[AgentContext[Any]](name="Solo", model=model),
        await HistoryConverter().to_agent_input([user_says("hi")]),
        context=context,
        run_config=RunConfig(tracing_disabled=True),
    )
    theirs = [event async for event in stream_agent_response(context, run)]

    def comparable(events: list[ThreadStreamEvent]) -> list[str]:
        text = "\n".join(event.model_dump_json() for event in events)
        return re.sub(r'"(id|item_id|created_at)":"[^"]*"', "", text).split("\n")

    assert comparable(ours) == comparable(theirs)


def test_every_event_that_chatkits_converter_knows_is_relayed() -> None:
    source = inspect.getsource(chatkit.agents.stream_agent_response)
    assert set(re.findall(r'event\.type == "(response\.[a-z_.]+)"', source)) == SHOWN


async def test_ids_come_from_the_event_and_the_place_never_from_the_provider() -> None:
    first = await answer(playing([words("one two"), NOTICE], words("three")), "hi")
    again = await answer(playing([words("one two"), NOTICE], words("three")), "hi")
    assert message_ids(first) == message_ids(again)
    assert set(message_ids(first)) == {"message_evt_abc_1_0_0", "message_evt_abc_1_1_0"}


async def test_items_with_one_fake_id_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.agents.replies.Answer._item_id", lambda _self, _index: "__fake_id__")
    events = await answer(playing([words("a b"), words("c d")]), "hi")
    done = [event.item for event in events if isinstance(event, ThreadItemDoneEvent)]
    assert [item.id for item in done] == ["message_evt_abc_1_0_0", "message_evt_abc_1_0_1"]
    deltas = [event.item_id for event in events if isinstance(event, ThreadItemUpdatedEvent)]
    assert deltas[: len(deltas) // 2] == ["message_evt_abc_1_0_0"] * (len(deltas) // 2)
    assert text_of(events) == "a b\nc d"


async def test_what_a_tool_shows_stands_after_the_text_that_called_it_and_before_the_next() -> None:
    steps: list[Any] = [[Say(("before ",) * 40), NOTICE], words("after that")]
    events = await answer(playing(*steps), "hi")
    types = types_of(events)
    assert types.index("notice") == types.index("thread.item.done") + 1
    assert types[types.index("notice") + 1] == "thread.item.added"


async def test_a_slow_reader_changes_nothing_about_the_order() -> None:
    steps: list[Any] = [[words("one"), NOTICE], [words("two"), NOTICE], words("three")]
    types = []
    async for event in playing(*steps).respond(new_context(), [user_says("hi")], None):
        types.append(event.type)
        await asyncio.sleep(0.002)
    marks = [type_ for type_ in types if type_ in ("notice", "thread.item.done")]
    assert marks == ["thread.item.done", "notice", "thread.item.done", "notice", "thread.item.done"]


async def test_turns_at_once_keep_their_events_apart() -> None:
    team = build_team(DeltaModel(20))
    responder = AgentResponder(team)
    contexts = [new_context(FakeTurn(event_id=f"evt_{number}")) for number in range(10)]
    answers = await asyncio.gather(*(answer(responder, "hi", context) for context in contexts))
    for number, events in enumerate(answers):
        assert streamed_text_of(events) == "word " * 20
        assert set(message_ids(events)) == {f"message_evt_{number}_1_0_0"}


def test_agent_contexts_do_not_share_their_queue() -> None:
    assert new_context()._events is not new_context()._events


async def test_too_many_steps_end_with_a_message_not_with_an_error() -> None:
    agent: Agent[AgentContext[Any]] = build_team(StepModel(*[NOTICE] * 3)).agents[1]
    turn = FakeTurn()
    responder = AgentResponder(Team((agent,)), max_steps=2)
    events = await answer(responder, "hi", new_context(turn))
    assert text_of(events) == TOO_MANY_STEPS
    assert isinstance(events[-1], ThreadItemDoneEvent)
    assert events[-1].item.id == "message_evt_abc_1_end"
    assert turn.usage[0][0] == 2


def passing_to_and_fro(handoffs: int) -> AgentResponder:
    """Two agents that hand over to each other so often, and then answer."""
    names = [("Ping", "transfer_to_pong"), ("Pong", "transfer_to_ping")]
    steps = [Call(names[number % 2][1]) for number in range(handoffs)]
    model = StepModel(*steps, words("at last"))
    agents = [Agent[AgentContext[Any]](name=name, model=model) for name, _ in names]
    return AgentResponder(Team(tuple(agents)))


async def test_agents_that_hand_a_turn_to_and_fro_are_stopped_at_the_limit() -> None:
    assert text_of(await answer(passing_to_and_fro(MAX_HOPS), "hi", new_context())) == "at last"
    seen, error = await failing(passing_to_and_fro(MAX_HOPS + 1))
    assert isinstance(error, LoopError)
    assert str(error) == "handed over more than 5 times: Ping > Pong > Ping > Pong > Ping > Pong > Ping"
    assert "at last" not in streamed_text_of(seen)


async def test_a_failure_comes_after_all_that_was_shown() -> None:
    seen, error = await failing(playing(TimeoutError(), cut_after=3))
    assert isinstance(error, TransientError)
    assert streamed_text_of(seen) == "cut cut cut "
    assert "thread.item.done" not in types_of(seen)


async def test_usage_of_a_failed_turn_is_counted_as_well() -> None:
    turn = FakeTurn()
    with pytest.raises(TransientError):
        await answer(playing([words("so far"), NOTICE], TimeoutError()), "hi", new_context(turn))
    assert turn.usage[0][0] == 1


async def test_our_own_errors_pass_through_a_tool() -> None:
    @function_tool(failure_error_function=report_failure)
    async def stale(wrapper: ToolContext) -> str:
        """Fail as a stale worker does."""
        raise LeaseLostError("another worker")

    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=StepModel(Call("stale")), tools=[stale])
    with pytest.raises(LeaseLostError):
        await answer(AgentResponder(Team((agent,))), "hi")


async def test_a_foreign_error_of_a_tool_is_told_to_the_model_without_its_text() -> None:
    @function_tool(failure_error_function=report_failure)
    async def broken(wrapper: ToolContext) -> str:
        """Fail."""
        raise ValueError("SECRET")

    model = StepModel(Call("broken"), words("sorry"))
    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=model, tools=[broken])
    assert text_of(await answer(AgentResponder(Team((agent,))), "hi")) == "sorry"
    assert "ValueError" in str(model.inputs[1])
    assert "SECRET" not in str(model.inputs[1])


async def test_a_database_that_fails_under_the_converter_ends_the_run() -> None:
    class BrokenStore(MemoryStore):
        async def load_thread_items(self, *args: Any, **kwargs: Any) -> Any:
            raise DatabaseError("gone")

    context = AgentContext[Any](thread=new_context().thread, store=BrokenStore(), request_context=FakeTurn())
    _, error = await failing(playing(words("hello")), context)
    assert isinstance(error, DatabaseError)


async def test_a_guardrail_removes_what_was_shown_and_is_permanent() -> None:
    @output_guardrail
    async def never(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=DeltaModel(3), output_guardrails=[never])
    seen, error = await failing(AgentResponder(Team((agent,))))
    assert isinstance(error, PermanentError)
    assert isinstance(seen[-1], ThreadItemRemovedEvent)
    assert seen[-1].item_id == "message_evt_abc_1_0_0"


async def test_a_client_tool_call_ends_the_turn_with_ids_of_ours() -> None:
    call = Call("call_client_tool", {"name": "get_selection", "arguments": {"deep": True}})
    responder = AgentResponder(build_team(StepModel(call)))
    events = await answer(responder, "hi", active_agent="UI Coordination Agent")
    assert isinstance(events[-1], ThreadItemDoneEvent)
    item = events[-1].item
    assert isinstance(item, ClientToolCallItem)
    assert (item.name, item.arguments, item.status) == ("get_selection", {"deep": True}, "pending")
    assert item.id.startswith("tool_call_evt_abc")
    assert item.call_id.startswith("tool_call_evt_abc")


async def test_an_unknown_agent_in_an_old_thread_falls_back_to_the_first() -> None:
    context = new_context()
    await answer(AgentResponder(build_team(DeltaModel(1))), "hi", context, active_agent="Renamed Since")
    assert context.thread.metadata == {"agent": "ChatKit Integration Agent"}


async def test_a_cancelled_turn_stops_its_run() -> None:
    model = DeltaModel(1_000_000)
    first = asyncio.Event()

    async def turn() -> None:
        responder = AgentResponder(Team((Agent(name="Solo", model=model),)))
        async for _ in responder.respond(new_context(), [user_says("hi")], None):
            first.set()

    before = asyncio.all_tasks()
    running = asyncio.create_task(turn())
    await first.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() - before <= {running}


async def test_failing_turns_leave_no_pending_task_and_no_unread_exception() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    before = asyncio.all_tasks()
    for cut_after in (0, 1, 5):
        with pytest.raises(TransientError):
            await answer(playing(TimeoutError(), cut_after=cut_after), "hi")
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    assert asyncio.all_tasks() == before


async def test_a_tools_own_message_keeps_its_id() -> None:
    @function_tool(failure_error_function=report_failure)
    async def speak(wrapper: ToolContext) -> str:
        """Show a notice and a message of the tool's own."""
        context = wrapper.context
        await context.stream(NoticeEvent(level="info", message="x"))
        item = AssistantMessageItem(id="mine", thread_id="thr_1", created_at=context.thread.created_at, content=[])
        await context.stream(ThreadItemDoneEvent(item=item))
        return "ok"

    agent: Agent[AgentContext[Any]] = Agent(name="Solo", model=StepModel(Call("speak"), words("end")), tools=[speak])
    events = await answer(AgentResponder(Team((agent,))), "hi")
    assert "mine" in message_ids(events)
