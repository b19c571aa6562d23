"""record: completed steps are kept under the epoch, within a bound, for whoever runs the event next."""

from datetime import timedelta

import pytest

from tests.builders import delivery_of
from tests.lane_builders import LEASE, Deployment, dead, done, event, retry
from workers.errors import TransientError
from workers.lanes import lanes as lanes_module
from workers.lanes.journals import Journals
from workers.lanes.records import Record, RecordResult

FIRST = event("e1", "thr_1")


async def journal(deployment: Deployment) -> dict[str, bytes]:
    return await deployment.lanes.journal(FIRST.lane, FIRST.event_id)


async def test_the_next_attempt_finds_what_was_kept_and_is_told_that_there_is_some(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    answers = await deployment.lanes.record([Record(lease, "r0", b"one"), Record(lease, "t0:c1", b"\x00\xff")])
    assert answers == ["recorded", "recorded"]
    await deployment.lanes.settle([retry(lease, timedelta(0))])
    assert (await deployment.begun(FIRST, "t2")).journaled
    assert await journal(deployment) == {"r0": b"one", "t0:c1": b"\x00\xff"}


async def test_an_event_that_has_completed_nothing_says_so(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease, timedelta(0))])
    assert not (await deployment.begun(FIRST, "t2")).journaled


async def test_a_lost_reply_is_asked_again_without_harm(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    for _ in range(2):
        assert await deployment.lanes.record([Record(lease, "r0", b"one")]) == ["recorded"]
    assert await journal(deployment) == {"r0": b"one"}


async def test_a_stale_worker_keeps_nothing_and_is_counted(deployment: Deployment) -> None:
    stale = await deployment.started(FIRST)
    deployment.clock.turn(LEASE)
    await deployment.begun(FIRST, "t2")
    assert await deployment.lanes.record([Record(stale, "r0", b"one")]) == ["stale"]
    assert await journal(deployment) == {}
    assert (await deployment.lanes.depth()).fenced_writes == 1


async def test_an_ended_and_a_stopped_event_keep_nothing_more(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.cancel(FIRST.event_id)
    assert await deployment.lanes.record([Record(lease, "r0", b"one")]) == ["cancelled"]
    await deployment.lanes.settle([done(lease)])
    assert await deployment.lanes.record([Record(lease, "r0", b"one")]) == ["ended"]


async def test_a_journal_is_bounded_and_goes_on_with_what_fits(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "JOURNAL_BYTES", 10)
    lease = await deployment.started(FIRST)
    records = [Record(lease, "r0", b"12345"), Record(lease, "r1", b"123456"), Record(lease, "r0", b"1234567890")]
    assert await deployment.lanes.record(records) == ["recorded", "full", "recorded"]
    assert await journal(deployment) == {"r0": b"1234567890"}


async def test_the_journal_of_a_dead_letter_outlives_a_redrive(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.record([Record(lease, "r0", b"one")])
    await deployment.lanes.settle([dead(lease)])
    await deployment.lanes.dead_letters.redrive(FIRST.event_id)
    assert (await deployment.begun(FIRST, "t2")).journaled
    assert await journal(deployment) == {"r0": b"one"}


class AwayLanes:
    """A state that is away for some calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    async def record(self, _: list[Record]) -> list[RecordResult]:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError
        return ["recorded"]

    async def journal(self, lane: str, event_id: str) -> dict[str, bytes]:
        raise ConnectionError


async def test_a_step_is_kept_after_a_short_outage_and_a_long_one_is_a_failure_that_may_pass() -> None:
    delivery = delivery_of(FIRST)
    assert await Journals(AwayLanes(2)).write(delivery, "r0", b"one") == "recorded"
    with pytest.raises(TransientError):
        await Journals(AwayLanes(1000), patience=timedelta(seconds=0.1)).write(delivery, "r0", b"one")
    with pytest.raises(TransientError):
        await Journals(AwayLanes(0)).read(delivery)
