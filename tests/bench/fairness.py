"""(g) Who waits how long: beside a flood, by weight, and against the time that is told. On a turned clock."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench.sizes import Sizes
from tests.bench.table import Line, Table, percentile
from tests.limit_builders import Stand, stand_on
from tests.services import RedisServer
from workers.lanes.connection import connect

STEP_SECONDS = 0.1
OTHERS = 20
LIMITED_RPM = 60
MOST_RATIO, WEIGHT, MOST_OFF = 3.0, 3.0, 0.25


def run(sizes: Sizes) -> list[Table]:
    with tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder:
        redis = RedisServer(Path(folder)).start()
        try:
            return [asyncio.run(_measure(redis, sizes))]
        finally:
            redis.kill()


async def _measure(redis: RedisServer, sizes: Sizes) -> Table:
    alone = await _waits(redis, {"b": OTHERS})
    beside = await _waits(redis, {"a": sizes.flood, "b": OTHERS})
    ratio = percentile(list(beside["b"].values()), 0.95) / percentile(list(alone["b"].values()), 0.95)
    weighted = await _waits(redis, {"a": 400, "b": 400}, weights={"a": WEIGHT}, until=400)
    served = Counter({tenant: len(waits) for tenant, waits in weighted.items()})
    share = served["a"] / served["b"]
    off = await _off(redis)
    off_beside = await _off(redis, {"a": {"rpm": LIMITED_RPM}})
    return Table(
        "(g) who waits how long",
        f"300 requests per minute; {sizes.flood:,} events of A are in line before {OTHERS} of B come at once",
        [
            Line(
                "B's p95 wait beside the flood, of its own alone",
                f"{ratio:.2f}x",
                f"< {MOST_RATIO:g}x",
                ratio < MOST_RATIO,
            ),
            Line("weights 3:1, served", f"{share:.2f}:1", "3:1 within 10 %", abs(share / WEIGHT - 1) <= 0.1),
            Line("time told to who waits, p90 off", f"{off:.1%}", f"<= {MOST_OFF:.0%}", off <= MOST_OFF),
            Line(
                f"the same, one tenant at its own {LIMITED_RPM} per minute",
                f"{off_beside:.1%}",
                f"<= {MOST_OFF:.0%}",
                off_beside <= MOST_OFF,
            ),
        ],
    )


async def _waits(
    redis: RedisServer, counts: dict[str, int], *, weights: dict[str, float] | None = None, until: int | None = None
) -> dict[str, dict[str, float]]:
    """Seconds that each event waits, by tenant, once all stand in line."""
    state = connect(redis.next_database_url())
    stand = stand_on(state, "fair")
    tenants = {tenant: {"weight": weight} for tenant, weight in (weights or {}).items()}
    await stand.limit(models={"*": {"rpm": 300}}, tenants=tenants)
    for tenant, count in counts.items():
        for number in range(count):
            await stand.ask(f"{tenant}{number}", tenant=tenant, userid=f"{tenant}{number}", tokens=100)
    waits: dict[str, dict[str, float]] = {tenant: {} for tenant in counts}
    wanted = until or OTHERS
    for step in range(1, 1_000_000):
        stand.turn(STEP_SECONDS)
        for name in await _served(stand):
            waits[name[0]][name] = step * STEP_SECONDS
        if (sum(map(len, waits.values())) if until else len(waits["b"])) >= wanted:
            break
    await state.aclose()
    return waits


async def _served(stand: Stand) -> list[str]:
    """Who is let through now, and what settling them hands on."""
    ready = await stand.granted()
    for name in ready:  # grows while it is read
        ready += await stand.settle(await stand.reserved(name, tenant=name[0], userid=name), tokens=100)
    return ready


async def _off(redis: RedisServer, tenants: dict[str, Any] | None = None) -> float:
    """How far the told times are off, for what waits more than two seconds: the p90 of the share."""
    state = connect(redis.next_database_url())
    stand = stand_on(state, "eta")
    await stand.limit(models={"*": {"rpm": 300, "concurrency": 20}}, tenants=tenants or {})
    told: dict[str, tuple[float, float]] = {}
    off: list[float] = []
    now = 0.0
    for number in range(600):
        tenant = "ab"[number % 2]
        await stand.ask(f"{tenant}{number}", tenant=tenant, userid=f"{tenant}{number}", tokens=100)
        if number % 3 == 0:  # they come faster than they are served, and go on coming
            stand.turn(STEP_SECONDS)
            now += STEP_SECONDS
            await _note(stand, told, off, now)
        [place] = await stand.limiter.places([list(stand.names)[-1]])
        if place is not None:
            told[f"{tenant}{number}"] = (now, place.eta.total_seconds())
    for _ in range(4_000):
        stand.turn(STEP_SECONDS)
        now += STEP_SECONDS
        await _note(stand, told, off, now)
    await state.aclose()
    return percentile(off, 0.9)


async def _note(stand: Stand, told: dict[str, tuple[float, float]], off: list[float], now: float) -> None:
    for name in await _served(stand):
        if name in told:
            at, eta = told[name]
            if now - at > 2:
                off.append(abs(eta - (now - at)) / (now - at))
