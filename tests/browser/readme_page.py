"""The README's page in Chromium: its ChatKit element is the stand-in, its backend is a function of the test."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser, Page, Request, Route

from tests.deployment import SERVICE

HERE = Path(__file__).parent
README = HERE.parent.parent / "README.md"
STAND_IN = (HERE / "stand_in.js").read_text()
BATCH = "application/cloudevents-batch+json"


def page_of_readme() -> str:
    """The one complete HTML page in it."""
    [page] = re.findall(r"```html\n(.*?)```", README.read_text(), re.DOTALL)
    return str(page)


@dataclass
class ReadmePage:
    """The page, the backend behind it, and what went to the gateway."""

    gateway: str
    page: Page
    user: str = "u1"
    secrets: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """Secrets that the backend gives out before it asks for real ones."""
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self) -> None:
        await self.page.route("**/chat.html", self._page)
        await self.page.route("https://cdn.platform.openai.com/**", self._element)
        await self.page.route("**/my-app/chat-session", self._session)
        self.page.on("request", self._sent)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await self.page.goto("/chat.html")
        await self.ready()

    async def ready(self) -> None:
        """Its script has run."""
        await self.page.wait_for_function("document.querySelector('openai-chatkit').options")

    async def reload(self) -> None:
        await self.page.reload()
        await self.ready()

    async def say(self, text: str) -> None:
        """Send a message; the answer comes later."""
        await self.page.evaluate("text => { document.querySelector('openai-chatkit').sendUserMessage({ text }) }", text)

    async def ask(self, type_: str) -> list[Any]:
        """A request of the element that is answered by a list."""
        script = "type => document.querySelector('openai-chatkit').request(type, {}).then(answer => answer.json())"
        return list((await self.page.evaluate(script, type_))["data"])

    async def tell(self, name: str, detail: object = None) -> None:
        """One DOM event of the element."""
        script = "([name, detail]) => document.querySelector('openai-chatkit').tell(name, detail)"
        await self.page.evaluate(script, [name, detail])

    async def fetched(self) -> int:
        """How often the element was asked to fetch updates."""
        return int(await self.page.evaluate("document.querySelector('openai-chatkit').fetched"))

    def posts(self, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == "POST" and r.url == self.gateway + path]

    def chats(self, type_: str) -> list[Request]:
        """Requests of the ChatKit protocol, of one type."""
        return [r for r in self.posts("/chatkit") if json.loads(r.post_data or "{}")["type"] == type_]

    def batches(self) -> list[list[dict[str, Any]]]:
        """The DOM events that the page has forwarded."""
        return [json.loads(r.post_data or "[]") for r in self.posts("/v1/events")]

    def _sent(self, request: Request) -> None:
        self.requests.append(request)

    async def _page(self, route: Route) -> None:
        await route.fulfill(body=page_of_readme(), content_type="text/html")

    async def _element(self, route: Route) -> None:
        await route.fulfill(body=STAND_IN, content_type="text/javascript")

    async def _session(self, route: Route) -> None:
        self.secrets.append(self.given.pop(0) if self.given else await self._sign_in())
        await route.fulfill(json={"client_secret": self.secrets[-1]})

    async def _sign_in(self) -> str:
        async with httpx.AsyncClient(base_url=self.gateway) as http:
            answer = await http.post("/v1/sessions", json={"user": self.user}, headers=SERVICE)
        return str(answer.json()["client_secret"])


async def open_page(browser: Browser, gateway: str, **options: Any) -> ReadmePage:
    """Open it in a tab of its own."""
    opened = ReadmePage(gateway, await browser.new_page(base_url=gateway), **options)
    await opened.open()
    return opened
