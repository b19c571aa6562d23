"""`python -m tests.browser.flower_screenshot OUT.png`: Flower's tasks in Chromium, after events of every end.

It is what the README shows: run it again when the rows change.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.integration.test_limits import comes_to
from tests.integration.test_worker import ended, publish
from tests.services import RedisServer
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Status, Step, Text

ANSWER: list[Step] = [Text("Here you are.")]
ENDS: list[tuple[str, list[Step], EventState]] = [
    ("acme", ANSWER, EventState.DONE),
    ("globex", ANSWER, EventState.DONE),
    ("acme", [Status(503), *ANSWER], EventState.DONE),
    ("initech", [Status(400)], EventState.DEAD),
    ("acme", ANSWER, EventState.DONE),
    ("globex", [Hang(after_deltas=3)], EventState.CANCELLED),
    ("globex", [Status(429, headers={"retry-after": "60"})], EventState.WAITING_LIMIT),
]
"""Whose event, what the provider says to it, and what becomes of it."""

WIDTH, HEIGHT = 2000, 660


async def act(deployment: Deployment, provider: FakeProvider) -> None:
    """Let it all happen."""
    async with deployment.lanes() as lanes:
        for tenant, plan, state in ENDS:
            event: Event = create_event("a question", tenant=tenant)
            provider.plan(*plan)
            publish(deployment, event)
            if state is EventState.CANCELLED:
                await comes_to(lanes, event, EventState.RUNNING)
                await lanes.cancel(event.event_id)
            if state.ended:
                await ended(lanes, event)
            else:
                await comes_to(lanes, event, state)


async def take(address: str, out: Path) -> None:
    """The page, with as many rows as there are events."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        await page.goto(f"{address}/tasks")
        await page.wait_for_function(
            "n => document.querySelectorAll('#tasks-table tbody tr').length >= n", arg=len(ENDS)
        )
        await page.screenshot(path=str(out))
        await browser.close()


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="flower-") as folder, FakeProvider() as provider:
        server = RedisServer(Path(folder)).start()
        try:
            with Deployment(
                server.url,
                f"sqlite+aiosqlite:///{folder}/chatkit.db",
                **provider.environment,
            ) as deployment:
                flower = deployment.flower()
                deployment.worker()
                asyncio.run(act(deployment, provider))
                asyncio.run(take(flower, out))
        finally:
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
