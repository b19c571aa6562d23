"""Injecting faults: each takes effect, lasts, and is healed before the next one begins."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from workers.chaos.clients import Habit
from workers.chaos.deployment import Deployment, until
from workers.chaos.load import Load
from workers.chaos.model_server import BROKEN, REFUSED
from workers.chaos.plan import KILL_POINTS, MODEL_WEATHER, STATE_WEATHER, Fault, FaultKind
from workers.chaos.proxy import Proxy, Weather
from workers.chaos.records import Injected
from workers.failpoints import Action, Entry, FailPoint
from workers.testing.provider_steps import Cut, Hang, Step

ARMED_SECONDS = 4.0
"""How long a fail point waits for somebody to pass."""

CLOCK_SECONDS = 600.0
"""Of an hour, a turn's deadline: a clock that is off may not end what is in time, not even when it steps again."""

MOST_CHUNKS = 45
DOWN_SECONDS = 0.3
STORM = 3
FAILED_CALLS = 3
"""Fewer in a row than open the model's circuit."""

CLIENTS = 5
NOBODY = ""


@dataclass(slots=True)
class _Effect:
    """What came of an injection, filled in while it lasts."""

    target: str = NOBODY
    hit: bool = True
    subject: str = ""
    at: float = 0.0
    healed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where faults are injected."""

    deployment: Deployment
    load: Load


async def inject(site: Site, fault: Fault) -> None:
    """Inject one fault, wait until it has healed, and record it."""
    effect = _Effect(at=time.time())
    try:
        await HOW[fault.kind](site, fault, effect)
    finally:
        site.deployment.recorder.write(
            Injected(fault.kind, effect.at, effect.healed_at, effect.target, effect.hit, effect.subject)
        )


def _two_leases(site: Site) -> float:
    return 2 * site.deployment.settings.lease_seconds


async def _kill_at(site: Site, fault: Fault, effect: _Effect) -> None:
    point = KILL_POINTS[fault.kind]
    index = fault.pick(MOST_CHUNKS) if point is FailPoint.AFTER_MODEL_CHUNK else None
    if point is FailPoint.IN_DEAD_LETTER:
        await site.load.publish_flaw(random.Random(fault.draw))
    await _act_at(site, Entry(point, Action.KILL, index), effect)


async def _act_at(site: Site, entry: Entry, effect: _Effect) -> None:
    passed = await site.deployment.fail_points.passed(entry, ARMED_SECONDS)
    if passed is None:
        effect.hit = False
        return
    effect.at, effect.subject = passed.at, passed.subject
    effect.target = site.deployment.processes.name_of(passed.pid)


async def _stall(site: Site, fault: Fault, effect: _Effect) -> None:
    """Keep the event loop of a worker from running, in the middle of a turn."""
    entry = Entry(FailPoint.AFTER_MODEL_CHUNK, Action.STALL, fault.pick(MOST_CHUNKS), seconds=_two_leases(site))
    await _act_at(site, entry, effect)
    await asyncio.sleep(_two_leases(site))


async def _step_clock(site: Site, fault: Fault, effect: _Effect) -> None:
    seconds = CLOCK_SECONDS if fault.kind is FaultKind.CLOCK_FORWARD else -CLOCK_SECONDS
    await _act_at(site, Entry(FailPoint.AFTER_BEGIN, Action.CLOCK, seconds=seconds), effect)


async def _signal(site: Site, fault: Fault, effect: _Effect) -> None:
    deployment = site.deployment
    worker = fault.kind is FaultKind.DRAIN_WORKER
    effect.target = _pick(site, fault, worker=worker)
    number = signal.SIGKILL if fault.kind is FaultKind.KILL_GATEWAY else signal.SIGTERM
    process = deployment.process(effect.target)
    effect.hit = process.signal(number)
    await until(lambda: process.pid is None, ARMED_SECONDS)


async def _stop(site: Site, fault: Fault, effect: _Effect) -> None:
    """Stop a worker in the middle of a turn, as a hypervisor or a swapping machine does."""
    entry = Entry(FailPoint.AFTER_MODEL_CHUNK, Action.STOP, fault.pick(MOST_CHUNKS))
    await _act_at(site, entry, effect)
    if not effect.hit or effect.target == NOBODY:
        return
    await asyncio.sleep(_two_leases(site))
    site.deployment.process(effect.target).signal(signal.SIGCONT)


async def _kill_redis(site: Site, _: Fault, effect: _Effect) -> None:
    redis = site.deployment.redis
    redis.kill()
    await asyncio.sleep(DOWN_SECONDS)
    await redis.start()
    effect.healed_at = time.time()


async def _flush_scripts(site: Site, _: Fault, effect: _Effect) -> None:
    async with site.deployment.redis.client() as client:
        await client.script_flush()


async def _reset(site: Site, fault: Fault, effect: _Effect) -> None:
    _proxy(site, fault, effect, state=fault.kind is FaultKind.STATE_RESET).reset()


async def _change_weather(site: Site, fault: Fault, effect: _Effect) -> None:
    state = fault.kind in STATE_WEATHER
    weather = STATE_WEATHER[fault.kind] if state else MODEL_WEATHER[fault.kind]
    proxy = _proxy(site, fault, effect, state=state)
    with _weather(proxy, weather):
        await asyncio.sleep(_two_leases(site))
    effect.healed_at = time.time()


async def _fail_calls(site: Site, fault: Fault, effect: _Effect) -> None:
    steps: dict[FaultKind, Step] = {
        FaultKind.MODEL_429: REFUSED,
        FaultKind.MODEL_500: BROKEN,
        FaultKind.MODEL_HANG: Hang(after_deltas=fault.pick(5)),
        FaultKind.MODEL_CUT: Cut(after_deltas=fault.pick(8), clean=bool(fault.pick(2))),
    }
    model, count = site.deployment.model, 1 if fault.kind is FaultKind.MODEL_HANG else FAILED_CALLS
    model.fail(*[steps[fault.kind]] * count)
    await asyncio.sleep(_two_leases(site))
    effect.hit = model.forgive() < count
    effect.healed_at = time.time()


async def _storm(site: Site, _: Fault, effect: _Effect) -> None:
    """Everything of late is published again, several times, all at once."""
    recent = site.load.recent * STORM
    effect.subject = f"{len(recent)} publications"
    effect.hit = bool(recent)
    await asyncio.gather(*(site.load.publishers.once(message) for message in recent))


async def _change_habits(site: Site, fault: Fault, _: _Effect) -> None:
    slow = fault.kind is FaultKind.SLOW_CLIENTS
    site.load.habits += [Habit.SLOW if slow else Habit.RECONNECTING] * CLIENTS


def _proxy(site: Site, fault: Fault, effect: _Effect, *, state: bool) -> Proxy:
    """The network of a worker, or of a gateway where the draw says so and the fault can be met there."""
    effect.target = _pick(site, fault, worker=not state or fault.draw % 4 != 0)
    network = site.deployment.networks[effect.target]
    return network.state if state else network.provider


def _pick(site: Site, fault: Fault, *, worker: bool) -> str:
    names = site.deployment.worker_names if worker else site.deployment.gateway_names
    return names[fault.pick(len(names))]


@contextmanager
def _weather(proxy: Proxy, weather: Weather) -> Iterator[None]:
    proxy.change(weather)
    try:
        yield
    finally:
        proxy.change(Weather.FINE)


How = Callable[[Site, Fault, _Effect], Awaitable[None]]

HOW: Mapping[FaultKind, How] = {
    **dict.fromkeys(KILL_POINTS, _kill_at),
    **dict.fromkeys([*STATE_WEATHER, *MODEL_WEATHER], _change_weather),
    **dict.fromkeys((FaultKind.KILL_GATEWAY, FaultKind.DRAIN_GATEWAY, FaultKind.DRAIN_WORKER), _signal),
    **dict.fromkeys((FaultKind.CLOCK_FORWARD, FaultKind.CLOCK_BACK), _step_clock),
    **dict.fromkeys((FaultKind.STATE_RESET, FaultKind.MODEL_RESET), _reset),
    **dict.fromkeys((FaultKind.MODEL_429, FaultKind.MODEL_500, FaultKind.MODEL_HANG, FaultKind.MODEL_CUT), _fail_calls),
    **dict.fromkeys((FaultKind.SLOW_CLIENTS, FaultKind.RECONNECTING_CLIENTS), _change_habits),
    FaultKind.STOP: _stop,
    FaultKind.STALL: _stall,
    FaultKind.REDIS_KILL: _kill_redis,
    FaultKind.SCRIPT_FLUSH: _flush_scripts,
    FaultKind.DUPLICATES: _storm,
}
"""How each kind is injected."""
