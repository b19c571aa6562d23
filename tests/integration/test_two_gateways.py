"""Two gateways, two workers: a conversation is controlled from any of them."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from schemas.events import event_id
from tests.builders import user_input
from tests.eventually import eventually
from tests.two_by_two import Page, two_by_two
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Late, Text, Tool

pytestmark = pytest.mark.redis

CANCELS = 50
P95_SECONDS = 0.2


@pytest.fixture
async def page(redis_url: str, sqlite_url: str, provider: FakeProvider) -> AsyncIterator[Page]:
    async with two_by_two(redis_url, sqlite_url, OPENAI_BASE_URL=provider.base_url) as page:
        yield page


async def test_an_interrupt_keeps_the_half_answer_and_is_answered_next(page: Page, provider: FakeProvider) -> None:
    provider.plan(Hang(3), Text("Second."))
    async with page.talking() as talk:
        answer = await page.say("no, this", talk.thread, "interrupt")
        assert "Second." in answer.text
        await talk.until(None)
    assert await page.state(talk.event_id) == ("cancelled", "interrupted")
    asked, half, again, second = await page.items(talk.thread)
    assert (asked, again, second) == (
        ("user_message", "hello"),
        ("user_message", "no, this"),
        ("assistant_message", "Second."),
    )
    assert half[0] == "assistant_message"
    assert half[1] == "".join(
        frame["update"]["delta"]
        for frame in talk.frames
        if frame["type"] == "thread.item.updated" and "delta" in frame["update"]
    )


async def test_a_rollback_takes_question_and_answer_off_the_screen_and_out_of_the_thread(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Hang(3), Text("Second."))
    async with page.talking("oops") as talk:
        answer = await page.say("this is what I meant", talk.thread, "rollback")
        assert "Second." in answer.text
        await talk.until(None)
    assert await page.state(talk.event_id) == ("cancelled", "rolled_back")
    assert await page.items(talk.thread) == [
        ("user_message", "this is what I meant"),
        ("assistant_message", "Second."),
    ]
    shown = {frame["item"]["id"] for frame in talk.frames if frame["type"] in ("thread.item.added", "thread.item.done")}
    assert shown == {frame["item_id"] for frame in talk.frames if frame["type"] == "thread.item.removed"}
    assert "oops" not in json.dumps(provider.calls[-1].body)


async def test_many_interrupts_at_once_through_both_gateways_leave_one_answer(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Hang(3), Text("Only one."))
    async with page.talking() as talk:

        async def say(number: int) -> httpx.Response:
            http = page.here if number % 2 else page.there
            message = user_input(f"message {number}")
            return await page.post(http, "threads.add_user_message", "interrupt", thread_id=talk.thread, input=message)

        answers = await asyncio.gather(*(say(number) for number in range(6)))
        await talk.until(None)
    states = [await page.state(answer.headers["X-Event-Id"]) for answer in answers]
    assert states.count(("done", None)) >= 1
    assert set(states) <= {("done", None), ("cancelled", "interrupted")}
    last = (await page.items(talk.thread))[-1]
    assert last[0] == "assistant_message"
    assert await page.state(talk.event_id) == ("cancelled", "interrupted")


async def test_a_message_that_asks_for_it_is_rejected_while_an_answer_runs(page: Page, provider: FakeProvider) -> None:
    provider.plan(Hang(3), Text("Second."))
    async with page.talking() as talk:
        refused = await page.say("me too", talk.thread, "reject")
        assert (refused.status_code, refused.json()["reason"], refused.json()["event_id"]) == (
            409,
            "busy",
            talk.event_id,
        )
        stopped = await page.there.post(f"/v1/events/{talk.event_id}/cancel", headers=page.headers)
        assert stopped.status_code == 202
        await talk.until(None)
    assert "Second." in (await page.say("now", talk.thread, "reject")).text


NOTICE = Tool("show_notice", {"message": "one moment", "level": "info"})


async def begun(page: Page, provider: FakeProvider, text: str = "hello") -> tuple[str, str, asyncio.Task[str]]:
    """A conversation whose first call to the model goes on: its event, its thread, and its stream to be."""
    calls = len(provider.calls)
    key = f"key-{time.monotonic_ns()}"
    body = {"type": "threads.create", "params": {"input": user_input(text)}}

    async def stream() -> str:
        answer = await page.here.post("/chatkit", json=body, headers={**page.headers, "Idempotency-Key": key})
        return answer.text

    streaming = asyncio.create_task(stream())

    async def is_asked() -> bool:
        return len(provider.calls) > calls

    await eventually(is_asked, within=30)
    id_ = event_id("/tenants/default/users/u1", key)
    return id_, "thr_" + id_.removeprefix("evt_"), streaming


def said(text: str, call: int, provider: FakeProvider) -> int:
    """How often a text stands in the input of a call."""
    return json.dumps(provider.calls[call].body["input"]).count(text)


async def test_a_message_steers_the_turn_at_its_next_step_and_both_are_answered_by_one(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Late(2, NOTICE), Text("Both of them."))
    running, thread, streaming = await begun(page, provider)
    steered = await page.say("and the second", thread, "steer")
    whole = await streaming
    assert "Both of them." in steered.text
    assert whole.count("and the second") == steered.text.count("and the second") == 1
    assert whole.endswith(steered.text[steered.text.index("id:") :]), "from the joint on, the same frames"
    assert [said("and the second", call, provider) for call in range(len(provider.calls))] == [0, 1]
    assert [item for item in await page.items(thread) if item[0] != "widget"] == [
        ("user_message", "hello"),
        ("user_message", "and the second"),
        ("assistant_message", "Both of them."),
    ]
    id_ = steered.headers["X-Event-Id"]
    found = (await page.there.get(f"/v1/events/{id_}", headers=page.headers)).json()
    assert (found["state"], found["joined"]) == ("done", running)
    frames = [line for line in steered.text.splitlines() if line.startswith("id: ")]
    for after in (frames[0], frames[-2]):
        headers = {**page.headers, "Last-Event-ID": after.removeprefix("id: ")}
        rest = (await page.here.get(f"/v1/events/{id_}/stream", headers=headers)).text
        assert [line for line in rest.splitlines() if line.startswith("id: ")] == frames[frames.index(after) + 1 :]
        assert '"state":"done"' in rest


async def test_a_message_that_comes_too_late_to_steer_is_answered_by_itself(page: Page, provider: FakeProvider) -> None:
    provider.plan(Late(1, Text("First.")), Text("Second."))
    _, thread, streaming = await begun(page, provider)
    late = await page.say("and the second", thread, "steer")
    assert "First." in await streaming
    assert "Second." in late.text
    assert "First." not in late.text


async def test_a_cancel_of_a_message_that_has_joined_stops_the_turn_and_keeps_both_messages(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Late(1, NOTICE), Hang(3))
    running, thread, streaming = await begun(page, provider)
    steering = asyncio.create_task(page.say("and the second", thread, "steer"))

    async def has_joined() -> str | None:
        for event in (await page.here.get(f"/v1/threads/{thread}/events", headers=page.headers)).json():
            if event["id"] != running:
                ids.add(event["id"])
        for id_ in ids:
            if (await page.here.get(f"/v1/events/{id_}", headers=page.headers)).json()["joined"] == running:
                return id_
        return None

    ids = set[str]()
    joined = str(await eventually(has_joined, within=30))
    assert (await page.there.post(f"/v1/events/{joined}/cancel", headers=page.headers)).status_code == 202
    await asyncio.gather(streaming, steering)
    assert await page.state(running) == await page.state(joined) == ("cancelled", "user")
    assert [text for kind, text in await page.items(thread) if kind == "user_message"] == ["hello", "and the second"]


async def test_a_worker_that_is_killed_after_the_joint_loses_no_message_and_answers_once(
    page: Page, provider: FakeProvider
) -> None:
    provider.plan(Late(1, NOTICE), Hang(0), Text("Both of them."))
    _, thread, streaming = await begun(page, provider)
    steering = asyncio.create_task(page.say("and the second", thread, "steer"))

    async def is_asked_again() -> bool:
        return len(provider.calls) == 2

    await eventually(is_asked_again, within=30)
    busy = await page.holder(thread)
    busy.kill()
    steered = await steering
    assert (await streaming).count("Both of them.") >= 1
    assert "Both of them." in steered.text
    assert [said("and the second", call, provider) for call in range(3)] == [0, 1, 1]
    assert [item for item in await page.items(thread) if item[0] != "widget"] == [
        ("user_message", "hello"),
        ("user_message", "and the second"),
        ("assistant_message", "Both of them."),
    ]


@pytest.mark.long
async def test_fifty_cancels_from_the_other_gateway_stop_within_200_ms(page: Page, provider: FakeProvider) -> None:
    """Until the cancel is acknowledged, and until the worker has stored the half answer and ended the turn."""
    acknowledged, ended = list[float](), list[float]()
    for _ in range(CANCELS):
        provider.plan(Hang(3))
        async with page.talking() as talk:
            begin = time.perf_counter()
            answer = await page.there.post(f"/v1/events/{talk.event_id}/cancel", headers=page.headers)
            acknowledged.append(time.perf_counter() - begin)
            assert answer.status_code == 202
            await talk.until(None)
            ended.append(time.perf_counter() - begin)
        assert [kind for kind, _ in await page.items(talk.thread)] == ["user_message", "assistant_message"]

        async def is_cancelled(event_id: str = talk.event_id) -> bool:
            return await page.state(event_id) == ("cancelled", "user")

        await eventually(is_cancelled)
    for name, seconds in (("acknowledged", acknowledged), ("stored and ended", ended)):
        parts = statistics.quantiles(seconds, n=20)
        print(f"{name}: p50 {parts[9] * 1e3:.0f} ms, p95 {parts[18] * 1e3:.0f} ms, most {max(seconds) * 1e3:.0f} ms")
    assert statistics.quantiles(ended, n=20)[18] <= P95_SECONDS
