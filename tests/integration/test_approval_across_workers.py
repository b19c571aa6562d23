"""A consent that is asked by one worker process and given to others, over a real service and a real provider."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import EventState
from tests.backend_builders import SCHEMA
from tests.backend_server import BackendServer, backend_server, reply
from tests.builders import create_event, request_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_worker import ended, frames, publish
from workers.lanes.lanes import Lanes
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Text, Tool

pytestmark = pytest.mark.redis

WITHIN = 90.0
"""Seconds; a worker takes a while to start where several do."""


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    settings = {
        **provider.environment,
        "CHATKIT_LEASE_TTL": "5",
        "SHOP_TOKEN": "Bearer s3cret-of-the-shop",
    }
    with Deployment(redis_url, sqlite_url, **settings) as deployment:
        yield deployment


def backends(server: BackendServer) -> str:
    http = {
        "method": "POST",
        "url": f"{server.url}/orders/{{order}}/refund",
        "headers_from": {"Authorization": "SHOP_TOKEN"},
    }
    refund = {"description": "Refund an order.", "http": http, "parameters": SCHEMA, "tenants": ["acme"]}
    return json.dumps({"refund_order": {**refund, "retry": "idempotent", "approval": True, "timeout": 60}})


async def shown(deployment: Deployment, lanes: Lanes, event: Event) -> list[dict[str, Any]]:
    """The frames of an event."""
    return [json.loads(frame) for frame in (await frames(deployment, lanes, event)).split(b"\n") if frame]


def cards(events: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    return [event["item"] for event in events if event["type"] == type_ and event["item"]["type"] == "widget"]


async def test_asked_by_one_worker_it_is_carried_out_by_others_though_one_is_killed_within_the_call(
    deployment: Deployment, provider: FakeProvider
) -> None:
    hangs = asyncio.Event()

    async def hang(_writer: asyncio.StreamWriter) -> None:
        hangs.set()
        await asyncio.sleep(600)

    async with backend_server(hang, reply('{"refunded": true}')) as server, deployment.lanes() as lanes:
        settings = {"CHATKIT_BACKENDS": backends(server)}
        first = await asyncio.to_thread(lambda: deployment.worker(**settings))
        call = Tool("refund_order", {"order": "1042", "amount": 5})
        provider.plan(Tool("transfer_to_service_orchestrator_agent"), call)
        event = create_event("please refund order 1042", tenant="acme")
        publish(deployment, event)
        assert await ended(lanes, event, within=WITHIN) is EventState.DONE
        [card] = cards(await shown(deployment, lanes, event), "thread.item.done")
        assert "order: 1042" in json.dumps(card)
        assert server.received == []
        first.kill()

        second = await asyncio.to_thread(lambda: deployment.worker(**settings))
        provider.plan(Text("It is refunded."))
        payload = {"approval": card["id"], "approve": True}
        action = {"type": "approval.decide", "payload": payload}
        params = {"thread_id": event.thread_id, "item_id": card["id"], "action": action}
        click, again = (request_event("threads.custom_action", params, tenant="acme") for _ in range(2))
        publish(deployment, click)
        await asyncio.wait_for(hangs.wait(), WITHIN)
        second.kill()

        third = await asyncio.to_thread(lambda: deployment.worker(CHATKIT_LOG_LEVEL="INFO", **settings))
        publish(deployment, again)
        assert await ended(lanes, click, within=WITHIN) is EventState.DONE
        assert await ended(lanes, again, within=WITHIN) is EventState.DONE
        told = json.dumps(await shown(deployment, lanes, click))
        assert "Approved." in told
        assert "refunded." in told
        assert "You have approved this before" in json.dumps(await shown(deployment, lanes, again))

        async def logged() -> bool:
            return "backend_called" in third.stderr

        await eventually(logged)
    keys = [sent.headers["idempotency-key"] for sent in server.received]
    assert len(keys) == 2  # cut off, and made again
    assert len(set(keys)) == 1
    assert {sent.headers["x-chatkit-tenant"] for sent in server.received} == {"acme"}
    assert {sent.headers["authorization"] for sent in server.received} == {"Bearer s3cret-of-the-shop"}
    assert "1042" not in third.stderr
    assert "s3cret" not in third.stderr
