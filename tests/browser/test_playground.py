"""The playground in a real Chromium, with a real gateway, worker and Redis behind it."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.deployment import Deployment

pytestmark = [pytest.mark.redis, pytest.mark.browser]

WORDS = 60
ANSWER = ("word " * WORDS).strip()

KEEP_STATUSES = """
    window.statuses = [];
    const status = document.getElementById("status");
    new MutationObserver(() => window.statuses.push(status.textContent)).observe(status, { childList: true });
"""


@pytest.fixture
async def page(deployment: Deployment, browser: Browser) -> AsyncIterator[Page]:
    """The page, loaded. Whatever it complains of (an error, its own content security policy) fails the test."""
    complaints: list[str] = []
    page = await browser.new_page(base_url=deployment.gateway())
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto("/")
    yield page
    assert complaints == []


def slow_worker(deployment: Deployment) -> None:
    deployment.worker("tests.model_worker", TEST_DELTAS=str(WORDS), TEST_DELTA_MS="40")


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def test_a_conversation_with_a_handoff_that_is_still_there_after_a_reload(
    page: Page, deployment: Deployment
) -> None:
    deployment.worker()  # the scripted model
    await say(page, "hello")
    await expect(page.locator("#log .user")).to_have_text("hello")
    await expect(page.locator("#log .assistant").last).to_contain_text("answering it word by word")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await page.evaluate(KEEP_STATUSES)
    await say(page, "where is order 1042?")
    await expect(page.locator("#log .assistant").last).to_contain_text("1042")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    statuses = await page.evaluate("window.statuses")
    assert "Handing over to the Service Orchestrator Agent" in statuses, statuses
    before = await page.locator("#log li").all_inner_texts()
    await page.reload()
    await expect(page.locator("#log li")).to_have_count(len(before))
    assert await page.locator("#log li").all_inner_texts() == before
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.locator("#log li")).to_have_count(0)


async def test_a_reload_in_the_middle_of_an_answer_shows_all_of_it_once(page: Page, deployment: Deployment) -> None:
    slow_worker(deployment)
    await say(page, "hello")
    await expect(page.locator("#log .assistant")).to_contain_text("word word word")
    await page.reload()
    await expect(page.locator("#log .assistant")).to_contain_text("word")
    await expect(page.get_by_role("button", name="Send")).to_be_disabled()
    await expect(page.get_by_role("button", name="Send")).to_be_enabled(timeout=15_000)
    await expect(page.locator("#log .user")).to_have_text(["hello"])
    await expect(page.locator("#log .assistant")).to_have_text([ANSWER])


async def test_stop_keeps_what_was_said_and_it_is_what_a_reload_shows(page: Page, deployment: Deployment) -> None:
    slow_worker(deployment)
    await say(page, "hello")
    await expect(page.locator("#log .assistant")).to_contain_text("word word word")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#log .note").last).to_have_text("Stopped.")
    said = await page.locator("#log .assistant").inner_text()
    assert re.fullmatch(r"word( word)+", said.strip())
    assert len(said) < len(ANSWER)
    await page.reload()
    await expect(page.locator("#log .assistant")).to_have_text([said])


async def test_a_message_sent_before_any_worker_runs_is_answered_when_one_comes(
    page: Page, deployment: Deployment
) -> None:
    await say(page, "hello")
    await expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    deployment.worker("tests.model_worker", TEST_DELTAS="3")
    await expect(page.locator("#log .assistant")).to_have_text(["word word word"], timeout=20_000)


async def test_a_gateway_that_is_away_is_told_and_the_page_stays_usable(
    browser: Browser, deployment: Deployment
) -> None:
    page = await browser.new_page(base_url=deployment.gateway())
    await page.goto("/")
    await page.context.set_offline(True)
    await say(page, "hello")
    await expect(page.locator("#log .error")).to_have_text("The gateway cannot be reached.")
    await page.context.set_offline(False)
    deployment.worker("tests.model_worker", TEST_DELTAS="3")
    await say(page, "hello")
    await expect(page.locator("#log .assistant")).to_have_text(["word word word"], timeout=20_000)


async def test_an_agent_that_waits_for_the_page_is_answered_and_a_secret_is_not_shown(
    page: Page, deployment: Deployment
) -> None:
    deployment.worker()  # the scripted model
    await say(page, "an effect with an outcome, please")
    await expect(page.locator("#log .assistant").last).to_have_text("Your page says: shown.", timeout=20_000)
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await say(page, "I want a new session")
    await expect(page.locator("#log .assistant").last).to_contain_text("I have only seen the id.")
    log = await page.locator("#log").inner_text()
    assert "The page has a client secret of session ses_" in log
    assert "eyJ" not in log, "nor is any token"
