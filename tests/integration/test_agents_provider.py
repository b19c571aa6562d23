"""The agents with the official OpenAI client, against a provider on loopback."""

import asyncio
import gc
from collections.abc import AsyncIterator

import httpx2
import pytest
from agents import Model

from schemas.errors import WorkersError
from tests.eventually import eventually
from tests.unit.agents.turns import FakeTurn, answer, new_context, streamed_text_of, text_of, types_of, user_says
from workers.agents.models import build_model
from workers.agents.responder import AgentResponder
from workers.agents.team import build_team
from workers.errors import (
    AuthenticationError,
    CallError,
    OverloadError,
    PermanentError,
    QuotaError,
    RateLimitedError,
    TransientError,
)
from workers.settings import Settings
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Cut, Failed, Garbage, Hang, Incomplete, Status, Step, Text, Tool

QUICK = httpx2.Timeout(connect=1.0, write=1.0, read=0.3, pool=0.2)


def settings_of(provider: FakeProvider, **changes: object) -> Settings:
    values = {"openai_base_url": provider.base_url, "openai_api_key": "sk-test", **changes}
    return Settings.model_validate(values)


@pytest.fixture
async def model(provider: FakeProvider) -> AsyncIterator[Model]:
    model = build_model(settings_of(provider), timeout=QUICK)
    yield model
    await model.close()


@pytest.fixture
def responder(model: Model) -> AgentResponder:
    return AgentResponder(build_team(model))


async def test_an_answer_is_streamed_word_by_word_from_one_model_call(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    turn = FakeTurn()
    events = await answer(responder, "hello there", new_context(turn))
    assert streamed_text_of(events) == text_of(events) == "You said: hello there"
    assert types_of(events).count("thread.item.updated") == 4 + 2
    assert len(provider.calls) == 1
    assert turn.usage == [(1, 100, 20)]


async def test_a_handoff_and_a_tool_call_cost_one_model_call_per_step(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    context = new_context()
    events = await answer(responder, "where is my order?", context)
    assert text_of(events) == "Your order 1042 is shipped."
    assert [call.step for call in provider.calls] == [
        Tool("transfer_to_service_orchestrator_agent"),
        Tool("look_up_record", {"kind": "order", "key": "1042"}),
        Text("Your order 1042 is shipped."),
    ]
    output = [item for item in provider.calls[2].body["input"] if item.get("type") == "function_call_output"]
    assert "shipped" in output[-1]["output"]
    assert context.thread.metadata["agent"] == "Service Orchestrator Agent"
    progress = [(event.icon, event.text) for event in events if event.type == "progress_update"]
    assert progress[0] == ("agent", "Handing over to the Service Orchestrator Agent")


async def test_the_request_names_the_model_of_the_settings_and_carries_the_key(provider: FakeProvider) -> None:
    model = build_model(settings_of(provider, model="my-model"), timeout=QUICK)
    await answer(AgentResponder(build_team(model)), "hi")
    await model.close()
    assert provider.calls[0].body["model"] == "my-model"
    assert provider.calls[0].authorization == "Bearer sk-test"
    assert "transfer_to_ui_coordination_agent" in provider.calls[0].tools


async def test_a_server_of_ones_own_needs_no_key(provider: FakeProvider) -> None:
    model = build_model(settings_of(provider, openai_api_key=None), timeout=QUICK)
    assert text_of(await answer(AgentResponder(build_team(model)), "hi")) == "You said: hi"
    await model.close()


async def test_text_before_a_tool_call_comes_before_what_the_tool_shows(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    notice = {"message": "careful", "level": "info"}
    provider.plan(Tool("show_notice", notice, say="One moment."), Text("Done."))
    events = await answer(responder, "warn me")
    order = [event.type for event in events if event.type in ("thread.item.done", "notice")]
    assert order == ["thread.item.done", "notice", "thread.item.done"]
    assert text_of(events) == "One moment.\nDone."


async def nothing_left_but(before: set[asyncio.Task[object]]) -> None:
    """The SDK may close a stream in the background, the server notices a moment later; then all is quiet."""

    async def quiet() -> bool:
        return asyncio.all_tasks() <= before

    await eventually(quiet)


FAULTS: list[tuple[Step, type[CallError], str]] = [
    (Status(429, "rate_limit_exceeded", {"retry-after": "7"}), RateLimitedError, "RateLimitError"),
    (Status(429, "insufficient_quota"), QuotaError, "RateLimitError"),
    (Status(401, "invalid_api_key"), AuthenticationError, "AuthenticationError"),
    (Status(403, "access_denied"), QuotaError, "PermissionDeniedError"),
    (Status(400, "invalid_prompt"), PermanentError, "BadRequestError"),
    (Status(404, "model_not_found"), PermanentError, "NotFoundError"),
    (Status(422), PermanentError, "UnprocessableEntityError"),
    (Status(408), TransientError, "APIStatusError"),
    (Status(409), TransientError, "ConflictError"),
    (Status(500, "server_error"), TransientError, "InternalServerError"),
    (Status(503), TransientError, "InternalServerError"),
    (Hang(), TransientError, "APITimeoutError"),
    (Hang(after_deltas=3), TransientError, "APITimeoutError"),
    (Cut(), TransientError, "APIConnectionError"),
    (Cut(clean=True), TransientError, "ModelBehaviorError"),
    (Failed("server_error"), TransientError, "ModelBehaviorError"),
    (Failed("rate_limit_exceeded"), RateLimitedError, "ModelBehaviorError"),
    (Failed("insufficient_quota"), QuotaError, "ModelBehaviorError"),
    (Failed("invalid_prompt"), PermanentError, "ModelBehaviorError"),
    (Failed("server_error", as_error_event=True), TransientError, "ModelBehaviorError"),
    (Failed("rate_limit_exceeded", as_error_event=True), RateLimitedError, "ModelBehaviorError"),
    (Incomplete(), PermanentError, "ModelBehaviorError"),
    (Garbage(), TransientError, "JSONDecodeError"),
]


@pytest.mark.parametrize(("fault", "expected", "kind"), FAULTS, ids=[str(fault) for fault, *_ in FAULTS])
async def test_each_failure_of_a_provider_becomes_the_class_that_says_what_to_do(
    provider: FakeProvider, responder: AgentResponder, fault: Step, expected: type[CallError], kind: str
) -> None:
    provider.plan(fault)
    with pytest.raises(CallError) as caught:
        await answer(responder, "SECRET PROMPT")
    assert type(caught.value) is expected
    assert caught.value.record().kind == kind
    assert "SECRET" not in caught.value.record().model_dump_json()
    assert len(provider.calls) == 1, "the queue owns retries, not the client"


async def test_no_foreign_error_travels_along_with_ours(provider: FakeProvider, responder: AgentResponder) -> None:
    provider.plan(Status(400, "invalid_prompt"))
    with pytest.raises(PermanentError) as caught:
        await answer(responder, "SECRET PROMPT")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_retry_after_of_a_429_is_passed_on(provider: FakeProvider, responder: AgentResponder) -> None:
    headers = {"retry-after-ms": "1500", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m6s"}
    provider.plan(Status(429, "rate_limit_exceeded", headers))
    with pytest.raises(RateLimitedError) as caught:
        await answer(responder, "hi")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 66


async def test_the_wait_named_in_a_failed_stream_is_passed_on(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    provider.plan(Failed("rate_limit_exceeded", message="Rate limit reached. Please try again in 2.5s."))
    with pytest.raises(RateLimitedError) as caught:
        await answer(responder, "hi")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 2.5


async def test_a_pool_without_a_free_connection_is_overload_here(provider: FakeProvider) -> None:
    model = build_model(settings_of(provider, concurrency=1), timeout=QUICK)
    responder = AgentResponder(build_team(model))
    provider.plan(*[Hang()] * 11)
    turns = [asyncio.create_task(answer(responder, "hi")) for _ in range(12)]
    outcomes = await asyncio.gather(*turns, return_exceptions=True)
    await model.close()
    assert sum(isinstance(outcome, OverloadError) for outcome in outcomes) == 1


async def test_a_provider_that_is_not_there_is_transient(free_port: int) -> None:
    settings = Settings.model_validate({"openai_base_url": f"http://127.0.0.1:{free_port}/v1"})
    model = build_model(settings, timeout=QUICK)
    with pytest.raises(TransientError):
        await answer(AgentResponder(build_team(model)), "hi")
    await model.close()


async def test_a_cancelled_turn_closes_its_stream_and_leaves_nothing_behind(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    provider.plan(Hang(after_deltas=3))
    before = asyncio.all_tasks()
    third = asyncio.Event()

    async def turn() -> None:
        seen = 0
        async for _ in responder.respond(new_context(), [user_says("hi")], None):
            seen += 1
            if seen == 3:
                third.set()

    running = asyncio.create_task(turn())
    await third.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await nothing_left_but(before)

    async def stream_closed() -> bool:
        return provider.open_streams == 0

    await eventually(stream_closed)


async def test_failed_and_abandoned_turns_leave_no_task_and_no_unread_exception(
    provider: FakeProvider, responder: AgentResponder
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    before = asyncio.all_tasks()
    provider.plan(Cut(), Failed("server_error"), Status(500), Hang(after_deltas=2))
    for _ in range(3):
        with pytest.raises(WorkersError):
            await answer(responder, "hi")
    abandoned = responder.respond(new_context(), [user_says("hi")], None)
    await anext(abandoned)
    await abandoned.aclose()  # type: ignore[attr-defined]  # it is a generator
    await nothing_left_but(before)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
