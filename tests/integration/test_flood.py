"""The flood guard, and what Sentry is told, by real workers."""

from collections import Counter
from collections.abc import Iterator

import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import cli
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_quarantine import suspected
from tests.integration.test_worker import ended, publish
from tests.sentry_server import SentryServer
from workers.lanes.pauses import Paused
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = pytest.mark.redis

CREATE = Paused("type", "chatkit.threads.create")


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider, sentry: SentryServer) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        SENTRY_DSN=sentry.dsn,
        CHATKIT_TASK_POLICIES='{"threads.create": {"max_attempts": 1}}',
        CHATKIT_FLOOD_LEAST="4",
    ) as deployment:
        yield deployment


async def test_a_flood_of_dead_letters_pauses_the_type_and_sentry_is_told_of_each_once(
    deployment: Deployment, provider: FakeProvider, sentry: SentryServer
) -> None:
    """Two workers count together. Requests that can never be answered come first, and pause nothing."""
    for _ in range(2):
        deployment.worker()
    refused, failed = ([create_event("my secret question") for _ in range(count)] for count in (6, 4))
    async with deployment.lanes() as lanes:
        for events, status in ((refused, 400), (failed, 503)):
            provider.plan(*[Status(status)] * len(events))
            assert await lanes.pauses.all() == []
            for event in events:
                publish(deployment, event)
                assert await ended(lanes, event) is EventState.DEAD

        async def paused() -> bool:
            return await lanes.pauses.all() == [CREATE]

        assert await eventually(paused)
        provider.plan(Text("Here you are."))
        waiting = create_event("and now?")
        publish(deployment, waiting)
        assert (await cli("resume", "--type", "threads.create", env=deployment.process_environment())).code == 0
        assert await ended(lanes, waiting) is EventState.DONE

    async def told() -> bool:
        return len(sentry.events) >= 11

    assert await eventually(told)
    assert Counter(sentry.messages) == {
        "dead letter: permanent (BadRequestError)": 6,
        "dead letter: attempts_exhausted (InternalServerError)": 4,
        "type_paused_by_flood_guard": 1,
    }
    letters = [event for event in sentry.events if str(event.get("message")).startswith("dead letter")]
    of_letters = [event["extra"]["event_id"] for event in letters]
    assert sorted(of_letters) == sorted(event.event_id for event in (*refused, *failed))
    assert "secret" not in str(sentry.events)


async def test_a_quarantine_logs_like_a_worker_and_tells_sentry_of_its_errors(
    deployment: Deployment, sentry: SentryServer
) -> None:
    event = create_event("grumble")
    async with deployment.lanes() as lanes:
        await suspected(lanes, event)
        worker = deployment.worker("tests.model_worker")
        assert await ended(lanes, event, within=40) is EventState.DONE
    assert '{"event": "grumbled"' in worker.stderr

    async def told() -> bool:
        return "grumbled" in sentry.messages

    assert await eventually(told)
    [error] = sentry.events
    assert error["tags"]["role"] == "quarantine"
