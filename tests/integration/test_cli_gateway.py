"""`gateway` as a process: where it listens, how it ends, what it says when it cannot start."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.builders import create_event
from tests.cli_process import cli, settings, start

KEY = "service-key"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens."""

    process: asyncio.subprocess.Process
    url: str


@pytest.fixture
async def environment(redis_url: str, sqlite_url: str, prefix: str) -> dict[str, str]:
    """A deployment with its tables."""
    urls = {"broker_url": redis_url, "state_url": redis_url, "database_url": sqlite_url}
    env = settings(**urls, prefix=prefix, secret_key="s" * 32, api_keys=KEY)
    assert (await cli("db", "upgrade", env=env)).code == 0
    return env


@asynccontextmanager
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    process = await start("gateway", "--port", "0", env=env)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while not (line := (await process.stderr.readline()).decode()).startswith("gateway on "):
                assert line, "the gateway ended"
        yield Gateway(process, line.split()[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.redis
async def test_sigterm_ends_open_streams_and_the_gateway_at_once(environment: dict[str, str]) -> None:
    async with gateway(environment) as running, httpx.AsyncClient(base_url=running.url, timeout=10) as http:
        http.headers["Authorization"] = f"Bearer {KEY}"
        accepted = await http.post("/v1/events", json=create_event().model_dump(mode="json", exclude_unset=True))
        assert accepted.status_code == httpx.codes.ACCEPTED
        # no worker runs: the stream would stay open for ever
        async with http.stream("GET", f"/v1/events/{accepted.json()['id']}/stream") as stream:
            assert stream.status_code == httpx.codes.OK
            running.process.terminate()
            async with asyncio.timeout(4):
                assert "event: end" not in [line async for line in stream.aiter_lines()]
        async with asyncio.timeout(4):
            assert await running.process.wait() == 0


async def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("gateway", "flower"):
            finished = await cli(command, "--port", port, env=settings())
            assert finished.code == 1
            assert finished.err == (
                f"error: 127.0.0.1:{port} is taken: stop what listens there, or choose another port with --port\n"
            )


async def test_an_address_of_another_machine_is_one_line() -> None:
    env = settings(public_url="https://chat.example")
    finished = await cli("gateway", "--host", "192.0.2.1", "--port", "0", env=env)
    assert finished.code == 1
    assert finished.err.startswith("error: cannot listen on 192.0.2.1:0: ")


@pytest.mark.redis
async def test_without_tables_it_says_how_to_make_them(redis_url: str, sqlite_url: str) -> None:
    env = settings(broker_url=redis_url, state_url=redis_url, database_url=sqlite_url, secret_key="s" * 32)
    for command in (["gateway", "--port", "0"], ["worker"]):
        finished = await cli(*command, env=env)
        assert finished.code == 1
        assert finished.err.endswith("has no tables: run `chatkit-workers db upgrade`\n")


@pytest.mark.redis
async def test_without_a_signing_key_it_does_not_start(environment: dict[str, str]) -> None:
    del environment["CHATKIT_SECRET_KEY"]
    finished = await cli("gateway", "--port", "0", env=environment)
    assert finished.code == 1
    (line,) = [line for line in finished.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: CHATKIT_SECRET_KEY: is not set")
