"""Server-sent events: no content can make an event, an id or a header of its own."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.outcome import EventState
from tests.unit.gateway.parsing import parse_sse
from workers.gateway import sse
from workers.gateway.sse import COMMENT, RETRY, end_lines, frame_lines, open_stream
from workers.streams.records import Entry, StreamEnd, StreamFrame


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_inside_a_frame_comes_out_as_one_event(text: str) -> None:
    data = json.dumps({"delta": text}, ensure_ascii=False).encode()
    [event] = parse_sse(frame_lines(StreamFrame("1-1", data)))
    assert (event.id, event.event, json.loads(event.data)) == ("1-1", "message", {"delta": text})


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\n\n"])
def test_line_breaks_between_the_tokens_of_a_frame_are_kept_inside_it(separator: str) -> None:
    data = f'{{"a":{separator}"b",{separator}"event: end":1}}'
    [event] = parse_sse(frame_lines(StreamFrame("1-1", data.encode())))
    assert json.loads(event.data) == {"a": "b", "event: end": 1}


def test_the_end_says_how() -> None:
    [event] = parse_sse(end_lines(StreamEnd("1-2", EventState.CANCELLED, "user")))
    assert (event.id, event.event, json.loads(event.data)) == (None, "end", {"state": "cancelled", "reason": "user"})


async def batches(*given: Sequence[Entry] | Exception) -> AsyncGenerator[Sequence[Entry], None]:
    for batch in given:
        if isinstance(batch, Exception):
            raise batch
        await asyncio.sleep(0)
        yield batch


async def read(source: AsyncGenerator[Sequence[Entry], None], *, with_end: bool) -> list[bytes]:
    stream = await open_stream(source, with_end=with_end, permitted=lambda: True)
    return [bytes(chunk) async for chunk in stream.body_iterator if not isinstance(chunk, str)]


async def test_all_frames_of_a_batch_are_one_write() -> None:
    frames = [StreamFrame(f"1-{number}", b"1") for number in range(3)]
    end = StreamEnd("1-4", EventState.DONE, None)
    written = await read(batches(frames[:2], [frames[2], end]), with_end=True)
    assert len(written) == 2
    assert [event.event for event in parse_sse(b"".join(written))] == ["message", "message", "message", "end"]


async def test_chatkit_clients_see_no_end_event() -> None:
    written = await read(batches([StreamFrame("1-1", b"1"), StreamEnd("1-2", EventState.DONE, None)]), with_end=False)
    assert written == [RETRY + b"id: 1-1\ndata: 1\n\n"]


async def test_a_stream_that_this_gateway_lets_go_of_says_when_to_come_back_and_has_no_end() -> None:
    for with_end in (True, False):
        first, last = await read(batches([StreamFrame("1-1", b"1")]), with_end=with_end)
        assert first == RETRY + b"id: 1-1\ndata: 1\n\n"
        assert 50 <= int(last.removeprefix(b"retry: ")) <= 1000


async def test_a_stream_breaks_off_when_its_client_may_not_listen_any_more() -> None:
    answers = iter([True, False])
    source = batches([], [StreamFrame("1-1", b"1")], [StreamFrame("1-2", b"2")], [StreamFrame("1-3", b"3")])
    stream = await open_stream(source, with_end=True, permitted=lambda: next(answers))
    assert [chunk async for chunk in stream.body_iterator] == [RETRY, b"id: 1-1\ndata: 1\n\n"]


async def test_an_idle_stream_is_kept_alive_but_not_more_often_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    end = [StreamEnd("1-1", EventState.DONE, None)]
    assert await read(batches([], [], [], [], end), with_end=False) == [RETRY]
    monkeypatch.setattr(sse, "KEEP_ALIVE", timedelta(0))
    assert await read(batches([], [], [], end), with_end=False) == [RETRY, COMMENT, COMMENT, COMMENT]


async def test_an_error_before_the_first_frame_is_raised_while_there_can_be_a_status() -> None:
    with pytest.raises(RedisConnectionError):
        await open_stream(batches(RedisConnectionError("away")), with_end=True, permitted=lambda: True)


async def test_a_stream_that_breaks_ends_without_an_end_event() -> None:
    broken = batches([StreamFrame("1-1", b"1")], RedisConnectionError("away"))
    assert await read(broken, with_end=True) == [RETRY + b"id: 1-1\ndata: 1\n\n"]
    broken = batches([StreamFrame("1-1", b"1")], RedisConnectionError("away"))
    [_, last] = await read(broken, with_end=False)
    assert json.loads(last.removeprefix(b"data: "))["type"] == "error"
