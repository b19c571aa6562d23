"""The parts of a run: Redis, a model, a network between them, workers and gateways, each on a free port."""

import asyncio
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from workers.chaos.arming import FailPointFolder
from workers.chaos.model_server import ModelServer
from workers.chaos.processes import Process, Processes
from workers.chaos.proxy import HOST, Proxy
from workers.chaos.records import Recorder
from workers.chaos.redis import RedisServer
from workers.chaos.settings import RunSettings
from workers.chaos.system import Places, System
from workers.embedded.redis import free_port
from workers.failpoints import VARIABLE as FAIL_POINTS

MakeSystem = Callable[[RunSettings, Path, str], System]
"""A kind of deployment: the settings of the run, its folder, and Redis' address."""


@dataclass(slots=True)
class Network:
    """What one process reaches its neighbours through."""

    state: Proxy
    provider: Proxy


@dataclass(slots=True)
class Deployment:
    """Everything that runs. `worker_names` and `gateway_names` name its processes."""

    settings: RunSettings
    folder: Path
    system: System
    redis: RedisServer
    model: ModelServer
    processes: Processes
    networks: dict[str, Network]
    fail_points: FailPointFolder
    recorder: Recorder
    worker_names: Sequence[str]
    gateway_names: Sequence[str]
    gateway_urls: Sequence[str]

    def process(self, name: str) -> Process:
        return self.processes.all[name]


@asynccontextmanager
async def deployed(
    settings: RunSettings, make_system: MakeSystem, recorder: Recorder, folder: Path, *, delay_seconds: float
) -> AsyncIterator[Deployment]:
    """Start every part and wait until each does its work; end all of them, whatever happens.

    Raises:
        ChaosError: a part did not start.
    """
    for name in ("logs", "records", "failpoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        model = stack.enter_context(ModelServer(recorder, delay_seconds=delay_seconds))
        redis = RedisServer(folder, fsync=settings.fsync)
        stack.callback(redis.stop)
        await redis.start()
        system = make_system(settings, folder, redis.url)
        stack.push_async_callback(system.close)
        switches = {FAIL_POINTS: f"@{folder / 'failpoints'}"}
        processes = await stack.enter_async_context(Processes(folder / "logs", system.preload, switches, recorder))
        await system.prepare()
        workers = [f"w{number}" for number in range(1, settings.workers + 1)]
        ports = {f"g{number}": free_port() for number in range(1, settings.gateways + 1)}
        networks = {name: await _network(stack, redis.port, model.port) for name in [*workers, *ports]}
        deployment = Deployment(
            settings=settings,
            folder=folder,
            system=system,
            redis=redis,
            model=model,
            processes=processes,
            networks=networks,
            fail_points=FailPointFolder(folder / "failpoints"),
            recorder=recorder,
            worker_names=workers,
            gateway_names=list(ports),
            gateway_urls=[f"http://{HOST}:{port}" for port in ports.values()],
        )
        for name in workers:
            processes.start(system.worker(name, _places(deployment, name)), lambda process: process.said("ready"))
        for name, port in ports.items():
            processes.start(system.gateway(name, port, _places(deployment, name)), _ready_at(port))
        await processes.until_ready()
        yield deployment


async def _network(stack: AsyncExitStack, redis_port: int, model_port: int) -> Network:
    state = await stack.enter_async_context(Proxy(redis_port))
    return Network(state, await stack.enter_async_context(Proxy(model_port)))


def _places(deployment: Deployment, name: str) -> Places:
    network = deployment.networks[name]
    state_url = f"redis://{HOST}:{network.state.port}/0"
    return Places(state_url, f"http://{HOST}:{network.provider.port}/{name}/v1", deployment.folder)


def _ready_at(port: int) -> Callable[[Process], bool]:
    def ready(_process: Process) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    return ready


@contextmanager
def run_folder(keep: Path | None) -> Iterator[Path]:
    """The folder of a run: the one that is to be kept, or one that goes with it."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="chatkit-chaos-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def until(probe: Callable[[], bool], within_seconds: float) -> bool:
    """Wait for something; False when it did not come."""
    deadline = time.monotonic() + within_seconds
    while not probe():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
