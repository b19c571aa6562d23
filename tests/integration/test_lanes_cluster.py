"""The same scripts on a real Redis Cluster of three nodes, started here."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from schemas.outcome import CancelReason
from tests import services
from tests.conftest import leave_out
from tests.eventually import eventually, eventually_sync
from tests.lane_builders import QUEUE, deployment_on, done, event, lanes_on
from tests.lane_machine import LaneMachine
from tests.machine_profile import profile
from workers.lanes.connection import connect
from workers.lanes.keeper import LeaseKeeper
from workers.lanes.keys import Keys
from workers.lanes.records import Accepted, Append, Appended, Settled
from workers.runtime import GATEWAY_CONNECTIONS

pytestmark = pytest.mark.redis

BUS_OFFSET = 10_000


def port_pair() -> int:
    """A free port whose bus port, 10000 higher, is free as well."""
    while True:
        port = services.free_port()
        if port < 50_000 and not services.listening("127.0.0.1", port + BUS_OFFSET):
            return port


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three masters without replicas."""
    if not services.redis_installed():
        leave_out("Redis")
    with ExitStack() as stack:
        ports = []
        for number in range(3):
            folder: Path = tmp_path_factory.mktemp(f"cluster{number}")
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"]
            node = services.RedisServer(folder, *options, port=port_pair())
            stack.callback(node.stop)
            ports.append(node.start().port)
        nodes = [f"127.0.0.1:{port}" for port in ports]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"], check=True, capture_output=True, timeout=60
        )
        for port in ports:
            eventually_sync(partial(cluster_is_up, port), within=30)
        yield f"redis+cluster://127.0.0.1:{ports[0]}"


def cluster_is_up(port: int) -> bool:
    info = subprocess.run(
        ["redis-cli", "-p", str(port), "cluster", "info"], check=True, capture_output=True, timeout=10, text=True
    )
    return "cluster_state:ok" in info.stdout and "cluster_known_nodes:3" in info.stdout


@pytest.mark.timeout(3600)
def test_scripts_do_what_the_model_does_on_a_cluster(request: pytest.FixtureRequest, cluster_url: str) -> None:
    class Machine(LaneMachine):
        def __init__(self) -> None:
            super().__init__(lambda: connect(cluster_url))

    run_state_machine_as_test(Machine, settings=profile(20, 40, long=request.config.getoption("--long")))


async def test_a_batch_over_all_nodes_keeps_the_order_of_each_lane(cluster_url: str, prefix: str) -> None:
    state = connect(cluster_url)
    try:
        lanes = lanes_on(state, Keys(prefix, 8))
        batch = [event(f"{thread}-{number}", f"thr_{thread}") for number in range(5) for thread in range(20)]
        answers = await lanes.accept([(item, QUEUE) for item in batch])
        for thread in range(20):
            numbers = [answer.acceptance for answer in answers[thread::20] if isinstance(answer, Accepted)]
            assert len(numbers) == 5
            assert numbers == sorted(numbers)
    finally:
        await state.aclose()


async def test_a_cancel_on_one_node_reaches_the_worker_on_another(cluster_url: str, prefix: str) -> None:
    state, elsewhere = connect(cluster_url), connect(cluster_url)
    try:
        deployment = deployment_on(state, prefix)
        keeper = LeaseKeeper(deployment.lanes, state, deployment.keys, lease=timedelta(hours=1))
        stopped: list[str] = []

        def note(name: str) -> Callable[[CancelReason], None]:
            return lambda _: stopped.append(name)

        running = asyncio.create_task(keeper.run())
        for number in range(3):
            item = event(f"c{number}", f"thr_c{number}")
            lease = await deployment.started(item)
            keeper.hold(lease, partial(stopped.append, "lost"), note(item.id))

        async def all_stopped() -> bool:
            # a cancel before the subscription is only seen by a renewal, and there is none: ask again
            for number in range(3):
                item = event(f"c{number}", f"thr_c{number}")
                await lanes_on(elsewhere, deployment.keys, deployment.clock).cancel(item.event_id)
            return sorted(stopped) == ["c0", "c1", "c2"]

        await eventually(all_stopped)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    finally:
        await state.aclose()
        await elsewhere.aclose()


async def test_the_few_connections_of_a_gateway_are_no_bound_on_a_cluster_where_nobody_waits(cluster_url: str) -> None:
    state = connect(cluster_url, max_connections=GATEWAY_CONNECTIONS)
    try:
        await state.get("x")  # as at the start of a process: it finds the nodes
        assert await asyncio.gather(*(state.get("x") for _ in range(200))) == [None] * 200
    finally:
        await state.aclose()


async def test_frames_and_ends_work_over_the_nodes(cluster_url: str, prefix: str) -> None:
    state = connect(cluster_url)
    try:
        deployment = deployment_on(state, prefix, shards=8)
        leases = [await deployment.started(event(f"f{number}", f"thr_f{number}")) for number in range(10)]
        appended = await deployment.lanes.append([Append(lease, 1, [b"{}", b"{}"]) for lease in leases])
        assert appended == [Appended(3)] * 10
        settled = await deployment.lanes.settle([done(lease, b"{}") for lease in leases])
        assert all(isinstance(answer, Settled) for answer in settled)
        assert await deployment.lanes.sweep() == []
        for number in range(10):
            item = event(f"f{number}", f"thr_f{number}")
            assert len(await deployment.frames(item)) == 4
            assert await state.pttl(deployment.keys.where(item.event_id)) > 0
    finally:
        await state.aclose()
