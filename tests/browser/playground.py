"""The playground as its user sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

FAR_SECONDS = 30
"""Until the end of a long answer, on a machine that has other things to do."""


class Playground:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def message(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.locator("#log .assistant .bubble")

    @property
    def said(self) -> Locator:
        """What the user has said, and the server has."""
        return self.page.locator("#log .user:not(.sending) .bubble")

    @property
    def activity(self) -> Locator:
        return self.page.get_by_role("region", name="What goes on")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def note(self, kind: str) -> Locator:
        return self.page.locator(f"#log .note.{kind}")

    async def say(self, text: str) -> None:
        await self.message.fill(text)
        await self.message.press("Enter")

    async def try_out(self, title: str) -> None:
        """One of the things to try, on the page of a new conversation."""
        await self.page.locator("#cards").get_by_role("button", name=title).click()

    async def is_quiet(self) -> None:
        """Nothing goes on any more."""
        await expect(self.activity).to_be_hidden(timeout=FAR_SECONDS * 1000)

    async def has_answered(self, text: str) -> None:
        """The last answer holds these words, and nothing goes on."""
        await expect(self.answers.last).to_contain_text(text, timeout=FAR_SECONDS * 1000)
        await self.is_quiet()

    async def log(self) -> list[str]:
        """What is in the conversation, item by item."""
        return await self.page.locator("#log > li").all_inner_texts()

    async def reload(self) -> None:
        await self.page.reload()
        await expect(self.page.get_by_text("Connected")).to_be_visible()


@asynccontextmanager
async def playground(browser: Browser, address: str, **options: Any) -> AsyncIterator[Playground]:
    """The page of a new guest. Whatever a tab of it complains of (an error, its own policy) fails the test."""
    complaints: list[str] = []

    def listen(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    context = await browser.new_context(base_url=address, **options)
    context.on("page", listen)
    page = await context.new_page()
    await page.goto("/")
    await expect(page.locator("#cards button").first).to_be_visible()
    yield Playground(page)
    await context.close()
    assert complaints == []


async def second_tab(first: Playground) -> Playground:
    """The same conversation in another tab of the same browser."""
    page = await first.page.context.new_page()
    await page.goto(first.page.url)
    return Playground(page)
