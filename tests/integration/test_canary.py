"""What people write is found where conversations are kept and nowhere else: a word of theirs is looked for. So are the
secrets of their sessions, those that an agent has made among them."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import redis.asyncio

from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import cli
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_agent_secrets import ask, secrets_of
from tests.integration.test_worker import ended
from tests.otlp_server import OtlpServer
from tests.sentry_server import SentryServer
from tests.unit.gateway.stage import create_request
from tests.web_process import cli_gateway_process
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Failed, Status, Text, Tool

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

CANARY = "kanarienvogel-4711"
DATATABLE = "/tasks/datatable?draw=1&start=0&length=50&order[0][column]=0&order[0][dir]=desc&columns[0][data]=received"
"""What Flower's list of tasks gets its rows from."""

STATE_KEYS = re.compile(r"(^|\s)ck:")
"""Lanes, streams and journals hold conversations; whatever else is sent to the Redis is the broker's."""


@dataclass
class Heard:
    """What must be found nowhere, and events to look at."""

    words: list[str] = field(default_factory=lambda: [CANARY])
    dead: list[str] = field(default_factory=list)
    waiting: str = ""


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    with OtlpServer() as collector:
        yield collector


@pytest.fixture
def deployment(
    redis_url: str, sqlite_url: str, provider: FakeProvider, sentry: SentryServer, collector: OtlpServer
) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.1",
        CHATKIT_MAX_ATTEMPTS="2",
        CHATKIT_LOG_LEVEL="DEBUG",
        SENTRY_DSN=sentry.dsn,
        CHATKIT_SENTRY_TRACES="1",
        CHATKIT_OTLP_ENDPOINT=collector.endpoint,
    ) as deployment:
        yield deployment


async def overheard(url: str, into: list[str]) -> None:
    """Every command that the Redis is sent, of every database."""
    client = redis.asyncio.from_url(url)
    try:
        async with client.monitor() as monitor:
            async for command in monitor.listen():
                into.append(str(command["command"]))  # noqa: PERF401  # it is read while it grows
    finally:
        await client.aclose()


async def test_a_canary_is_found_in_no_log_metric_dead_letter_flower_page_message_or_envelope(
    deployment: Deployment,
    provider: FakeProvider,
    sentry: SentryServer,
    collector: OtlpServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    commands: list[str] = []
    flower = deployment.flower()
    listening = asyncio.create_task(overheard(deployment.broker_url, commands))
    worker = deployment.worker()
    with cli_gateway_process(deployment.environment) as gateway:
        async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
            heard = await conversation(deployment, provider, http)
            places = await said_by(http, flower, worker.name, heard)
    places |= await said_by_commands(deployment, heard)

    async def told() -> bool:
        roles = {one.get("tags", {}).get("role") for one in sentry.transactions}
        services = {span.service for span in collector.spans}
        return (
            any("dead letter" in message for message in sentry.messages)
            and {"gateway", "worker"} <= roles
            and services == {"chatkit-gateway", "chatkit-worker"}
        )

    await eventually(told, within=20)
    listening.cancel()
    places["the worker's log"] = worker.stderr
    places["Sentry"] = b"\n".join(sentry.bodies).decode(errors="replace")
    places["OpenTelemetry"] = b"\n".join(collector.bodies).decode(errors="replace")
    places["the broker"] = "\n".join(one for one in commands if not STATE_KEYS.search(one))
    captured = capfd.readouterr()
    places["the gateway's log"] = captured.out + captured.err
    assert "LPUSH" in places["the broker"]
    assert {place for place, text in places.items() for word in heard.words if word in text} == set()
    assert [place for place, text in places.items() if not text.strip()] == []


async def conversation(deployment: Deployment, provider: FakeProvider, http: httpx.AsyncClient) -> Heard:
    """A word that comes in by every way and goes through every kind of end, and secrets that are made of it."""
    heard, page = Heard(), await sign_in(http)
    heard.words.append(page["Authorization"].split()[1])
    provider.plan(Tool("generate_client_secret", {"user_id": "u1"}), Text(f"{CANARY} is signed in"))
    [secret] = secrets_of(await ask(http, page))  # its page does see it
    heard.words += [secret["client_secret"], secret["refresh_token"]]
    provider.plan(
        Tool("transfer_to_service_orchestrator_agent"),
        Tool("look_up_record", {"kind": CANARY, "key": CANARY}),
        Text(f"{CANARY} it is"),
    )
    answer = await http.post("/chatkit", json=create_request(CANARY), headers=page)
    assert CANARY in answer.text  # the user does see it
    quoting = Status(500, "server_error", message=f"your prompt was {CANARY}")
    refused = Failed("invalid_prompt", message=f"your prompt was {CANARY}")
    async with deployment.lanes() as lanes:
        for plan in ([quoting, quoting], [refused], [Status(400, "invalid_prompt", message=CANARY)]):
            provider.plan(*plan)
            event = create_event(CANARY)
            published = await http.post("/v1/events", json=json.loads(event.to_json()), headers=SERVICE)
            assert published.status_code == 202
            assert await ended(lanes, event) is EventState.DEAD
            heard.dead.append(event.event_id)
    wrong = json.loads(create_event(CANARY).to_json()) | {"type": "chatkit.unknown"}
    assert (await http.post("/v1/events", json=wrong, headers=SERVICE)).status_code == 400
    state = redis.asyncio.from_url(deployment.state_url)
    await state.xadd("ck:ingress", {"event": json.dumps(wrong)})
    await state.xadd("ck:ingress", {"event": f'{{"{CANARY}": '})
    await state.aclose()

    async def all_dead() -> bool:
        items = (await http.get("/v1/dead", headers=SERVICE)).json()["items"]
        return len(items) == len(heard.dead) + 2

    await eventually(all_dead, within=15)
    heard.waiting = await waiting(deployment, http)
    return heard


async def waiting(deployment: Deployment, http: httpx.AsyncClient) -> str:
    """The word once more, of a tenant that is paused; the event's id."""
    paused = await cli("pause", "--tenant", "paused", env=deployment.process_environment())
    assert paused.code == 0, paused.err
    event = create_event(CANARY, tenant="paused")
    published = await http.post("/v1/events", json=json.loads(event.to_json()), headers=SERVICE)
    assert published.status_code == 202
    return event.event_id


async def said_by(http: httpx.AsyncClient, flower: str, worker: str, heard: Heard) -> dict[str, str]:
    """What anybody but the user can look at."""
    dead = heard.dead[0]
    texts = {
        "metrics": (await http.get("/metrics")).text,
        "dead letters": (await http.get("/v1/dead", headers=SERVICE)).text,
        "an event's state": (await http.get(f"/v1/events/{dead}", headers=SERVICE)).text,
    }
    async with httpx.AsyncClient(base_url=flower, timeout=30) as pages:
        for path in (
            "/",
            "/tasks",
            DATATABLE,
            f"/task/{dead}",
            f"/worker/{worker}",
            "/broker",
            "/api/tasks",
            f"/api/task/info/{dead}",
            "/api/workers",
            "/metrics",
        ):
            answer = await pages.get(path)
            assert answer.is_success, path
            texts[f"Flower's {path}"] = answer.text
    assert dead in texts[f"Flower's {DATATABLE}"]
    return texts


async def said_by_commands(deployment: Deployment, heard: Heard) -> dict[str, str]:
    """What commands print that were not asked for bodies."""
    dead, said = heard.dead[0], {}
    for arguments in (
        ("dead", "list"),
        ("dead", "list", "--json"),
        ("dead", "show", dead),
        ("dead", "show", dead, "--json"),
        ("events", "show", dead),
        ("events", "show", heard.waiting, "--json"),
        ("lanes", "list"),
        ("lanes", "show", heard.waiting),
        ("sessions", "list"),
        ("stats",),
        ("config",),
    ):
        finished = await cli(*arguments, env=deployment.process_environment())
        assert finished.code == 0, finished.err
        said[" ".join(arguments)] = finished.out + finished.err
    assert heard.waiting in said[f"lanes show {heard.waiting}"]
    return said
