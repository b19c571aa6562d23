"""Each class of the failure table, brought about by a real HTTP server and ended by a real worker."""

from collections.abc import Iterator

import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.integration.test_limits import comes_to, status
from tests.integration.test_worker import ended, frames, publish
from workers.agents.responder import TOO_MANY_STEPS
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Cut, Failed, Garbage, Incomplete, Status, Step, Text, Tool

pytestmark = pytest.mark.redis

SOON = {"retry-after-ms": "200"}
TRANSIENT: list[Step] = [
    Status(408),
    Status(409),
    Status(500, "server_error"),
    Status(503),
    Cut(),
    Cut(clean=True),
    Failed("server_error"),
    Failed("server_error", as_error_event=True),
    Garbage(),
]
RATE_LIMITED: list[Step] = [
    Status(429, "rate_limit_exceeded", SOON),
    Status(429, headers=SOON),
    Failed("rate_limit_exceeded", message="Please try again in 0.2s."),
]
PERMANENT: list[Step] = [
    Status(400, "invalid_prompt"),
    Status(404, "model_not_found"),
    Status(422),
    Failed("invalid_prompt"),
    Incomplete(),
]


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.1",
    ) as deployment:
        deployment.worker()
        yield deployment


async def test_what_may_pass_is_tried_again_and_spends_an_attempt(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with deployment.lanes() as lanes:
        for fault in TRANSIENT:
            event, before = create_event("question"), len(provider.calls)
            provider.plan(fault, Text("Here you are."))
            publish(deployment, event)
            assert await ended(lanes, event) is EventState.DONE, fault
            assert (await status(lanes, event)).attempt == 2, fault
            assert len(provider.calls) == before + 2, fault


async def test_what_a_limit_refuses_waits_and_spends_none(deployment: Deployment, provider: FakeProvider) -> None:
    async with deployment.lanes() as lanes:
        for fault in RATE_LIMITED:
            event, before = create_event("question"), len(provider.calls)
            provider.plan(fault, Text("Here you are."))
            publish(deployment, event)
            assert await ended(lanes, event) is EventState.DONE, fault
            assert (await status(lanes, event)).attempt == 1, fault
            assert len(provider.calls) == before + 2, fault


async def test_what_will_never_pass_is_told_in_the_chat_and_kept(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with deployment.lanes() as lanes:
        for fault in PERMANENT:
            event, before = create_event("question"), len(provider.calls)
            provider.plan(fault)
            publish(deployment, event)
            assert await ended(lanes, event) is EventState.DEAD, fault
            assert (await status(lanes, event)).reason == "permanent", fault
            assert f"Reference: {event.event_id}".encode() in await frames(deployment, lanes, event)
            assert len(provider.calls) == before + 1, fault
        assert len((await lanes.dead_letters.page()).items) == len(PERMANENT)


async def test_an_account_that_may_not_is_for_an_operator_and_stops_the_others(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with deployment.lanes() as lanes:
        provider.plan(Status(403, "access_denied"))
        event, other = create_event("question"), create_event("question")
        publish(deployment, event)
        assert await ended(lanes, event) is EventState.DEAD
        assert (await status(lanes, event)).reason == "quota"
        publish(deployment, other)
        assert (await comes_to(lanes, other, EventState.WAITING_LIMIT)).reason == "circuit_open"
    assert len(provider.calls) == 1


async def test_a_turn_without_an_end_gets_a_graceful_one(deployment: Deployment, provider: FakeProvider) -> None:
    provider.answer = lambda _: Tool("show_notice", {"message": "again", "level": "info"})
    event = create_event("question")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DONE
        assert TOO_MANY_STEPS.encode() in await frames(deployment, lanes, event)
