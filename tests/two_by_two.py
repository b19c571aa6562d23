"""Two gateways and two workers, all real processes, and a user whose requests go now to one and now to the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.builders import user_input
from tests.deployment import Deployment, sign_in
from tests.worker_process import WorkerProcess
from workers.lanes.connection import connect


class Page:
    """One user, whose requests go now to one gateway and now to the other."""

    def __init__(
        self,
        deployment: Deployment,
        workers: list[WorkerProcess],
        gateways: list[httpx.AsyncClient],
        headers: dict[str, str],
    ) -> None:
        self.deployment, self.workers = deployment, workers
        self.here, self.there = gateways
        self.headers = headers

    async def holder(self, thread: str) -> WorkerProcess:
        """The worker that runs the turn of a thread."""
        lane, state = f"default/{thread}", connect(self.deployment.state_url)
        owner: Any = await state.hget(f"{self.deployment.keys.tag_of(lane)}lease:{lane}", "owner")
        await state.aclose()
        [found] = [worker for worker in self.workers if owner.decode().endswith(f":{worker.pid}")]
        return found

    async def post(self, http: httpx.AsyncClient, type_: str, mode: str | None = None, **params: Any) -> httpx.Response:
        metadata = {"double_text": mode} if mode else {}
        body = {"type": type_, "params": params, "metadata": metadata}
        return await http.post("/chatkit", json=body, headers=self.headers)

    async def say(self, text: str, thread: str, mode: str | None = None) -> httpx.Response:
        """A message, by the other gateway."""
        return await self.post(self.there, "threads.add_user_message", mode, thread_id=thread, input=user_input(text))

    @asynccontextmanager
    async def talking(self, text: str = "hello") -> AsyncIterator["Talk"]:
        """A conversation whose answer has begun, and hangs."""
        body = {"type": "threads.create", "params": {"input": user_input(text)}}
        async with self.here.stream("POST", "/chatkit", json=body, headers=self.headers) as answer:
            talk = Talk(answer.headers["X-Event-Id"], answer.aiter_lines())
            await talk.until("thread.item.updated")
            yield talk

    async def items(self, thread: str) -> list[tuple[str, str]]:
        """The type and the text of each stored item."""
        data = (await self.post(self.there, "items.list", thread_id=thread, order="asc")).json()["data"]
        return [(item["type"], "".join(part["text"] for part in item["content"])) for item in data]

    async def state(self, event_id: str) -> tuple[str, str | None]:
        found = (await self.there.get(f"/v1/events/{event_id}", headers=self.headers)).json()
        return found["state"], found["reason"]


class Talk:
    """The frames of an answer as they come."""

    def __init__(self, event_id: str, lines: AsyncIterator[str]) -> None:
        self.event_id, self._lines = event_id, lines
        self.frames: list[dict[str, Any]] = []

    @property
    def thread(self) -> str:
        return "thr_" + self.event_id.removeprefix("evt_")

    async def until(self, type_: str | None) -> None:
        """Read on to a frame of this type, or to the end."""
        async for line in self._lines:
            if line.startswith("data: "):
                self.frames.append(json.loads(line.removeprefix("data: ")))
                if self.frames[-1]["type"] == type_:
                    return


@asynccontextmanager
async def two_by_two(state_url: str, database_url: str, **settings: str) -> AsyncIterator[Page]:
    """The deployment with these settings, and a page that is signed in."""

    def start() -> tuple[Deployment, list[WorkerProcess], list[str]]:
        deployment = Deployment(state_url, database_url, OPENAI_API_KEY="sk-of-no-value", **settings).__enter__()
        workers = [deployment.worker(), deployment.worker()]
        return deployment, workers, [deployment.gateway(), deployment.gateway()]

    deployment, workers, addresses = await asyncio.to_thread(start)
    clients = [httpx.AsyncClient(base_url=address, timeout=30) for address in addresses]
    try:
        yield Page(deployment, workers, clients, await sign_in(clients[0]))
    finally:
        for client in clients:
            await client.aclose()
        await asyncio.to_thread(deployment.__exit__, None, None, None)
