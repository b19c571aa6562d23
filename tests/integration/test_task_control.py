"""What Celery's own controls do to turns: revoke, terminate, time limits. The event is told, and its lane goes on."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from redis.asyncio import Redis
from sqlalchemy import Connection

from schemas.chatkit import AssistantMessageItem, SDKHiddenContextItem, ThreadItem
from schemas.events import Event
from schemas.outcome import DeadReason, EventState
from tests.builders import create_event, message_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_worker import ended, frames, publish
from tests.lane_builders import lanes_on
from tests.pool_world import BROKERS, EventLog
from tests.services import RedisServer
from workers.chat import rows
from workers.chat.database import Database
from workers.chat.turn import STOPPED_TEXT
from workers.lanes.lanes import Lanes
from workers.lanes.records import Owner
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Text

INGEST = {
    "redis": {"queue": "chatkit.events"},
    "amqp": {"exchange": "chatkit.tasks", "routing_key": "chatkit.events"},
}
"""How a foreign Celery app sends `chatkit.ingest`, by the scheme of its broker. (See the README.)"""


@pytest.fixture(params=BROKERS)
def deployment(
    request: pytest.FixtureRequest, redis_url: str, sqlite_url: str, provider: FakeProvider
) -> Iterator[Deployment]:
    broker_url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else redis_url
    with Deployment(
        redis_url,
        sqlite_url,
        broker_url=broker_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.2",
        CHATKIT_MAX_ATTEMPTS="2",
    ) as deployment:
        yield deployment


@pytest.fixture
def celery(deployment: Deployment) -> Iterator[Celery]:
    app = Celery(broker=deployment.broker_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def log(celery: Celery) -> Iterator[EventLog]:
    log = EventLog(celery)
    log.listen()
    yield log
    log.stop()


async def calls(provider: FakeProvider, count: int) -> None:
    async def made() -> bool:
        return len(provider.calls) >= count

    await eventually(made)


async def reported(log: EventLog, event: Event, last: str) -> list[str]:
    """What Celery's events, and so Flower, said of a task once they say `last`."""

    async def states() -> list[str]:
        types = log.of(event.event_id)
        return types if types[-1:] == [last] else []

    return await eventually(states)


async def reason(lanes: Lanes, event: Event) -> str | None:
    found = await lanes.status(event.event_id)
    assert found is not None
    return found[0].reason


async def said(deployment: Deployment, event: Event) -> list[str]:
    """What the conversation holds of the assistant, and the notes to it."""

    def read(connection: Connection) -> list[str]:
        page = rows.list_items(connection, Owner(event.tenant, event.userid), str(event.thread_id), None, 50, "asc")
        return [text for item in page.data if (text := text_of(item)) is not None]

    database = Database(deployment.database_url)
    try:
        return await database.read(read)
    finally:
        await database.close()


def text_of(item: ThreadItem) -> str | None:
    match item:
        case AssistantMessageItem():
            return "".join(part.text for part in item.content)
        case SDKHiddenContextItem():
            return item.content
        case _:
            return None


async def test_an_event_that_is_revoked_while_it_waits_is_cancelled_when_its_turn_comes_and_its_lane_goes_on(
    deployment: Deployment, provider: FakeProvider, celery: Celery, log: EventLog
) -> None:
    deployment.worker()
    provider.plan(Hang(), Text("third"))
    first = create_event("one")
    second, third = (message_event(str(first.thread_id), text) for text in ("two", "three"))
    publish(deployment, first, second, third)
    await calls(provider, 1)
    await asyncio.to_thread(celery.control.revoke, second.event_id, reply=True)
    async with deployment.lanes() as lanes:
        await lanes.cancel(first.event_id)
        assert await ended(lanes, third) is EventState.DONE
        assert (await ended(lanes, second), await reason(lanes, second)) == (EventState.CANCELLED, "operator")
    assert await reported(log, second, "revoked") == ["received", "started", "revoked"]
    assert len(provider.calls) == 2


async def test_a_turn_that_is_terminated_keeps_what_it_has_shown_and_its_lane_goes_on(
    deployment: Deployment, provider: FakeProvider, celery: Celery, log: EventLog
) -> None:
    deployment.worker()
    provider.plan(Hang(after_deltas=3), Text("fine"))
    event = create_event("one")
    following = message_event(str(event.thread_id), "two")
    publish(deployment, event, following)
    async with deployment.lanes() as lanes:

        async def shown() -> bool:
            return (await frames(deployment, lanes, event)).count(b"text_delta") == 3

        await eventually(shown)
        await asyncio.to_thread(celery.control.revoke, event.event_id, terminate=True, reply=True)
        assert (await ended(lanes, event, within=5), await reason(lanes, event)) == (EventState.CANCELLED, "operator")
        assert await ended(lanes, following) is EventState.DONE
    half, note, whole = await said(deployment, event)
    assert half
    assert (note, whole) == (STOPPED_TEXT, "fine")
    assert await reported(log, event, "revoked") == ["received", "started", "revoked"]


async def test_a_soft_limit_spends_attempts_until_the_event_is_a_dead_letter(
    deployment: Deployment, provider: FakeProvider, log: EventLog
) -> None:
    deployment.worker("workers.app", "--soft-time-limit=1")
    provider.plan(Hang(after_deltas=2), Hang(), Text("fine"))
    event = create_event("one")
    following = message_event(str(event.thread_id), "two")
    publish(deployment, event, following)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, following) is EventState.DONE
        assert await ended(lanes, event) is EventState.DEAD
        [letter] = (await lanes.dead_letters.page()).items
    assert (letter.id, letter.reason) == (event.event_id, DeadReason.ATTEMPTS_EXHAUSTED)
    assert [attempt.error for attempt in letter.attempts] == ["TaskTimeLimit: the task's time limit passed"] * 2
    again = ["received", "started"]
    assert await reported(log, event, "failed") == [*again, "retried", *again, "failed"]
    assert "transient, again in" in log.failure(event.event_id)


@pytest.mark.parametrize("deployment", ["redis"], indirect=True)
async def test_a_hard_limit_spends_attempts_as_well(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker("workers.app", "--time-limit=1")
    provider.plan(Hang(), Hang())
    event = create_event("one")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DEAD
        [letter] = (await lanes.dead_letters.page()).items
    assert [attempt.error for attempt in letter.attempts] == ["TaskTimeLimit: the task's time limit passed"] * 2


@pytest.fixture
def state(tmp_path: Path) -> Iterator[RedisServer]:
    """A state of its own, which can be made to refuse."""
    folder = tmp_path / "state"
    folder.mkdir()
    server = RedisServer(folder).start()
    yield server
    server.kill()


async def test_no_time_limit_makes_the_ingest_lose_what_it_cannot_keep_yet(
    deployment: Deployment, celery: Celery, state: RedisServer
) -> None:
    limits: list[dict[str, float]] = [{}, {"soft_time_limit": 0.5}, {"time_limit": 0.5}]
    events = [create_event("hello") for _ in limits]
    way = INGEST[deployment.broker_url.partition(":")[0]]
    deployment.worker("tests.model_worker", "--soft-time-limit=0.5", "--time-limit=1", CHATKIT_STATE_URL=state.url)
    async with Redis.from_url(state.url) as raw:
        await raw.config_set("maxmemory", "1")  # every script is refused
        for event, of_message in zip(events, limits, strict=True):
            body = event.model_dump(mode="json", exclude_unset=True)
            await asyncio.to_thread(partial(celery.send_task, "chatkit.ingest", [body], **way, **of_message))
        await asyncio.sleep(2)
        await raw.config_set("maxmemory", "0")

        async def all_done() -> bool:
            statuses = [await lanes.status(event.event_id) for event in events]
            return all(found is not None and found[0].state is EventState.DONE for found in statuses)

        lanes = lanes_on(raw, deployment.keys)
        await eventually(all_done, within=20)
