"""The route that only the gateway of a stack has: a page may have the worker killed that runs its own event."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from schemas.events import Event
from tests.unit.gateway.stage import SERVICE, Stage, raw_event, stage_on
from workers.embedded.breakage import let_break
from workers.embedded.kills import KillRequests
from workers.lanes.records import Settlement, Start
from workers.streams.turn_frames import TurnFrames

PID = 4711


async def never(_: TurnFrames, __: Event) -> Settlement | None:
    """Nobody answers."""
    return None


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    state = FakeAsyncRedis()
    async with stage_on(state, "ck", never) as stage:
        stage.waker.asleep = True
        stage.lanes._owner = f"host:{PID}"
        yield stage
    await state.aclose()


@pytest.fixture
def kills() -> KillRequests:
    return KillRequests()


@pytest.fixture
async def client(stage: Stage, kills: KillRequests) -> AsyncIterator[httpx.AsyncClient]:
    app = stage.app()
    let_break(app, kills.asking)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client
    kills.close()


async def published(client: httpx.AsyncClient) -> str:
    return str((await client.post("/v1/events", json=raw_event(), headers=SERVICE)).json()["id"])


async def begun(client: httpx.AsyncClient, stage: Stage) -> str:
    event_id = await published(client)
    [wake] = stage.waker.woken
    await stage.lanes.begin([Start(wake.lane, event_id, "token")])
    return event_id


async def test_the_worker_of_the_callers_own_event_is_named_to_the_stack(
    client: httpx.AsyncClient, stage: Stage, kills: KillRequests
) -> None:
    event_id = await begun(client, stage)
    answer = await client.post(f"/playground/kill/{event_id}", headers=stage.bearer())
    assert (answer.status_code, answer.json()) == (202, {"worker": f"host:{PID}", "lease_seconds": 10})
    assert kills.wait(0) == [PID]
    assert kills.wait(0) == []


@pytest.mark.parametrize(("user", "tenant"), [("u2", "acme"), ("u1", "umbrella")])
async def test_nobody_has_the_worker_of_somebody_elses_event_killed(
    client: httpx.AsyncClient, stage: Stage, kills: KillRequests, user: str, tenant: str
) -> None:
    event_id = await begun(client, stage)
    assert (await client.post(f"/playground/kill/{event_id}", headers=stage.bearer(user, tenant))).status_code == 404
    assert (await client.post(f"/playground/kill/{event_id}")).status_code == 401
    assert kills.wait(0) == []


async def test_an_event_that_waits_has_no_worker_to_be_killed(
    client: httpx.AsyncClient, stage: Stage, kills: KillRequests
) -> None:
    event_id = await published(client)
    assert (await client.post(f"/playground/kill/{event_id}", headers=stage.bearer())).status_code == 409
    assert kills.wait(0) == []


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"X-Forwarded-For": "203.0.113.7"}])
async def test_only_a_page_of_this_machine_may_ask(
    client: httpx.AsyncClient, stage: Stage, kills: KillRequests, headers: dict[str, str]
) -> None:
    event_id = await begun(client, stage)
    answer = await client.post(f"/playground/kill/{event_id}", headers=stage.bearer() | headers)
    assert answer.status_code == 403
    assert kills.wait(0) == []


async def test_the_page_is_told_that_it_may(client: httpx.AsyncClient) -> None:
    assert (await client.post("/playground/session", json={})).json()["can_break"] is True


def test_what_the_gateway_starts_does_not_inherit_the_wish(kills: KillRequests, stage: Stage) -> None:
    let_break(stage.app(), kills.asking)
    assert not os.get_inheritable(kills.asking)
    kills.close()
