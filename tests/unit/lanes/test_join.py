"""join: a message that steers leaves its lane for the journal of the turn that runs, in one step."""

import json
from datetime import timedelta

import pytest

from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, EventState
from tests.builders import message_event
from tests.lane_builders import FRAME, LEASE, QUEUE, Deployment, done, event, retry
from workers.lanes.pauses import Paused
from workers.lanes.records import Append, Begun, Cancellation, Joined, JoinRefused, Settled, Settlement, Start, Wake
from workers.policies.delivery import Lease

THREAD = "thr_1"


def message(mode: str | None = None, user: str = "u1") -> Event:
    return message_event(THREAD, tenant="acme", userid=user, double_text=mode)


def steering(user: str = "u1") -> Event:
    return message("steer", user)


async def joined(deployment: Deployment, lease: Lease, step: str = "s1") -> list[str]:
    """The ids of what has joined a step."""
    answer = await deployment.lanes.join(lease, step)
    assert isinstance(answer, Joined)
    return [name.split(":")[2] for name in sorted(answer.entries)]


async def state_of(deployment: Deployment, item: Event) -> EventState:
    found = await deployment.lanes.status(item.event_id)
    assert found is not None
    return found[0].state


async def test_messages_join_in_their_order_and_their_streams_point_to_the_turn(deployment: Deployment) -> None:
    running, first, second = message(), steering(), steering()
    lease = await deployment.started(running, first, second)
    await deployment.lanes.append([Append(lease, 1, [FRAME, FRAME])])
    answer = await deployment.lanes.join(lease, "s1")
    assert isinstance(answer, Joined)
    assert sorted(answer.entries) == [f"s1:2:{first.event_id}", f"s1:3:{second.event_id}"]
    assert [entry for _, entry in sorted(answer.entries.items())] == [
        b"[]\n" + item.to_json().encode() for item in (first, second)
    ]
    for item in (first, second):
        [(_, entry)] = await deployment.frames(item)
        assert json.loads(entry[b"e"]) == {
            "state": "done",
            "reason": None,
            "into": {"event": running.event_id, "after": "1-2"},
        }
    assert await deployment.lanes.events_of(running.lane) == [running.event_id]
    kept = await deployment.state.hkeys(deployment.keys.journal(running.lane, running.event_id))
    assert len(kept) == 2


async def test_what_has_joined_is_as_the_turn_is_until_that_ends(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    await joined(deployment, lease)
    found = await deployment.lanes.status(steer.event_id)
    assert found is not None
    assert (found[0].state, found[0].joined) == (EventState.RUNNING, running.event_id)
    await deployment.lanes.settle([Settlement(lease, Cancelled(CancelReason.OPERATOR))])
    assert await state_of(deployment, steer) is EventState.CANCELLED


async def test_asked_again_it_gives_the_same_and_counts_nothing_twice(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    assert await joined(deployment, lease) == await joined(deployment, lease) == [steer.event_id]
    assert (await deployment.lanes.depth()).states[EventState.DONE] == 1
    assert await joined(deployment, lease, "s10") == [], "of another step"


async def test_only_what_stands_right_behind_the_turn_and_steers_joins(deployment: Deployment) -> None:
    running, light, steer, plain, later = message(), event("e1", THREAD), steering(), message(), steering()
    lease = await deployment.started(running, light, steer, plain, later)
    assert await joined(deployment, lease) == [steer.event_id]
    assert await deployment.lanes.events_of(running.lane) == [item.event_id for item in (running, light, plain, later)]


async def test_another_users_message_does_not_join(deployment: Deployment) -> None:
    lease = await deployment.started(message(), steering("u2"))
    assert await joined(deployment, lease) == []


async def test_a_paused_message_does_not_join(deployment: Deployment) -> None:
    lease = await deployment.started(message(), steering())
    await deployment.lanes.pauses.pause(Paused("queue", QUEUE))
    assert await joined(deployment, lease) == []


async def test_a_turn_that_is_to_be_stopped_or_is_lost_is_joined_by_nothing(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    await deployment.lanes.cancel(running.event_id)
    assert await deployment.lanes.join(lease, "s1") == JoinRefused("cancelled")
    deployment.clock.turn(LEASE)
    await deployment.begun(running, "t2", lanes=deployment.other)
    assert await deployment.lanes.join(lease, "s1") == JoinRefused("stale")
    assert await state_of(deployment, steer) is EventState.QUEUED


async def test_a_message_that_is_not_joined_in_time_runs_by_itself(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    [settled] = await deployment.lanes.settle([done(lease)])
    assert settled == Settled(EventState.DONE, Wake(steer.lane, steer.event_id, steer.type, QUEUE))
    await deployment.begun(steer, "t2")


async def test_the_next_attempt_finds_it_in_the_journal(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    await joined(deployment, lease)
    await deployment.lanes.settle([retry(lease)])
    deployment.clock.turn(timedelta(minutes=1))
    begun = await deployment.begun(running, "t2")
    assert begun.journaled
    assert await joined(deployment, begun.lease) == [steer.event_id]


async def test_a_late_wake_up_of_it_finds_nothing_to_do(deployment: Deployment) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    await joined(deployment, lease)
    [answer] = await deployment.lanes.begin([Start(steer.lane, steer.event_id, "t9")])
    assert not isinstance(answer, Begun)
    assert answer.why == "ended"


@pytest.mark.parametrize("ended", [False, True])
async def test_a_cancel_of_it_stops_the_turn_that_it_has_joined(deployment: Deployment, ended: bool) -> None:
    running, steer = message(), steering()
    lease = await deployment.started(running, steer)
    await joined(deployment, lease)
    if ended:
        await deployment.lanes.settle([done(lease)])
    cancellation = Cancellation("ended") if ended else Cancellation("cancelling")
    assert await deployment.lanes.cancel(steer.event_id) == cancellation
    assert await deployment.lanes.renew([lease]) == ["lost" if ended else CancelReason.USER]


async def test_only_a_message_steers_anything_else_waits(deployment: Deployment) -> None:
    lease = await deployment.started(message())
    request = {"type": "threads.retry_after_item", "params": {"thread_id": THREAD, "item_id": "msg_1"}}
    retrying = message().model_copy(
        update={
            "id": "r",
            "type": "chatkit.threads.retry_after_item",
            "data": {**request, "metadata": {"double_text": "steer"}},
        }
    )
    await deployment.accepted(retrying)
    assert await joined(deployment, lease) == []
