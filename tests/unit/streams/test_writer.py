"""The frame writer: few calls, no frame lost or doubled, refusals reach the turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.builders import create_event, delivery_of
from tests.eventually import eventually
from workers.errors import CancelRequestedError, LeaseLostError, PermanentError, StateAwayError, TransientError
from workers.lanes.records import Append, Appended, AppendRefused, AppendRefusedReason, Joined, JoinRefused, JournalStep
from workers.policies.delivery import Delivery, Lease
from workers.streams.packing import unpack
from workers.streams.turn_frames import FRAME_BYTES, TURN_BYTES
from workers.streams.writer import FrameWriter

LONG = timedelta(hours=1)


@dataclass
class MemoryLanes:
    """Streams in memory, with the rules of the append script; can be held, fail or refuse."""

    streams: dict[str, list[bytes]] = field(default_factory=dict)
    journals: dict[str, list[bytes]] = field(default_factory=dict)
    calls: list[list[Append]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    lost_replies: int = 0
    journal_full: bool = False
    refusal: AppendRefusedReason | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, appends: Sequence[Append]) -> list[Appended | AppendRefused]:
        self.calls.append(list(appends))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        answers = [self._append(append) for append in appends]
        if self.lost_replies:
            self.lost_replies -= 1
            raise RedisConnectionError("the reply is lost")
        return answers

    async def join(self, lease: Lease, step: str) -> Joined | JoinRefused:
        return Joined({})

    def _append(self, append: Append) -> Appended | AppendRefused:
        stream = self.streams.setdefault(append.lease.event_id, [])
        if self.refusal is not None:
            return AppendRefused(self.refusal, len(stream) + 1)
        stream.extend(append.frames[len(stream) + 1 - append.first :])
        if append.step is not None:
            self.journals.setdefault(append.lease.event_id, []).append(append.step.entry)
        return Appended(len(stream) + 1, append.step is not None and self.journal_full)


@pytest.fixture
def lanes() -> MemoryLanes:
    lanes = MemoryLanes()
    lanes.open.set()
    return lanes


@pytest.fixture
async def writer(lanes: MemoryLanes) -> AsyncIterator[FrameWriter]:
    writer = FrameWriter(lanes, interval=timedelta(milliseconds=5), patience=timedelta(seconds=0.3))
    yield writer
    await writer.close()


def delivery() -> Delivery:
    return delivery_of(create_event())


async def test_the_first_frame_of_a_turn_is_written_at_once(lanes: MemoryLanes) -> None:
    writer = FrameWriter(lanes, interval=LONG)
    for _ in range(3):
        turn = delivery()
        await writer.open(turn).send(b"hello")

        async def shown(event_id: str = turn.lease.event_id) -> bool:
            return lanes.streams.get(event_id) == [b"hello"]

        assert await eventually(shown, within=2)


async def test_a_step_is_safe_when_keep_returns_and_goes_with_the_frames_before_it(
    lanes: MemoryLanes, writer: FrameWriter
) -> None:
    turn = delivery()
    frames = writer.open(turn)
    lanes.open.clear()
    await frames.send(b"one")

    async def under_way() -> bool:
        return len(lanes.calls) == 1

    await eventually(under_way)
    await frames.send(b"two")
    keeping = asyncio.create_task(frames.keep(JournalStep("r0", b"entry")))
    lanes.open.set()
    await keeping
    assert lanes.streams[turn.lease.event_id] == [b"one", b"two"]
    assert lanes.journals[turn.lease.event_id] == [b"entry"]
    assert [len(call) for call in lanes.calls] == [1, 1]
    assert frames.size == 0


async def test_a_step_without_new_frames_waits_for_a_call_that_was_under_way(
    lanes: MemoryLanes, writer: FrameWriter
) -> None:
    turn = delivery()
    frames = writer.open(turn)
    lanes.open.clear()
    await frames.send(b"one")

    async def under_way() -> bool:
        return len(lanes.calls) == 1

    await eventually(under_way)
    keeping = asyncio.create_task(frames.keep(JournalStep("r0", b"entry")))
    await asyncio.sleep(0)
    lanes.open.set()
    await keeping
    assert lanes.journals[turn.lease.event_id] == [b"entry"]


async def test_keep_says_whether_the_journal_had_room(lanes: MemoryLanes, writer: FrameWriter) -> None:
    frames = writer.open(delivery())
    assert await frames.keep(JournalStep("r0", b"entry"))
    lanes.journal_full = True
    assert not await frames.keep(JournalStep("r1", b"entry"))
    lanes.journal_full = False
    assert await frames.keep(JournalStep("r2", b"entry"))


async def test_a_step_is_refused_like_a_frame(lanes: MemoryLanes, writer: FrameWriter) -> None:
    lanes.refusal = "stale"
    with pytest.raises(LeaseLostError):
        await writer.open(delivery()).keep(JournalStep("r0", b"entry"))


async def test_a_large_step_is_kept_packed_and_comes_back_as_it_was(lanes: MemoryLanes, writer: FrameWriter) -> None:
    small, large = b'["m1"]\n{"a":1}', b'["m1"]\n' + b'{"type":"message","text":"word"},' * 500
    turn = delivery()
    frames = writer.open(turn)
    for number, entry in enumerate((small, large)):
        await frames.keep(JournalStep(f"r{number}", entry))
    kept = lanes.journals[turn.lease.event_id]
    assert kept[0] == small
    assert len(kept[1]) < len(large) / 4
    assert [unpack(entry) for entry in kept] == [small, large]


async def test_a_frame_that_no_client_should_get_ends_the_turn_with_its_size(writer: FrameWriter) -> None:
    frames = writer.open(delivery())
    with pytest.raises(PermanentError, match=f"a frame of {FRAME_BYTES + 1} bytes"):
        await frames.send(b"x" * (FRAME_BYTES + 1))
    await frames.send(b"x" * FRAME_BYTES)


async def test_deltas_wait_for_the_interval_and_go_in_one_call(lanes: MemoryLanes, writer: FrameWriter) -> None:
    turns = [delivery() for _ in range(10)]
    frames = [writer.open(turn) for turn in turns]
    for frame in frames:
        await frame.send(b"first")
    await asyncio.gather(*(frame.flush() for frame in frames))
    lanes.calls.clear()
    for number in range(50):
        for frame in frames:
            await frame.send(b"%d" % number)

    async def all_shown() -> bool:
        return all(len(stream) == 51 for stream in lanes.streams.values())

    assert await eventually(all_shown)
    assert len(lanes.calls) == 1
    assert all(stream[1:] == [b"%d" % number for number in range(50)] for stream in lanes.streams.values())


async def test_a_turn_that_hurries_does_not_pull_the_others_along(lanes: MemoryLanes) -> None:
    writer = FrameWriter(lanes, interval=LONG)
    slow, hurried = writer.open(delivery()), writer.open(delivery())
    await slow.send(b"first")
    await slow.flush()
    await slow.send(b"second")
    await hurried.send(b"first")
    await hurried.flush()
    assert [len(call) for call in lanes.calls] == [1, 1]
    assert slow.size == len(b"second")


async def test_frames_sent_while_a_flush_is_in_flight_follow_it(lanes: MemoryLanes, writer: FrameWriter) -> None:
    lanes.open.clear()
    turn = delivery()
    frames = writer.open(turn)
    await frames.send(b"1")

    async def in_flight() -> bool:
        return bool(lanes.calls)

    await eventually(in_flight)
    await frames.send(b"2")
    flushed = asyncio.create_task(frames.flush())
    lanes.open.set()
    await flushed
    assert lanes.streams[turn.lease.event_id] == [b"1", b"2"]
    assert frames.next_frame == 3
    assert frames.size == 0


async def test_a_turn_goes_on_from_the_frame_that_earlier_attempts_reached(
    lanes: MemoryLanes, writer: FrameWriter
) -> None:
    event = create_event()
    lanes.streams[event.event_id] = [b"1", b"2"]
    frames = writer.open(delivery_of(event, next_frame=3))
    await frames.send(b"3")
    await frames.flush()
    assert lanes.streams[event.event_id] == [b"1", b"2", b"3"]
    assert frames.next_frame == 4


async def test_lost_replies_neither_lose_nor_double_a_frame(lanes: MemoryLanes, writer: FrameWriter) -> None:
    lanes.lost_replies = 2
    turn = delivery()
    frames = writer.open(turn)
    for number in range(5):
        await frames.send(b"%d" % number)
    await frames.flush()
    assert lanes.streams[turn.lease.event_id] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_state_that_stays_away_surfaces_as_such(lanes: MemoryLanes, writer: FrameWriter) -> None:
    lanes.failures = [RedisConnectionError("refused")] * 100
    frames = writer.open(delivery())
    await frames.send(b"1")
    with pytest.raises(StateAwayError, match="could not be written") as caught:
        await frames.flush()
    assert caught.value.kind in {"ConnectionError", "TimeoutError"}
    with pytest.raises(StateAwayError):
        await frames.send(b"2")


async def test_an_error_of_the_program_fails_the_turns_and_not_the_writer(
    lanes: MemoryLanes, writer: FrameWriter
) -> None:
    lanes.failures = [KeyError("a bug")]
    broken = writer.open(delivery())
    await broken.send(b"1")
    with pytest.raises(TransientError):
        await broken.flush()
    turn = delivery()
    working = writer.open(turn)
    await working.send(b"1")
    await working.flush()
    assert lanes.streams[turn.lease.event_id] == [b"1"]


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("stale", LeaseLostError),
        ("ended", LeaseLostError),
        ("cancelled", CancelRequestedError),
        ("gap", StateAwayError),
    ],
)
async def test_a_refusal_is_raised_by_flush_and_by_every_later_send(
    lanes: MemoryLanes, writer: FrameWriter, why: AppendRefusedReason, error: type[Exception]
) -> None:
    lanes.refusal = why
    frames = writer.open(delivery())
    await frames.send(b"1")
    with pytest.raises(error):
        await frames.flush()
    for _ in range(2):
        with pytest.raises(error):
            await frames.send(b"2")


async def test_a_turn_that_outruns_the_state_waits(lanes: MemoryLanes, writer: FrameWriter) -> None:
    lanes.open.clear()
    frames = writer.open(delivery())
    await frames.send(b"x" * TURN_BYTES)
    sending = asyncio.create_task(frames.send(b"y"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not sending.done()
    lanes.open.set()
    await sending
    assert frames.size == 0


async def test_nothing_runs_while_no_turn_has_frames(lanes: MemoryLanes, writer: FrameWriter) -> None:
    frames = writer.open(delivery())
    await frames.send(b"1")
    await frames.flush()

    async def at_rest() -> bool:
        return not any(task.get_name() == "frame-writer" for task in asyncio.all_tasks())

    assert await eventually(at_rest)


async def test_close_writes_what_is_left(lanes: MemoryLanes) -> None:
    writer = FrameWriter(lanes, interval=timedelta(milliseconds=20))
    turn = delivery()
    frames = writer.open(turn)
    for number in range(3):
        await frames.send(b"%d" % number)
    await writer.close()
    assert lanes.streams[turn.lease.event_id] == [b"0", b"1", b"2"]
