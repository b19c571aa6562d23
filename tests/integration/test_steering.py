"""What an operator does to a running deployment: looks at dead letters, runs them again, pauses and filters events."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from schemas.outcome import EventState
from tests.builders import create_event, message_event, user_input
from tests.cli_process import Finished, cli
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_worker import ended, frames, publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Status, Text

pytestmark = pytest.mark.redis


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, **provider.environment) as deployment:
        yield deployment


async def run(deployment: Deployment, *arguments: str) -> Finished:
    return await cli(*arguments, env=deployment.process_environment())


async def test_a_dead_letter_is_listed_shown_and_redriven_from_the_command_line(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(400, message="SECRET PROMPT"), Text("Here you are."))
    event = create_event("my secret question", userid="u1", tenant="default")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DEAD
        [listed] = (await run(deployment, "dead", "list", "--json", "--reason", "permanent")).records
        assert (listed["id"], listed["thread_id"], listed["tenant"]) == (event.event_id, event.thread_id, "default")
        assert [attempt["error"] for attempt in listed["attempts"]] == ["BadRequestError: HTTP 400 (req_fake)"]
        shown = await run(deployment, "dead", "show", event.event_id)
        assert "BadRequestError: HTTP 400" in shown.out
        assert "secret" not in shown.out.lower() + json.dumps(listed).lower()
        assert "my secret question" in (await run(deployment, "dead", "show", event.event_id, "--body")).out
        assert (await run(deployment, "dead", "list", "--tenant", "other")).out == ""

        dry = await run(deployment, "dead", "redrive", "--all", "--dry-run")
        assert (dry.code, dry.lines) == (0, [f"{event.event_id} would be redriven"])
        redriven = await run(deployment, "dead", "redrive", "--type", "threads.*", "--rate", "50")
        assert (redriven.code, redriven.lines) == (0, [f"{event.event_id} redriven"])
        assert await ended(lanes, event) is EventState.DONE
        again = await run(deployment, "dead", "redrive", event.event_id)
        assert again.code == 1
        assert "redriven already" in again.out

        seen = await frames(deployment, lanes, event)
        assert seen.index(b"Reference: evt_") < seen.index(b"Trying again") < seen.index(b"Here you are.")
        assert seen.count(b"thread.created") == seen.count(b"my secret question") == 1
    async with httpx.AsyncClient(base_url=deployment.gateway()) as http:
        page = await sign_in(http)
        request = {"type": "threads.get_by_id", "params": {"thread_id": event.thread_id}}
        items = (await http.post("/chatkit", json=request, headers=page)).json()["items"]["data"]
        assert [item["type"] for item in items] == ["user_message", "assistant_message"]


async def test_the_retry_that_the_chat_offers_for_a_dead_turn_is_answered(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(400), Text("Here you are."))
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as http:
        page = await sign_in(http)

        async def ask(type_: str, **params: object) -> httpx.Response:
            return await http.post("/chatkit", json={"type": type_, "params": params}, headers=page)

        failed = await ask("threads.create", input=user_input("my question"))
        shown = [
            json.loads(line.removeprefix("data: ")) for line in failed.text.splitlines() if line.startswith("data:")
        ]
        assert shown[-1]["type"] == "error"
        assert shown[-1]["allow_retry"]
        assert f"Reference: {failed.headers['X-Event-Id']}" in shown[-1]["message"]
        thread_id = shown[0]["thread"]["id"]
        [question] = (await ask("items.list", thread_id=thread_id)).json()["data"]
        again = await ask("threads.retry_after_item", thread_id=thread_id, item_id=question["id"])
        assert "Here you are." in again.text
        assert '"type":"error"' not in again.text
        items = (await ask("items.list", thread_id=thread_id, order="asc")).json()["data"]
        assert [item["type"] for item in items] == ["user_message", "assistant_message"]


async def test_an_event_whose_lane_was_full_is_answered_when_it_is_redriven(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker(CHATKIT_MAX_WAITING_PER_LANE="1")
    deployment.environment["CHATKIT_MAX_WAITING_PER_LANE"] = "1"
    provider.plan(Hang())
    first = create_event("one")
    second = message_event(str(first.thread_id), "two")
    publish(deployment, first, second)
    async with deployment.lanes() as lanes:

        async def refused() -> str | None:
            kept = await lanes.dead_letters.get(second.event_id)
            return kept.reason if kept else None

        async def called() -> bool:
            return len(provider.calls) == 1

        assert await eventually(refused) == "overflow"
        await eventually(called)  # the plan is for whichever call comes first
        full = await run(deployment, "dead", "redrive", second.event_id)
        assert full.code == 1
        assert "there still is no room for it" in full.out
        await lanes.cancel(first.event_id)
        assert await ended(lanes, first) is EventState.CANCELLED
        assert (await run(deployment, "dead", "redrive", "--reason", "overflow")).code == 0
        assert await ended(lanes, second) is EventState.DONE
        assert (await lanes.dead_letters.page()).items == []


async def test_a_dead_turn_that_a_later_one_has_overtaken_is_reported_and_stays(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(400), Text("second"), Text("first, out of place"))
    event = create_event("one")
    following = message_event(str(event.thread_id), "two")
    publish(deployment, event, following)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, following) is EventState.DONE
        refused = await run(deployment, "dead", "redrive", "--all")
        assert refused.code == 1
        assert "superseded: a later turn of its conversation has begun" in refused.out
        async with httpx.AsyncClient(base_url=deployment.gateway(), headers=SERVICE) as http:
            path = f"/v1/dead/{event.event_id}/redrive"
            assert (await http.post(path)).status_code == 409
            assert (await http.post(path, params={"force": True})).status_code == 202
        assert await ended(lanes, event) is EventState.DONE
        assert b"first, out of place" in await frames(deployment, lanes, event)


async def test_a_paused_type_waits_and_goes_on_when_it_is_resumed(deployment: Deployment) -> None:
    deployment.worker()
    assert (await run(deployment, "pause", "--type", "threads.create")).out == "type:chatkit.threads.create is paused\n"
    event = create_event("one")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        await asyncio.sleep(1)
        found = await lanes.status(event.event_id)
        assert found is not None
        assert found[0].state is EventState.QUEUED
        [stats] = (await run(deployment, "stats", "--json")).records
        assert (stats["paused"], stats["states"]["queued"]) == (["type:chatkit.threads.create"], 1)
        assert (await run(deployment, "resume", "--type", "chatkit.threads.create")).code == 0
        assert await ended(lanes, event, within=5) is EventState.DONE
        assert (await run(deployment, "resume", "--type", "threads.create")).code == 1
        assert (await run(deployment, "pause")).out == "nothing is paused\n"


async def test_what_the_filter_ignores_ends_visibly(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(CHATKIT_EVENT_FILTER='{"deny": {"tenant": ["spam*"]}}')
    event = create_event("buy now", tenant="spammers")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DROPPED
        found = await lanes.status(event.event_id)
        assert found is not None
        assert found[0].reason == "filtered"

        async def counted() -> bool:
            [stats] = (await run(deployment, "stats", "--json")).records
            return bool(stats["dropped"] == {"filtered": 1})

        assert await eventually(counted)
    assert provider.calls == []
