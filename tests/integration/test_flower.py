"""What an operator sees in Flower of events that fail, wait and go on, and who gets to see it."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from schemas.events import Event
from tests.builders import create_event
from tests.cli_process import cli, settings
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_worker import publish
from workers.broker import queues
from workers.settings import Settings
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = pytest.mark.redis


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
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


async def rows(flower: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The list of tasks as the page gets it, newest first."""
    page = {"draw": "1", "start": "0", "length": "50"}
    order = {"order[0][column]": "0", "columns[0][data]": "received", "order[0][dir]": "desc"}
    answer = await flower.get("/tasks/datatable", params={**page, **order})
    return list(answer.json()["data"])


async def test_a_failed_attempt_shows_as_retry_with_its_reason_and_goes_on_under_the_same_id(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with httpx.AsyncClient(base_url=deployment.flower()) as flower:
        for refusal, reason in ((Status(503), "transient"), (Status(429, headers={"retry-after": "3"}), "rate_limit")):
            event = create_event("question")
            provider.plan(refusal, Text("Here you are."))
            publish(deployment, event)
            assert (await shown(flower, event, "RETRY")).startswith(f"{reason}, again in ")
            attempt = 2 if reason == "transient" else 1
            assert await shown(flower, event, "SUCCESS") == f"'done (attempt {attempt})'"


async def test_a_dead_letter_shows_as_failure_with_its_reason(deployment: Deployment, provider: FakeProvider) -> None:
    async with httpx.AsyncClient(base_url=deployment.flower()) as flower:
        event = create_event("SECRET PROMPT")
        provider.plan(Status(400))
        publish(deployment, event)
        said = await shown(flower, event, "FAILURE")
        assert "permanent: BadRequestError (attempt 1)" in said

        async def named() -> bool:  # Celery sends "received" with others, and an end at once
            return all(row["name"] for row in await rows(flower))

        await eventually(named)
        [row] = await rows(flower)
        assert (row["name"], row["uuid"], row["state"]) == (event.type, event.event_id, "FAILURE")
        assert row["kwargs"] == f"default / {event.thread_id}"
        assert row["result"] == "permanent: BadRequestError (attempt 1)"
        assert "SECRET" not in (await flower.get("/api/tasks")).text


def test_the_queues_page_names_every_queue_with_its_length_before_any_worker_has_come(
    redis_url: str, sqlite_url: str
) -> None:
    with Deployment(redis_url, sqlite_url) as deployment, redis.Redis.from_url(redis_url) as broker:
        broker.lpush("chatkit.interactive", "a", "b", "c")
        page = httpx.get(f"{deployment.flower()}/broker").text
        broker.flushdb()
    found = dict(re.findall(r"<td[^>]*>(chatkit\.[\w.]+)</td>\s*<td[^>]*>\s*(\d+)", page))
    assert found.keys() == {queue.name for queue in queues(Settings())}
    assert found["chatkit.interactive"] == "3"


async def test_beyond_this_machine_flower_starts_only_if_it_asks_who_is_there(redis_url: str) -> None:
    env = settings(broker_url=redis_url)
    refused = await cli("flower", "--host", "0.0.0.0", env=env)
    assert refused.code == 1
    [line] = refused.err.splitlines()
    assert "--host 0.0.0.0" in line
    assert "--basic_auth=USER:PASSWORD" in line
    assert (await cli("flower", "--address=0.0.0.0", env=env)).err == refused.err


def test_flower_with_a_password_lets_in_who_knows_it_and_without_one_says_so(
    redis_url: str, sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """On this machine."""
    with Deployment(redis_url, sqlite_url, FLOWER_BASIC_AUTH="ann:secret") as deployment:
        address = deployment.flower()
        assert httpx.get(f"{address}/tasks").status_code == 401
        assert httpx.get(f"{address}/tasks", auth=("ann", "secret")).status_code == 200
    assert "may look" not in "".join(capfd.readouterr())
    with Deployment(redis_url, sqlite_url, FLOWER_UNAUTHENTICATED_API="") as deployment:
        assert httpx.get(f"{deployment.flower()}/tasks").status_code == 200
    assert "whoever reaches 127.0.0.1:" in "".join(capfd.readouterr())
