"""A RabbitMQ and a PostgreSQL that go away and come back, in the middle of an answer: no event is lost, no attempt is
spent, and work goes on within seconds. A worker whose broker is away can be stopped, too."""

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event
from tests.conftest import leave_out
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.tcp_proxy import TcpProxy
from tests.own_servers import PostgresServer, RabbitServer
from tests.viewer import Viewer
from tests.worker_process import WorkerProcess

pytestmark = [pytest.mark.redis, pytest.mark.rabbitmq, pytest.mark.postgres, pytest.mark.timeout(240)]

DELTAS, DELTA_MS = 30, 40
ANSWER = "word " * DELTAS
DATABASE_SECONDS = 5.0
BROKER_SECONDS = 5.0
SILENT_BROKER_SECONDS = 15.0
"""A heartbeat of 4 s that is missed twice, and the way back."""

STOP_SECONDS = 10.0


@dataclass
class World:
    """A deployment whose broker and database can be hurt."""

    rabbit: RabbitServer
    postgres: PostgresServer
    proxy: TcpProxy
    deployment: Deployment
    worker: WorkerProcess
    gateway: str
    published: list[Event] = field(default_factory=list)

    async def publish(self, http: httpx.AsyncClient) -> Event:
        """Over HTTP, for which no broker is needed."""
        event = create_event("hello")
        body = event.model_dump(mode="json", exclude_unset=True)
        answer = await http.post(f"{self.gateway}/v1/events", json=body, headers=SERVICE)
        assert answer.status_code == 202, answer.text
        self.published.append(event)
        return event

    def watch(self, event: Event) -> asyncio.Task[Viewer]:
        return asyncio.create_task(Viewer(lambda: [self.gateway], event.event_id).watch(within=90))

    async def running(self, http: httpx.AsyncClient) -> asyncio.Task[Viewer]:
        """An event that is being answered."""
        event = await self.publish(http)
        viewer = self.watch(event)
        async with self.deployment.lanes() as lanes:

            async def begun() -> bool:
                found = await lanes.status(event.event_id)
                return found is not None and found[0].state is EventState.RUNNING

            await eventually(begun, within=20)
        return viewer

    async def is_answered(self, viewer: asyncio.Task[Viewer]) -> float:
        """Whole; when its last frame came."""
        seen = await viewer
        assert seen.end == {"state": "done", "reason": None}
        assert seen.answer == ANSWER
        seen.check_ids()
        return seen.times[-1]

    async def says(self, http: httpx.AsyncClient, part: str, *, ok: bool) -> None:
        """Wait until readiness says so."""

        async def said() -> bool:
            answer = await http.get(f"{self.gateway}/readyz")
            return (answer.json()[part] == "ok") is ok and (answer.status_code == 200) is ok

        await eventually(said, within=15)


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> Iterator[World]:
    if not RabbitServer.installed() or not PostgresServer.installed():
        leave_out("RabbitMQ or PostgreSQL (as servers of the test's own)")
    with ExitStack() as stack:
        rabbit, postgres = RabbitServer(tmp_path), PostgresServer()
        stack.callback(rabbit.stop)
        rabbit.launch()
        stack.callback(postgres.stop)
        postgres.start()
        proxy = stack.enter_context(TcpProxy(rabbit.port))
        broker = f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
        settings = {"TEST_DELTAS": str(DELTAS), "TEST_DELTA_MS": str(DELTA_MS), "CHATKIT_DRAIN_SECONDS": "0.2"}
        deployment = stack.enter_context(Deployment(redis_url, postgres.url, broker_url=broker, **settings))
        with ThreadPoolExecutor() as threads:  # both wait for RabbitMQ if they have to
            worker = threads.submit(deployment.worker, "tests.model_worker")
            gateway = threads.submit(deployment.gateway)
        yield World(rabbit, postgres, proxy, deployment, worker.result(), gateway.result())


async def test_a_database_and_a_broker_that_restart_cost_no_event_and_no_attempt(world: World) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        database = await restart_database(world, http)
        assert database < DATABASE_SECONDS
        broker = await restart_broker(world, http)
        assert broker < BROKER_SECONDS
        await check_attempts(world)
        stopped = await stop_without_broker(world)
    print(f"answers go on {database:.1f} s after the database is back, {broker:.1f} s after the broker is; ", end="")
    print(f"a worker without a broker ends in {stopped:.1f} s")


@pytest.mark.long
async def test_a_broker_that_falls_silent_is_found_out_by_its_heartbeats(world: World) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        viewer = await world.running(http)
        world.proxy.swallow()
        await world.says(http, "broker", ok=False)
        await asyncio.sleep(10)
        world.proxy.heal()
        healed = time.monotonic()
        await world.is_answered(viewer)
        seconds = await world.is_answered(world.watch(await world.publish(http))) - healed
        assert seconds < SILENT_BROKER_SECONDS
        await check_attempts(world)
    print(f"answers go on {seconds:.1f} s after a silent RabbitMQ is heard again")


async def restart_database(world: World, http: httpx.AsyncClient) -> float:
    """In the middle of one answer, and while another event waits; seconds until both are answered, less one answer."""
    first = await world.running(http)
    await asyncio.to_thread(world.postgres.kill)
    second = world.watch(await world.publish(http))
    await world.says(http, "database", ok=False)
    await asyncio.sleep(DELTAS * DELTA_MS / 1000)  # the answer comes to its end, and cannot be stored
    await asyncio.to_thread(world.postgres.start)
    back = time.monotonic()
    await world.says(http, "database", ok=True)
    ended = max(await world.is_answered(first), await world.is_answered(second))
    return ended - back - DELTAS * DELTA_MS / 1000


async def restart_broker(world: World, http: httpx.AsyncClient) -> float:
    """In the middle of an answer, which goes on meanwhile; seconds until one that was published meanwhile begins."""
    first = await world.running(http)
    world.rabbit.kill()
    await world.says(http, "broker", ok=False)
    await world.is_answered(first)
    second = world.watch(await world.publish(http))
    await asyncio.to_thread(world.rabbit.start)
    back = time.monotonic()
    await world.is_answered(second)
    await world.says(http, "broker", ok=True)
    return (await second).times[0] - back


async def check_attempts(world: World) -> None:
    async with world.deployment.lanes() as lanes:
        for event in world.published:
            found = await lanes.status(event.event_id)
            assert found is not None
            assert (found[0].state, found[0].attempt) == (EventState.DONE, 1)
        assert (await lanes.depth()).dead == {}
    assert world.worker.exit_code is None


async def stop_without_broker(world: World) -> float:
    """SIGTERM while the worker tries to reach its broker: it ends as if nothing were."""
    world.rabbit.kill()
    await asyncio.sleep(3)  # Celery's next heartbeat has failed by now
    began = time.monotonic()
    world.worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(world.worker.wait) == 0
    assert time.monotonic() - began < STOP_SECONDS
    return time.monotonic() - began
