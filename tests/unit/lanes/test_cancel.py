"""cancel: a waiting event ends, one that runs or has shown something is marked, an ended one stays."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from schemas.outcome import Cancelled, CancelReason, EventState, Parked, ParkReason, Released, ReleaseReason
from tests.lane_builders import FRAME, LEASE, QUEUE, Deployment, done, event, retry
from workers.lanes.connection import open_pubsub
from workers.lanes.records import Append, AppendRefused, Cancellation, Settled, Settlement, Wake
from workers.policies.delivery import Lease

ITEMS = [event(f"e{number}", "thr_1") for number in range(3)]
FIRST, SECOND, THIRD = ITEMS


def parked(lease: Lease) -> Settlement:
    return Settlement(lease, Parked(ParkReason.OVERLOAD, LEASE), delay=LEASE)


def released(lease: Lease) -> Settlement:
    return Settlement(lease, Released(ReleaseReason.SHUTDOWN))


def waiting_ids(*items: Any) -> list[str]:
    return [item.event_id for item in items]


async def test_an_unknown_event_is_unknown(deployment: Deployment) -> None:
    assert await deployment.lanes.cancel("evt_nobody") == Cancellation("unknown")


async def test_an_ended_event_stays_as_it_ended(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([done(lease)])
    assert await deployment.lanes.cancel(FIRST.event_id) == Cancellation("ended")
    assert (await deployment.lanes.depth()).states[EventState.DONE] == 1


async def test_a_waiting_head_ends_and_the_next_is_named(deployment: Deployment) -> None:
    await deployment.accepted(FIRST, SECOND)
    wake = Wake(SECOND.lane, SECOND.event_id, SECOND.type, QUEUE)
    assert await deployment.lanes.cancel(FIRST.event_id, CancelReason.OPERATOR) == Cancellation("cancelled", wake)
    [(_, entry)] = await deployment.frames(FIRST)
    assert json.loads(entry[b"e"]) == {"state": "cancelled", "reason": "operator"}
    assert await deployment.alarm_ms(SECOND) == 2_000


@pytest.mark.parametrize(("which", "left"), [(1, [FIRST, THIRD]), (2, [FIRST, SECOND])])
async def test_an_event_may_wait_anywhere_in_its_lane(deployment: Deployment, which: int, left: Any) -> None:
    await deployment.started(*ITEMS)
    assert await deployment.lanes.cancel(ITEMS[which].event_id) == Cancellation("cancelled")
    assert await deployment.lanes.events_of(FIRST.lane) == waiting_ids(*left)
    assert await deployment.alarm_ms(FIRST) == LEASE // timedelta(milliseconds=1), "the running head is untouched"


async def test_the_last_waiting_event_takes_its_lane_along(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    assert await deployment.lanes.cancel(FIRST.event_id) == Cancellation("cancelled")
    assert await deployment.alarm_ms(FIRST) is None


async def test_an_event_that_waits_for_its_retry_ends_at_once(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease)])
    assert await deployment.lanes.cancel(FIRST.event_id) == Cancellation("cancelled")
    assert [frame_id for frame_id, _ in await deployment.frames(FIRST)] == [b"1-1"]


@pytest.mark.parametrize("settlement", [retry, parked, released])
async def test_an_event_that_has_shown_something_and_waits_is_given_to_a_worker_at_once(
    deployment: Deployment, settlement: Callable[[Lease], Settlement]
) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.settle([settlement(lease)])
    wake = Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)
    for reason in (CancelReason.OPERATOR, CancelReason.USER):
        assert await deployment.other.cancel(FIRST.event_id, reason) == Cancellation("cancelling", wake)
    assert await deployment.alarm_ms(FIRST) == 2_000
    begun = await deployment.begun(FIRST, "t2")
    assert begun.cancelled is CancelReason.OPERATOR
    assert await deployment.lanes.append([Append(begun.lease, 2, [FRAME])]) == [AppendRefused("cancelled", 2)]
    to_second = Wake(SECOND.lane, SECOND.event_id, SECOND.type, QUEUE)
    stopped = Settlement(begun.lease, Cancelled(CancelReason.OPERATOR))
    assert await deployment.lanes.settle([stopped]) == [Settled(EventState.CANCELLED, to_second)]
    assert [frame_id for frame_id, _ in await deployment.frames(FIRST)] == [b"1-1", b"1-2"]


async def test_a_running_event_is_marked_and_its_worker_is_told(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    async with await open_pubsub(deployment.state) as messages:
        await messages.subscribe(deployment.keys.cancel_channel())
        await messages.get_message(timeout=1)
        assert await deployment.other.cancel(FIRST.event_id) == Cancellation("cancelling")
        message: Any = await messages.get_message(timeout=1)
    assert message["data"].decode() == f"{FIRST.event_id} user"


async def test_the_first_reason_stays_when_it_is_cancelled_again(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    for reason in (CancelReason.THREAD_DELETED, CancelReason.USER):
        assert (await deployment.lanes.cancel(FIRST.event_id, reason)).result == "cancelling"
    await deployment.lanes.settle([done(lease)])
    found = await deployment.lanes.status(FIRST.event_id)
    assert found is not None
    assert found[0].reason == "thread_deleted"


async def test_the_next_worker_learns_of_a_cancel_when_the_first_one_died(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    await deployment.lanes.cancel(FIRST.event_id, CancelReason.OPERATOR)
    deployment.clock.turn(LEASE)
    assert (await deployment.begun(FIRST, "t2", lanes=deployment.other)).cancelled is CancelReason.OPERATOR


async def test_a_settlement_asked_again_after_the_event_was_cancelled_gets_its_answer_again(
    deployment: Deployment,
) -> None:
    lease = await deployment.started(FIRST)
    answer = await deployment.lanes.settle([retry(lease)])
    await deployment.lanes.cancel(FIRST.event_id)
    assert await deployment.lanes.settle([retry(lease)]) == answer
