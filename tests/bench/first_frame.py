"""(c) From publishing to the first frame at an SSE client, with a model of zero delay, while other streams run."""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import httpx

from schemas.events import event_id
from tests.bench.paces import SLOW_WORD
from tests.bench.sizes import Sizes
from tests.bench.sse import request
from tests.bench.stack import MODEL_APP, SERVICE_KEY, Stack, stack
from tests.bench.table import Line, Table, percentile
from workers.publisher import Publisher

P50_MS, P99_MS = 25.0, 80.0
FRAME = b"data: "
DELTA = b"text_delta"
SLOW_SECONDS = 0.05
USER = "u1"

Turn = Callable[[], Coroutine[Any, Any, list[float]]]
"""Runs one turn; milliseconds to its first frame, and to its first piece of text where that is measured."""


def run(sizes: Sizes) -> list[Table]:
    with stack() as parts:
        parts.migrate()
        floor, address = parts.serve("tests.bench.floor_server:app"), parts.gateway()
        parts.worker(MODEL_APP, BENCH_DELTAS="20", BENCH_SLOW_DELTAS="100000", BENCH_SLOW_SECONDS=str(SLOW_SECONDS))
        lines = asyncio.run(_measure(parts, floor, address, sizes))
    how = (
        f"{sizes.open_streams} streams of {1 / SLOW_SECONDS:.0f} deltas/s open, {sizes.turns_per_second:g} new turns/s"
    )
    return [Table("(c) publish to first frame", how, lines)]


async def _measure(parts: Stack, floor: str, address: str, sizes: Sizes) -> list[Line]:
    token = {"Authorization": f"Bearer {await _client_secret(address)}"}

    async def bare() -> list[float]:
        return await _timed("POST", floor, _create("hi"), {}, [FRAME])

    async def page() -> list[float]:
        return await _timed("POST", f"{address}/chatkit", _create("hi"), token, [FRAME, DELTA])

    open_streams = [asyncio.create_task(_follow(address, token)) for _ in range(sizes.open_streams)]
    try:
        await asyncio.sleep(3 if sizes.open_streams > 5 else 1)  # they have begun
        for _ in range(5):
            await page()  # code and connections are loaded
        floor_ms = await _at_a_pace(bare, sizes)
        page_ms = await _at_a_pace(page, sizes)
        with ExitStack() as ending:
            publisher = ending.enter_context(Publisher(parts.broker_url))
            queue_ms = await _at_a_pace(lambda: _through_the_queue(publisher, address, token), sizes)
        ended_early = [task for task in open_streams if task.done()]
        assert not ended_early, f"{len(ended_early)} of the open streams ended early: {ended_early[0].exception()}"
    finally:
        for task in open_streams:
            task.cancel()
        await asyncio.gather(*open_streams, return_exceptions=True)
    return [
        *_lines("bare ASGI app, one frame", [ms for ms, *_ in floor_ms], with_target=False),
        *_lines("POST /chatkit, first frame", [ms for ms, *_ in page_ms], with_target=True),
        *_lines("POST /chatkit, first text", [ms for _, ms in page_ms], with_target=True),
        *_lines("Publisher, then GET stream, first frame", [ms for ms, *_ in queue_ms], with_target=True),
    ]


async def _at_a_pace(turn: Turn, sizes: Sizes) -> list[list[float]]:
    """Start turns at a fixed rate, whether or not the ones before have ended."""
    begun: list[asyncio.Task[list[float]]] = []
    started = time.monotonic()
    for number in range(sizes.first_frame_turns):
        await asyncio.sleep(max(0.0, started + number / sizes.turns_per_second - time.monotonic()))
        begun.append(asyncio.create_task(turn()))
    return list(await asyncio.gather(*begun))


async def _timed(method: str, url: str, body: Any, headers: dict[str, str], marks: list[bytes]) -> list[float]:
    """Milliseconds from sending to each of the marks in the answer, which is read to its end."""
    started = time.perf_counter()
    times = []
    async with request(method, url, body=body, headers=headers) as response:
        assert response.status == 200, f"{url} answered {response.status}"
        for mark in marks:
            assert await response.until(mark), f"{url} ended without {mark!r}"
            times.append((time.perf_counter() - started) * 1000)
        await response.drain()
    return times


async def _through_the_queue(publisher: Publisher, address: str, token: dict[str, str]) -> list[float]:
    """Publish to the queue, and open the event's stream: it is not found until a worker has accepted the event."""
    id_ = uuid.uuid4().hex
    event = {
        "specversion": "1.0",
        "id": id_,
        "source": "/bench",
        "type": "chatkit.threads.create",
        "userid": USER,
        "data": _create("hi"),
    }
    url = f"{address}/v1/events/{event_id('/bench', id_)}/stream"
    started = time.perf_counter()
    await publisher.apublish(event)
    while True:
        async with request("GET", url, headers=token) as response:
            if response.status == 404:
                continue
            assert response.status == 200, f"{url} answered {response.status}"
            assert await response.until(FRAME), "the stream ended without a frame"
            elapsed = (time.perf_counter() - started) * 1000
            await response.drain()
            return [elapsed]


async def _follow(address: str, token: dict[str, str]) -> None:
    """Keep a slow answer open."""
    async with request("POST", f"{address}/chatkit", body=_create(SLOW_WORD), headers=token) as response:
        assert response.status == 200, f"/chatkit answered {response.status}"
        await response.drain()


async def _client_secret(address: str) -> str:
    async with httpx.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {SERVICE_KEY}"}
        answer = await client.post(f"{address}/v1/sessions", json={"user": USER}, headers=headers)
        return str(answer.raise_for_status().json()["client_secret"])


def _create(text: str) -> dict[str, Any]:
    message = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
    return {"type": "threads.create", "params": {"input": message}, "metadata": {}}


def _lines(what: str, milliseconds: list[float], *, with_target: bool) -> list[Line]:
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    if not with_target:
        return [Line(f"{what}, p50", f"{p50:.1f} ms"), Line(f"{what}, p99", f"{p99:.1f} ms")]
    return [
        Line(f"{what}, p50", f"{p50:.1f} ms", f"< {P50_MS:g} ms", p50 < P50_MS),
        Line(f"{what}, p99", f"{p99:.1f} ms", f"< {P99_MS:g} ms", p99 < P99_MS),
    ]
