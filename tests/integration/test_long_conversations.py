"""A conversation that outgrows its window, through a real gateway and worker and the official client."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.builders import user_input
from tests.deployment import Deployment, sign_in
from tests.unit.gateway.parsing import parse_sse
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Step, Text
from workers.testing.provider_wire import Json

pytestmark = pytest.mark.redis

SUMMARY = "Ada wants a size L."


def answers(body: Json) -> Step:
    return Text("ok") if body.get("stream") else Text(SUMMARY)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(answers) as provider:
        yield provider


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    settings = {
        **provider.environment,
        "CHATKIT_CONTEXT_TOKENS": "1000",
        "CHATKIT_LIMITS": json.dumps({"models": {"*": {"rpm": 6000, "tpm": 10_000_000, "concurrency": 5}}}),
    }
    with Deployment(redis_url, sqlite_url, **settings) as deployment:
        deployment.worker()
        yield deployment


async def test_what_falls_out_of_the_window_is_summed_up_once_and_the_conversation_goes_on(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as http:
        headers, thread_id = await sign_in(http), None
        for number in range(10):
            said = user_input(f"question {number} " + "x" * 500)
            params: dict[str, Any] = {"input": said} | ({"thread_id": thread_id} if thread_id else {})
            type_ = "threads.add_user_message" if thread_id else "threads.create"
            answer = await http.post("/chatkit", json={"type": type_, "params": params}, headers=headers)
            frames = [json.loads(event.data) for event in parse_sse(answer.content) if event.data]
            thread_id = thread_id or frames[0]["thread"]["id"]
            assert "ok" in json.dumps(frames)
            assert SUMMARY not in answer.text
        list_ = {"type": "items.list", "params": {"thread_id": thread_id, "limit": 100}}
        thread = (await http.post("/chatkit", json=list_, headers=headers)).json()
    assert SUMMARY not in json.dumps(thread)
    assert [item["type"] for item in thread["data"]].count("user_message") == 10
    made = [call for call in provider.calls if not call.body.get("stream")]
    assert len(made) == len({json.dumps(call.body["input"]) for call in made}) == 2, "one of each window"
    last = json.dumps(provider.calls[-1].body["input"])
    assert (SUMMARY in last, "question 0 " in last, "question 9 " in last) == (True, False, True)
