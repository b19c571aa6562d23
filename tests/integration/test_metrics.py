"""A scrape of a gateway says what happened in real workers, and goes on saying it when they die."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from schemas.outcome import EventState
from tests.builders import create_event, feedback_event, message_event
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_limits import comes_to
from tests.integration.test_worker import ended, frames, publish
from tests.unit.telemetry.test_metrics import CONTRACT
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Late, Status, Text, Tool

pytestmark = pytest.mark.redis

CREATE, MESSAGE, FEEDBACK = "chatkit.threads.create", "chatkit.threads.add_user_message", "chatkit.items.feedback"
SAMPLE = re.compile(r"^chatkit_(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

Scrape = dict[str, float]
"""`name value value` (of the labels) -> value, without what is zero."""


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.2",
        CHATKIT_MAX_ATTEMPTS="2",
        CHATKIT_CONCURRENCY="7",
        CHATKIT_LIMITS='{"models": {"gpt-4.1": {"concurrency": 4}}}',
    ) as deployment:
        yield deployment


async def scrape(gateway: httpx.AsyncClient) -> Scrape:
    text = (await gateway.get("/metrics")).text
    found: Scrape = {}
    for name, labels, value in SAMPLE.findall(text):
        if float(value):
            found[" ".join([name, *re.findall(r'"([^"]*)"', labels)])] = float(value)
    return found


@asynccontextmanager
async def gateway_of(deployment: Deployment) -> Any:
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as gateway:
        yield gateway


async def settles(gateway: httpx.AsyncClient, name: str, value: float) -> Scrape:
    """The scrape once a figure that workers tell has come to its value."""

    async def there() -> Scrape | None:
        found = await scrape(gateway)
        return found if found.get(name) == value else None

    found = await eventually(there, within=5)
    assert found is not None
    return found


async def test_every_name_of_the_contract_says_what_happened(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker()
    answered, retried, limited, dead, stopped = (create_event(f"question {number}") for number in range(5))
    async with deployment.lanes() as lanes, gateway_of(deployment) as gateway:
        handoff, tool = (
            Tool("transfer_to_service_orchestrator_agent"),
            Tool("look_up_record", {"kind": "a", "key": "b"}),
        )
        provider.plan(handoff, tool, Text("Here you are."))
        publish(deployment, answered)
        assert await ended(lanes, answered) is EventState.DONE
        publish(deployment, feedback_event(str(answered.thread_id)))
        for event, plan, state in (
            (retried, [Status(503), Text("At last.")], EventState.DONE),
            (limited, [Status(429, headers={"retry-after": "1"}), Text("At last.")], EventState.DONE),
            (dead, [Status(400)], EventState.DEAD),
        ):
            provider.plan(*plan)
            publish(deployment, event)
            assert await ended(lanes, event) is state
        provider.plan(Hang(after_deltas=3))
        page = await sign_in(gateway)
        publish(deployment, stopped, waits := message_event(str(stopped.thread_id)))
        await comes_to(lanes, stopped, EventState.RUNNING)

        async def has_text() -> bool:
            return b"text_delta" in await frames(deployment, lanes, stopped)

        await eventually(has_text)
        async with gateway.stream("GET", f"/v1/events/{stopped.event_id}/stream", headers=page):
            running = await settles(gateway, "worker_inflight", 1)
            assert running["worker_capacity"] == 7
            assert running["streams_open"] == 1
            assert running["leases"] == running["events_waiting running"] == running["events_waiting queued"] == 1
            # one of four, and the 429 has halved what is let through
            assert running["limit_used_ratio concurrency gpt-4.1"] == 0.5
            assert running["oldest_event_age_seconds"] > 0
        for event in (waits, stopped):
            assert (await gateway.post(f"/v1/events/{event.event_id}/cancel", headers=SERVICE)).status_code == 202
            assert await ended(lanes, event) is EventState.CANCELLED
        entries = [await frames(deployment, lanes, event) for event in (answered, retried, limited, dead, stopped)]
        found = await settles(gateway, "turn_seconds_count model", 7)

        text = (await gateway.get("/metrics")).text
    assert {name for name in CONTRACT if not re.search(rf"^{name}(_bucket)?[ {{]", text, re.M)} == set()
    events = {name.removeprefix("events_total "): count for name, count in found.items() if name.startswith("events_")}
    assert {name: count for name, count in events.items() if " " in name} == {
        f"done {CREATE}": 3,
        f"done {FEEDBACK}": 1,
        f"dead {CREATE}": 1,
        f"cancelled {CREATE}": 1,
        f"cancelled {MESSAGE}": 1,
    }
    assert found["attempts_total transient"] == 1
    assert found["dead_letters permanent"] == 1
    # a wait each: five of new events, one of the retry, not the one that was cancelled in the queue
    assert found["turn_seconds_count queue"] == 6
    assert found["turn_seconds_count limit"] == found["limit_wait_seconds_count gpt-4.1"] == 1
    assert 0.9 < found["turn_seconds_sum limit"] < 10
    # of the four that have shown text: one of them only the half of it
    assert found["turn_seconds_count relay"] == found["time_to_first_token_seconds_count"] == 4
    assert found["time_to_first_token_seconds_sum"] > found["turn_seconds_sum limit"]
    # five whole responses, of a hundred tokens in and twenty out
    assert (found["tokens_total input gpt-4.1"], found["tokens_total output gpt-4.1"]) == (500, 100)
    # the frames of turns are all that is shown, but for feedback, which shows one
    shown = sum(len([frame for frame in stream.split(b"\n") if frame]) for stream in entries)
    assert shown <= found["stream_frames_total"] <= shown + 1
    assert "fenced_writes_total" not in found


async def test_no_counter_goes_back_when_a_worker_is_killed_or_started(
    deployment: Deployment, provider: FakeProvider
) -> None:
    first = deployment.worker()
    seen: dict[str, float] = defaultdict(float)

    async def look(gateway: httpx.AsyncClient) -> Scrape:
        found = await scrape(gateway)
        for name, value in found.items():
            if re.search(r"_(total|count|sum|bucket)\b|^dead_letters", name):
                assert value >= seen[name], name
                seen[name] = value
        return found

    async with deployment.lanes() as lanes, gateway_of(deployment) as gateway:
        publish(deployment, done := create_event("one"))
        assert await ended(lanes, done) is EventState.DONE
        await settles(gateway, "turn_seconds_count model", 1)
        await look(gateway)
        provider.plan(Late(30, Text("never")))
        publish(deployment, create_event("two"))
        await settles(gateway, "worker_inflight", 1)
        await look(gateway)
        first.kill()
        await look(gateway)
        second = deployment.worker()
        publish(deployment, more := create_event("three"))
        assert await ended(lanes, more) is EventState.DONE

        async def counted() -> bool:
            return (await look(gateway))["turn_seconds_count model"] >= 2

        await eventually(counted, within=10)

        async def gone() -> bool:
            return (await look(gateway)).get("worker_capacity") == 7  # those of the second alone

        await eventually(gone, within=15)
        second.stop()
        last = await look(gateway)  # its last word was told before it ended
        assert "worker_inflight" not in last
