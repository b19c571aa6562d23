"""`python -m tests.browser.playground_screenshot OUT.png`: the playground in Chromium, over a stack of its own.

It is what the README shows: run it again when the page changes.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import chromium
from tests.browser.playground import playground
from tests.embedded_stack import up

VIEWPORT = {"width": 1280, "height": 1000}


async def take(address: str, out: Path, scheme: str = "light") -> None:
    """A conversation with a bit of everything, while an answer comes."""
    options = {"viewport": VIEWPORT, "color_scheme": scheme}
    async with chromium() as browser, playground(browser, address, **options) as tab:
        await tab.say("hello")
        await tab.has_answered("word by word")
        await tab.button("New conversation").click()
        await tab.say("Where is order 1042?")
        await tab.has_answered("shipped")
        await tab.say("Show me a form, please")
        await tab.has_answered("small form")
        await tab.say("Please fail on purpose")
        await expect(tab.button("Try again")).to_be_visible()
        await tab.say("Tell me at length how you work")
        await expect(tab.answers.last).to_contain_text("The gateway wrote it", timeout=30_000)
        await tab.page.screenshot(path=str(out))


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="playground-") as folder, up(Path(folder)) as stack:
        asyncio.run(take(stack.addresses["gateway"], out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
