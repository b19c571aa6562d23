"""Chromium, and a deployment for it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Playwright, async_playwright, expect

from tests.conftest import leave_out
from tests.deployment import Deployment

expect.set_options(timeout=15_000)  # nothing here promises a time, and the machine may have other things to do


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url) as deployment:
        yield deployment


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        leave_out("Chromium")
    playwright: Playwright
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser
