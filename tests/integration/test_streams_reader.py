"""Readers on a real Redis: no frame lost, doubled or out of order, whatever happens to the channel."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta

import pytest

from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, EventState
from tests.builders import create_event
from tests.eventually import eventually
from tests.integration.tcp_proxy import TcpProxy
from tests.lane_builders import dead, lanes_on
from tests.unit.streams.running import Running, accepted, begun
from workers.lanes.connection import State, connect
from workers.lanes.dead_letters import TRYING_AGAIN
from workers.lanes.keys import Keys
from workers.lanes.records import Settled
from workers.streams.follower import CHUNK
from workers.streams.mailbox import MAILBOX_BYTES
from workers.streams.reader import FrameReader
from workers.streams.records import Announcement, Entry, StreamEnd, StreamFrame, StreamGoneError, UnknownFrameError
from workers.streams.subscriptions import Subscriptions

pytestmark = pytest.mark.redis

AWKWARD = '{"text":"a/b \\" \\\\ \u00e9 \u2028 \U0001f600 \x7f"}'.encode()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, 8)


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    state = connect(redis_url)
    yield state
    await state.aclose()


@pytest.fixture
async def reader(state: State, keys: Keys) -> AsyncIterator[FrameReader]:
    reader = FrameReader(state, keys)
    yield reader
    await reader.close()


async def running(state: State, keys: Keys, event: Event) -> Running:
    await accepted(lanes_on(state, keys), event)
    return await begun(state, keys, event)


async def read_all(reader: FrameReader, event: Event, after: str | None = None) -> list[Entry]:
    return [entry async for entry in reader.stream(event.lane, event.event_id, after)]


def frames_of(entries: list[Entry]) -> list[bytes]:
    return [entry.data for entry in entries if isinstance(entry, StreamFrame)]


async def test_a_reader_before_during_and_after_the_turn_sees_the_same(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    event = create_event()
    await accepted(lanes_on(state, keys), event)
    before = asyncio.create_task(read_all(reader, event))
    turn = await begun(state, keys, event)
    await turn.show(b'{"n":1}', AWKWARD)
    during = asyncio.create_task(read_all(reader, event))
    await turn.show(b'{"n":3}')
    await turn.settle(final_frames=[b'{"n":4}'])
    after = await read_all(reader, event)
    assert frames_of(after) == [b'{"n":1}', AWKWARD, b'{"n":3}', b'{"n":4}']
    assert after[-1] == StreamEnd(f"{turn.acceptance}-5", EventState.DONE, None)
    assert await before == after
    assert await during == after


async def test_every_frame_id_is_a_place_to_go_on_from(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    await turn.show(*(b"%d" % number for number in range(10)))
    await turn.settle(Cancelled(CancelReason.USER))
    whole = await read_all(reader, event)
    for position, entry in enumerate(whole[:-1]):
        assert await read_all(reader, event, after=entry.id) == whole[position + 1 :]
    assert await read_all(reader, event, after=whole[-1].id) == [StreamEnd(whole[-1].id, EventState.CANCELLED, "user")]


@pytest.mark.parametrize("after", ["", "x", "1", "1-", "-1", "1-2-3", "1-1\n", "99-1", "1-99", "9" * 40 + "-1"])
async def test_a_place_that_is_none_of_the_stream_is_refused(
    state: State, keys: Keys, reader: FrameReader, after: str
) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    await turn.show(b"1")
    await turn.settle()
    with pytest.raises(UnknownFrameError):
        await read_all(reader, event, after=after)


async def test_no_frame_can_be_named_before_the_first_was_shown(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    await running(state, keys, event)
    with pytest.raises(UnknownFrameError):
        await read_all(reader, event, after="1-1")


async def test_a_long_stream_comes_in_bounded_pieces(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    shown = [b"%d" % number for number in range(3 * CHUNK)]
    await turn.show(*shown)
    await turn.settle()
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        sizes, read = [], list[Entry]()
        async for batch in batches:
            sizes.append(len(batch))
            read += batch
    assert frames_of(read) == shown
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize("shown", [CHUNK - 2, CHUNK - 1, CHUNK, 2 * CHUNK - 1])
async def test_a_reader_goes_on_behind_the_old_end_of_a_redriven_stream_wherever_it_stands(
    state: State, keys: Keys, reader: FrameReader, shown: int
) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    await turn.show(*(b"%d" % number for number in range(shown)))
    [settled] = await turn.lanes.settle([dead(turn.lease)])
    assert isinstance(settled, Settled)
    died = await read_all(reader, event)
    assert (len(died), died[-1]) == (
        shown + 1,
        StreamEnd(f"{turn.acceptance}-{shown + 1}", EventState.DEAD, "permanent"),
    )
    await turn.lanes.dead_letters.redrive(event.event_id)
    again = await begun(state, keys, event)
    await again.show(b"again")
    await again.settle()
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        lasts = [batch[-1] async for batch in batches if batch]
    ends = [entry for entry in lasts if isinstance(entry, StreamEnd)]
    assert [end.state for end in ends] == [EventState.DONE]  # what follows the last of a batch is not taken for its end
    assert frames_of(await read_all(reader, event))[shown:] == [TRYING_AGAIN, b"again"]


async def test_an_idle_stream_gives_empty_batches(state: State, keys: Keys) -> None:
    event = create_event()
    await accepted(lanes_on(state, keys), event)
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=10))
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        assert [await anext(batches) for _ in range(3)] == [[], [], []]
    await reader.close()


async def test_lost_messages_lose_no_frame(state: State, keys: Keys) -> None:
    """Every second message vanishes, as pub/sub may let it: what follows shows the gap, silence is looked into."""
    dropped = random.Random(7)

    def parse(message: bytes) -> Announcement:
        announcement = Announcement.parse(message)
        if dropped.random() < 0.5:
            return Announcement(announcement.first, (), None, 0)
        return announcement

    reader = FrameReader(
        state, keys, idle=timedelta(milliseconds=50), subscriptions=Subscriptions(state, "anchor", parse)
    )
    event = create_event()
    turn = await running(state, keys, event)
    reading = asyncio.create_task(read_all(reader, event))
    shown = [b"%d" % number for number in range(60)]
    for frame in shown:
        await turn.show(frame)
    await turn.settle()
    entries = await reading
    assert frames_of(entries) == shown
    assert isinstance(entries[-1], StreamEnd)
    await reader.close()


async def test_a_deaf_reader_still_gets_everything(state: State, keys: Keys) -> None:
    """The subscription never takes effect."""
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=20), subscriptions=_Deaf(state, "anchor"))
    event = create_event()
    turn = await running(state, keys, event)
    reading = asyncio.create_task(read_all(reader, event))
    await turn.show(b"1", b"2")
    await turn.settle()
    assert frames_of(await reading) == [b"1", b"2"]


class _Deaf(Subscriptions):
    async def subscribe(self, channel: str, mailbox: object) -> None:
        """Hear nothing."""


async def test_a_slow_reader_holds_little_and_misses_nothing(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    big = [b'"' + bytes([65 + number % 26]) * 20_000 + b'"' for number in range(40)]
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        assert await anext(batches) == []
        for frame in big:
            await turn.show(frame)
        await turn.settle()
        assert sum(map(len, big)) > MAILBOX_BYTES
        [mailbox] = reader._open

        async def fell_behind() -> bool:
            return mailbox._behind

        await eventually(fell_behind)
        assert mailbox._size == 0
        read = [entry async for batch in batches for entry in batch]
    assert frames_of(read) == big


async def test_a_thousand_readers_share_one_subscription_and_the_pool(state: State, keys: Keys, redis_url: str) -> None:
    shared = connect(redis_url, max_connections=4)
    reader = FrameReader(shared, keys)
    events = [create_event() for _ in range(10)]
    for event in events:
        await accepted(lanes_on(state, keys), event)
    readings = [asyncio.create_task(read_all(reader, event)) for event in events for _ in range(100)]
    turns = [await begun(state, keys, event) for event in events]
    for turn in turns:
        await turn.show(b"1", b"2")

    async def all_open() -> bool:
        return reader.open_count == 1000

    await eventually(all_open)
    for turn in turns:
        await turn.settle()
    for entries in await asyncio.gather(*readings):
        assert frames_of(entries) == [b"1", b"2"]
    clients = await state.client_list()
    database = redis_url.rpartition("/")[2]
    mine = [client for client in clients if client["db"] == database]
    assert sum(int(client["sub"]) > 0 for client in mine) == 1
    await reader.close()
    await shared.aclose()


async def test_a_cut_connection_is_taken_up_again(state: State, keys: Keys, redis_url: str) -> None:
    with TcpProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        cuttable = connect(f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}")
        reader = FrameReader(cuttable, keys)
        event = create_event()
        turn = await running(state, keys, event)
        reading = asyncio.create_task(read_all(reader, event))
        shown = [b"%d" % number for number in range(30)]
        for number, frame in enumerate(shown):
            await turn.show(frame)
            if number % 10 == 5:
                proxy.cut()
                await asyncio.sleep(0.05)
        await turn.settle()
        assert frames_of(await reading) == shown
        await reader.close()
        await cuttable.aclose()


async def test_a_channel_is_left_when_its_last_reader_goes(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    await accepted(lanes_on(state, keys), event)
    channel = keys.channel(event.lane, event.event_id).encode()

    async def listeners() -> int:
        [[_, count]] = await state.pubsub_numsub(channel)
        return int(count)

    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        await anext(batches)
        assert await listeners() == 1
    assert reader.open_count == 0

    async def left() -> bool:
        return await listeners() == 0

    assert await eventually(left)
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        await anext(batches)
        assert await listeners() == 1


async def test_a_reader_of_what_the_state_has_forgotten_ends(state: State, keys: Keys) -> None:
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=20))
    event = create_event()
    await accepted(lanes_on(state, keys), event)
    reading = asyncio.create_task(read_all(reader, event))
    await state.flushdb()
    with pytest.raises(StreamGoneError):
        await reading
    await reader.close()


async def test_a_reader_of_a_stream_that_went_before_its_record_ends(state: State, keys: Keys) -> None:
    """The one with a secret in it: gone after a minute, while the event's record stays a day."""
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=20))
    event = create_event()
    turn = await running(state, keys, event)
    await turn.show(b"1")
    reading = asyncio.create_task(read_all(reader, event))
    await turn.settle()
    assert isinstance((await reading)[-1], StreamEnd)
    await state.delete(keys.stream(event.lane, event.event_id))
    with pytest.raises(StreamGoneError):
        await read_all(reader, event)
    await reader.close()


async def test_end_all_ends_every_reader_unfinished(state: State, keys: Keys, reader: FrameReader) -> None:
    event = create_event()
    turn = await running(state, keys, event)
    await turn.show(b"1")
    async with aclosing(reader.batches(event.lane, event.event_id)) as batches:
        assert len(await anext(batches)) == 1
        reader.end_all()
        assert [batch async for batch in batches] == []
