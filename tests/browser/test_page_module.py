"""`/chatkit-workers.js` in a real Chromium, on the README's page, with a real gateway, worker and Redis behind it."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from schemas.ui import UI_EVENTS
from tests.browser.readme_page import ReadmePage, open_page
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.tcp_proxy import TcpProxy
from workers.gateway.requests import source_of
from workers.sessions.tokens import Identity

pytestmark = [pytest.mark.redis, pytest.mark.browser]

WORDS = 50
ANSWER = ("word " * WORDS).strip()


def worker(deployment: Deployment, *, slow: bool = False) -> None:
    deployment.worker("tests.model_worker", TEST_DELTAS=str(WORDS), TEST_DELTA_MS="40" if slow else "0")


async def until(probe: Callable[[], object]) -> None:
    """Wait until something is true of what the page has sent."""

    async def asked() -> object:
        return probe()

    await eventually(asked)


def types_of(opened: ReadmePage) -> list[str]:
    return [event["type"] for batch in opened.batches() for event in batch]


async def answered(page: Page, *texts: str) -> None:
    await expect(page.locator(".assistant_message")).to_have_text(list(texts), timeout=20_000)


async def beginning_of(request: Request) -> dict[str, Any]:
    """The first words of an answer, which then ends as a whole one does."""
    body, headers = b"", await request.all_headers()
    async with (
        httpx.AsyncClient(headers=headers) as http,
        http.stream("POST", request.url, content=request.post_data) as answer,
    ):
        async for chunk in answer.aiter_bytes():
            body += chunk
            if b"text_delta" in body:
                break
    return {"headers": dict(answer.headers), "body": body}


async def beginning(page: Page) -> None:
    await expect(page.locator(".assistant_message")).to_contain_text("word word word", timeout=20_000)


async def talking(deployment: Deployment, browser: Browser) -> ReadmePage:
    """The page in the middle of a slow answer."""
    worker(deployment, slow=True)
    opened = await open_page(browser, deployment.gateway())
    await opened.say("hello")
    await beginning(opened.page)
    return opened


async def test_the_page_of_the_readme_talks(deployment: Deployment, browser: Browser) -> None:
    worker(deployment)
    opened = await open_page(browser, deployment.gateway())
    await opened.say("hello")
    await answered(opened.page, ANSWER)
    await opened.say("hello")
    await answered(opened.page, ANSWER, ANSWER)
    [create], [add] = opened.chats("threads.create"), opened.chats("threads.add_user_message")
    assert create.headers["idempotency-key"] != add.headers["idempotency-key"]
    assert create.headers["authorization"] == f"Bearer {opened.secrets[0]}"
    assert len(opened.secrets) == 1
    stored = await opened.page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    assert opened.secrets[0] not in stored
    assert opened.complaints == []


async def test_requests_that_are_refused_together_share_one_refresh(deployment: Deployment, browser: Browser) -> None:
    worker(deployment)
    opened = await open_page(browser, deployment.gateway(), given=["expired"])
    ask = "() => document.querySelector('openai-chatkit').request('threads.list', {}).then(answer => answer.status)"
    statuses = await opened.page.evaluate(f"() => Promise.all(Array.from({{ length: 5 }}, {ask}))")
    assert statuses == [200] * 5
    assert len(opened.secrets) == 2
    keys = [request.headers["idempotency-key"] for request in opened.chats("threads.list")]
    assert len(keys) == 10
    assert sorted(keys) == sorted([*set(keys)] * 2)  # the second time with the key of the first


async def test_a_secret_that_is_refused_twice_is_an_error_and_no_loop(deployment: Deployment, browser: Browser) -> None:
    opened = await open_page(browser, deployment.gateway(), given=["expired", "expired too"])
    status = await opened.page.evaluate(
        "document.querySelector('openai-chatkit').request('threads.list', {}).then(answer => answer.status)"
    )
    assert (status, len(opened.secrets)) == (401, 2)


async def test_a_message_whose_answer_was_lost_is_sent_again_with_its_key(
    deployment: Deployment, browser: Browser
) -> None:
    worker(deployment)
    opened = await open_page(browser, deployment.gateway())
    lost = asyncio.Event()

    async def lose_the_answer(route: Route) -> None:
        if "threads.create" not in (route.request.post_data or "") or lost.is_set():
            await route.fallback()
        else:
            lost.set()
            await route.fetch()
            await route.abort()

    await opened.page.route("**/chatkit", lose_the_answer)
    await opened.say("hello")
    await asyncio.wait_for(lost.wait(), 20)
    await until(lambda: "chatkit.ui.error" in types_of(opened))
    await opened.say("hello")
    await answered(opened.page, ANSWER)
    first, again = opened.chats("threads.create")
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert len(await opened.ask("threads.list")) == 1


async def test_a_running_turn_is_followed_after_a_reload_and_fetched_at_its_end(
    deployment: Deployment, browser: Browser
) -> None:
    opened = await talking(deployment, browser)
    await opened.reload()
    await expect(opened.page.locator(".user_message")).to_have_text(["hello"])
    await answered(opened.page, ANSWER)
    assert await opened.fetched() == 1
    assert [r.method for r in opened.requests if re.search(r"/v1/events/evt_\w+/stream$", r.url)] == ["GET"]
    assert opened.complaints == []


async def test_an_answer_whose_connection_breaks_is_fetched_without_a_reload(
    deployment: Deployment, browser: Browser
) -> None:
    worker(deployment, slow=True)
    with TcpProxy(urlsplit(deployment.gateway()).port or 0) as proxy:
        opened = await open_page(browser, f"http://127.0.0.1:{proxy.port}")
        await opened.say("hello")
        await beginning(opened.page)
        proxy.cut()
        await answered(opened.page, ANSWER)
        assert await opened.fetched() == 1


async def test_an_answer_that_a_gateway_let_go_of_is_fetched_without_a_reload(
    deployment: Deployment, browser: Browser
) -> None:
    worker(deployment, slow=True)
    opened = await open_page(browser, deployment.gateway())

    async def let_go(route: Route) -> None:
        if "threads.create" in (route.request.post_data or ""):
            await route.fulfill(**await beginning_of(route.request))
        else:
            await route.fallback()

    await opened.page.route("**/chatkit", let_go)
    await opened.say("hello")
    await answered(opened.page, ANSWER)
    assert await opened.fetched() == 1


@pytest.mark.parametrize("reloaded", [False, True])
async def test_stop_ends_the_turn_that_this_page_or_the_one_before_it_began(
    deployment: Deployment, browser: Browser, reloaded: bool
) -> None:
    opened = await talking(deployment, browser)
    if reloaded:
        await opened.reload()
        await expect(opened.page.locator(".user_message")).to_have_text(["hello"])
    async with opened.page.expect_response(re.compile("/cancel$")) as cancelled:
        await opened.page.get_by_role("button", name="Stop").click()
    assert (await cancelled.value).status == 202
    if reloaded:
        await eventually(opened.fetched)
    await expect(opened.page.locator(".assistant_message")).to_contain_text("word")
    await asyncio.sleep(0.5)
    assert len(await opened.page.locator(".assistant_message").inner_text()) < len(ANSWER)


async def test_stop_with_nothing_to_stop_says_so(deployment: Deployment, browser: Browser) -> None:
    opened = await open_page(browser, deployment.gateway())
    await opened.page.evaluate("""async () => {
        const { connect } = await import("/chatkit-workers.js");
        const { stop } = connect(document.createElement("openai-chatkit"), { getClientSecret: async () => "" });
        window.stopped = await stop();
    }""")
    assert await opened.page.evaluate("window.stopped") is False


DETAILS: dict[str, dict[str, Any]] = {
    "error": {"error": {"name": "Error", "message": "canary"}},
    "effect": {"name": "confetti", "data": {"text": "canary"}},
    "deeplink": {"name": "order", "data": {"text": "canary"}},
    "log": {"name": "composer.submit", "data": {"text": "canary"}},
    "thread.change": {"threadId": "thr_1"},
    "thread.load.start": {"threadId": "thr_1"},
    "thread.load.end": {"threadId": "thr_1"},
    "tool.change": {"toolId": "search"},
}


async def test_every_dom_event_is_accepted_in_the_name_of_the_user_and_tells_nothing_that_was_written(
    deployment: Deployment, browser: Browser
) -> None:
    opened = await open_page(browser, deployment.gateway())
    await until(opened.batches)
    async with opened.page.expect_response("**/v1/events") as response:
        for name in UI_EVENTS:
            await opened.tell(f"chatkit.{name}", DETAILS.get(name))
    assert (await response.value).status == 202
    await until(lambda: set(types_of(opened)) == {f"chatkit.ui.{name}" for name in UI_EVENTS})
    assert "canary" not in json.dumps(opened.batches())
    places = await (await response.value).json()
    assert all("error" not in place for place in places), places
    async with httpx.AsyncClient(base_url=opened.gateway, headers=SERVICE) as http:
        status = (await http.get(f"/v1/events/{places[0]['id']}")).json()
    assert status["source"] == source_of(Identity("default", "u1", ""))


async def test_dom_events_go_fifty_together_and_what_lingers_goes_when_the_page_is_left(
    deployment: Deployment, browser: Browser
) -> None:
    opened = await open_page(browser, deployment.gateway())
    await until(opened.batches)  # `ready` has gone, and there is a client secret
    many = """() => {
        const chat = document.querySelector('openai-chatkit');
        for (let i = 0; i < 120; i += 1) chat.tell('chatkit.log', { name: `n${i}` });
        location.href = 'about:blank';
    }"""
    await opened.page.evaluate(many)
    async with deployment.lanes() as lanes:

        async def waiting() -> bool:
            return sum((await lanes.depth()).states.values()) == 121

        await eventually(waiting)
    # of what a page sends while it is left, Playwright sees nothing
    assert [len(batch) for batch in opened.batches()] == [1, 50, 50]


async def test_dom_events_that_could_not_be_sent_go_with_the_next_ones(
    deployment: Deployment, browser: Browser
) -> None:
    opened = await open_page(browser, deployment.gateway())
    await until(opened.batches)
    await opened.page.route("**/v1/events", lambda route: route.abort())
    async with opened.page.expect_event("requestfailed"):
        await opened.tell("chatkit.history.open")
    await opened.page.unroute("**/v1/events")
    await opened.tell("chatkit.history.close")
    await until(lambda: len(opened.batches()) == 3)
    [_, [lost], [again, new]] = opened.batches()
    assert again == lost
    assert new["type"] == "chatkit.ui.history.close"


async def test_the_effect_reauthenticate_gets_a_new_secret_once(deployment: Deployment, browser: Browser) -> None:
    worker(deployment)
    opened = await open_page(browser, deployment.gateway())
    await until(opened.batches)
    await opened.page.evaluate("""() => {
        const chat = document.querySelector('openai-chatkit');
        for (const name of ['confetti', 'reauthenticate', 'reauthenticate']) chat.tell('chatkit.effect', { name });
    }""")
    await until(lambda: len(opened.secrets) >= 2)
    await opened.say("hello")
    await answered(opened.page, ANSWER)
    assert len(opened.secrets) == 2
    assert opened.chats("threads.create")[0].headers["authorization"] == f"Bearer {opened.secrets[1]}"


async def test_a_sign_in_that_is_asked_for_after_a_reload_is_not_missed(
    deployment: Deployment, browser: Browser
) -> None:
    opened = await open_page(browser, deployment.gateway())  # and no worker: the turn waits
    async with opened.page.expect_response("**/chatkit") as response:
        await opened.say("hello")
    event_id = (await response.value).headers["x-event-id"]
    effect = json.dumps({"type": "client_effect", "name": "reauthenticate", "data": {}})
    frames = f"data: {effect}\n\n"

    async def ask_for_a_sign_in(route: Route) -> None:
        await route.fulfill(body=frames, content_type="text/event-stream")

    await opened.page.route(f"**/v1/events/{event_id}/stream", ask_for_a_sign_in, times=1)
    before = len(opened.secrets)
    await opened.reload()
    await opened.tell("chatkit.thread.load.end", {"threadId": "thr_" + event_id.removeprefix("evt_")})
    await until(lambda: len(opened.secrets) == before + 2)  # the one of the reload, and the one that was asked for
