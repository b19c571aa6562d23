"""What alerts and dashboards read is what a gateway says once workers have done something."""

import re
from collections.abc import Iterator

import httpx
import pytest

from schemas.outcome import EventState
from tests.builders import create_event, feedback_event
from tests.deploy.reading import SCRAPED, expressions, metrics_in
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_worker import ended, publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

NAME = re.compile(r"^([a-z]\w*)(?:\{.*\})? [\d.e+-]+$", re.MULTILINE)


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.1",
        CHATKIT_LIMITS='{"models": {"gpt-4.1": {"rpm": 600, "concurrency": 1}}}',
    ) as deployment:
        yield deployment


async def test_every_metric_that_alerts_and_panels_read_is_in_a_scrape(
    deployment: Deployment, provider: FakeProvider
) -> None:
    read = {used.name for expression in expressions() for used in metrics_in(expression)} - SCRAPED.keys()
    deployment.worker()
    provider.plan(Status(500), Status(400), Text("hello"), Text("hello"))
    events = [create_event(f"question {number}") for number in range(3)]
    publish(deployment, *events)
    async with deployment.lanes() as lanes:
        states = {await ended(lanes, event, within=60) for event in events}
        assert states == {EventState.DONE, EventState.DEAD}
        publish(deployment, feedback_event("thr_1"))
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as gateway:

        async def all_there() -> bool:
            said = set(NAME.findall((await gateway.get("/metrics")).text))
            missing = read - said
            print(f"not in the scrape: {sorted(missing)}")
            return not missing

        await eventually(all_there, within=10)
