"""Client secrets that an agent hands to a page, through a real gateway and worker."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from tests.builders import user_input
from tests.deployment import SERVICE, Deployment, sign_in
from tests.unit.gateway.parsing import parse_sse
from tests.worker_process import WorkerProcess
from workers.sessions.deployment import store_of
from workers.settings import Settings
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text, Tool

pytestmark = pytest.mark.redis


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    settings = {
        **provider.environment,
        "CHATKIT_LOG_LEVEL": "DEBUG",
        "CHATKIT_BACKOFF_BASE": "0.1",
    }
    with Deployment(redis_url, sqlite_url, **settings) as deployment:
        yield deployment


@pytest.fixture
def worker(deployment: Deployment) -> WorkerProcess:
    return deployment.worker()


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as http:
        yield http


async def ask(http: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
    request = {"type": "threads.create", "params": {"input": user_input("a new session, please")}}
    return await http.post("/chatkit", json=request, headers=headers)


def secrets_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of the frames that hand a secret over."""
    frames = [json.loads(event.data) for event in parse_sse(answer.content) if event.data]
    return [frame["data"] for frame in frames if frame.get("name") == "client_secret"]


async def content_of(state: Any, key: bytes) -> Any:
    """All that a key holds, uncompressed."""
    match await state.type(key):
        case b"hash":
            return await state.hgetall(key)
        case b"zset":
            return await state.zrange(key, 0, -1)
        case b"list":
            return await state.lrange(key, 0, -1)
        case b"set":
            return await state.smembers(key)
        case b"stream":
            return await state.xrange(key)
        case b"string":
            return await state.get(key)
        case kind:
            raise AssertionError(f"nobody looks into a {kind!r}")


async def test_a_minted_secret_stands_in_its_owners_live_frame_and_nowhere_else(
    deployment: Deployment, worker: WorkerProcess, http: httpx.AsyncClient, provider: FakeProvider, redis_url: str
) -> None:
    provider.plan(Tool("generate_client_secret", {"user_id": "u1"}), Status(500), Text("Here you are."))
    mine, theirs = await sign_in(http), await sign_in(http, "u2")
    answer = await ask(http, mine)
    assert "Here you are." in answer.text, "the attempt that failed after the tool was followed by another"
    [data] = secrets_of(answer)
    used = await http.post(
        "/chatkit",
        json={"type": "threads.list", "params": {}},
        headers={"Authorization": f"Bearer {data['client_secret']}"},
    )
    assert used.status_code == 200

    path = f"/v1/events/{answer.headers['X-Event-Id']}/stream"
    assert (await http.get(path, headers=theirs)).status_code == 404
    [to_service] = secrets_of(await http.get(path, headers=SERVICE))
    assert "client_secret" not in to_service

    canaries = [data["client_secret"].encode(), data["refresh_token"].encode()]
    async with deployment.lanes() as lanes:
        state: Any = lanes._state
        store = store_of(Settings(state_url=redis_url), lanes._state)
        assert len((await store.page("default", "u1")).items) == 2, "signed in once, and one session made: not two"
        deposit = deployment.keys.deposit(data["handle"])
        assert 0 < await state.pttl(deposit) <= 60_000
        await state.delete(deposit)  # the minute is over
        [replayed] = secrets_of(await http.get(path, headers=mine))
        assert "client_secret" not in replayed
        for key in [key async for key in state.scan_iter()]:
            content = repr(await content_of(state, key)).encode()
            assert not any(canary in content for canary in canaries), key
    database = Path(str(make_url(deployment.database_url).database))
    for file in database.parent.glob(f"{database.name}*"):
        assert not any(canary in file.read_bytes() for canary in canaries), file
    assert not any(canary.decode() in worker.stderr for canary in canaries)
    assert not any(canary.decode() in json.dumps(call.body) for call in provider.calls for canary in canaries)
