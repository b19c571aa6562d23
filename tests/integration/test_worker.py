"""A real worker process over real servers: what it does with events, and with its own end."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event, feedback_event, message_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.worker_process import WorkerProcess
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Text

pytestmark = pytest.mark.redis


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.2",
    ) as deployment:
        yield deployment


def publish(deployment: Deployment, *events: Event) -> None:
    with Publisher(deployment.broker_url) as publisher:
        publisher.publish_many(events)


async def ended(lanes: Lanes, event: Event, within: float = 15) -> EventState:
    async def state() -> EventState | None:
        found = await lanes.status(event.event_id)
        return found[0].state if found and found[0].state.ended else None

    answer = await eventually(state, within=within)
    assert answer is not None
    return answer


async def frames(deployment: Deployment, lanes: Lanes, event: Event) -> bytes:
    stream = deployment.keys.stream(event.lane, event.event_id)
    entries: Any = await lanes._state.xrange(stream)
    return b"\n".join(fields.get(b"d", b"") for _, fields in entries)


async def test_a_handoff_and_a_tool_cost_one_model_call_per_step(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    event = create_event("where is my order 1042?")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, event) is EventState.DONE
        assert b"thread.item.done" in await frames(deployment, lanes, event)
    assert len(provider.calls) == 3  # the handoff, the look-up, the answer


async def test_a_provider_that_fails_is_asked_again_and_the_next_message_waits_its_turn(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(503), Text("first"), Text("second"))
    event = create_event("one")
    following = message_event(str(event.thread_id), "two")
    publish(deployment, event, following)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, following) is EventState.DONE
        found = await lanes.status(event.event_id)
        assert found is not None
        assert (found[0].state, found[0].attempt) == (EventState.DONE, 2)
        assert b"first" in await frames(deployment, lanes, event)
        assert b"second" in await frames(deployment, lanes, following)


async def test_a_request_that_the_provider_refuses_is_a_dead_letter_and_the_thread_goes_on(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(400), Text("fine"))
    event = create_event("one")
    following = message_event(str(event.thread_id), "two")
    publish(deployment, event, following)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, following) is EventState.DONE
        assert await ended(lanes, event) is EventState.DEAD
        [letter] = (await lanes.dead_letters.page()).items
        assert (letter.id, letter.reason) == (event.event_id, "permanent")
        shown = await frames(deployment, lanes, event)
    assert event.event_id.encode() in shown
    assert b"stream.error" not in shown


async def test_feedback_is_taken_without_a_task_of_its_own(deployment: Deployment) -> None:
    worker = deployment.worker()
    event = create_event("hello")
    feedback = feedback_event(str(event.thread_id))
    foreign = feedback_event(str(event.thread_id), userid="somebody-else")
    async with deployment.lanes() as lanes:
        publish(deployment, event)
        assert await ended(lanes, event) is EventState.DONE
        publish(deployment, feedback, foreign)
        assert await ended(lanes, feedback) is EventState.DONE
        assert await ended(lanes, foreign) is EventState.DEAD
    assert worker.exit_code is None


def test_a_worker_whose_tables_are_behind_does_not_start_and_says_what_to_do(redis_url: str, sqlite_url: str) -> None:
    with Deployment(redis_url, sqlite_url) as deployment:
        with closing(sqlite3.connect(sqlite_url.partition("///")[2])) as database, database:
            database.execute("UPDATE alembic_version SET version_num = '0001'")
        worker = WorkerProcess(environment=deployment.environment, log_level="WARNING").launch()
        assert worker.wait() == 1
        assert "CHATKIT_DATABASE_URL" in worker.stderr
        assert "chatkit-workers db upgrade" in worker.stderr
        assert "Traceback" not in worker.stderr


@pytest.mark.parametrize("variable", ["CHATKIT_STATE_URL", "CHATKIT_DATABASE_URL"])
def test_a_worker_that_lacks_a_part_does_not_start_and_names_it_in_one_line(
    variable: str, sqlite_url: str, redis_url: str, free_port: int
) -> None:
    away = {
        "CHATKIT_STATE_URL": f"redis://127.0.0.1:{free_port}/0",
        "CHATKIT_DATABASE_URL": f"postgresql+asyncpg://nobody@127.0.0.1:{free_port}/none",
    }
    with Deployment(redis_url, sqlite_url, **{variable: away[variable]}) as deployment:
        worker = WorkerProcess(environment=deployment.environment, log_level="WARNING").launch()
        assert worker.wait() == 1
        assert variable in worker.stderr
        assert "Traceback" not in worker.stderr
