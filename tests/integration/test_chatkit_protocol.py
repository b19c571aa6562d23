"""What a page of ChatKit does beside talking: widgets and actions, tools of the page, questions, another try.

Each goes through gateway, queue and worker, with the agents on the scripted model.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.builders import user_input
from tests.deployment import Deployment, sign_in
from tests.services import RedisServer

pytestmark = pytest.mark.redis

Json = dict[str, Any]


@dataclass
class Page:
    """A page of one user, and the conversation that it has open."""

    http: httpx.AsyncClient
    headers: dict[str, str]
    thread_id: str = ""

    async def ask(self, type_: str, **params: Any) -> list[Json]:
        """The frames that answer a request."""
        answer = await self.http.post("/chatkit", json={"type": type_, "params": params}, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return [
            json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data:")
        ]

    async def say(self, text: str) -> list[Json]:
        """Begin a conversation, or go on with it."""
        if self.thread_id:
            return await self.ask("threads.add_user_message", thread_id=self.thread_id, input=user_input(text))
        frames = await self.ask("threads.create", input=user_input(text))
        [self.thread_id] = [frame["thread"]["id"] for frame in frames if frame["type"] == "thread.created"]
        return frames

    async def items(self) -> list[Json]:
        """What the conversation holds, oldest first."""
        request = {"type": "items.list", "params": {"thread_id": self.thread_id, "order": "asc"}}
        answer = await self.http.post("/chatkit", json=request, headers=self.headers)
        return list(answer.json()["data"])


@pytest.fixture(scope="module")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('chat') / 'chat.db'}"
    with Deployment(redis_server.next_database_url(), database) as deployment:
        deployment.worker()
        yield deployment.gateway()


@pytest.fixture
async def page(gateway: str) -> AsyncIterator[Page]:
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
        yield Page(http, await sign_in(http))


def done(frames: list[Json], type_: str) -> Json:
    """The one item of this type that the frames finish."""
    items = [frame["item"] for frame in frames if frame["type"] == "thread.item.done"]
    [item] = [item for item in items if item["type"] == type_]
    return dict(item)


def text_of(message: Json) -> str:
    return "".join(part["text"] for part in message["content"])


async def test_a_widgets_button_sends_an_action_that_the_agents_answer(page: Page) -> None:
    widget = done(await page.say("show me a form"), "widget")
    button = next(child for child in widget["widget"]["children"] if child["type"] == "Button")
    action = {name: button["onClickAction"][name] for name in ("type", "payload")}
    assert action == {"type": "callback.request", "payload": {"topic": "demo"}}
    frames = await page.ask("threads.custom_action", thread_id=page.thread_id, item_id=widget["id"], action=action)
    assert text_of(done(frames, "assistant_message")).startswith("Thank you. Your click came back")
    kinds = [item["type"] for item in await page.items()]
    assert kinds == ["user_message", "widget", "assistant_message", "assistant_message"]


async def test_an_action_that_wants_one_answer_gets_its_widget_back(page: Page) -> None:
    widget = done(await page.say("show me a form"), "widget")
    params = {"thread_id": page.thread_id, "item_id": widget["id"], "action": {"type": "callback.request"}}
    request = {"type": "threads.sync_custom_action", "params": params}
    answer = await page.http.post("/chatkit", json=request, headers=page.headers)
    assert answer.headers["content-type"].startswith("application/json")
    [kept] = [item for item in await page.items() if item["type"] == "widget"]
    assert answer.json()["updated_item"] == kept
    # nothing of the agents is shown: they learn of it with the next message
    assert [item["type"] for item in await page.items()] == ["user_message", "widget", "assistant_message"]


async def test_a_tool_of_the_page_answers_and_the_turn_goes_on(page: Page) -> None:
    frames = await page.say("what is my selection?")
    call = done(frames, "client_tool_call")
    assert (call["name"], call["status"]) == ("get_selection", "pending")
    assert "assistant_message" not in {frame["item"]["type"] for frame in frames if "item" in frame}
    frames = await page.ask("threads.add_client_tool_output", thread_id=page.thread_id, result={"text": "a paragraph"})
    assert "a paragraph" in text_of(done(frames, "assistant_message"))
    [kept] = [item for item in await page.items() if item["type"] == "client_tool_call"]
    assert (kept["status"], kept["output"]) == ("completed", {"text": "a paragraph"})


async def test_a_question_is_asked_and_its_answer_goes_to_the_agents(page: Page) -> None:
    question = done(await page.say("let me choose"), "structured_input")
    assert question["status"] == "pending"
    frames = await page.ask(
        "threads.add_structured_input",
        thread_id=page.thread_id,
        item_id=question["id"],
        input={"answers": {"next": {"values": ["Retries"]}}},
    )
    assert text_of(done(frames, "assistant_message")) == "Thank you. You chose: Retries."
    [kept] = [item for item in await page.items() if item["type"] == "structured_input"]
    assert (kept["status"], kept["inputs"][0]["answer"]["values"]) == ("answered", ["Retries"])


async def test_another_try_after_an_item_takes_the_old_answer_away(page: Page) -> None:
    first = done(await page.say("hello"), "assistant_message")
    [said, _] = await page.items()
    frames = await page.ask("threads.retry_after_item", thread_id=page.thread_id, item_id=said["id"])
    again = done(frames, "assistant_message")
    assert again["id"] != first["id"]
    assert [item["id"] for item in await page.items()] == [said["id"], again["id"]]
