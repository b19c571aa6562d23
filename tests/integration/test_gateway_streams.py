"""A real server, a real Redis and real connections: streams that drop, resume, and are read by many."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from schemas.events import Event, event_id, parse_event
from schemas.outcome import Done
from tests.builders import create_event
from tests.eventually import eventually
from tests.services import free_port
from tests.unit.gateway.parsing import ServerEvent, parse_sse
from tests.unit.gateway.stage import SERVICE, Stage, create_request, message_request, raw_event, serving, stage_on
from workers.errors import CancelRequestedError
from workers.gateway import sse
from workers.lanes.connection import connect
from workers.lanes.records import Settlement
from workers.limits.limiter import Ask
from workers.setting_types import Limits
from workers.streams.subscriptions import Subscriptions
from workers.streams.turn_frames import TurnFrames

pytestmark = pytest.mark.redis

FRAMES = 40
ID = event_id("/shop", "1")
SHOWN = [json.dumps({"n": number, "text": f"é\u2028 {number}\\r"}).encode() for number in range(FRAMES)]


@dataclass
class Turn:
    """A turn that shows its frames one flush at a time, as fast as the test lets it."""

    go: asyncio.Event
    pause: timedelta = timedelta(0)

    async def __call__(self, frames: TurnFrames, _: Event) -> Settlement:
        for frame in SHOWN:
            await frames.send(frame)
            await frames.flush()
            await asyncio.sleep(self.pause.total_seconds())
            await self.go.wait()
        return Settlement(frames._lease, Done())


@pytest.fixture
def turn() -> Turn:
    return Turn(asyncio.Event())


@pytest.fixture
async def stage(redis_url: str, prefix: str, turn: Turn) -> AsyncIterator[Stage]:
    state = connect(redis_url)
    async with stage_on(state, prefix, turn) as stage:
        yield stage
    await state.aclose()


@pytest.fixture
async def url(stage: Stage) -> AsyncIterator[str]:
    async with serving(stage, free_port()) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


async def publish(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json=raw_event(), headers=SERVICE)
    assert answer.status_code == 202


async def read_some(client: httpx.AsyncClient, after: str | None, most: int) -> list[ServerEvent]:
    """Read at most so many events of the stream, then drop the connection."""
    headers = SERVICE if after is None else {**SERVICE, "Last-Event-ID": after}
    received = b""
    async with client.stream("GET", f"/v1/events/{ID}/stream", headers=headers) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            received += chunk
            if len(parse_sse(received)) >= most:
                break
    return parse_sse(received)[:most]


async def read_to_the_end(client: httpx.AsyncClient, every: int) -> list[ServerEvent]:
    """Drop the connection after each `every` events, and go on after the last one."""
    events: list[ServerEvent] = []
    while not events or events[-1].event != "end":
        events += await read_some(client, events[-1].id if events else None, every)
    return events


@pytest.mark.parametrize("every", [1, 2, 3, 7, 39, 40, 41])
async def test_a_client_that_drops_at_every_kth_frame_gets_what_an_undisturbed_one_gets(
    client: httpx.AsyncClient, turn: Turn, every: int
) -> None:
    turn.go.set()
    turn.pause = timedelta(milliseconds=2)
    await publish(client)
    undisturbed, dropping = await asyncio.gather(read_to_the_end(client, 1000), read_to_the_end(client, every))
    assert [event.data.encode() for event in undisturbed[:-1]] == SHOWN
    assert dropping == undisturbed
    numbers = [int(str(event.id).rpartition("-")[2]) for event in dropping[:-1]]
    assert numbers == list(range(1, FRAMES + 1))
    assert json.loads(dropping[-1].data) == {"state": "done", "reason": None}


async def test_second_viewers_see_the_same_whenever_they_come(client: httpx.AsyncClient, turn: Turn) -> None:
    await publish(client)
    early = [asyncio.create_task(read_to_the_end(client, 1000)) for _ in range(5)]
    assert len(await read_some(client, None, 1)) == 1
    turn.go.set()
    late = [asyncio.create_task(read_to_the_end(client, 1000)) for _ in range(5)]
    views = await asyncio.gather(*early, *late, read_to_the_end(client, 1000))
    assert all(view == views[0] for view in views)
    assert len(views[0]) == FRAMES + 1


async def test_closing_the_connection_does_not_stop_the_turn(
    client: httpx.AsyncClient, stage: Stage, turn: Turn
) -> None:
    headers = {**stage.bearer(), "Idempotency-Key": "k1"}
    async with client.stream("POST", "/chatkit", json=create_request(), headers=headers) as answer:
        first = await anext(answer.aiter_raw())
    assert first

    async def nobody_reads() -> bool:
        return stage.reader.open_count == 0

    await eventually(nobody_reads)
    turn.go.set()
    again = await client.post("/chatkit", json=create_request(), headers=headers)
    assert [event.data.encode() for event in parse_sse(again.content)] == SHOWN
    assert len(stage.waker.runs) == 1


async def test_messages_that_get_lost_lose_no_frame(
    client: httpx.AsyncClient, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_out = Subscriptions._hand_out
    count = 0

    def lossy(self: Subscriptions, kind: str, channel: bytes, data: bytes) -> None:
        nonlocal count
        count += 1
        if kind != "message" or count % 3:
            handed_out(self, kind, channel, data)

    monkeypatch.setattr(Subscriptions, "_hand_out", lossy)
    turn.go.set()
    turn.pause = timedelta(milliseconds=2)
    await publish(client)
    events = await read_to_the_end(client, 1000)
    assert [event.data.encode() for event in events[:-1]] == SHOWN
    assert count > FRAMES / 2


async def test_an_idle_stream_is_kept_alive(
    client: httpx.AsyncClient, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE", timedelta(milliseconds=10))
    stage.waker.asleep = True
    await publish(client)
    received = b""
    async with client.stream("GET", f"/v1/events/{ID}/stream", headers=SERVICE) as answer:
        async for chunk in answer.aiter_raw():
            received += chunk
            if received.count(b": keep-alive\n\n") == 3:
                break
    assert parse_sse(received) == []


async def test_a_cancel_stops_the_text_of_a_running_turn(client: httpx.AsyncClient, stage: Stage, turn: Turn) -> None:
    stopped = asyncio.Event()

    async def answer(frames: TurnFrames, event: Event) -> Settlement:
        try:
            return await turn(frames, event)
        except CancelRequestedError:
            stopped.set()
            return Settlement(frames._lease, Done())

    stage.waker.answer = answer
    headers = stage.bearer()
    async with client.stream("POST", "/chatkit", json=create_request(), headers=headers) as streamed:
        event = streamed.headers["X-Event-Id"]
        chunks = streamed.aiter_raw()
        received = await anext(chunks)
        while not parse_sse(received):
            received += await anext(chunks)
        assert (await client.post(f"/v1/events/{event}/cancel", headers=headers)).status_code == 202
        turn.go.set()
        received += b"".join([chunk async for chunk in chunks])
    assert [shown.data.encode() for shown in parse_sse(received)] == SHOWN[:1]
    assert stopped.is_set()
    status = (await client.get(f"/v1/events/{event}", headers=headers)).json()
    assert (status["state"], status["reason"]) == ("cancelled", "user")
    assert (await client.post(f"/v1/events/{event}/cancel", headers=headers)).status_code == 409


async def test_a_client_that_reads_nothing_costs_little_and_misses_nothing(
    client: httpx.AsyncClient, stage: Stage, url: str
) -> None:
    big = [b'"' + b"x" * 100_000 + b'"'] * 120

    async def answer(frames: TurnFrames, _: Event) -> Settlement:
        for frame in big:
            await frames.send(frame)
        await frames.flush()
        return Settlement(frames._lease, Done())

    stage.waker.asleep = True
    await publish(client)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /v1/events/{ID}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {SERVICE['Authorization']}\r\n\r\n"
        lazy.sendall(request.encode())

        async def reads() -> bool:
            return stage.reader.open_count == 1

        await eventually(reads)
        stage.waker.answer, stage.waker.asleep = answer, False
        await stage.waker.wake(stage.waker.woken[:1])
        await asyncio.gather(*stage.waker.tasks)
        [mailbox] = stage.reader._open
        assert mailbox._size < 300_000
        assert len(await read_until_it_closes(client)) == len(big) + 1

    async def gone() -> bool:
        return stage.reader.open_count == 0

    assert await eventually(gone)


async def test_a_server_that_shuts_down_ends_its_streams_and_another_goes_on(
    stage: Stage, turn: Turn, client: httpx.AsyncClient
) -> None:
    await publish(client)
    reading = asyncio.create_task(read_until_it_closes(client))

    async def reads() -> bool:
        return stage.reader.open_count == 1

    await eventually(reads)
    stage.reader.end_all()
    seen = await asyncio.wait_for(reading, 5)
    assert [event.event for event in seen] == ["message"] * len(seen)
    turn.go.set()
    async with (
        stage_on(stage.state, stage.keys.prefix, turn) as second,
        serving(second, free_port()) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as elsewhere,
    ):
        rest = await read_some(elsewhere, seen[-1].id if seen else None, 1000)
    assert [event.data.encode() for event in [*seen, *rest][:-1]] == SHOWN


async def test_a_thread_is_followed_over_its_turns_by_its_owner_and_nobody_else(
    client: httpx.AsyncClient, stage: Stage, turn: Turn
) -> None:
    turn.go.set()
    thread = "thr_" + ID.removeprefix("evt_")
    path = f"/v1/threads/{thread}/stream"
    assert (await client.get(path, headers=stage.bearer())).status_code == 404, "nobody has this thread"
    stage.waker.asleep = True
    await publish(client)
    for stranger in (stage.bearer("u2"), stage.bearer("u1", "other")):
        assert (await client.get(path, headers=stranger)).status_code == 404
    assert (await client.get(path)).status_code == 401
    bad = await client.get(path, headers={**stage.bearer(), "Last-Event-ID": "99-1"})
    assert bad.status_code == 400
    received = b""
    async with client.stream("GET", path, headers=stage.bearer()) as answer:
        assert answer.status_code == 200
        stage.waker.asleep = False
        await stage.waker.wake(stage.waker.woken[:1])
        chunks = answer.aiter_raw()
        while received.count(b"event: turn.end") < 1:
            received += await anext(chunks)
        message = raw_event("2", message_request(thread))
        assert (await client.post("/v1/events", json=message, headers=SERVICE)).status_code == 202
        while received.count(b"event: turn.end") < 2:
            received += await anext(chunks)
    events = parse_sse(received)
    frames = [event.data.encode() for event in events if event.event == "message"]
    ends = [json.loads(event.data) for event in events if event.event == "turn.end"]
    assert frames == [*SHOWN, *SHOWN]
    assert ends == [{"id": id_, "state": "done", "reason": None} for id_ in (ID, event_id("/shop", "2"))]
    assert len({event.id for event in events}) == len(events)


async def test_a_follower_of_a_thread_is_told_the_place_of_each_turn_that_waits_for_a_limit(
    client: httpx.AsyncClient, stage: Stage, turn: Turn
) -> None:
    """Anew for each turn, as progress without an id; nothing between two turns."""
    turn.go.set()
    stage.waker.asleep = True
    await stage.limiter.set_limits(Limits.model_validate({"models": {"m": {"rpm": 1}}}))
    await in_line(stage, create_event("something else"), waits=False)
    thread, received = "thr_" + ID.removeprefix("evt_"), b""
    first, second = raw_event(), raw_event("2", message_request(thread))
    await publish(client)
    async with client.stream("GET", f"/v1/threads/{thread}/stream", headers=stage.bearer()) as answer:
        chunks = answer.aiter_raw()
        for number, raw in enumerate([first, second], 1):
            if number > 1:
                assert (await client.post("/v1/events", json=raw, headers=SERVICE)).status_code == 202
            await in_line(stage, parse_event(raw), waits=True)
            while received.count(b"Number 1 in line, about") < number:
                received += await anext(chunks)
            await stage.limiter.leave([parse_event(raw).event_id])
            stage.waker.asleep = False
            await stage.waker.wake(stage.waker.woken[-1:])
            while received.count(b"event: turn.end") < number:
                received += await anext(chunks)
            stage.waker.asleep = True
    told = [block for block in received.split(b"\n\n") if b"in line" in block]
    assert len(told) == 2
    assert all(block.startswith(b'data: {"type":"progress_update"') for block in told)


async def in_line(stage: Stage, event: Event, *, waits: bool) -> None:
    """A turn asks for the model, and has to wait or not."""
    await stage.limiter.reserve(Ask(event, event.lane, "q", "m"), "t1", timedelta(minutes=1))
    assert (await stage.limiter.places([event.event_id]) != [None]) is waits


async def read_until_it_closes(client: httpx.AsyncClient) -> list[ServerEvent]:
    """What comes until the server closes the connection."""
    answer = await client.get(f"/v1/events/{ID}/stream", headers=SERVICE)
    return parse_sse(answer.content)


async def test_a_large_body_is_refused_before_it_is_parsed_declared_or_not(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"[" * 65_536

    for headers, path in ((stage.bearer(), "/chatkit"), (SERVICE, "/v1/events")):
        kind = {"Content-Type": "application/json"}
        declared = await client.post(path, content=b"[" * 5_000_000, headers={**headers, **kind})
        assert (declared.status_code, declared.json()["status"]) == (413, 413)
        chunked = await client.post(path, content=chunks(), headers={**headers, **kind})
        assert (chunked.status_code, chunked.json()["status"]) == (413, 413)
    assert (await client.get("/healthz")).status_code == 200


async def test_the_same_event_published_a_hundred_times_at_once_is_accepted_once(
    client: httpx.AsyncClient, stage: Stage, turn: Turn
) -> None:
    turn.go.set()
    answers = await asyncio.gather(*(client.post("/v1/events", json=raw_event(), headers=SERVICE) for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [202]
    assert {(answer.json()["id"], answer.json()["thread_id"]) for answer in answers} == {
        (ID, "thr_" + ID.removeprefix("evt_"))
    }
    await asyncio.gather(*stage.waker.tasks)
    assert stage.waker.runs == [ID]
