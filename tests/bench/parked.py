"""(f) Events that wait for a limit: what each costs in Redis and in the worker that parked it, and what looking after
them takes. They come through the queue, a real worker parks them, and a provider answers those that are let go."""

import asyncio
import time
from bisect import bisect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from schemas.events import Event
from schemas.outcome import CancelReason, EventState
from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, rss_mb, stack, until
from tests.bench.table import Line, Table, percentile
from tests.builders import create_event
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.limits.limiter import Limiter
from workers.publisher import Publisher
from workers.setting_types import Limits
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Text

FEW = 1_000
BATCH = 1_000
ROUNDS = 50
WARM_UP = 5_000
"""Events that come and go before anything is measured: the worker has then grown to what its work takes."""

MOST_BYTES, MOST_MB = 2048, 10
PARK_SECONDS_EACH = 0.05
NOBODY = Limits.model_validate({"models": {"*": {"rpm": 0.0001}}})
"""Lets the very first event through, and then nobody for as long as this runs."""

ONE_AT_A_TIME = Limits.model_validate({"models": {"*": {"concurrency": 1}}})


@dataclass(frozen=True, slots=True)
class Parked:
    """What was measured while so many waited. Times are medians in seconds."""

    count: int
    bytes_each: float
    worker_mb: float
    times: dict[str, float]


def run(sizes: Sizes) -> list[Table]:
    few, many = (min(FEW, sizes.parked // 2), sizes.parked)
    with FakeProvider(lambda _: Text("Fine.")) as provider, stack() as parts:
        parts.migrate()
        worker = parts.worker(
            OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="of-no-value", CHATKIT_LIMITS=NOBODY.model_dump_json()
        )
        gone = min(WARM_UP, many)
        _park(parts, 0, gone)
        asyncio.run(_warm_up(parts.state_url, provider, gone))
        empty, bodies, parked = asyncio.run(_memory(parts.state_url)), 0, 0
        measured = []
        for count in (few, many):
            bodies += _park(parts, gone + parked, gone + count)
            parked = count
            bytes_each = (asyncio.run(_memory(parts.state_url)) - empty - bodies) / count
            worker_mb = rss_mb(worker.pid)
            times = asyncio.run(_times(parts.state_url, provider, gone + count // 2))
            measured.append(Parked(count, bytes_each, worker_mb, times))
    return [
        Table("(f) events that wait for a limit", "parked by one worker, which looks after them", _lines(*measured))
    ]


def _lines(few: Parked, many: Parked) -> list[Line]:
    grown = many.worker_mb - few.worker_mb
    lines = [
        Line(
            "Redis memory per event, beside its body",
            f"{many.bytes_each:.0f} B",
            "<= 2 KB",
            many.bytes_each <= MOST_BYTES,
        ),
        Line(f"worker memory, more than with {few.count:,}", f"{grown:+.1f} MB", "+- 10 MB", abs(grown) <= MOST_MB),
    ]
    for what, large in many.times.items():
        small = few.times[what]
        lines.append(
            Line(f"{what}, p50", f"{small * 1000:.2f} ms at {few.count:,}, {large * 1000:.2f} ms at {many.count:,}")
        )
    return lines


def _event(number: int) -> Event:
    return create_event(
        "What is the weather like today?", id=f"e{number}", tenant=f"t{number % 20}", userid=f"u{number % 5000}"
    )


def _park(parts: Stack, first: int, last: int) -> int:
    """Publish events, and wait until all but those that were let go are parked; the bytes of their bodies."""
    bodies = 0
    with Publisher(parts.broker_url) as publisher:
        for start in range(first, last, BATCH):
            events = [_event(number) for number in range(start, min(last, start + BATCH))]
            bodies += sum(len(event.to_json()) for event in events)
            publisher.publish_many(events)

    async def all_wait(lanes: Lanes) -> bool:
        states = (await lanes.depth()).states
        return bool(
            states[EventState.WAITING_LIMIT] + sum(states[state] for state in EventState if state.ended) == last
        )

    until(parts, all_wait, within=60 + PARK_SECONDS_EACH * last)
    return bodies


@asynccontextmanager
async def _parts(url: str) -> AsyncIterator[tuple[Lanes, Limiter]]:
    """The lanes, to look at and to cancel in, and the limits."""
    state, keys = connect(url), Keys("ck", 8)
    try:
        # bounds and lease matter to those who accept and begin
        lanes = Lanes(
            state,
            keys,
            owner="bench",
            lease=timedelta(seconds=60),
            max_waiting_per_lane=1,
            max_waiting=1,
            retention=timedelta(days=1),
        )
        yield lanes, Limiter(state, keys)
    finally:
        await state.aclose()


async def _times(url: str, provider: FakeProvider, middle: int) -> dict[str, float]:
    """Medians of one look, one question, one cancel, and of what passes between a free place and the next call."""
    async with _parts(url) as (lanes, limiter):
        events = [_event(middle + number) for number in range(ROUNDS)]
        return {
            "sweep of all lanes": await _timed(lanes.sweep),
            "look of the granters": await _timed(limiter.grant),
            "place in line": await _timed(lambda: limiter.places([events[0].event_id])),
            "cancel in the middle": await _timed_each(events, lambda event: _cancel(lanes, limiter, event)),
            "from a free place to the next call": await _handing_out(limiter, provider),
        }


async def _warm_up(url: str, provider: FakeProvider, count: int) -> None:
    """Let some be answered, and cancel the others."""
    async with _parts(url) as (lanes, limiter):
        await _handing_out(limiter, provider)
        for number in range(count):
            await _cancel(lanes, limiter, _event(number))


async def _handing_out(limiter: Limiter, provider: FakeProvider) -> float:
    """Let events go one after another: from the end of an answer to the next call that the provider gets."""
    first = len(provider.calls)
    await limiter.set_limits(ONE_AT_A_TIME)
    while len(provider.calls) < first + ROUNDS + 1:
        await asyncio.sleep(0.05)
    await limiter.set_limits(NOBODY)
    calls = [call.at for call in provider.calls[first + 1 : first + ROUNDS + 1]]
    ends = sorted(provider.ended)
    return percentile([at - ends[bisect(ends, at) - 1] for at in calls], 0.5)


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


async def _memory(url: str) -> int:
    """What Redis uses, once it has come to rest."""
    state: State = connect(url)
    try:
        await asyncio.sleep(1)
        info: Any = await state.info("memory")
        return int(info["used_memory"])
    finally:
        await state.aclose()
