"""What a Redis does to those who rely on it, one fault after another, in the middle of an answer each time: it forgets
its scripts, is killed, falls silent, is full, is replaced by its replica. The answer comes whole, by its first attempt,
and what is published afterwards is answered within a bound."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event
from tests.conftest import leave_out
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.tcp_proxy import TcpProxy
from tests.services import RedisServer, redis_installed
from tests.viewer import Viewer
from tests.worker_process import WorkerProcess
from workers.errors import PublishError
from workers.publisher import Publisher

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]

DELTAS, DELTA_MS = 30, 40
ANSWER = "word " * DELTAS


@dataclass
class World:
    """A Redis that can be hurt, behind an address that can move; a worker and a gateway that know only the address."""

    proxy: TcpProxy
    master: RedisServer
    replica: RedisServer
    deployment: Deployment
    worker: WorkerProcess
    gateway: str
    outage_seconds: float = 1.5
    published: list[Event] = field(default_factory=list)
    recoveries: dict[str, float] = field(default_factory=dict)

    @property
    def redis(self) -> Redis:
        """The server that counts now, by its own address."""
        return Redis(port=self.master.port)

    async def publish(self) -> Event:
        """Publish to the server itself: what is measured is not the publisher."""
        event = create_event("hello")
        with Publisher(self.master.url) as publisher:
            await publisher.apublish(event)
        self.published.append(event)
        return event

    def watch(self, event: Event) -> asyncio.Task[Viewer]:
        return asyncio.create_task(Viewer(lambda: [self.gateway], event.event_id).watch())

    async def ready(self, http: httpx.AsyncClient) -> dict[str, str]:
        parts: dict[str, str] = (await http.get(f"{self.gateway}/readyz")).json()
        return parts

    async def shown(self, event: Event) -> None:
        """Wait until some of the answer is in the stream."""
        stream = self.deployment.keys.stream(event.lane, event.event_id)
        async with self.redis as redis:

            async def begun() -> bool:
                return int(await redis.xlen(stream)) > DELTAS // 4

            await eventually(begun, within=20)


@pytest.fixture
def world(tmp_path: Path, sqlite_url: str) -> Iterator[World]:
    if not redis_installed():
        leave_out("Redis")
    with ExitStack() as stack:
        servers = []
        for name in ("master", "replica"):
            (tmp_path / name).mkdir()
            server = RedisServer(tmp_path / name, "--appendonly", "yes", "--appendfsync", "always")
            servers.append(server.start())
            stack.callback(server.stop)
        proxy = stack.enter_context(TcpProxy(servers[0].port))
        url = f"redis://127.0.0.1:{proxy.port}/0"
        settings = {"TEST_DELTAS": str(DELTAS), "TEST_DELTA_MS": str(DELTA_MS)}
        deployment = stack.enter_context(Deployment(url, sqlite_url, **settings))
        with ThreadPoolExecutor() as threads:
            worker = threads.submit(deployment.worker, "tests.model_worker")
            gateway = threads.submit(deployment.gateway)
        yield World(proxy, servers[0], servers[1], deployment, worker.result(), gateway.result())


async def forget_scripts(world: World) -> None:
    async with world.redis as redis:
        await redis.script_flush()


async def be_killed(world: World) -> None:
    world.master.kill()
    await asyncio.sleep(world.outage_seconds)
    await asyncio.to_thread(world.master.start)


async def fall_silent(world: World) -> None:
    world.proxy.swallow()
    await asyncio.sleep(world.outage_seconds)
    world.proxy.heal()


async def be_full(world: World) -> None:
    async with world.redis as redis:
        await redis.config_set("maxmemory", "1mb")
        await asyncio.sleep(world.outage_seconds)
        await redis.config_set("maxmemory", "0")


async def be_demoted(world: World) -> None:
    """As an operator or a managed Redis switches over: the old master lives on as a replica of the new one."""
    await replicate(world)
    async with world.redis as old, Redis(port=world.replica.port) as new:
        await new.replicaof("NO", "ONE")
        await old.replicaof("127.0.0.1", str(world.replica.port))
        await asyncio.sleep(world.outage_seconds)
    world.master, world.replica = world.replica, world.master
    world.proxy.point_to(world.master.port)


async def replicate(world: World) -> None:
    """Make the replica one, and wait until it has all that the master has acknowledged."""
    async with world.redis as master, Redis(port=world.replica.port) as replica:
        await replica.replicaof("127.0.0.1", str(world.master.port))

        async def in_step() -> bool:
            return bool((await replica.info("replication"))["master_link_status"] == "up")

        await eventually(in_step)
        await master.incr("something to wait for")
        assert await master.wait(1, 5000) == 1


Fault = Callable[[World], Coroutine[Any, Any, None]]

BOUNDS: dict[Fault, float] = {forget_scripts: 2, be_killed: 5, fall_silent: 15, be_full: 5, be_demoted: 5}
"""Seconds from the end of the fault to the answer of an event that is published then; its own part of it is 2 s."""


async def suffer(world: World, fault: Fault, http: httpx.AsyncClient) -> None:
    """One fault, in the middle of an answer that a client follows."""
    event = await world.publish()
    viewer = world.watch(event)
    await world.shown(event)
    suffering = asyncio.create_task(fault(world))
    if fault is not forget_scripts:
        await eventually(lambda: away(world, http), within=world.outage_seconds + 5)
    await suffering
    healed = time.monotonic()
    after = await world.watch(await world.publish())
    world.recoveries[fault.__name__] = after.times[0] - healed
    for seen in (await viewer, after):
        assert seen.end == {"state": "done", "reason": None}
        assert seen.answer == ANSWER
        seen.check_ids()
    assert (await world.ready(http))["status"] == "ok"


async def away(world: World, http: httpx.AsyncClient) -> bool:
    """The gateway says that its state cannot be used."""
    parts = await world.ready(http)
    return parts["status"] == "unavailable" and parts["state"] != "ok"


@pytest.mark.parametrize(
    "outage_seconds", [1.5, pytest.param(25.0, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_no_fault_of_redis_costs_an_event_an_attempt_or_a_word(world: World, outage_seconds: float) -> None:
    """The longer outage outlasts the lease (10 s) and the patience of everybody who writes or reads frames."""
    world.outage_seconds = outage_seconds
    async with httpx.AsyncClient(timeout=30) as http:
        for fault, bound in BOUNDS.items():
            await suffer(world, fault, http)
            assert world.recoveries[fault.__name__] < bound, world.recoveries
        await check_full(world, http)
    async with world.redis as redis:
        for event in world.published:
            tag = world.deployment.keys.tag_of(event.lane)
            state, attempt = await redis.hmget(f"{tag}event:{event.event_id}", ["state", "attempt"])
            assert (state, attempt or b"1") == (EventState.DONE.encode(), b"1")
    await check_lost(world)
    if outage_seconds > DELTAS * DELTA_MS / 1000 * 2:
        await check_stop(world)
    print({name: round(seconds, 2) for name, seconds in world.recoveries.items()})


async def check_lost(world: World) -> None:
    """A master that dies takes along what its replica has not got. What a WAIT has confirmed is never in it; an answer
    that was stored is not made again."""
    kept = await world.publish()
    await world.watch(kept)
    await replicate(world)
    async with Redis(port=world.replica.port) as replica:
        await replica.replicaof("NO", "ONE")  # from here on its master's words do not reach it
    lost = await world.publish()
    before = await world.watch(lost)
    world.master.kill()
    world.master, world.replica = world.replica, world.master
    world.proxy.point_to(world.master.port)
    async with world.redis as redis:
        where = world.deployment.keys.where
        assert [await redis.exists(where(event.event_id)) for event in (kept, lost)] == [1, 0]
    with Publisher(world.master.url) as publisher:
        await asyncio.to_thread(publisher.publish_many, [kept, lost])  # who was told nothing publishes again
    again = await world.watch(lost)
    assert (before.answer, again.answer) == (ANSWER, ANSWER)
    assert again.times[-1] - again.times[0] < DELTAS * DELTA_MS / 1000 / 2  # shown from the store, not said again


async def check_stop(world: World) -> None:
    """A worker whose Redis has fallen silent can be stopped all the same."""
    world.proxy.swallow()
    await asyncio.sleep(5)
    began = time.monotonic()
    world.worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(world.worker.wait, 60) == 0
    print(f"a worker whose Redis is silent ends in {time.monotonic() - began:.1f} s")


async def check_full(world: World, http: httpx.AsyncClient) -> None:
    """Publishers to a full Redis are told so, and when to come back."""
    event: Any = create_event("hello").model_dump(mode="json", exclude_unset=True)
    async with world.redis as redis:
        await redis.config_set("maxmemory", "1mb")
        answer = await http.post(f"{world.gateway}/v1/events", json=event, headers=SERVICE)
        with (
            pytest.raises(PublishError, match="OutOfMemoryError"),
            Publisher(world.master.url, timeout_seconds=1) as publisher,
        ):
            await publisher.apublish(event)
        await redis.config_set("maxmemory", "0")
    assert (answer.status_code, answer.json()["reason"]) == (503, "memory_full")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await http.post(f"{world.gateway}/v1/events", json=event, headers=SERVICE)).status_code == 202
