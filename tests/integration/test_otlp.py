"""OpenTelemetry: one trace from the publisher to the stream, exported by real processes to a real collector."""

import json
from collections.abc import Iterator

import httpx
import pytest

from schemas.events import event_id
from schemas.outcome import EventState
from schemas.traces import origin_of
from tests.builders import create_event
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_traces import GIVEN, TRACE
from tests.integration.test_worker import ended, publish
from tests.otlp_server import OtlpServer, Seen
from tests.unit.gateway.stage import create_request
from tests.web_process import cli_gateway_process
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text, Tool

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

CANARY = "kanarienvogel-4712"
PUBLISHER = GIVEN.split("-")[2]
MOST_CHARACTERS = 256


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    with OtlpServer() as collector:
        yield collector


def deployed(redis_url: str, sqlite_url: str, provider: FakeProvider, endpoint: str) -> Deployment:
    return Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_MAX_ATTEMPTS="2",
        CHATKIT_BACKOFF_BASE="0.1",
        CHATKIT_ENVIRONMENT="staging",
        CHATKIT_OTLP_ENDPOINT=endpoint,
    )


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider, collector: OtlpServer) -> Iterator[Deployment]:
    with deployed(redis_url, sqlite_url, provider, collector.endpoint) as deployment:
        yield deployment


@pytest.fixture
def unheard(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with deployed(redis_url, sqlite_url, provider, "http://127.0.0.1:9") as deployment:
        yield deployment


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


async def until(collector: OtlpServer, trace: str, *names: str) -> list[Seen]:
    """The spans of a trace, once there is one of each of these names."""

    async def all_there() -> bool:
        return set(names) <= {span.name for span in collector.of_trace(trace)}

    try:
        await eventually(all_there, within=20)
    finally:
        print([(span.service, span.name, span.trace, span.attributes) for span in collector.spans])
    return collector.of_trace(trace)


async def test_one_trace_leads_from_the_publisher_to_the_stream(
    deployment: Deployment, provider: FakeProvider, collector: OtlpServer
) -> None:
    deployment.worker()
    provider.plan(
        Tool("transfer_to_service_orchestrator_agent"),
        Tool("look_up_record", {"kind": CANARY, "key": CANARY}),
        Text(f"{CANARY} it is"),
    )
    event = create_event(CANARY, traceparent=GIVEN)
    publish(deployment, event)
    with cli_gateway_process(deployment.environment) as gateway:
        async with deployment.lanes() as lanes:
            assert await ended(lanes, event, within=60) is EventState.DONE
        async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
            stream = await http.get(f"/v1/events/{event.event_id}/stream", headers=SERVICE)
            assert CANARY in stream.text  # the user does see it
    spans = await until(collector, TRACE, "accept", "queue", "turn", "model", "tool", "stream")
    [turn] = named(spans, "turn")
    for name in ("accept", "queue", "stream", "turn"):
        assert [span.parent for span in named(spans, name)] == [PUBLISHER], name
    assert {span.parent for name in ("model", "tool") for span in named(spans, name)} == {turn.id}
    assert len(named(spans, "model")) == 3
    assert [span.attributes["gen_ai.tool.name"] for span in named(spans, "tool")] == ["look_up_record"]
    assert turn.attributes["chatkit.outcome"] == "done"
    assert turn.attributes["chatkit.event_id"] == event.event_id
    assert turn.seconds >= sum(span.seconds for span in named(spans, "model"))
    assert {span.service for span in spans} == {"chatkit-worker", "chatkit-gateway"}
    assert {span.service for span in named(spans, "stream")} == {"chatkit-gateway"}
    assert len({span.id for span in spans}) == len(spans)


async def test_a_request_begins_the_trace_that_its_turn_goes_on_in(
    deployment: Deployment, collector: OtlpServer
) -> None:
    deployment.worker()
    with cli_gateway_process(deployment.environment) as gateway:
        async with httpx.AsyncClient(base_url=gateway, timeout=60) as http:
            page = await sign_in(http)
            answer = await http.post("/chatkit", json=create_request("question"), headers=page)
            traceparent = answer.headers["traceparent"]
    _, trace, begun_by, flags = traceparent.split("-")
    assert flags == "01"
    spans = await until(collector, trace, "POST /chatkit", "accept", "turn", "stream")
    [request] = named(spans, "POST /chatkit")
    assert (request.id, request.parent, request.attributes["http.response.status_code"]) == (begun_by, "", 200)
    assert {span.parent for name in ("accept", "turn", "stream") for span in named(spans, name)} == {request.id}


async def test_an_event_without_a_trace_begins_one_with_the_trace_id_of_its_log_lines(
    deployment: Deployment, provider: FakeProvider, collector: OtlpServer
) -> None:
    worker = deployment.worker()
    provider.plan(Status(400, "invalid_prompt", message=CANARY))
    event = create_event(CANARY)
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event, within=60) is EventState.DEAD
    _, trace, place, _ = origin_of(event_id(event.source, event.id), None).split("-")
    spans = await until(collector, trace, "accept", "queue", "turn", "model")
    [accept], [turn] = named(spans, "accept"), named(spans, "turn")
    assert (accept.id, accept.parent, turn.parent) == (place, "", place)
    assert turn.failed
    assert turn.attributes["error.type"] == "BadRequestError"
    assert all(span.failed for span in named(spans, "model"))
    lines = [json.loads(line) for line in worker.stderr.splitlines() if line.startswith("{")]
    assert {line["trace"] for line in lines if line.get("event_id") == event.event_id} == {trace}
    sent = b"\n".join(collector.bodies)
    assert CANARY.encode() not in sent
    values = [value for span in collector.spans for value in span.attributes.values()]
    assert max(len(value) for value in values if isinstance(value, str)) <= MOST_CHARACTERS


async def test_a_collector_that_is_away_costs_no_answer(unheard: Deployment) -> None:
    unheard.worker()
    event = create_event("question")
    publish(unheard, event)
    async with unheard.lanes() as lanes:
        assert await ended(lanes, event, within=60) is EventState.DONE
