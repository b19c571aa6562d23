"""The OpenAPI document against the gateway: whatever fits it, and whatever does not, gets an answer that is no 5xx."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from fakeredis import FakeAsyncRedis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

from tests.services import free_port
from tests.unit.gateway.conftest import beat
from tests.unit.gateway.stage import SERVICE, serving, stage_on

Headers = dict[str, str]


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, Headers]]:
    """A gateway on a port, in a thread of its own, and the headers of a user."""
    ready, port = threading.Event(), free_port()
    user: Headers = {}
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        state = FakeAsyncRedis()
        async with stage_on(state, "ck", beat, user_rate=0) as stage, serving(stage, port):
            user.update(stage.bearer())
            ready.set()
            await stop.wait()
        await state.aclose()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{port}", user
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


@pytest.fixture(scope="module")
def document(gateway: tuple[str, Headers]) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{gateway[0]}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("caller", ["service", "user", "nobody"])
def test_no_request_brings_the_gateway_down(
    document: BaseSchema, gateway: tuple[str, Headers], caller: str, mode: GenerationMode
) -> None:
    headers = {"service": SERVICE, "user": gateway[1], "nobody": {}}[caller]
    worst: dict[str, int] = {}
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        api = found.ok()
        worst[api.label] = max(statuses_of(api, mode, headers), default=0)
    assert {"POST /chatkit", "POST /v1/events", "POST /v1/sessions", "GET /v1/dead"} <= worst.keys()
    assert {label: status for label, status in worst.items() if status >= 500} == {}


def statuses_of(api: "APIOperation[Any, Any, Any, Any]", mode: GenerationMode, headers: Headers) -> list[int]:
    """What some requests to one operation are answered with."""
    statuses: list[int] = []

    @settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=api.as_strategy(generation_mode=mode))
    def request(case: Case[Any]) -> None:
        statuses.append(case.call(headers=headers, timeout=20).status_code)

    with suppress(Unsatisfiable):  # nothing can be wrong about a request that takes nothing
        request()
    return statuses
