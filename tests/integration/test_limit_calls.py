"""What the calls of a turn cost, however it ends: real workers, a real provider's answers over HTTP, real Redis."""

from collections.abc import Iterator

import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import cli
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_limits import comes_to, run, status
from tests.integration.test_worker import ended, publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Status, Text

pytestmark = pytest.mark.redis

ONE_A_MINUTE = '{"models": {"*": {"rpm": 1}}}'
ORDER = "where is my order 1042?"
"""Takes three calls: a handoff, a tool, the answer."""


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_DRAIN_SECONDS="0.2",
    ) as deployment:
        yield deployment


async def test_a_turn_waits_between_its_calls_as_the_limits_say(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"rpm": 30}}}')
    event = create_event(ORDER)
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DONE
    first, _, third = (call.at for call in provider.calls)
    assert third - first > 3  # four seconds, but for what the first one took to come about


async def test_a_turn_that_our_own_limits_stop_for_long_parks_and_nobody_else_is_held_up(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker(CHATKIT_LIMITS=ONE_A_MINUTE, CHATKIT_TURN_SECONDS="20")  # a quarter of it is the longest pause
    event = create_event(ORDER)
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        waiting = await comes_to(lanes, event, EventState.WAITING_LIMIT)
        assert (waiting.reason, waiting.attempt, len(provider.calls)) == ("rate_limit", 1, 1)
        [shown] = (await run(deployment, "limits", "show", "--json")).records
        [model] = shown["models"]
        assert (model["ceiling"], model["held_seconds"], model["circuit"]) == (1, 0, "closed")
        assert (model["in_flight"], model["waiting"]) == (0, 1)
        await run(deployment, "limits", "set", "{}")
        assert await ended(lanes, event) is EventState.DONE
        assert (await status(lanes, event)).attempt == 1


async def test_a_turn_that_is_stopped_between_its_calls_goes_on_from_its_journal(
    deployment: Deployment, provider: FakeProvider
) -> None:
    """Else it would begin anew each time, and never come to its end."""
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"rpm": 12}}}', CHATKIT_TURN_SECONDS="8")
    event = create_event(ORDER)
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event, within=30) is EventState.DONE
        assert (await status(lanes, event)).attempt == 1
    first, _, third = (call.at for call in provider.calls)
    assert third - first > 8  # five seconds between two of them, of which a turn waits for two at most


@pytest.mark.parametrize("end", ["cancel", "drain", "refused"])
async def test_a_call_that_began_is_paid_for_though_its_turn_did_not_end(
    deployment: Deployment, provider: FakeProvider, end: str
) -> None:
    worker = deployment.worker(CHATKIT_LIMITS=ONE_A_MINUTE)
    provider.plan(Status(400) if end == "refused" else Hang(2))
    first, second = create_event("one"), create_event("two")
    publish(deployment, first)
    async with deployment.lanes() as lanes:

        async def asked() -> bool:
            return len(provider.calls) == 1

        assert await eventually(asked)
        if end == "cancel":
            await cli("events", "cancel", first.event_id, env=deployment.process_environment())
            assert await ended(lanes, first) is EventState.CANCELLED
        elif end == "refused":
            assert await ended(lanes, first) is EventState.DEAD
        else:
            worker.stop()
            deployment.worker(CHATKIT_LIMITS=ONE_A_MINUTE)
            await comes_to(lanes, first, EventState.WAITING_LIMIT)
        publish(deployment, second)
        assert (await comes_to(lanes, second, EventState.WAITING_LIMIT)).reason == "rate_limit"
    assert len(provider.calls) == 1


async def test_a_provider_that_does_not_say_what_was_used_does_not_undo_the_limit_of_tokens(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"tpm": 60}}}')
    provider.says_usage = False
    provider.plan(Text("Here you are."))
    first, second = create_event("one"), create_event("two")
    publish(deployment, first)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, first) is EventState.DONE
        publish(deployment, second)
        assert (await comes_to(lanes, second, EventState.WAITING_LIMIT)).reason == "rate_limit"
