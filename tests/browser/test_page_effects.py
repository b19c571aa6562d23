"""What agents want of a page, in a real Chromium: effects with an outcome, and a client secret of their making."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from playwright.async_api import Browser, Route, expect

from tests.browser.readme_page import ReadmePage, open_page
from tests.deployment import Deployment
from tests.eventually import eventually
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Text, Tool

pytestmark = [pytest.mark.redis, pytest.mark.browser]

HIGHLIGHT = {"action_type": "highlight", "payload": {"target": "#stop"}, "wait_seconds": 20}


@pytest.fixture
def acting(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, **provider.environment) as deployment:
        deployment.worker()
        yield deployment


def told(provider: FakeProvider) -> Any:
    """What the model was told of the tool's call."""
    [output] = [item["output"] for item in provider.calls[-1].body["input"] if item["type"] == "function_call_output"]
    return output


async def answered(opened: ReadmePage, text: str) -> None:
    await expect(opened.page.locator(".assistant_message")).to_have_text([text], timeout=25_000)


async def test_an_agent_that_waits_is_told_what_the_page_did(
    acting: Deployment, provider: FakeProvider, browser: Browser
) -> None:
    provider.plan(Tool("send_custom_action", HIGHLIGHT), Text("It is highlighted."))
    opened = await open_page(browser, acting.gateway())
    await opened.say("highlight the button")
    await answered(opened, "It is highlighted.")
    await expect(opened.page.locator("#stop.highlighted")).to_have_count(1)
    assert json.loads(told(provider)) == {"sent": "highlight", "outcome": {"highlighted": "#stop"}}
    assert opened.complaints == []


async def test_an_effect_that_the_page_does_not_know_is_told_as_such_and_nobody_waits_in_vain(
    acting: Deployment, provider: FakeProvider, browser: Browser
) -> None:
    provider.plan(Tool("send_custom_action", HIGHLIGHT | {"action_type": "explode"}), Text("It cannot do that."))
    opened = await open_page(browser, acting.gateway())
    await opened.say("explode")
    await answered(opened, "It cannot do that.")
    assert json.loads(told(provider))["outcome"] == {"error": "unknown effect"}


async def test_a_session_that_an_agent_has_made_is_handed_to_the_page(
    acting: Deployment, provider: FakeProvider, browser: Browser
) -> None:
    provider.plan(Tool("generate_client_secret", {"user_id": "u1"}), Text("You have it."))
    opened = await open_page(browser, acting.gateway())
    await opened.page.evaluate(
        """async () => {
          const { connect } = await import("/chatkit-workers.js");
          const onClientSecret = (session) => { window.issued = session; };
          const options = { domainKey: "d", getClientSecret: async () => "", onClientSecret };
          connect(document.querySelector("openai-chatkit"), options);
        }"""
    )
    await opened.say("a new session, please")
    await answered(opened, "You have it.")
    issued = await opened.page.evaluate("window.issued")
    assert issued["client_secret"].count(".") == 2
    forwarded = [event["data"] for batch in opened.batches() for event in batch if event["type"] == "chatkit.ui.effect"]
    assert issued["client_secret"] not in json.dumps(forwarded)


async def test_what_a_page_shows_is_told_when_it_is_back_online(
    acting: Deployment, provider: FakeProvider, browser: Browser
) -> None:
    opened = await open_page(browser, acting.gateway())
    lost = asyncio.Event()

    async def lose(route: Route) -> None:
        await route.abort()
        lost.set()

    await opened.page.route("**/v1/events", lose)
    await opened.tell("chatkit.thread.change", {"threadId": "thr_1"})
    await asyncio.wait_for(lost.wait(), 20)
    await opened.page.unroute("**/v1/events")
    await opened.page.evaluate("dispatchEvent(new Event('online'))")
    async with httpx.AsyncClient(base_url=opened.gateway) as http:
        headers = {"Authorization": f"Bearer {opened.secrets[0]}"}
        session_id = jwt.decode(opened.secrets[0], options={"verify_signature": False})["sid"]

        async def known() -> bool:
            answer = await http.get(f"/v1/sessions/{session_id}", headers=headers)
            return answer.status_code == 200 and answer.json()["open_thread_id"] == "thr_1"

        assert await eventually(known)
