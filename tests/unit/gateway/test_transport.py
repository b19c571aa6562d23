"""The way that requests come: TLS from outside of this machine, small answers, a user's rate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from tests.unit.gateway.conftest import beat
from tests.unit.gateway.stage import SERVICE, Stage, create_request, raw_event, stage_on
from workers.cli.serving import check_reach
from workers.errors import SettingsError
from workers.settings import Settings


@asynccontextmanager
async def calling_from(stage: Stage, address: str, scheme: str = "http") -> AsyncIterator[httpx.AsyncClient]:
    """A client at another address."""
    app = stage.app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=f"{scheme}://h") as c:
        yield c


@pytest.mark.parametrize(
    "path", ["/v1/events", "/chatkit", "/v1/sessions", "/v1/sessions/refresh", "/", "/docs", "/no"]
)
async def test_what_comes_over_a_network_in_the_clear_is_refused_before_it_is_read(stage: Stage, path: str) -> None:
    async with calling_from(stage, "10.0.0.7") as client:
        answer = await client.post(path, json=raw_event(), headers=SERVICE)
        assert (answer.status_code, answer.json()["code"]) == (403, "https_required")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/healthz")).status_code == 200
    assert stage.waker.woken == []


async def test_over_tls_it_is_taken_and_pages_are_told_to_stay_there(stage: Stage) -> None:
    async with calling_from(stage, "10.0.0.7", "https") as client:
        answer = await client.post("/v1/events", json=raw_event(), headers=SERVICE)
    assert answer.status_code == 202
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.internal"])
def test_a_gateway_for_others_needs_a_declared_proxy(host: str) -> None:
    with pytest.raises(SettingsError, match="CHATKIT_PUBLIC_URL=https://"):
        check_reach(host, Settings())
    check_reach(host, Settings(public_url="https://chat.example"))
    check_reach("127.0.0.1", Settings())


async def test_large_answers_are_compressed_and_small_ones_are_not(client: httpx.AsyncClient) -> None:
    large, small = await client.get("/openapi.json"), await client.get("/healthz")
    assert large.headers["content-encoding"] == "gzip"
    assert int(large.headers["content-length"]) < len(large.content) / 4
    assert "content-encoding" not in small.headers


async def test_streams_are_not_compressed(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await client.post("/chatkit", json=create_request(), headers=stage.bearer())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in answer.headers


async def test_a_user_who_sends_too_much_is_told_when_to_come_back_before_anything_is_kept() -> None:
    state = FakeAsyncRedis()
    async with stage_on(state, "ck", beat, user_rate=2) as stage, calling_from(stage, "127.0.0.1") as client:
        ada, bob = stage.bearer("ada"), stage.bearer("bob")
        answers = [await client.post("/chatkit", json=create_request(), headers=ada) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["reason"] == "user_rate"
        assert 25 <= int(answers[2].headers["retry-after"]) <= 31
        assert len(stage.waker.woken) == 2
        assert (await client.post("/chatkit", json=create_request(), headers=bob)).status_code == 200
        batch = {"content-type": "application/cloudevents-batch+json", **ada}
        assert (await client.post("/v1/events", content="[]", headers=batch)).status_code == 200
        event = raw_event(id_="7", request={"type": "ui.ready"}) | {"type": "chatkit.ui.ready", "data": {}}
        assert (await client.post("/v1/events", json=[event], headers=batch)).status_code == 429
        for number in range(5):  # a service speaks for many users, and is trusted
            answer = await client.post("/v1/events", json=raw_event(str(number)), headers=SERVICE)
            assert answer.status_code == 202
    await state.aclose()
