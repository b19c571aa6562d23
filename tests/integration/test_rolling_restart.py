"""Workers and gateways are replaced one by one while conversations go on: nobody sees more than a short pause."""

import asyncio
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event, message_event
from tests.deployment import Deployment
from tests.viewer import Viewer
from tests.web_process import cli_gateway_process
from workers.publisher import Publisher

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

CLIENTS = 4
DELTAS, DELTA_MS = 25, 40
ANSWER = "word " * DELTAS
BETWEEN_SECONDS = 0.7
PAUSE_SECONDS = 5.0


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    # a drain shorter than a turn: most of what runs is given back
    settings = {"CHATKIT_DRAIN_SECONDS": "0.2", "TEST_DELTAS": str(DELTAS), "TEST_DELTA_MS": str(DELTA_MS)}
    with Deployment(redis_url, sqlite_url, **settings) as deployment:
        yield deployment


class Fleet:
    """Two workers and two gateways, and the ones that take their places."""

    def __init__(self, deployment: Deployment, stack: ExitStack) -> None:
        with ThreadPoolExecutor() as threads:
            workers = [threads.submit(deployment.worker, "tests.model_worker") for _ in range(3)]
            gateways = [stack.enter_context(ExitStack()) for _ in range(3)]
            addresses = [
                threads.submit(gateway.enter_context, cli_gateway_process(deployment.environment))
                for gateway in gateways
            ]
        self._old_workers = [worker.result() for worker in workers[:2]]
        self._gateways = [(address.result(), gateway) for address, gateway in zip(addresses, gateways, strict=True)]

    @property
    def addresses(self) -> list[str]:
        """Of the gateways, as a load balancer knows them: of one that ends it learns when it has ended."""
        return [address for address, _ in self._gateways]

    async def replace(self) -> None:
        """End a worker, a gateway, the other worker, the other gateway, each in the middle of its work."""
        for worker, gateway in zip(self._old_workers, self._gateways[:2], strict=True):
            await asyncio.sleep(BETWEEN_SECONDS)
            assert await asyncio.to_thread(worker.stop) == 0
            await asyncio.sleep(BETWEEN_SECONDS)
            await asyncio.to_thread(gateway[1].close)
            self._gateways.remove(gateway)


async def converse(
    publisher: Publisher, number: int, fleet: Fleet, replaced: asyncio.Event
) -> list[tuple[Event, Viewer]]:
    """Messages of one user, one after another, until everything was replaced; what was seen of each answer."""
    seen: list[tuple[Event, Viewer]] = []
    first = create_event("message 0", userid=f"u{number}")
    for turn in itertools.count():
        event = message_event(str(first.thread_id), f"message {turn}", userid=first.userid) if turn else first
        await publisher.apublish(event)
        seen.append((event, await Viewer(lambda: fleet.addresses, event.event_id).watch()))
        if replaced.is_set():
            return seen
    raise AssertionError


async def test_a_rolling_restart_of_everything_shows_as_a_short_pause_only(deployment: Deployment) -> None:
    replaced = asyncio.Event()
    with ExitStack() as stack, Publisher(deployment.broker_url) as publisher:
        fleet = Fleet(deployment, stack)
        async with asyncio.TaskGroup() as group:
            talks = [group.create_task(converse(publisher, number, fleet, replaced)) for number in range(CLIENTS)]
            await fleet.replace()
            replaced.set()
    seen = [one for talk in talks for one in talk.result()]
    async with deployment.lanes() as lanes:
        for event, viewer in seen:
            assert viewer.end == {"state": "done", "reason": None}
            assert viewer.answer == ANSWER
            viewer.check_ids()
            found = await lanes.status(event.event_id)
            assert found is not None
            assert (found[0].state, found[0].attempt) == (EventState.DONE, 1)
    moved = [viewer for _, viewer in seen if viewer.retries]
    assert moved  # else nothing was shown of the gateways' part
    pause = max(viewer.longest_pause for _, viewer in seen)
    assert pause < PAUSE_SECONDS
    print(f"{len(seen)} answers, {len(moved)} moved to another gateway, longest pause {pause:.2f} s")
