"""How a worker with the asyncio pool ends, on Redis and on RabbitMQ; each kind of shutdown runs once per broker."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.integration.tcp_proxy import TcpProxy
from tests.pool_world import BROKERS, PoolWorld, world_of
from tests.worker_process import WorkerProcess

DRAIN_SECONDS = 3.0
SHORT_SECONDS = 0.8


@dataclass
class Shutdown:
    """What was seen of a worker with four slots that was told to end while it had work."""

    exit_code: int
    seconds: float
    given_back_meanwhile: bool
    acked_meanwhile: bool


@pytest.fixture(scope="module", params=BROKERS)
def world(request: pytest.FixtureRequest) -> Iterator[PoolWorld]:
    yield from world_of(request)


def busy_worker(
    world: PoolWorld, key: str, settings: Mapping[str, object] | None = None, *, short_seconds: float = SHORT_SECONDS
) -> WorkerProcess:
    """A worker whose four slots are taken, and two tasks that wait."""
    environment = {"POOL_QUEUE": f"{world.queue}-{key}", "CHATKIT_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    worker = world.worker({"worker_concurrency": 4, **(settings or {})}, environment=environment).start()
    send: dict[str, tuple[str, list[float]]] = {
        "short": ("nap", [short_seconds]),
        "late_short": ("late_nap", [short_seconds]),
        "long": ("careful", [30.0, 0.3]),
        "late_long": ("late_careful", [30.0]),
        "waiting": ("nap", [0.1]),
        "late_waiting": ("late_nap", [0.1]),
    }
    ids = {
        name: world.send(task, f"{key}-{name}", *args, queue=environment["POOL_QUEUE"])
        for name, (task, args) in send.items()
    }
    for name in ("short", "late_short", "long", "late_long"):
        world.wait_marked(f"{key}-{name}", "begin")
    world.wait_event(ids["late_waiting"], "received")
    return worker


def shut_down(
    world: PoolWorld, key: str, number: signal.Signals, settings: Mapping[str, object] | None = None
) -> Shutdown:
    """Tell the worker to end, look at the broker while it does, and wait."""
    worker = busy_worker(world, key, settings)
    with worker:
        began = time.monotonic()
        worker.signal(number)
        world.wait_marked(f"{key}-late_short", "begin", "end")
        # Redis: the BRPOP that this worker has under way takes one of the two again, and gives it back at its end
        given_back = seen(lambda: world.ready(f"{world.queue}-{key}") >= (1 if world.on_redis else 2))
        acked = seen(lambda: world.unacked() in (1, None))  # the late task that still runs
        return Shutdown(worker.wait(), time.monotonic() - began, given_back, acked)


def seen(probe: Callable[[], bool], within: float = 1.8) -> bool:
    """Whether it is so at some moment before the drain is over."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if probe():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def warm(world: PoolWorld) -> Shutdown:
    return shut_down(world, "warm", signal.SIGTERM)


@pytest.fixture(scope="module")
def soft(world: PoolWorld) -> Shutdown:
    return shut_down(world, "soft", signal.SIGQUIT, {"worker_soft_shutdown_timeout": DRAIN_SECONDS})


def test_warm_shutdown_lets_jobs_end_for_the_drain_time_and_exits_clean(world: PoolWorld, warm: Shutdown) -> None:
    assert world.marked("warm-short") == ["begin", "end"]
    assert warm.exit_code == 0
    assert DRAIN_SECONDS < warm.seconds < DRAIN_SECONDS + 8


def test_warm_shutdown_tells_what_still_runs_that_the_drain_time_is_over(world: PoolWorld, warm: Shutdown) -> None:
    assert world.marked("warm-long") == ["begin", "released: drain", "body: drain"]
    assert world.marked("warm-late_long")[:2] == ["begin", "released: drain"]


def test_acks_flow_and_waiting_tasks_go_back_while_the_worker_drains(world: PoolWorld, warm: Shutdown) -> None:
    assert warm.given_back_meanwhile
    assert warm.acked_meanwhile


def test_warm_shutdown_closes_what_jobs_need_after_the_jobs(world: PoolWorld, warm: Shutdown) -> None:
    assert world.marked("loop")[:2] == ["start", "stop"]


def test_the_next_worker_runs_what_warm_shutdown_gave_back(world: PoolWorld, warm: Shutdown) -> None:
    with world.worker(environment={"POOL_QUEUE": f"{world.queue}-warm"}):
        world.wait_marked("warm-waiting", "begin", "end")
        world.wait_marked("warm-late_waiting", "begin", "end")
        world.wait_marked("warm-late_long", "begin", "released: drain", "begin")
    assert world.marked("warm-short") == ["begin", "end"]
    assert world.marked("warm-late_short") == ["begin", "end"]


def test_soft_shutdown_keeps_what_ended_in_time_and_stops_the_rest(world: PoolWorld, soft: Shutdown) -> None:
    assert world.marked("soft-short") == ["begin", "end"]
    assert world.marked("soft-late_short") == ["begin", "end"]
    assert world.marked("soft-long")[:2] == ["begin", "released: terminated"]
    assert world.marked("soft-late_long")[:2] == ["begin", "released: terminated"]
    assert soft.seconds < DRAIN_SECONDS + 8


def test_the_next_worker_runs_what_soft_shutdown_stopped_and_nothing_twice(world: PoolWorld, soft: Shutdown) -> None:
    with world.worker(environment={"POOL_QUEUE": f"{world.queue}-soft"}):
        world.wait_marked("soft-late_long", "begin", "released: terminated", "begin")
    assert world.marked("soft-late_short") == ["begin", "end"]
    assert world.marked("soft-long") == ["begin", "released: terminated"]


def test_cold_shutdown_stops_everything_at_once(world: PoolWorld) -> None:
    worker = busy_worker(world, "cold", short_seconds=30.0)
    with worker:
        began = time.monotonic()
        worker.signal(signal.SIGQUIT)
        worker.wait()
        assert time.monotonic() - began < 10
    assert world.marked("cold-long") == ["begin", "released: terminated"]
    assert world.marked("cold-short") == ["begin"]
    assert world.marked("cold-waiting") == []


def test_a_second_signal_cuts_the_drain_short(world: PoolWorld) -> None:
    worker = busy_worker(world, "hurry")
    with worker:
        worker.signal(signal.SIGTERM)
        world.wait_marked("hurry-late_short", "begin", "end")
        began = time.monotonic()
        worker.signal(signal.SIGQUIT)
        worker.wait()
        assert time.monotonic() - began < DRAIN_SECONDS
    assert world.marked("hurry-long")[1].startswith("released")


def test_a_lost_connection_stops_late_tasks_when_asked_to_and_loses_no_waiting_one(world: PoolWorld) -> None:
    queue = f"{world.queue}-lost"
    settings = {"worker_concurrency": 1, "worker_cancel_long_running_tasks_on_connection_loss": True}
    with TcpProxy(world.port) as proxy:
        environment = {"POOL_QUEUE": queue, "POOL_BROKER_URL": world.through(proxy)}
        with world.worker(settings, environment=environment).start() as worker:
            world.send("late_careful", "lost", 1.0, queue=queue)
            waiting = world.send("nap", "lost-waiting", 0.1, queue=queue)
            world.wait_event(waiting, "received")
            world.wait_marked("lost", "begin")
            proxy.cut()
            world.wait_marked("lost", "begin", "released: terminated", "begin", "end")
            world.wait_marked("lost-waiting", "begin", "end")
            assert worker.exit_code is None
            last = world.send("nap", "lost-last", 0.01, queue=queue)
            world.wait_event(last, "succeeded")  # one slot: whatever came before it has run
            assert world.marked("lost-waiting") == ["begin", "end"]


def test_a_start_hook_that_finds_a_wrong_setting_ends_the_worker_with_one_line(world: PoolWorld) -> None:
    with world.worker(environment={"POOL_FAIL_START": "1"}).launch() as worker:
        assert worker.wait() == 1
        assert "worker_start_failed: POOL_FAIL_START: set, and must not be" in worker.stderr
        assert "Traceback" not in worker.stderr
