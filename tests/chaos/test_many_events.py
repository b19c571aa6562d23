"""Many events over two real worker processes, one of which is killed: each is answered once, in order."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from schemas.chatkit import AssistantMessageItem, Page, ThreadItem, UserMessageItem, UserMessageTextContent
from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event, message_event
from tests.deployment import Deployment
from tests.eventually import eventually
from workers.chat import rows
from workers.chat.database import Database
from workers.lanes.lanes import Lanes
from workers.lanes.records import Owner
from workers.publisher import Publisher

MODEL_APP = "tests.model_worker"
TURNS_PER_THREAD = 10


def conversations(threads: int) -> list[Event]:
    """`threads` conversations of ten messages each, interleaved as their users would send them."""
    first = [create_event("message 0", userid=f"user{n}") for n in range(threads)]
    events = list(first)
    for turn in range(1, TURNS_PER_THREAD):
        events += [message_event(str(one.thread_id), f"message {turn}", userid=one.userid) for one in first]
    return events


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def deployment(request: pytest.FixtureRequest, redis_url: str, sqlite_url: str, tmp_path: Path) -> Iterator[Deployment]:
    broker = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else redis_url
    with Deployment(redis_url, sqlite_url, broker_url=broker, CHATKIT_LEASE_TTL="2") as deployment:
        yield deployment


@pytest.mark.redis
@pytest.mark.timeout(240)
async def test_a_thousand_events_are_answered_once_and_in_order_though_a_worker_is_killed(
    deployment: Deployment,
) -> None:
    await play(deployment, threads=100, within=120)


@pytest.mark.redis
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_ten_thousand_events_are_answered_once_and_in_order_though_a_worker_is_killed(
    deployment: Deployment,
) -> None:
    await play(deployment, threads=1000, within=600)


async def play(deployment: Deployment, *, threads: int, within: float) -> None:
    events = conversations(threads)
    survivor, victim = deployment.worker(MODEL_APP), deployment.worker(MODEL_APP)
    with Publisher(deployment.broker_url) as publisher:
        await asyncio.to_thread(publisher.publish_many, events)
    async with deployment.lanes() as lanes:
        await reached(lanes, len(events) // 2, within)
        victim.kill()
        await reached(lanes, len(events), within)
        await check_records(lanes, events)
        depth = await lanes.depth()
    assert survivor.exit_code is None
    assert depth.states[EventState.DONE] == len(events)
    assert depth.lanes == 0
    assert sum(depth.dead.values()) == 0
    await check_conversations(deployment.database_url, events)


async def reached(lanes: Lanes, count: int, within: float) -> None:
    async def enough() -> bool:
        return (await lanes.depth()).states[EventState.DONE] >= count

    await eventually(enough, within=within, every=0.1)


async def check_records(lanes: Lanes, events: list[Event]) -> None:
    """Every event is done, and those of a thread ended in the order in which they were published."""
    ended: dict[str, list[Any]] = defaultdict(list)
    for event in events:
        found = await lanes.status(event.event_id)
        assert found is not None, event.event_id
        status, _ = found
        assert status.state is EventState.DONE, status
        ended[event.lane].append((status.ended_at, event.data))
    for times in ended.values():
        moments = [moment for moment, _ in times]
        assert moments == sorted(moments)


async def check_conversations(database_url: str, events: list[Event]) -> None:
    """Each thread holds question and answer in turn: none missing, none twice."""
    database = Database(database_url)
    wanted = [kind for turn in range(TURNS_PER_THREAD) for kind in (f"message {turn}", "answer")]
    for event in events:
        if event.type == "chatkit.threads.create":
            owner, thread_id = Owner(event.tenant, event.userid), str(event.thread_id)
            page = await database.read(partial(first_items, owner=owner, thread_id=thread_id))
            assert [kind_of(item) for item in page.data] == wanted
    await database.close()


def first_items(connection: Connection, *, owner: Owner, thread_id: str) -> Page[ThreadItem]:
    return rows.list_items(connection, owner, thread_id, None, 100, "asc")


def kind_of(item: ThreadItem) -> str:
    match item:
        case UserMessageItem(content=[UserMessageTextContent(text=text)]):
            return text
        case AssistantMessageItem():
            return "answer"
        case _:
            return item.type
