"""An event that kills its worker: found out, run alone, given up; those beside it are answered."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.events import Event
from schemas.outcome import DeadReason, EventState
from tests.builders import create_event
from tests.conformance.chats import context_of, texts
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.integration.test_dead_reasons import read, reading
from tests.integration.test_worker import ended, publish
from tests.worker_process import WorkerProcess
from workers.chat.database import Database
from workers.chat.partial import shown_by
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.lanes.lanes import Lanes
from workers.lanes.records import FIRST_GRACE
from workers.publisher import Publisher
from workers.routing import default_queue

pytestmark = pytest.mark.redis

APP = "tests.model_worker"
LEASE_SECONDS = 8.0


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    """Turns of two seconds, leases of one and a half."""
    with Deployment(
        redis_url, sqlite_url, CHATKIT_LEASE_TTL="1.5", TEST_DELTA_MS="100", TEST_DELTAS="20"
    ) as deployment:
        yield deployment


async def test_a_poisonous_event_takes_two_workers_and_its_quarantine_and_nobody_else(deployment: Deployment) -> None:
    """Innocent turns run beside it each time, and are taken over each time."""
    workers = [deployment.worker(APP) for _ in range(3)]
    innocent = [create_event(f"question {number}") for number in range(6)]
    poisonous = create_event("poison")
    publish(deployment, *innocent, poisonous)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, poisonous, within=60) is EventState.DEAD
        for event in innocent:
            assert await ended(lanes, event, within=60) is EventState.DONE
        async with reading(deployment) as http:
            assert "its quarantine" in await read(deployment, http, DeadReason.WORKER_LOST)
        found = await lanes.status(poisonous.event_id)
        assert found is not None
        assert found[0].attempt == 1  # a crash spends no attempt
    assert sum(worker.exit_code is not None for worker in workers) == 2


async def test_a_poisonous_event_that_is_parked_in_between_takes_no_third_worker(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Every other run of it ends with a 429, in the open and in quarantine."""
    deployment.environment |= {
        "CHATKIT_LIMITS": '{"models": {"*": {"rpm": 6000}}}',
        "TEST_MOODS": str(tmp_path / "moods"),
    }
    workers = [deployment.worker(APP) for _ in range(4)]
    moody, innocent = create_event("moody poison"), create_event("question")
    publish(deployment, moody, innocent)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, moody, within=100) is EventState.DEAD
        kept = await lanes.dead_letters.get(moody.event_id)
        assert kept is not None
        assert "its quarantine" in str(kept.error)
        assert await ended(lanes, innocent, within=60) is EventState.DONE
    assert sum(worker.exit_code is not None for worker in workers) == 2


@pytest.fixture
def quick(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    """Turns of a moment; leases that are longer than what it takes to find out that a worker is gone."""
    with Deployment(redis_url, sqlite_url, CHATKIT_LEASE_TTL=str(LEASE_SECONDS), TEST_DELTAS="3") as deployment:
        yield deployment


async def test_events_of_other_lanes_behind_a_poisonous_one_are_delayed_by_no_more_than_a_lease(
    quick: Deployment,
) -> None:
    """They come all the while: before, between and after the deaths of two workers, and during the quarantine."""
    workers = [quick.worker(APP) for _ in range(3)]
    poisonous = create_event("poison")
    behind: list[tuple[Event, float]] = []
    async with quick.lanes() as lanes:
        with Publisher(quick.broker_url) as publisher:
            await publisher.apublish(poisonous)
            while (found := await lanes.status(poisonous.event_id)) is None or not found[0].state.ended:
                event = create_event("question")
                behind.append((event, time.time()))
                await publisher.apublish(event)
                await asyncio.sleep(0.05)
        assert found[0].state is EventState.DEAD
        delays = []
        for event, published in behind:
            assert await ended(lanes, event, within=30) is EventState.DONE
            ending = await lanes.status(event.event_id)
            assert ending is not None
            assert ending[0].ended_at is not None
            delays.append(ending[0].ended_at.timestamp() - published)
    assert sum(worker.exit_code is not None for worker in workers) == 2
    # and what a wake-up takes that died with its worker
    assert max(delays) <= LEASE_SECONDS + FIRST_GRACE.total_seconds(), sorted(delays)[-20:]


async def began(lanes: Lanes, event: Event, times: int) -> bool:
    """Whether so many workers have begun the event."""
    deaths = await lanes._state.hget(f"{lanes._keys.tag_of(event.lane)}event:{event.event_id}", "deaths")
    return deaths is not None and int(deaths) == times


async def test_an_innocent_suspect_is_answered_in_quarantine(deployment: Deployment) -> None:
    event = create_event("question")
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        for victims in (1, 2):
            worker = deployment.worker(APP)
            assert await eventually(lambda count=victims: began(lanes, event, count), within=20)  # type: ignore[misc]
            worker.kill()
        worker = deployment.worker(APP)
        assert await ended(lanes, event, within=60) is EventState.DONE
        assert "event_quarantined" in worker.stderr


async def suspected(lanes: Lanes, event: Event) -> None:
    """Accept an event as if it had been begun by two workers that did not come back."""
    await lanes.accept([(event, default_queue(event))])
    await lanes._state.hset(f"{lanes._keys.tag_of(event.lane)}event:{event.event_id}", "deaths", "2")


async def frames(lanes: Lanes, event: Event) -> list[bytes]:
    """What clients were shown."""
    entries: Any = await lanes._state.xrange(lanes._keys.stream(event.lane, event.event_id))
    return [fields[b"d"] for _, fields in entries if b"d" in fields]


async def child_of(worker: WorkerProcess, lanes: Lanes, event: Event) -> psutil.Process:
    """The process that runs the event alone, once it has shown something of the answer."""

    async def shown() -> bool:
        return len(await frames(lanes, event)) > 8  # the thread, the question, the beginning of the answer

    assert await eventually(shown, within=40)
    [child] = psutil.Process(worker.pid).children()
    return child


async def test_a_signal_that_is_meant_for_the_worker_convicts_no_event_in_its_quarantine(
    deployment: Deployment,
) -> None:
    event = create_event("question")
    async with deployment.lanes() as lanes:
        await suspected(lanes, event)
        child = await child_of(deployment.worker(APP), lanes, event)
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
        assert await ended(lanes, event, within=20) is EventState.DONE


async def test_a_cancel_of_an_event_in_quarantine_keeps_what_was_shown(deployment: Deployment) -> None:
    event = create_event("question")
    database = Database(deployment.database_url)
    async with deployment.lanes() as lanes:
        await suspected(lanes, event)
        await child_of(deployment.worker(APP, TEST_DELTAS="600"), lanes, event)
        await lanes.cancel(event.event_id)
        assert await ended(lanes, event, within=20) is EventState.CANCELLED
        reads = SqlStore(database)
        shown = shown_by(await frames(lanes, event), ReadServer(reads))
    stored = await reads.load_thread_items(str(event.thread_id), None, 100, "asc", context_of(event))
    await database.close()
    assert texts(stored.data) == texts(shown.kept)
    assert len(texts(shown.kept)) == 2  # the question, and half an answer


async def test_a_quarantine_does_not_outlive_its_worker(deployment: Deployment) -> None:
    event = create_event("question")
    async with deployment.lanes() as lanes:
        await suspected(lanes, event)
        worker = deployment.worker(APP, TEST_DELTAS="600")
        child = await child_of(worker, lanes, event)
        worker.kill()

        async def gone() -> bool:
            return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

        assert await eventually(gone, within=5)
