"""One trace from the publisher to the stream, the logs, the dead letter and Sentry, by real processes."""

import json
from collections.abc import Iterator

import httpx
import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_worker import ended, publish
from tests.sentry_server import SentryServer
from tests.unit.gateway.stage import create_request
from tests.web_process import cli_gateway_process
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status

pytestmark = pytest.mark.redis

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider, sentry: SentryServer) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        SENTRY_DSN=sentry.dsn,
        CHATKIT_ENVIRONMENT="staging",
        CHATKIT_SENTRY_TRACES="1",
    ) as deployment:
        yield deployment


async def test_a_trace_leads_from_the_publisher_to_stream_log_dead_letter_and_sentry(
    deployment: Deployment, provider: FakeProvider, sentry: SentryServer
) -> None:
    worker = deployment.worker()
    event = create_event("question", traceparent=GIVEN)
    provider.plan(Status(400))
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DEAD
    with cli_gateway_process(deployment.environment) as gateway:
        async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
            stream = await http.get(f"/v1/events/{event.event_id}/stream", headers=SERVICE)
            assert stream.headers["traceparent"] == GIVEN
            [letter] = (await http.get("/v1/dead", headers=SERVICE)).json()["items"]
            assert letter["trace_id"] == TRACE
    lines = [json.loads(line) for line in worker.stderr.splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("event_id") == event.event_id]  # the SDK's, of the refused call
    assert (line["lane"], line["attempt"], line["trace"]) == (event.lane, 1, TRACE)

    async def told() -> bool:
        return any("dead letter" in message for message in sentry.messages) and bool(sentry.check_ins)

    await eventually(told)
    [dead] = [one for one in sentry.events if "dead letter" in str(one.get("message"))]
    assert dead["contexts"]["trace"]["trace_id"] == TRACE
    assert (dead["environment"], dead["release"][:16]) == ("staging", "chatkit-workers@")
    assert (dead["tags"]["reason"], dead["tags"]["error"]) == ("permanent", "BadRequestError")
    assert [one["monitor_slug"] for one in sentry.check_ins] == ["chatkit-sweeper"]


async def test_a_trace_that_begins_at_the_gateway_goes_on_in_the_worker(
    deployment: Deployment, sentry: SentryServer
) -> None:
    deployment.worker()
    with cli_gateway_process(deployment.environment) as gateway:
        async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
            page = await sign_in(http)
            answer = await http.post("/chatkit", json=create_request("question"), headers=page)
            event_id, trace = answer.headers["x-event-id"], answer.headers["traceparent"].split("-")[1]
            status = (await http.get(f"/v1/events/{event_id}", headers=page)).json()
            assert status["traceparent"] == answer.headers["traceparent"]

    async def both() -> bool:
        of_trace = [one for one in sentry.transactions if one["contexts"]["trace"]["trace_id"] == trace]
        return {one["tags"]["role"] for one in of_trace} == {"gateway", "worker"}

    assert await eventually(both)
