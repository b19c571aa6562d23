"""A run from its start to its records: the parts, the load, the faults one after another, rest, a last look."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from workers.chaos.deployment import Deployment, MakeSystem, deployed
from workers.chaos.faults import Site, inject
from workers.chaos.flood import flood
from workers.chaos.load import Load
from workers.chaos.model_server import DELAY_SECONDS
from workers.chaos.plan import FIRST_SECONDS, LEAST_FAULTS, plan
from workers.chaos.publishers import Publishers
from workers.chaos.records import Record, Recorder, Setup, read
from workers.chaos.settings import CONCURRENCY, RPM, RunSettings
from workers.publisher import Publisher

Tell = Callable[[str], None]
LOOK_SECONDS = 0.3
LAST_SECONDS = 5.0
"""How long clients may take to hear of ends that have come."""

PUBLISH_SECONDS = 3.0


async def run(settings: RunSettings, make_system: MakeSystem, folder: Path, tell: Tell) -> list[Record]:
    """Run once, in a folder of its own; what was recorded.

    Raises:
        ChaosError: the suite could not do its work. What the deployment did wrong is in the records.
    """
    records = folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(records)
    try:
        async with deployed(settings, make_system, recorder, folder, delay_seconds=DELAY_SECONDS) as deployment:
            limits = (RPM, CONCURRENCY)
            name = deployment.system.name
            recorder.write(Setup(name, settings.seed, settings.lease_seconds, settings.fsync, *limits))
            tell(f"seed {settings.seed}: {name} is up; faults for {settings.seconds:.0f} s …")
            async with loaded(deployment) as load:
                await _play(deployment, load, tell)
    finally:
        recorder.close()
    return read(records)


@asynccontextmanager
async def loaded(deployment: Deployment) -> AsyncIterator[Load]:
    """The publishers and clients of a deployment; its clients are let go at the end."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(limits=limits, trust_env=False))
        queue = None
        if deployment.system.has_queue:
            queue = stack.enter_context(Publisher(deployment.redis.url, timeout_seconds=PUBLISH_SECONDS))
        seed = deployment.settings.seed
        publishers = Publishers(deployment.gateway_urls, queue, http, deployment.recorder, random.Random(seed))
        load = Load(seed, publishers, deployment.recorder, deployment.gateway_urls)
        stack.push_async_callback(load.close)
        yield load


async def _play(deployment: Deployment, load: Load, tell: Tell) -> None:
    """The load and the faults beside it, then rest."""
    settings = deployment.settings
    if settings.flood:
        tell(f"seed {settings.seed}: a flood of another tenant, before any fault …")
        await flood(load)
        await _rest(deployment, load)
    talking = asyncio.create_task(load.run())
    try:
        deadline = time.monotonic() + settings.seconds
        await asyncio.sleep(FIRST_SECONDS)
        for number, fault in enumerate(plan(settings.seed, settings.lease_seconds)):
            if time.monotonic() > deadline and number >= LEAST_FAULTS:
                break
            await inject(Site(deployment, load), fault)
            await asyncio.sleep(fault.pause)
        load.stop()
        await talking
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    tell(f"seed {settings.seed}: {len(load.cases)} events; the last fault has healed, waiting for rest …")
    await deployment.processes.until_ready()
    await _rest(deployment, load)
    deployment.model.mended = True
    for flaw in load.flaws:
        await load.publishers.redrive(flaw)
        deployment.system.look_again(flaw.event_id)
        load.follow(flaw)
    why = await _rest(deployment, load)
    await _hear(load)
    deployment.recorder.write(*await deployment.system.snapshot(load.cases, why))


async def _rest(deployment: Deployment, load: Load) -> str:
    """Wait until everything has ended; why it has not, if it has not in time."""
    deadline = time.monotonic() + deployment.settings.quiet_seconds
    while True:
        rest = await deployment.system.rest(load.publishers.kept)
        if rest.reached:
            return ""
        if time.monotonic() > deadline:
            return f"{len(rest.unfinished)} events have not ended, the first {rest.unfinished[:3]}; {rest.why}"
        await asyncio.sleep(LOOK_SECONDS)


async def _hear(load: Load) -> None:
    """Let the clients hear of the ends."""
    waiting = [reader for reader in load.readers if not reader.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=LAST_SECONDS)
