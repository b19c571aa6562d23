"""What people write is found where conversations are kept and nowhere else: a word of theirs is looked for."""

import asyncio
import json
import re
from collections.abc import Iterator

import httpx
import pytest
import redis.asyncio

from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import cli
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_worker import ended
from tests.sentry_server import SentryServer
from tests.unit.gateway.stage import create_request
from tests.web_process import cli_gateway_process
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Failed, Status, Text, Tool

pytestmark = pytest.mark.redis

CANARY = "kanarienvogel-4711"
STATE_KEYS = re.compile(r"(^|\s)ck:")
"""Lanes, streams and journals hold conversations; whatever else is sent to the Redis is the broker's."""


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider, sentry: SentryServer) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        OPENAI_BASE_URL=provider.base_url,
        OPENAI_API_KEY="sk-of-no-value",
        CHATKIT_BACKOFF_BASE="0.1",
        CHATKIT_MAX_ATTEMPTS="2",
        CHATKIT_LOG_LEVEL="DEBUG",
        SENTRY_DSN=sentry.dsn,
        CHATKIT_SENTRY_TRACES="1",
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
    capfd: pytest.CaptureFixture[str],
) -> None:
    commands: list[str] = []
    flower = deployment.flower()
    listening = asyncio.create_task(overheard(deployment.broker_url, commands))
    worker = deployment.worker()
    with cli_gateway_process(deployment.environment) as gateway:
        async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
            dead = await conversation(deployment, provider, http)
            places = await said_by(http, flower, dead)
    places["the command line"] = await said_by_commands(deployment, dead[0])

    async def told() -> bool:
        return any("dead letter" in message for message in sentry.messages)

    await eventually(told, within=10)
    listening.cancel()
    places["the worker's log"] = worker.stderr
    places["Sentry"] = b"\n".join(sentry.envelopes).decode(errors="replace")
    places["the broker"] = "\n".join(one for one in commands if not STATE_KEYS.search(one))
    captured = capfd.readouterr()
    places["the gateway's log"] = captured.out + captured.err
    assert "LPUSH" in places["the broker"]
    assert {place for place, text in places.items() if CANARY in text} == set()
    assert [place for place, text in places.items() if not text.strip()] == []


async def conversation(deployment: Deployment, provider: FakeProvider, http: httpx.AsyncClient) -> list[str]:
    """A word that comes in by every way and goes through every kind of end; ids of the dead letters."""
    page = await sign_in(http)
    provider.plan(
        Tool("transfer_to_service_orchestrator_agent"),
        Tool("look_up_record", {"kind": CANARY, "key": CANARY}),
        Text(f"{CANARY} it is"),
    )
    answer = await http.post("/chatkit", json=create_request(CANARY), headers=page)
    assert CANARY in answer.text  # the user does see it
    quoting = Status(500, "server_error", message=f"your prompt was {CANARY}")
    refused = Failed("invalid_prompt", message=f"your prompt was {CANARY}")
    dead = []
    async with deployment.lanes() as lanes:
        for plan in ([quoting, quoting], [refused], [Status(400, "invalid_prompt", message=CANARY)]):
            provider.plan(*plan)
            event = create_event(CANARY)
            published = await http.post("/v1/events", json=json.loads(event.to_json()), headers=SERVICE)
            assert published.status_code == 202
            assert await ended(lanes, event) is EventState.DEAD
            dead.append(event.event_id)
    wrong = json.loads(create_event(CANARY).to_json()) | {"type": "chatkit.unknown"}
    assert (await http.post("/v1/events", json=wrong, headers=SERVICE)).status_code == 400
    state = redis.asyncio.from_url(deployment.state_url)
    await state.xadd("ck:ingress", {"event": json.dumps(wrong)})
    await state.xadd("ck:ingress", {"event": f'{{"{CANARY}": '})
    await state.aclose()

    async def all_dead() -> bool:
        items = (await http.get("/v1/dead", headers=SERVICE)).json()["items"]
        return len(items) == len(dead) + 2

    await eventually(all_dead, within=15)
    return dead


async def said_by(http: httpx.AsyncClient, flower: str, dead: list[str]) -> dict[str, str]:
    """What anybody but the user can look at."""
    texts = {
        "metrics": (await http.get("/metrics")).text,
        "dead letters": (await http.get("/v1/dead", headers=SERVICE)).text,
        "an event's state": (await http.get(f"/v1/events/{dead[0]}", headers=SERVICE)).text,
    }
    async with httpx.AsyncClient(base_url=flower, timeout=30) as pages:
        for path in ("/api/tasks", "/tasks", f"/task/{dead[0]}", f"/api/task/info/{dead[0]}", "/metrics"):
            answer = await pages.get(path)
            assert answer.is_success, path
            texts[f"Flower's {path}"] = answer.text
    return texts


async def said_by_commands(deployment: Deployment, dead: str) -> str:
    """What commands print that were not asked for bodies."""
    said = ""
    for arguments in (
        ("dead", "list"),
        ("dead", "list", "--json"),
        ("dead", "show", dead),
        ("events", "show", dead),
        ("stats",),
        ("config",),
    ):
        finished = await cli(*arguments, env=deployment.process_environment())
        assert finished.code == 0, finished.err
        said += finished.out + finished.err
    return said
