"""(f) Events that wait for a limit: what each costs in Redis, and what looking after all of them takes."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from schemas.events import Event
from schemas.outcome import CancelReason, Parked, ParkReason
from tests.bench.sizes import Sizes
from tests.bench.stack import rss_mb, stack
from tests.bench.table import Line, Table, percentile
from tests.builders import create_event
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Begun, Settlement, Start
from workers.limits.limiter import Ask, Limiter
from workers.setting_types import Limits

MODEL = "gpt-4.1"
FEW = 1_000
BATCH = 100
ROUNDS = 50
MOST_BYTES = 2048
LIMITS = Limits.model_validate({"models": {"*": {"rpm": 60}}})
PARK = Parked(ParkReason.RATE_LIMIT, timedelta(hours=2))


def run(sizes: Sizes) -> list[Table]:
    few, many = (min(FEW, sizes.parked // 2), sizes.parked)
    lines: list[Line] = []
    times: dict[int, dict[str, float]] = {}
    warm_up = 0.0
    for count in (few, many):
        with stack() as parts:
            parts.migrate()
            worker = parts.worker(OPENAI_BASE_URL="http://127.0.0.1:9/v1", CHATKIT_LIMITS=LIMITS.model_dump_json())
            before = rss_mb(worker.pid)
            figures, bytes_each = asyncio.run(_measure(parts.state_url, count))
            times[count] = figures
            if count == few:
                warm_up = rss_mb(worker.pid) - before  # what any worker grows by when it wakes
            if count == many:
                grown = rss_mb(worker.pid) - before - warm_up
                lines.append(
                    Line(
                        "Redis memory per event, beside its body",
                        f"{bytes_each:.0f} B",
                        "<= 2 KB",
                        bytes_each <= MOST_BYTES,
                    )
                )
                lines.append(
                    Line(f"worker memory, more than with {few:,}", f"{grown:+.1f} MB", "+- 10 MB", abs(grown) <= 10)
                )
    for what in times[many]:
        small, large = times[few][what], times[many][what]
        lines.append(Line(f"{what}, p50", f"{small * 1000:.2f} ms at {few:,}, {large * 1000:.2f} ms at {many:,}"))
    return [Table("(f) events that wait for a limit", "one worker looks after them meanwhile", lines)]


async def _measure(url: str, count: int) -> tuple[dict[str, float], float]:
    """Times of one look, one reservation and one cancel; bytes that Redis needs for each event."""
    state, keys = connect(url), Keys("ck", 8)
    try:
        lanes = Lanes(
            state,
            keys,
            owner="bench",
            lease=timedelta(seconds=60),
            max_waiting_per_lane=10,
            max_waiting=10 * count,
            retention=timedelta(days=1),
        )
        limiter = Limiter(state, keys)
        before = await _memory(state)
        bodies = await _park(lanes, limiter, count)
        await asyncio.sleep(1)
        each = (await _memory(state) - before - bodies) / count
        middle = [_event(count // 2 + number) for number in range(ROUNDS)]
        return {
            "sweep of all lanes": await _timed(lanes.sweep),
            "handing out": await _timed(limiter.grant),
            "place in line": await _timed(lambda: limiter.places([middle[0].event_id])),
            "cancel in the middle": await _timed_each(middle, lambda event: _cancel(lanes, limiter, event)),
        }, each
    finally:
        await state.aclose()


def _event(number: int) -> Event:
    return create_event(
        "What is the weather like today?", id=f"e{number}", tenant=f"t{number % 20}", userid=f"u{number % 5000}"
    )


async def _park(lanes: Lanes, limiter: Limiter, count: int) -> int:
    """Accept, begin and park events as a worker does; the bytes of their bodies."""
    bodies = 0
    for start in range(0, count, BATCH):
        events = [_event(number) for number in range(start, min(count, start + BATCH))]
        bodies += sum(len(event.to_json()) for event in events)
        await lanes.accept([(event, "chatkit.interactive") for event in events])
        begun = await lanes.begin(
            [Start(event.lane, event.event_id, uuid.uuid4().hex, want_body=False) for event in events]
        )
        asks = [Ask(event, event.lane, "chatkit.interactive", MODEL) for event in events]
        await asyncio.gather(*(limiter.reserve(ask, "t", timedelta(hours=1)) for ask in asks))
        parks = [Settlement(one.lease, PARK, delay=PARK.delay) for one in begun if isinstance(one, Begun)]
        await lanes.settle(parks)
    return bodies


async def _cancel(lanes: Lanes, limiter: Limiter, event: Event) -> None:
    await lanes.cancel(event.event_id, CancelReason.USER)
    await limiter.leave([event.event_id])


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    return await _timed_each([None] * ROUNDS, lambda _: call())


async def _timed_each(items: list[Any], call: Callable[[Any], Awaitable[object]]) -> float:
    """Median seconds of a call."""
    seconds = []
    for item in items:
        began = time.perf_counter()
        await call(item)
        seconds.append(time.perf_counter() - began)
    return percentile(seconds, 0.5)


async def _memory(state: State) -> int:
    info: Any = await state.info("memory")
    return int(info["used_memory"])
