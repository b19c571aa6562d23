"""Failures in which no status comes: silence, nobody there, no connection free; and answers that are none."""

import socket
from collections.abc import Iterator

import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_limits import status
from tests.integration.test_worker import ended, frames, publish
from tests.strict_worker import FORBIDDEN
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Late, Refusal, Text

pytestmark = pytest.mark.redis

STRICT = "tests.strict_worker"


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.1",
        CHATKIT_MAX_ATTEMPTS="2",
    ) as deployment:
        yield deployment


async def test_a_provider_that_falls_silent_is_asked_again(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(STRICT)
    async with deployment.lanes() as lanes:
        for silence in (Hang(2), Late(30, Text("Too late."))):
            event, before = create_event("question"), len(provider.calls)
            provider.plan(silence, Text("Here you are."))
            publish(deployment, event)
            assert await ended(lanes, event) is EventState.DONE
            assert (await status(lanes, event)).attempt == 2
            assert len(provider.calls) == before + 2
            assert (await frames(deployment, lanes, event)).count(b"Here") > 0


async def test_a_provider_that_is_not_there_is_asked_again_until_the_attempts_are_spent(deployment: Deployment) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        deployment.worker(STRICT, OPENAI_BASE_URL=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
        event = create_event("question")
        publish(deployment, event)
        async with deployment.lanes() as lanes:
            assert await ended(lanes, event) is EventState.DEAD
            [letter] = (await lanes.dead_letters.page()).items
    assert letter.reason == "attempts_exhausted"
    assert [attempt.error for attempt in letter.attempts] == ["APIConnectionError: connect error"] * 2


async def test_a_worker_without_a_free_connection_waits_and_spends_no_attempt(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker(STRICT, "--concurrency", "20", CHATKIT_CONCURRENCY="1")  # eleven connections for twenty turns
    provider.delay_seconds = 0.3
    provider.answer = lambda _: Text("one two three four five six seven eight nine ten")
    waiting = [create_event(f"question {number}") for number in range(16)]
    reasons: set[str | None] = set()
    publish(deployment, *waiting)
    async with deployment.lanes() as lanes:

        async def all_done() -> bool:
            found = [await lanes.status(event.event_id) for event in waiting]
            states = [one[0] for one in found if one is not None]
            reasons.update(one.reason for one in states)
            assert all(one.attempt == 1 for one in states)
            return [one.state for one in states] == [EventState.DONE] * len(waiting)

        assert await eventually(all_done, within=40)
    assert "overload" in reasons
    assert len(provider.calls) == len(waiting)


async def test_what_a_guardrail_stops_or_the_model_refuses_is_told_in_the_chat_and_not_tried_again(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker(STRICT)
    async with deployment.lanes() as lanes:
        for text, step in ((f"a {FORBIDDEN} thing", Text("no")), ("help me", Refusal())):
            event = create_event(text)
            provider.plan(step)
            publish(deployment, event)
            assert await ended(lanes, event) is EventState.DEAD, text
            assert (await status(lanes, event)).reason == "permanent", text
            shown = await frames(deployment, lanes, event)
            assert f"Reference: {event.event_id}".encode() in shown
        letters = (await lanes.dead_letters.page()).items
    assert sorted(str(letter.error) for letter in letters) == [
        "InputGuardrailTripwireTriggered: input guardrail tripwire triggered",
        "ModelRefusalError: model refusal error",
    ]
