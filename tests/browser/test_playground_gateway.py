"""The playground of a gateway that no stack has started, whose workers come and go by themselves."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.playground import Playground, playground
from tests.deployment import Deployment

pytestmark = [pytest.mark.redis, pytest.mark.browser]


@pytest.fixture
async def tab(deployment: Deployment, browser: Browser) -> AsyncIterator[Playground]:
    async with playground(browser, deployment.gateway()) as tab:
        yield tab


async def test_a_message_sent_before_any_worker_runs_is_answered_when_one_comes_and_nobody_can_kill_that_one(
    tab: Playground, deployment: Deployment
) -> None:
    await tab.say("hello")
    await expect(tab.activity).to_contain_text("Waiting for a worker")
    await tab.page.reload()  # it is nobody's yet
    await expect(tab.activity).to_contain_text("Waiting for a worker")
    deployment.worker("tests.model_worker", TEST_DELTAS="40", TEST_DELTA_MS="50")
    await expect(tab.answers).to_contain_text("word word", timeout=20_000)
    await expect(tab.activity).to_contain_text("Answering")
    await expect(tab.button("Kill the worker")).to_be_hidden()
    await tab.is_quiet()
    await expect(tab.answers).to_have_text(["word " * 39 + "word"])


async def test_a_gateway_that_is_away_is_told_and_the_message_can_be_sent_again(
    deployment: Deployment, browser: Browser
) -> None:
    deployment.worker("tests.model_worker", TEST_DELTAS="3")
    context = await browser.new_context(base_url=deployment.gateway())  # it may complain: it is offline
    page = await context.new_page()
    await page.goto("/")
    tab = Playground(page)
    await expect(page.locator("#cards button").first).to_be_visible()
    await context.set_offline(True)
    await tab.say("hello")
    await expect(page.get_by_role("alert")).to_have_text("The gateway cannot be reached.")
    await context.set_offline(False)
    await tab.button("Send again").click()
    await expect(tab.answers).to_have_text(["word word word"], timeout=20_000)
    await expect(tab.said).to_have_text(["hello"])
