"""A turn that nobody reads any more is stopped after the grace, over gateways, also when one of them is killed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

from tests.builders import create_event, user_input
from tests.deployment import SERVICE
from tests.eventually import eventually
from tests.two_by_two import Page, two_by_two
from workers.lanes.readers import GONE_AFTER
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Text

pytestmark = pytest.mark.redis

GRACE = 3.0


@pytest.fixture
async def page(redis_url: str, sqlite_url: str, provider: FakeProvider) -> AsyncIterator[Page]:
    settings = {"OPENAI_BASE_URL": provider.base_url, "CHATKIT_DISCONNECT_GRACE": f"{GRACE:g}"}
    async with two_by_two(redis_url, sqlite_url, **settings) as page:
        yield page


def kill_what_serves(http: httpx.AsyncClient) -> None:
    """SIGKILL for the gateway behind this client."""
    served = ("127.0.0.1", http.base_url.port)
    [pid] = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr == served}
    psutil.Process(pid).kill()


async def is_stopped(page: Page, event_id: str) -> bool:
    return await page.state(event_id) == ("cancelled", "disconnected")


async def test_an_answer_whose_only_tab_is_closed_is_stopped_and_its_half_is_kept(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Hang(3), Text("Next."))
    async with page.talking() as talk:
        await asyncio.sleep(GRACE + 1)
        assert await page.state(talk.event_id) == ("running", None), "somebody reads it"
    closed = time.monotonic()
    await eventually(lambda: is_stopped(page, talk.event_id), within=60)
    assert time.monotonic() - closed >= GRACE - 0.5
    asked, half = await page.items(talk.thread)
    assert (asked, half[0]) == (("user_message", "hello"), "assistant_message")
    assert half[1]
    assert "Next." in (await page.say("and now?", talk.thread)).text


async def test_a_tab_that_comes_back_through_the_other_gateway_saves_the_answer(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Hang(3))
    async with page.talking() as talk:
        pass
    stream = f"/v1/events/{talk.event_id}/stream"
    async with page.there.stream("GET", stream, headers=page.headers) as answer:
        lines = answer.aiter_lines()
        assert "retry" in await anext(lines)
        await asyncio.sleep(GRACE + 2)
        assert await page.state(talk.event_id) == ("running", None)
    await eventually(lambda: is_stopped(page, talk.event_id), within=60)


async def test_a_turn_that_a_service_published_and_nobody_reads_goes_on(page: Page, provider: FakeProvider) -> None:
    provider.plan(Hang(3))
    event = create_event("hello", userid="u1", tenant="default")
    published = await page.here.post("/v1/events", json=json.loads(event.to_json()), headers=SERVICE)
    assert published.status_code == 202

    async def runs() -> bool:
        return await page.state(event.event_id) == ("running", None)

    await eventually(runs, within=60)
    await asyncio.sleep(GRACE + 2)
    assert await runs()


async def test_the_readers_of_a_gateway_that_is_killed_are_gone_as_well(page: Page, provider: FakeProvider) -> None:
    provider.plan(Hang(3))
    body = {"type": "threads.create", "params": {"input": user_input("hello")}}
    async with page.here.stream("POST", "/chatkit", json=body, headers=page.headers) as answer:
        event_id = answer.headers["X-Event-Id"]
        lines = answer.aiter_lines()
        async for line in lines:
            if "thread.item.updated" in line:
                break
        kill_what_serves(page.here)
        killed = time.monotonic()
    page.here = page.there
    await eventually(lambda: is_stopped(page, event_id), within=90)
    assert time.monotonic() - killed >= GRACE + GONE_AFTER.total_seconds() - 4
