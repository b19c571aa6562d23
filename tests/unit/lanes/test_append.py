"""append: frames are numbered from one, without a gap, under the epoch."""

import json
from datetime import timedelta
from typing import Any

from tests.lane_builders import FRAME, LEASE, Deployment, done, event
from workers.lanes.connection import open_pubsub
from workers.lanes.records import Append, Appended, AppendRefused

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")


async def test_frames_get_the_acceptance_number_and_their_own(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    assert await deployment.lanes.append([Append(lease, 1, [FRAME, b"{}"])]) == [Appended(3)]
    assert await deployment.frames(FIRST) == [(b"1-1", {b"d": FRAME}), (b"1-2", {b"d": b"{}"})]


async def test_frames_that_are_there_already_are_a_success_and_are_not_doubled(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([Append(lease, 1, [b"1", b"2"])])
    overlap = Append(lease, 2, [b"2", b"3"])
    assert await deployment.lanes.append([overlap, overlap]) == [Appended(4), Appended(4)]
    assert [entry[b"d"] for _, entry in await deployment.frames(FIRST)] == [b"1", b"2", b"3"]


async def test_a_gap_is_refused_and_tells_what_comes_next(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    assert await deployment.lanes.append([Append(lease, 2, [b"{}"])]) == [AppendRefused("gap", 1)]
    assert await deployment.frames(FIRST) == []


async def test_expiry_alone_refuses_no_frame(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    deployment.clock.turn(10 * LEASE)
    assert await deployment.lanes.append([Append(lease, 1, [FRAME])]) == [Appended(2)]


async def test_a_stale_worker_is_refused_and_counted(deployment: Deployment) -> None:
    stale = await deployment.started(FIRST)
    deployment.clock.turn(LEASE)
    await deployment.begun(FIRST, "t2")  # the same process, so only the epoch tells them apart
    assert await deployment.lanes.append([Append(stale, 1, [FRAME])]) == [AppendRefused("stale", 1)]
    assert (await deployment.lanes.depth()).fenced_writes == 1


async def test_an_ended_event_takes_no_frame(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.settle([done(lease)])
    assert await deployment.lanes.append([Append(lease, 1, [FRAME])]) == [AppendRefused("ended", 2)]


async def test_no_text_is_added_after_a_cancel(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.cancel(FIRST.event_id)
    assert await deployment.lanes.append([Append(lease, 2, [FRAME])]) == [AppendRefused("cancelled", 2)]
    assert len(await deployment.frames(FIRST)) == 1


async def test_open_readers_are_told_the_new_frames_and_the_end(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    heard: list[Any] = []
    async with await open_pubsub(deployment.state) as messages:
        await messages.subscribe(deployment.keys.channel(FIRST.lane, FIRST.event_id))
        await messages.get_message(timeout=1)
        await deployment.lanes.append([Append(lease, 1, [FRAME]), Append(lease, 1, [FRAME, b"{}"])])
        await deployment.lanes.append([Append(lease, 1, [FRAME])])
        await deployment.lanes.settle([done(lease)])
        while len(heard) < 3:
            message: Any = await messages.get_message(timeout=1)
            heard += [json.loads(message["data"])] if message else []
        assert await messages.get_message(timeout=0.01) is None, "frames that were there already are not told again"
    assert heard == [[1, [FRAME.decode()], None], [2, ["{}"], None], [3, [], {"state": "done", "reason": None}]]


async def test_a_retry_goes_on_with_the_numbers_of_the_first_attempt(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    deployment.clock.turn(LEASE + timedelta(seconds=1))
    assert (await deployment.begun(FIRST, "t2")).next_frame == 2
