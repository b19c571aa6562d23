"""A burst of messages through two gateways is one turn, whichever worker has it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from schemas.events import event_id
from tests.builders import user_input
from tests.eventually import eventually
from tests.two_by_two import Page, two_by_two
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Text

pytestmark = pytest.mark.redis

QUIET = 1.5
BURST = ("one", "two", "three")


@pytest.fixture
async def page(redis_url: str, sqlite_url: str, provider: FakeProvider) -> AsyncIterator[Page]:
    setting = json.dumps({"threads.add_user_message": QUIET})
    async with two_by_two(
        redis_url, sqlite_url, OPENAI_BASE_URL=provider.base_url, CHATKIT_DEBOUNCE=setting, CHATKIT_LEASE_TTL="3"
    ) as page:
        yield page


async def thread_of(page: Page, provider: FakeProvider) -> str:
    """A conversation whose first answer is given."""
    provider.plan(Text("Hello."))
    answer = await page.post(page.here, "threads.create", input=user_input("hello"))
    return "thr_" + answer.headers["X-Event-Id"].removeprefix("evt_")


def id_of(key: str) -> str:
    return event_id("/tenants/default/users/u1", key)


async def say(page: Page, thread: str, text: str, number: int) -> httpx.Response:
    """A message with a key of its own, through one gateway or the other."""
    http = page.there if number % 2 else page.here
    body = {"type": "threads.add_user_message", "params": {"thread_id": thread, "input": user_input(text)}}
    return await http.post("/chatkit", json=body, headers={**page.headers, "Idempotency-Key": f"{thread}-{text}"})


async def burst(page: Page, thread: str) -> list[asyncio.Task[httpx.Response]]:
    """Messages one after another, each once the one before it was accepted."""
    sent = []
    for number, text in enumerate(BURST):
        sent.append(asyncio.create_task(say(page, thread, text, number)))

        async def is_known(text: str = text) -> bool:
            found = await page.here.get(f"/v1/events/{id_of(f'{thread}-{text}')}", headers=page.headers)
            return found.status_code == 200

        await eventually(is_known, within=30)
    return sent


ANSWERED = [
    ("user_message", "hello"),
    ("assistant_message", "Hello."),
    ("user_message", "one"),
    ("user_message", "two"),
    ("user_message", "three"),
    ("assistant_message", "All three."),
]


async def test_messages_that_come_shortly_after_each_other_are_answered_by_one_turn(
    page: Page, provider: FakeProvider
) -> None:
    thread = await thread_of(page, provider)
    provider.plan(Text("All three."))
    begin = time.monotonic()
    sent = await burst(page, thread)
    assert await page.state(id_of(f"{thread}-one")) == ("queued", None)
    assert (await page.there.get(f"/v1/threads/{thread}/events", headers=page.headers)).json()[0]["place"] == 1
    again = await say(page, thread, "two", 0)
    answers = [await task for task in sent]
    assert time.monotonic() - begin >= QUIET
    assert all(answer.text.count("All three.") >= 1 for answer in [*answers, again])
    assert len(provider.calls) == 2, "one for the beginning, one for the burst"
    asked = json.dumps(provider.calls[1].body["input"])
    assert [asked.count(text) for text in ("one", "two", "three")] == [1, 1, 1]
    assert await page.items(thread) == ANSWERED
    first = id_of(f"{thread}-one")
    for text in BURST[1:]:
        found = (await page.there.get(f"/v1/events/{id_of(f'{thread}-{text}')}", headers=page.headers)).json()
        assert (found["state"], found["joined"]) == ("done", first)


async def test_a_burst_without_its_first_message_is_one_turn_all_the_same(page: Page, provider: FakeProvider) -> None:
    thread = await thread_of(page, provider)
    provider.plan(Text("The other two."))
    sent = await burst(page, thread)
    stopped = await page.there.post(f"/v1/events/{id_of(f'{thread}-one')}/cancel", headers=page.headers)
    assert stopped.status_code == 202
    _, second, third = [await task for task in sent]
    assert "The other two." in second.text
    assert second.text.endswith(third.text[third.text.index("id:") :])
    assert len(provider.calls) == 2
    assert await page.state(id_of(f"{thread}-one")) == ("cancelled", "user")


async def test_a_worker_that_is_killed_in_the_middle_of_it_loses_nothing_of_the_burst(
    page: Page, provider: FakeProvider
) -> None:
    thread = await thread_of(page, provider)
    provider.plan(Hang(0), Text("All three."))
    sent = await burst(page, thread)

    async def is_asked() -> bool:
        return len(provider.calls) == 2

    await eventually(is_asked, within=30)
    (await page.holder(thread)).kill()
    answers = [await task for task in sent]
    assert all("All three." in answer.text for answer in answers)
    assert await page.items(thread) == ANSWERED
