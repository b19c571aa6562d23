"""Handoffs over queues, with worker processes that each consume one of them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import DeadReason, EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.services import RedisServer
from tests.viewer import answer_of
from tests.worker_process import WorkerProcess
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Text, Tool

INTERACTIVE, SERVICES, UI = "chatkit.interactive", "chatkit.agent.service_orchestrator", "chatkit.agent.ui_coordination"
BY_QUEUE = json.dumps({"handoffs": {"*": "queue"}})
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ANSWER = "Your order 1042 is shipped."


class World:
    """A deployment with a fake provider, and what one event leaves there."""

    def __init__(self, deployment: Deployment, lanes: Lanes) -> None:
        self.deployment, self.lanes = deployment, lanes

    async def workers(self, *queues: str) -> None:
        """Start a worker for each, and wait until they consume."""
        start = self.deployment.worker
        await asyncio.gather(*(asyncio.to_thread(start, "workers.app", "-Q", queue) for queue in queues))

    async def until_ended(self, event: Event) -> EventState:
        async def ended() -> bool:
            found = await self.lanes.status(event.event_id)
            return found is not None and found[0].state.ended

        await eventually(ended, within=60)
        found = await self.lanes.status(event.event_id)
        assert found is not None
        assert found[0].attempt == 1
        return found[0].state

    async def ask(self, event: Event) -> EventState:
        """Publish it, and wait for its end."""
        with Publisher(self.deployment.broker_url) as publisher:
            publisher.publish(event)
        return await self.until_ended(event)

    async def frames(self, event: Event) -> list[tuple[str, str]]:
        """Id and content of each, without the times of items."""
        state: Any = self.lanes._state
        entries = await state.xrange(self.deployment.keys.stream(event.lane, event.event_id))
        shown = [(id_.decode(), fields[b"d"].decode()) for id_, fields in entries if b"d" in fields]
        return [(id_, re.sub(r'("created_at":)"[^"]*"', r"\1null", frame)) for id_, frame in shown]

    async def record(self, event: Event) -> dict[str, str]:
        state: Any = self.lanes._state
        fields = await state.hgetall(f"{self.deployment.keys.tag_of(event.lane)}event:{event.event_id}")
        return {name.decode(): value.decode() for name, value in fields.items()}


@asynccontextmanager
async def world(redis_url: str, database_url: str, provider: FakeProvider, **settings: str) -> AsyncIterator[World]:
    given = {
        **provider.environment,
        **settings,
    }
    broker = given.pop("broker_url", None)
    deployment = await asyncio.to_thread(Deployment(redis_url, database_url, broker_url=broker, **given).__enter__)
    try:
        async with deployment.lanes() as lanes:
            yield World(deployment, lanes)
    finally:
        await asyncio.to_thread(deployment.__exit__, None, None, None)


def question() -> Event:
    """The same event in each deployment, so the ids are the same as well."""
    return create_event("where is my order?", id="one-question", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")


@pytest.mark.redis
@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
async def test_a_hop_between_two_workers_gives_the_answer_order_and_trace_of_a_handoff_in_one(
    redis_server: RedisServer, provider: FakeProvider, tmp_path: Any, request: pytest.FixtureRequest, broker: str
) -> None:
    brokers = {"broker_url": request.getfixturevalue("rabbitmq_url")} if broker == "rabbitmq" else {}
    event, seen, records, calls = question(), [], [], []
    for number, queues in enumerate([[INTERACTIVE], [INTERACTIVE, SERVICES]]):
        settings = {"CHATKIT_ROUTES": BY_QUEUE} if len(queues) > 1 else {}
        url = f"sqlite+aiosqlite:///{tmp_path / f'{number}.db'}"
        provider.calls.clear()  # it numbers what it says
        async with world(redis_server.next_database_url(), url, provider, **settings, **brokers) as there:
            await there.workers(*queues)
            assert await there.ask(event) is EventState.DONE
            seen.append(await there.frames(event))
            records.append(await there.record(event))
            calls.append([call.body["input"] for call in provider.calls])
    in_process, hopped = seen
    assert hopped == in_process
    assert [id_ for id_, _ in hopped] == [f"1-{number}" for number in range(1, len(hopped) + 1)]
    assert answer_of(frame for _, frame in hopped) == ANSWER
    assert calls[0] == calls[1]
    assert [record["queue"] for record in records] == [INTERACTIVE, SERVICES]
    for same in ("traceparent", "lane", "acceptance"):
        assert records[0][same] == records[1][same], same
    assert TRACE in records[1]["traceparent"]


@pytest.mark.redis
@pytest.mark.parametrize("point", ["after_model_response:0", "before_settle", "after_settle"])
async def test_a_worker_that_is_killed_on_the_way_to_the_next_queue_costs_no_call_and_no_word(
    redis_url: str, sqlite_url: str, provider: FakeProvider, point: str
) -> None:
    event = question()
    settings = {"CHATKIT_ROUTES": BY_QUEUE, "CHATKIT_LEASE_TTL": "3"}
    async with world(redis_url, sqlite_url, provider, **settings) as there:
        environment = there.deployment.environment | {"CHATKIT_FAILPOINTS": f"{point}=kill"}
        # in an interpreter of its own: fail points are read when it starts
        killed = WorkerProcess(environment=environment, options=["-Q", INTERACTIVE], fresh=True)
        with await asyncio.to_thread(killed.start), Publisher(there.deployment.broker_url) as publisher:
            publisher.publish(event)
            assert await asyncio.to_thread(killed.wait, 60) < 0
        await there.workers(INTERACTIVE, SERVICES)
        assert await there.until_ended(event) is EventState.DONE
        frames = await there.frames(event)
        assert (await there.record(event))["queue"] == SERVICES
    assert answer_of(frame for _, frame in frames) == ANSWER
    assert [id_ for id_, _ in frames] == [f"1-{number}" for number in range(1, len(frames) + 1)]
    assert len(provider.calls) == 3


@pytest.mark.redis
@pytest.mark.parametrize("way", ["process", "queue"])
async def test_agents_that_hand_a_turn_to_and_fro_end_it_as_a_loop(
    redis_url: str, sqlite_url: str, provider: FakeProvider, way: str
) -> None:
    to_and_fro = [Tool("transfer_to_ui_coordination_agent"), Tool("transfer_to_chatkit_integration_agent")]
    provider.plan(*to_and_fro * 3)
    event = question()
    async with world(redis_url, sqlite_url, provider, CHATKIT_ROUTES=json.dumps({"handoffs": {"*": way}})) as there:
        queues = [f"{INTERACTIVE},chatkit.agent.integration", UI]
        await there.workers(*queues)
        assert await there.ask(event) is EventState.DEAD
        letter = await there.lanes.dead_letters.get(event.event_id)
        assert letter is not None
        record = await there.record(event)
        assert (letter.reason, letter.trace_id, len(letter.attempts)) == (DeadReason.LOOP, TRACE, 1)
        assert letter.error is not None
        assert "handed over more than 5 times: ChatKit Integration Agent > UI Coordination Agent >" in letter.error
        assert record.get("hops") == ("5" if way == "queue" else None)
        assert len(provider.calls) == 6
        frames = await there.frames(event)
        assert '"type":"error"' in frames[-1][1]


@pytest.mark.redis
async def test_a_cancel_of_what_waits_in_the_queue_of_an_agent_keeps_what_was_shown(
    redis_url: str, sqlite_url: str, provider: FakeProvider
) -> None:
    provider.plan(Tool("transfer_to_service_orchestrator_agent", say="One moment please."), Text("never said"))
    event = question()
    async with world(redis_url, sqlite_url, provider, CHATKIT_ROUTES=BY_QUEUE) as there:
        await there.workers(INTERACTIVE)
        with Publisher(there.deployment.broker_url) as publisher:
            publisher.publish(event)

        async def waits() -> bool:
            return (await there.record(event)).get("queue") == SERVICES

        await eventually(waits, within=20)
        assert (await there.lanes.cancel(event.event_id)).result == "cancelling"
        await there.workers(SERVICES)
        assert await there.until_ended(event) is EventState.CANCELLED
        assert answer_of(frame for _, frame in await there.frames(event)) == "One moment please."
    assert len(provider.calls) == 1
