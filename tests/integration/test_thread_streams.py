"""A thread followed over its turns: each frame once, in order, whatever breaks; only its owner's turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, EventState
from tests.builders import create_event, message_event
from tests.eventually import eventually
from tests.lane_builders import dead, lanes_on
from tests.unit.streams.running import accepted, begun
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.streams.reader import FrameReader
from workers.streams.records import StreamFrame, ThreadEntry, TurnEnd, UnknownFrameError, numbers_of

pytestmark = pytest.mark.redis

OWNER = Owner("default", "u1")


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
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=200))
    yield reader
    await reader.close()


class Follower:
    """One client of the thread: what it has got so far."""

    def __init__(self, reader: FrameReader, lane: str, after: str | None = None) -> None:
        self.entries: list[ThreadEntry] = []
        self.reads = asyncio.Event()
        """It has its place in the thread."""
        self._task = asyncio.create_task(self._read(reader, lane, after))

    async def _read(self, reader: FrameReader, lane: str, after: str | None) -> None:
        async with aclosing(reader.thread(lane, OWNER, after)) as batches:
            async for batch in batches:
                self.entries += batch
                self.reads.set()

    @property
    def seen(self) -> list[str]:
        return [e.data.decode() if isinstance(e, StreamFrame) else f"end {e.state}" for e in self.entries]

    async def saw(self, *expected: str) -> list[ThreadEntry]:
        """Wait until it has got this, and nothing else."""

        async def has() -> bool:
            return self.seen == list(expected)

        await eventually(has)
        return self.entries

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def run(state: State, keys: Keys, event: Event, *frames: bytes) -> None:
    """A whole turn."""
    turn = await begun(state, keys, event)
    await turn.show(*frames)
    await turn.settle()


async def test_the_running_turn_comes_from_its_start_and_the_next_ones_as_they_run(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    thread = str(first.thread_id)
    await accepted(lanes, first)
    turn = await begun(state, keys, first)
    await turn.show(b"1", b"2")
    follower = Follower(reader, first.lane)
    await follower.saw("1", "2")
    second, third = message_event(thread), message_event(thread)
    await accepted(lanes, second)
    await turn.show(b"3")
    await turn.settle(Cancelled(CancelReason.USER))
    await run(state, keys, second, b"4")
    await follower.saw("1", "2", "3", "end cancelled", "4", "end done")
    await accepted(lanes, third)
    await run(state, keys, third, b"5")
    entries = await follower.saw("1", "2", "3", "end cancelled", "4", "end done", "5", "end done")
    ids = [numbers_of(entry.id) for entry in entries]
    assert ids == sorted(set(ids)), "strictly increasing"
    ends = [entry for entry in entries if isinstance(entry, TurnEnd)]
    assert [(end.event_id, end.reason) for end in ends] == [
        (first.event_id, "user"),
        (second.event_id, None),
        (third.event_id, None),
    ]
    await follower.leave()

    for place, entry in enumerate(entries):
        late = Follower(reader, first.lane, entry.id)
        await late.saw(*follower.seen[place + 1 :])
        await late.leave()


async def test_what_ran_before_is_not_shown_again_to_whoever_names_no_place(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    await run(state, keys, first, b"1")
    follower = Follower(reader, first.lane)
    second = message_event(str(first.thread_id))
    await follower.reads.wait()
    await accepted(lanes, second)
    await run(state, keys, second, b"2")
    await follower.saw("2", "end done")
    await follower.leave()


async def test_many_turns_that_ran_while_a_client_was_away_are_all_there(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    await run(state, keys, first, b"0")
    follower = Follower(reader, first.lane)
    await follower.reads.wait()
    expected = []
    for number in range(1, 40):
        event = message_event(str(first.thread_id))
        await accepted(lanes, event)
        await run(state, keys, event, b"%d" % number)
        expected += [str(number), "end done"]
        if number == 3:
            await follower.saw(*expected)
            await follower.leave()
    after = follower.entries[-1].id
    late = Follower(reader, first.lane, after)
    await late.saw(*expected[6:])
    await late.leave()


async def test_what_another_user_sent_into_the_thread_is_not_shown(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    thread = str(first.thread_id)
    await accepted(lanes, first)
    await run(state, keys, first, b"1")
    follower = Follower(reader, first.lane)
    strange, own = message_event(thread, userid="u2"), message_event(thread)
    await follower.reads.wait()
    await accepted(lanes, strange)
    await run(state, keys, strange, b"secret")
    await accepted(lanes, own)
    await run(state, keys, own, b"2")
    await follower.saw("2", "end done")
    await follower.leave()
    acceptance: Any = await state.zscore(keys.turns(first.lane), strange.event_id)
    with pytest.raises(UnknownFrameError):
        await anext(reader.thread(first.lane, OWNER, f"{int(acceptance)}-1"))


async def test_a_turn_that_died_goes_on_where_it_was_when_it_is_redriven(
    state: State, keys: Keys, reader: FrameReader
) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    turn = await begun(state, keys, first)
    await turn.show(b"1")
    follower = Follower(reader, first.lane)
    await follower.saw("1")
    await lanes.settle([dead(turn.lease)])
    await follower.saw("1", "end dead")
    assert (await lanes.dead_letters.redrive(first.event_id, force=False)).result == "redriven"
    await run(state, keys, first, b"2")

    async def went_on() -> bool:
        return follower.seen[-2:] == ["2", "end done"]

    await eventually(went_on)
    assert follower.seen[:2] == ["1", "end dead"]
    assert "Trying again" in follower.seen[2]
    await follower.leave()


async def test_a_lost_channel_loses_no_turn(state: State, keys: Keys, reader: FrameReader) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    await run(state, keys, first, b"1")
    follower = Follower(reader, first.lane)
    await follower.reads.wait()
    own = {client["id"] for client in await state.client_list(_type="pubsub")}
    for client_id in own:
        await state.client_kill_filter(_id=client_id)
    second = message_event(str(first.thread_id))
    await accepted(lanes, second)
    await run(state, keys, second, b"2")
    await follower.saw("2", "end done")
    await follower.leave()


async def test_many_followers_share_the_connections_and_leave_nothing_behind(
    redis_url: str, keys: Keys, state: State
) -> None:
    own = connect(redis_url, max_connections=8)
    reader = FrameReader(own, keys, idle=timedelta(milliseconds=200))
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    before = len(await state.client_list())
    followers = [Follower(reader, first.lane) for _ in range(60)]
    turn = await begun(state, keys, first)
    await turn.show(b"1")
    for follower in followers:
        await follower.saw("1")
    pubsubs = len(await state.client_list(_type="pubsub"))
    assert len(await state.client_list()) - before <= 10, "the pool's bound and one that listens, not one for each"
    await turn.settle()
    for follower in followers:
        await follower.saw("1", f"end {EventState.DONE}")
        await follower.leave()
    assert pubsubs >= 1
    assert reader.open_count == 0
    await reader.close()
    await own.aclose()


@pytest.mark.parametrize("after", ["x", "1", "99-1", "9" * 40 + "-1"])
async def test_a_place_that_is_none_of_the_thread_is_refused(
    state: State, keys: Keys, reader: FrameReader, after: str
) -> None:
    first = create_event()
    await accepted(lanes_on(state, keys), first)
    await run(state, keys, first, b"1")
    with pytest.raises(UnknownFrameError):
        await anext(reader.thread(first.lane, OWNER, after))


async def test_a_reader_that_shuts_down_ends_its_followers(state: State, keys: Keys, reader: FrameReader) -> None:
    first = create_event()
    await accepted(lanes_on(state, keys), first)
    await run(state, keys, first, b"1")
    waiting = Follower(reader, first.lane)
    await waiting.reads.wait()
    reader.end_all()
    await asyncio.wait_for(waiting._task, 2)


async def test_the_turns_of_a_thread_are_forgotten_with_the_last_of_them(state: State, keys: Keys) -> None:
    lanes, first = lanes_on(state, keys), create_event()
    await accepted(lanes, first)
    assert await state.pttl(keys.turns(first.lane)) == -1
    await run(state, keys, first, b"1")
    assert 0 < await state.pttl(keys.turns(first.lane)) <= 86_400_000
    await accepted(lanes, message_event(str(first.thread_id)))
    assert await state.pttl(keys.turns(first.lane)) == -1
