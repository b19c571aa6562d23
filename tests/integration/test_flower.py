"""What an operator sees in Flower of events that fail, wait and go on."""

from collections.abc import Iterator

import httpx
import pytest

from schemas.events import Event
from tests.builders import create_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_worker import publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = pytest.mark.redis


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        OPENAI_BASE_URL=provider.base_url,
        OPENAI_API_KEY="sk-of-no-value",
        CHATKIT_BACKOFF_BASE="2",
    ) as deployment:
        deployment.worker()
        yield deployment


async def shown(flower: httpx.AsyncClient, event: Event, state: str) -> str:
    """What Flower says of an event once it shows it in a state."""

    async def there() -> str | None:
        found = await flower.get(f"/api/task/info/{event.event_id}")
        task = found.json() if found.is_success else {}
        return str(task["result" if state == "SUCCESS" else "exception"]) if task.get("state") == state else None

    said = await eventually(there, within=15)
    assert said is not None
    return said


async def test_a_failed_attempt_shows_as_retry_with_its_reason_and_goes_on_under_the_same_id(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with httpx.AsyncClient(base_url=deployment.flower()) as flower:
        for refusal, reason in ((Status(503), "transient"), (Status(429, headers={"retry-after": "3"}), "rate_limit")):
            event = create_event("question")
            provider.plan(refusal, Text("Here you are."))
            publish(deployment, event)
            assert (await shown(flower, event, "RETRY")).startswith(f"{reason}, again in ")
            assert await shown(flower, event, "SUCCESS") == "'done'"


async def test_a_dead_letter_shows_as_failure_with_its_reason(deployment: Deployment, provider: FakeProvider) -> None:
    async with httpx.AsyncClient(base_url=deployment.flower()) as flower:
        event = create_event("SECRET PROMPT")
        provider.plan(Status(400))
        publish(deployment, event)
        said = await shown(flower, event, "FAILURE")
        assert "permanent: BadRequestError" in said
        assert "SECRET" not in (await flower.get("/api/tasks")).text
