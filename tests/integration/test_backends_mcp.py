"""Tools of real MCP servers, each in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.backend_builders import caller
from tests.eventually import eventually
from tests.services import free_port
from workers.backend_types import Backend
from workers.backends.deployment import Surroundings, open_backends
from workers.backends.guard import GuardedBackend
from workers.errors import SettingsError

ORDER = '{"order": "1042"}'
ENVIRON = {
    "SHOP_TOKEN": "Bearer s3cret",
    "SHOP_REGION": "eu",
    "PYTHONPATH": str(Path(__file__).parents[2]),
    **os.environ,
}


def declared(mcp: dict[str, Any], **changes: Any) -> Backend:
    plain: dict[str, Any] = {"description": "The shop.", "tenants": ["acme"], "timeout": 5, "retry": "never"}
    return Backend.model_validate(plain | {"mcp": {"tools": ["find", "fail", "hang", "die"], **mcp}} | changes)


def program(calls: Path) -> dict[str, Any]:
    return {
        "command": [sys.executable, "-m", "tests.mcp_server", str(calls)],
        "environment": ["SHOP_REGION", "PYTHONPATH"],
    }


@asynccontextmanager
async def opened(declaration: Backend) -> AsyncIterator[dict[str, GuardedBackend]]:
    async with open_backends({"shop": declaration}, Surroundings(ENVIRON)) as backends:
        yield {backend.name: backend for backend in backends}


@contextmanager
def serving(calls: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mcp_server", str(calls), str(port)], stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def noted(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


async def told(backend: GuardedBackend, arguments: str = ORDER, tenant: str = "acme") -> str:
    return (await backend.call(arguments, caller(tenant))).text


async def test_a_program_is_started_when_it_is_needed_and_its_tools_are_called(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with opened(declared(program(calls))) as shop:
        assert sorted(shop) == ["shop_die", "shop_fail", "shop_find", "shop_hang"]
        described = await shop["shop_find"].describe()
        assert described is not None
        assert described.text == "The shop. Find an order."
        assert described.parameters["properties"].keys() == {"order"}
        assert await told(shop["shop_find"]) == "order 1042 is shipped"
        assert "no such order" in await told(shop["shop_fail"])
        assert "Not called" in await told(shop["shop_find"], '{"order": 7}')
        assert "Not called" in await told(shop["shop_find"], '{"order": "7", "url": "x"}')
        assert "not available here" in await told(shop["shop_find"], tenant="umbrella")
    [find, fail] = noted(calls)
    assert find["meta"]["chatkit"] == {"tenant": "acme", "user": "ada", "idempotency_key": "evt_1:0:call_1"}
    assert fail["tool"] == "fail"
    assert "SHOP_REGION" in find["environment"]
    assert "SHOP_TOKEN" not in find["environment"]


async def test_a_tool_that_is_not_on_the_list_is_not_there(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    mcp = {**program(calls), "tools": ["find", "no_such_tool"]}
    async with opened(declared(mcp)) as shop:
        assert sorted(shop) == ["shop_find", "shop_no_such_tool"]
        assert await shop["shop_no_such_tool"].describe() is None
        assert "away" in await told(shop["shop_no_such_tool"])
    assert noted(calls) == []


async def test_what_hangs_is_given_up_at_its_deadline_and_others_are_not_disturbed(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with opened(declared(program(calls), timeout=1.5)) as shop:
        assert await told(shop["shop_find"]) == "order 1042 is shipped"
        began = time.monotonic()
        assert "may or may not have taken effect" in await told(shop["shop_hang"])
        assert time.monotonic() - began < 30
        assert await told(shop["shop_find"]) == "order 1042 is shipped"
    assert [call["tool"] for call in noted(calls)] == ["find", "hang", "find"]


async def test_a_server_that_dies_is_started_again_by_the_next_call(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with opened(declared(program(calls))) as shop:
        assert "may or may not have taken effect" in await told(shop["shop_die"])

        async def is_back() -> bool:
            return await told(shop["shop_find"]) == "order 1042 is shipped"

        await eventually(is_back)
    assert [call["tool"] for call in noted(calls)].count("die") == 1


async def test_over_http_it_is_found_when_it_is_there_and_again_after_a_restart(tmp_path: Path) -> None:
    calls, port = tmp_path / "calls", free_port()
    mcp = {"url": f"http://127.0.0.1:{port}/mcp", "headers_from": {"Authorization": "SHOP_TOKEN"}}
    async with opened(declared(mcp, circuit={"failures": 100, "open_seconds": 0.2})) as shop:
        find = shop["shop_find"]
        assert await find.describe() is None
        assert "away" in await told(find)

        async def is_there() -> bool:
            return await told(find) == "order 1042 is shipped"

        for _ in range(2):
            with serving(calls, port):
                await eventually(is_there, within=20)
            assert not await is_there()


async def test_a_program_that_is_not_there_leaves_the_worker_running(tmp_path: Path) -> None:
    async with opened(declared({"command": [str(tmp_path / "nothing")]})) as shop:
        assert await shop["shop_find"].describe() is None
        assert "away" in await told(shop["shop_find"])


async def test_a_missing_variable_of_a_program_stops_the_start() -> None:
    declaration = declared({"command": ["x"], "environment": ["NO_SUCH_VARIABLE"]})
    with pytest.raises(SettingsError, match=r"shop: mcp\.environment: the variable NO_SUCH_VARIABLE"):
        async with opened(declaration):
            pass
