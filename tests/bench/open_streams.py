"""(k) A thousand open streams of one gateway process: memory, CPU, delay of a frame, connections to Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx

from schemas.events import Event
from tests.bench.sizes import Sizes
from tests.bench.stack import SERVICE_KEY, Stack, cpu_seconds, pid_of, rss_mb, stack
from tests.bench.table import Line, Table, percentile
from tests.builders import create_event, delivery_of
from tests.crowd import Sent, gather_crowd
from tests.lane_builders import QUEUE, lanes_on
from workers.gateway.wiring import NAME
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Append, Appended, AppendRefused, Begun, Joined, JoinRefused, Start
from workers.policies.delivery import Lease
from workers.streams.turn_frames import TurnFrames
from workers.streams.writer import FrameWriter

PAUSE_SECONDS = 0.5
"""Between two frames of a turn."""

MOST_CONNECTIONS = 5
IDLE_SECONDS = 6.0
USER = "u1"
FRAME = (
    b'{"type":"thread.item.updated","item_id":"msg_0123456789abcdef","update":'
    b'{"type":"assistant_message.content_part.text_delta","content_index":0,"delta":" some words"}}'
)


@dataclass
class StampedLanes:
    """Lanes that remember when each frame was handed to the state."""

    lanes: Lanes
    written: dict[tuple[str, int], float] = field(default_factory=dict)

    async def append(self, appends: Sequence[Append]) -> list[Appended | AppendRefused]:
        now = time.monotonic()
        for append in appends:
            for number in range(append.first, append.first + len(append.frames)):
                self.written.setdefault((append.lease.event_id, number), now)
        return await self.lanes.append(appends)

    async def join(self, lease: Lease, step: str) -> Joined | JoinRefused:
        return await self.lanes.join(lease, step)

    def when(self, event_id: str, frame_id: bytes) -> float:
        return self.written[event_id, int(frame_id.rpartition(b"-")[2])]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server process took."""

    memory_kb: float
    idle_cores: float
    cores: float
    frame_us: float
    delays: Sequence[float]


def run(sizes: Sizes) -> list[Table]:
    with stack() as parts:
        parts.migrate()
        floor, address = parts.serve("tests.bench.crowd_server:app"), parts.gateway()
        ours, connections = asyncio.run(_ours(parts, address, sizes))
        bare = asyncio.run(_bare(floor, sizes))
    lines = [
        *_lines("bare ASGI app", bare, "a frame's delay"),
        *_lines("gateway", ours, "from XADD to a client"),
        Line("gateway, CPU while nothing is said", f"{ours.idle_cores:.2f} cores"),
        Line(
            "gateway, connections to Redis",
            f"{connections}",
            f"<= {MOST_CONNECTIONS}",
            connections <= MOST_CONNECTIONS,
        ),
    ]
    how = (
        f"{sizes.followed_turns} turns of {1 / PAUSE_SECONDS:g} frames/s, half of the clients follow an event, half a "
        f"thread: {sizes.clients / PAUSE_SECONDS:,.0f} frames/s go out"
    )
    return [Table(f"(k) {sizes.clients:,} open streams of one process", how, lines)]


async def _ours(parts: Stack, address: str, sizes: Sizes) -> tuple[Figures, int]:
    state = connect(parts.state_url)
    async with AsyncExitStack() as ending:
        ending.push_async_callback(state.aclose)
        lanes = StampedLanes(lanes_on(state, Keys("ck", 8)))
        writer = FrameWriter(lanes)
        ending.push_async_callback(writer.close)
        events = [create_event("hi", source="/bench", userid=USER) for _ in range(sizes.followed_turns)]
        turns = [await _begun(lanes.lanes, writer, event) for event in events]
        token = {"Authorization": f"Bearer {await _client_secret(address)}"}

        def url(number: int) -> tuple[str, str, Mapping[str, str]]:
            event = events[number // 2 % len(events)]
            path = f"threads/{event.thread_id}" if number % 2 else f"events/{event.event_id}"
            return event.event_id, f"{address}/v1/{path}/stream", token

        async def say() -> None:
            await asyncio.gather(*(_say(turn, number, sizes) for number, turn in enumerate(turns)))

        figures = await _measured(pid_of(address), [url(n) for n in range(sizes.clients)], lanes.when, say)
        return figures, await _connections(state)


async def _begun(lanes: Lanes, writer: FrameWriter, event: Event) -> TurnFrames:
    await lanes.accept([(event, QUEUE)])
    [begun] = await lanes.begin([Start(event.lane, event.event_id, "bench")])
    assert isinstance(begun, Begun), begun
    return writer.open(delivery_of(event, lease=begun.lease, next_frame=begun.next_frame))


async def _say(turn: TurnFrames, number: int, sizes: Sizes) -> None:
    """All frames of one turn, at the pace; turns begin one after another, as people do."""
    began = time.monotonic() + PAUSE_SECONDS * number / sizes.followed_turns
    for frame in range(sizes.frames_each):
        await asyncio.sleep(began + frame * PAUSE_SECONDS - time.monotonic())
        await turn.send(FRAME)
    await turn.flush()


async def _bare(floor: str, sizes: Sizes) -> Figures:
    urls: list[tuple[str, str, Mapping[str, str]]] = [
        (f"/{n % sizes.followed_turns}", f"{floor}/{n % sizes.followed_turns}", {}) for n in range(sizes.clients)
    ]

    async def say() -> None:
        await asyncio.sleep(sizes.frames_each * PAUSE_SECONDS)

    return await _measured(pid_of(floor), urls, lambda _, id_: float(id_), say, idle_seconds=0)


async def _measured(
    pid: int,
    urls: Sequence[tuple[str, str, Mapping[str, str]]],
    sent: Sent,
    say: Callable[[], Awaitable[object]],
    *,
    idle_seconds: float = IDLE_SECONDS,
) -> Figures:
    """Open the clients, let nothing happen, let the turns speak."""
    _, first = await gather_crowd(urls[:2], sent)  # what is loaded by the first ones is no client's
    await asyncio.sleep(1)
    before = rss_mb(pid)
    listeners, transports = await gather_crowd(urls, sent)
    idle_cores = await _cores(pid, lambda: asyncio.sleep(idle_seconds)) if idle_seconds else 0.0
    for listener in listeners:
        listener.delays.clear()
    started = cpu_seconds(pid)
    cores = await _cores(pid, say)
    await asyncio.sleep(1)
    used, memory_kb = cpu_seconds(pid) - started, (rss_mb(pid) - before) / len(urls) * 1000
    delays = [delay for listener in listeners for delay in listener.delays]
    ended = sum(listener.ended for listener in listeners)
    assert not ended, f"{ended} of the streams ended early"
    for transport in (*first, *transports):
        transport.close()
    return Figures(memory_kb, idle_cores, cores, used / len(delays) * 1e6, delays)


async def _cores(pid: int, what: Callable[[], Awaitable[object]]) -> float:
    """How many cores the process keeps busy meanwhile."""
    began, used = time.monotonic(), cpu_seconds(pid)
    await what()
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


async def _connections(state: State) -> int:
    """Of the gateway, by the names that its connections have given themselves."""
    clients = await state.client_list()
    return sum(client["name"].startswith(f"{NAME}:") for client in clients)


async def _client_secret(address: str) -> str:
    async with httpx.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {SERVICE_KEY}"}
        answer = await client.post(f"{address}/v1/sessions", json={"user": USER}, headers=headers)
        return str(answer.raise_for_status().json()["client_secret"])


def _lines(what: str, figures: Figures, late: str) -> list[Line]:
    p50, p99 = (percentile(figures.delays, share) * 1000 for share in (0.5, 0.99))
    return [
        Line(f"{what}, memory per client", f"{figures.memory_kb:.0f} kB"),
        Line(f"{what}, CPU", f"{figures.cores:.2f} cores"),
        Line(f"{what}, CPU per frame and client", f"{figures.frame_us:.0f} us"),
        Line(f"{what}, {late}, p50", f"{p50:.1f} ms"),
        Line(f"{what}, {late}, p99", f"{p99:.1f} ms"),
    ]
