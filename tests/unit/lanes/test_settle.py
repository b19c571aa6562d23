"""settle: what came of a run, once."""

import json
from datetime import timedelta
from typing import Any

import pytest

from schemas.events import parse_event
from schemas.examples import example_event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    Dropped,
    DropReason,
    EventState,
    Outcome,
    Released,
    ReleaseReason,
)
from tests.lane_builders import (
    FRAME,
    LEASE,
    QUEUE,
    Deployment,
    dead,
    done,
    event,
    lanes_on,
    letter,
    parked,
    released,
    retry,
)
from workers.lanes.records import Append, NotBegun, Settled, Settlement, SettleRefused, Start, Wake

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")
TO_SECOND = Wake(SECOND.lane, SECOND.event_id, SECOND.type, QUEUE)
MS = timedelta(milliseconds=1)


async def ending(deployment: Deployment) -> Any:
    """The end entry of the first event."""
    _, entry = (await deployment.frames(FIRST))[-1]
    return json.loads(entry[b"e"])


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Dropped(DropReason.EXPIRED), EventState.DROPPED, "expired"),
        (Cancelled(CancelReason.USER), EventState.CANCELLED, "user"),
    ],
)
async def test_an_end_closes_the_stream_with_state_and_reason(
    deployment: Deployment, outcome: Outcome, state: EventState, reason: str
) -> None:
    lease = await deployment.started(FIRST)
    assert await deployment.lanes.settle([Settlement(lease, outcome)]) == [Settled(state, None)]
    assert await ending(deployment) == {"state": state, "reason": reason}
    found = await deployment.lanes.status(FIRST.event_id)
    assert found is not None
    assert (found[0].state, found[0].reason) == (state, reason)


async def test_final_frames_come_before_the_end_entry(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([Append(lease, 1, [b"1"])])
    await deployment.lanes.settle([done(lease, b"2", b"3")])
    ids = [frame_id for frame_id, _ in await deployment.frames(FIRST)]
    assert ids == [b"1-1", b"1-2", b"1-3", b"1-4"]
    assert await ending(deployment) == {"state": "done", "reason": None}


async def test_an_end_pops_the_head_and_names_the_next_whose_alarm_is_set(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    deployment.clock.turn(timedelta(seconds=1))
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, TO_SECOND)]
    assert await deployment.alarm_ms(SECOND) == 2_000
    await deployment.begun(SECOND, "t2")


async def test_the_last_end_leaves_neither_lease_nor_alarm_nor_lane(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([done(lease)])
    tag = deployment.keys.tag_of(FIRST.lane)
    assert await deployment.state.exists(f"{tag}lane:{FIRST.lane}", f"{tag}lease:{FIRST.lane}", f"{tag}alarms") == 0


async def test_the_clocks_start_at_the_end_and_the_record_of_the_lane_follows(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    tag = deployment.keys.tag_of(FIRST.lane)
    state: Any = deployment.state
    await state.hset(deployment.keys.journal(FIRST.lane, FIRST.event_id), "step", "1")
    await deployment.lanes.settle([done(lease)])
    assert not await state.exists(deployment.keys.journal(FIRST.lane, FIRST.event_id))  # it will not be run again
    for name in ("event", "out"):
        assert 0 < await state.pttl(f"{tag}{name}:{FIRST.event_id}") <= 86_400_000
    assert await state.pttl(deployment.keys.where(FIRST.event_id)) == -1
    await deployment.lanes.sweep()
    assert 0 < await state.pttl(deployment.keys.where(FIRST.event_id)) <= 86_400_000
    assert await state.zcard(f"{tag}ended") == 0


async def test_a_dead_letter_is_written_with_every_failed_attempt(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease, timedelta(0))])
    lease = (await deployment.begun(FIRST, "t2")).lease
    assert await deployment.lanes.settle([dead(lease, [FRAME])]) == [Settled(EventState.DEAD, None)]
    [kept] = (await deployment.lanes.dead_letters.page()).items
    assert kept.id == FIRST.event_id
    assert [attempt.error for attempt in kept.attempts] == ['TransientError: 503 "busy"', "PermanentError: 400"]
    assert [entry.get(b"d") for _, entry in await deployment.frames(FIRST)] == [FRAME, None]


async def test_an_event_cannot_go_dead_without_its_letter(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    with pytest.raises(ValueError, match="dead letter"):
        await deployment.lanes.settle([Settlement(lease, dead(lease).outcome)])


async def test_a_retry_spends_an_attempt_and_keeps_the_head(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    settled = await deployment.lanes.settle([retry(lease, timedelta(seconds=3))])
    assert settled == [Settled(EventState.WAITING_RETRY, None)]
    assert await deployment.alarm_ms(FIRST) == 3_000
    assert await deployment.lanes.events_of(FIRST.lane) == [FIRST.event_id, SECOND.event_id]
    deployment.clock.turn(timedelta(seconds=3))
    begun = await deployment.begun(FIRST, "t2")
    assert (begun.attempt, begun.deaths) == (2, 1)


async def test_parking_spends_no_attempt(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    settled = await deployment.lanes.settle([parked(lease, timedelta(seconds=7))])
    assert settled == [Settled(EventState.WAITING_LIMIT, None)]
    assert await deployment.alarm_ms(FIRST) == 7_000
    deployment.clock.turn(timedelta(seconds=7))
    begun = await deployment.begun(FIRST, "t2")
    assert (begun.attempt, begun.deaths) == (1, 1)


async def test_a_released_event_is_woken_at_once_with_no_attempt_and_no_death(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    wake = Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)
    assert await deployment.lanes.settle([released(lease)]) == [Settled(EventState.QUEUED, wake)]
    begun = await deployment.begun(FIRST, "t2", lanes=deployment.other)
    assert (begun.attempt, begun.deaths) == (1, 1)


async def test_a_handoff_gives_the_event_to_another_queue_at_the_head_of_its_lane(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    hop = Settlement(lease, Released(ReleaseReason.HANDOFF, "chatkit.agent.other"))
    wake = Wake(FIRST.lane, FIRST.event_id, FIRST.type, "chatkit.agent.other")
    assert await deployment.lanes.settle([hop]) == [Settled(EventState.QUEUED, wake)]
    assert await deployment.lanes.settle([hop]) == [Settled(EventState.QUEUED, wake)]  # its reply was lost
    deployment.clock.turn(timedelta(seconds=2))
    assert await deployment.lanes.sweep() == [wake]  # nobody came: the alarm looks in the new queue as well
    begun = await deployment.begun(FIRST, "t2", lanes=deployment.other)
    assert (begun.attempt, begun.deaths, begun.queue, begun.hops) == (1, 1, "chatkit.agent.other", 1)
    await deployment.lanes.settle([released(begun.lease)])
    assert (await deployment.begun(FIRST, "t3")).queue == "chatkit.agent.other"


async def test_a_handoff_that_a_cancel_has_met_is_left_to_a_worker_of_the_next_queue_to_end(
    deployment: Deployment,
) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.cancel(FIRST.event_id)  # its worker has not heard of it yet
    [settled] = await deployment.lanes.settle([Settlement(lease, Released(ReleaseReason.HANDOFF, "other"))])
    assert settled == Settled(EventState.QUEUED, Wake(FIRST.lane, FIRST.event_id, FIRST.type, "other"))
    begun = await deployment.begun(FIRST, "t2")
    assert begun.cancelled is CancelReason.USER
    [settled] = await deployment.lanes.settle([Settlement(begun.lease, Cancelled(CancelReason.USER))])
    assert settled == Settled(EventState.CANCELLED, None)


@pytest.mark.parametrize(("settlement", "deaths"), [(parked, 3), (released, 3), (retry, 1)])
async def test_only_a_run_that_came_to_an_answer_clears_the_deaths_of_a_suspect(
    deployment: Deployment, settlement: Any, deaths: int
) -> None:
    """What found no room, or was given back, has not been run: else it would kill two more workers, each time."""
    await deployment.started(FIRST)
    for token in ("t2", "t3"):  # two workers have died
        deployment.clock.turn(LEASE)
        begun = await deployment.begun(FIRST, token)
    assert begun.deaths == 3
    await deployment.lanes.settle([settlement(begun.lease)])
    deployment.clock.turn(LEASE)
    assert (await deployment.begun(FIRST, "t4")).deaths == deaths


@pytest.mark.parametrize("settlement", [done, retry, dead])
async def test_the_same_token_gets_the_same_answer_and_nothing_happens_twice(
    deployment: Deployment, settlement: Any
) -> None:
    lease = await deployment.started(FIRST, SECOND)
    answer = await deployment.lanes.settle([settlement(lease)])
    before = (await deployment.frames(FIRST), await deployment.lanes.depth())
    assert await deployment.lanes.settle([settlement(lease)]) == answer
    assert (await deployment.frames(FIRST), await deployment.lanes.depth()) == before


async def test_a_stale_worker_settles_nothing_and_is_counted(deployment: Deployment) -> None:
    stale = await deployment.started(FIRST, SECOND)
    deployment.clock.turn(LEASE)
    current = (await deployment.begun(FIRST, "t2")).lease
    assert await deployment.lanes.settle([done(stale, FRAME)]) == [SettleRefused()]
    assert await deployment.frames(FIRST) == []
    await deployment.lanes.settle([done(current)])
    assert await deployment.lanes.settle([retry(stale)]) == [SettleRefused()]
    assert (await deployment.lanes.depth()).fenced_writes == 2


async def test_expiry_alone_refuses_no_settlement(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    deployment.clock.turn(10 * LEASE)
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, None)]


@pytest.mark.parametrize("settlement", [done, retry, dead])
async def test_whatever_came_of_a_cancelled_event_it_is_cancelled(deployment: Deployment, settlement: Any) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.cancel(FIRST.event_id, CancelReason.THREAD_DELETED)
    assert await deployment.lanes.settle([settlement(lease)]) == [Settled(EventState.CANCELLED, TO_SECOND)]
    assert await ending(deployment) == {"state": "cancelled", "reason": "thread_deleted"}
    assert (await deployment.lanes.dead_letters.page()).items == []


@pytest.mark.parametrize(
    ("settlement", "state"),
    [(retry, "waiting_retry"), (parked, "waiting_limit"), (released, "queued")],
)
async def test_what_a_cancelled_event_has_shown_is_left_to_a_worker_to_store_within_a_second(
    deployment: Deployment, settlement: Any, state: str
) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.cancel(FIRST.event_id)
    [settled] = await deployment.lanes.settle([settlement(lease)])
    assert isinstance(settled, Settled)
    assert settled.state == state
    history = await deployment.state.hget(f"{deployment.keys.tag_of(FIRST.lane)}event:{FIRST.event_id}", "history")
    assert (history is not None) == (state == "waiting_retry"), "an attempt that failed is in the history"
    deployment.clock.turn(timedelta(seconds=1))
    begun = await deployment.begun(FIRST, "t2")
    assert begun.cancelled is CancelReason.USER
    stopped = Settlement(begun.lease, Cancelled(CancelReason.USER))
    assert await deployment.lanes.settle([stopped]) == [Settled(EventState.CANCELLED, TO_SECOND)]


async def test_a_cancelled_event_that_is_given_up_takes_back_what_it_has_shown_and_is_not_closed_as_dead(
    deployment: Deployment,
) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.cancel(FIRST.event_id)
    removal = b'{"type":"thread.item.removed"}'
    await deployment.lanes.settle([dead(lease, [removal, b'{"type":"error"}'])])
    assert [entry.get(b"d") for _, entry in await deployment.frames(FIRST)] == [FRAME, removal, None]
    assert await ending(deployment) == {"state": "cancelled", "reason": "user"}


async def test_frames_of_another_outcome_are_not_shown_after_a_cancel_but_its_own_closing_frames_are(
    deployment: Deployment,
) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.cancel(FIRST.event_id)
    await deployment.lanes.settle([done(lease, FRAME)])
    assert len(await deployment.frames(FIRST)) == 1
    lease = (await deployment.begun(SECOND, "t2")).lease
    await deployment.lanes.cancel(SECOND.event_id)
    await deployment.lanes.settle([Settlement(lease, Cancelled(CancelReason.USER), final_frames=[FRAME])])
    assert [entry.get(b"d") for _, entry in await deployment.frames(SECOND)] == [FRAME, None]


async def test_a_lane_of_a_retry_begins_nothing_behind_the_head(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.settle([retry(lease)])
    assert await deployment.lanes.begin([Start(SECOND.lane, SECOND.event_id, "t2")]) == [NotBegun("not_head")]


async def test_the_oldest_dead_letter_gives_way(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, max_dead=2)
    items = [event(f"d{number}", "thr_1") for number in range(3)]
    await deployment.accepted(*items)
    for item in items:
        deployment.clock.turn(timedelta(seconds=1))
        await lanes.settle([dead((await deployment.begun(item, item.id)).lease)])
    assert [kept.id for kept in (await lanes.dead_letters.page()).items] == [items[2].event_id, items[1].event_id]
    depth = await lanes.depth()
    assert (depth.dead, depth.dead_kept) == ({"permanent": 3}, 2)


async def test_what_never_became_an_event_is_kept_with_its_reason(deployment: Deployment) -> None:
    assert await deployment.lanes.bury([letter("raw_1"), letter("raw_2"), letter("raw_1")]) == [True, True, False]
    assert sorted(kept.id for kept in (await deployment.lanes.dead_letters.page()).items) == ["raw_1", "raw_2"]
    assert (await deployment.lanes.depth()).dead == {"permanent": 2}


async def test_a_stream_with_a_secret_is_gone_a_minute_after_the_end_and_its_record_is_not(
    deployment: Deployment,
) -> None:
    secret = parse_event(example_event("chatkit.session.start"))
    minute = timedelta(minutes=1) // MS
    lease = await deployment.started(secret)
    await deployment.lanes.settle([done(lease, b"secret")])
    tag = deployment.keys.tag_of(secret.lane)
    assert 0 < await deployment.state.pttl(deployment.keys.stream(secret.lane, secret.event_id)) <= minute
    assert await deployment.state.pttl(f"{tag}event:{secret.event_id}") > minute


async def test_other_streams_stay_as_long_as_their_events(deployment: Deployment) -> None:
    await deployment.lanes.settle([done(await deployment.started(FIRST), b"1")])
    assert await deployment.state.pttl(deployment.keys.stream(FIRST.lane, FIRST.event_id)) > timedelta(hours=1) // MS
