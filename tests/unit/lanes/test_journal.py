"""Journals: completed steps are kept with the frames before them, under the epoch, within a bound."""

from datetime import timedelta
from typing import Any

import pytest

from tests.lane_builders import FRAME, LEASE, Deployment, dead, done, event, retry
from workers.lanes import lanes as lanes_module
from workers.lanes.records import Append, Appended, AppendRefused, JournalStep
from workers.policies.delivery import Lease

FIRST = event("e1", "thr_1")


async def journal(deployment: Deployment) -> dict[bytes, bytes]:
    entries: Any = await deployment.state.hgetall(deployment.keys.journal(FIRST.lane, FIRST.event_id))
    return dict(entries)


def step(lease: Lease, name: str, entry: bytes, *frames: bytes, first: int = 1) -> Append:
    return Append(lease, first, frames, JournalStep(name, entry))


async def test_the_next_attempt_finds_what_was_kept_and_is_told_that_there_is_some(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    answers = await deployment.lanes.append(
        [step(lease, "r0", b"one", FRAME), step(lease, "t0:c1", b"\x00\xff", first=2)]
    )
    assert answers == [Appended(2), Appended(2)]
    await deployment.lanes.settle([retry(lease, timedelta(0))])
    assert (await deployment.begun(FIRST, "t2")).journaled
    assert await journal(deployment) == {b"r0": b"one", b"t0:c1": b"\x00\xff"}


async def test_an_event_that_has_completed_nothing_says_so(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease, timedelta(0))])
    assert not (await deployment.begun(FIRST, "t2")).journaled


async def test_a_lost_reply_is_asked_again_without_harm(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    for _ in range(2):
        assert await deployment.lanes.append([step(lease, "r0", b"one", FRAME)]) == [Appended(2)]
    assert await journal(deployment) == {b"r0": b"one"}


async def test_a_stale_worker_keeps_nothing_and_is_counted(deployment: Deployment) -> None:
    stale = await deployment.started(FIRST)
    deployment.clock.turn(LEASE)
    await deployment.begun(FIRST, "t2")
    assert await deployment.lanes.append([step(stale, "r0", b"one")]) == [AppendRefused("stale", 1)]
    assert await journal(deployment) == {}
    assert (await deployment.lanes.depth()).fenced_writes == 1


async def test_an_ended_and_a_stopped_event_keep_nothing_more(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.cancel(FIRST.event_id)
    assert await deployment.lanes.append([step(lease, "r0", b"one")]) == [AppendRefused("cancelled", 1)]
    await deployment.lanes.settle([done(lease)])
    assert await deployment.lanes.append([step(lease, "r0", b"one")]) == [AppendRefused("ended", 2)]
    assert await journal(deployment) == {}


async def test_a_journal_is_bounded_and_goes_on_with_what_fits(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "JOURNAL_BYTES", 10)
    lease = await deployment.started(FIRST)
    steps = [step(lease, "r0", b"12345"), step(lease, "r1", b"123456", FRAME), step(lease, "r0", b"1234567890")]
    assert await deployment.lanes.append(steps) == [Appended(1), Appended(2, journal_full=True), Appended(2)]
    assert await journal(deployment) == {b"r0": b"1234567890"}


async def test_the_journal_of_a_dead_letter_outlives_a_redrive(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([step(lease, "r0", b"one")])
    await deployment.lanes.settle([dead(lease)])
    await deployment.lanes.dead_letters.redrive(FIRST.event_id)
    assert (await deployment.begun(FIRST, "t2")).journaled
    assert await journal(deployment) == {b"r0": b"one"}


async def test_a_step_that_leaves_a_gap_in_the_frames_is_not_kept(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    assert await deployment.lanes.append([step(lease, "r0", b"one", FRAME, first=2)]) == [AppendRefused("gap", 1)]
    assert await journal(deployment) == {}
