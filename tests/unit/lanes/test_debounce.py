"""accept holds a burst of messages back until its thread is quiet; join makes one turn of it."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.errors import InvalidEventError
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, EventState
from tests.builders import create_event, message_event
from tests.lane_builders import FRAME, QUEUE, Deployment, done, event, lanes_on, parked, retry
from workers.lanes.records import (
    Accepted,
    Append,
    Joined,
    NotBegun,
    Refused,
    RouseResult,
    Settled,
    Settlement,
    Start,
    Wake,
)
from workers.policies.delivery import Lease

THREAD = "thr_1"
QUIET = 2.0


def message(quiet: float | None = QUIET, mode: str | None = None, user: str = "u1") -> Event:
    return message_event(THREAD, tenant="acme", userid=user, double_text=mode, debounce=quiet)


def wake(item: Event) -> Wake:
    return Wake(item.lane, item.event_id, item.type, QUEUE)


async def accept(deployment: Deployment, item: Event) -> Accepted:
    [answer] = await deployment.lanes.accept([(item, QUEUE)])
    assert isinstance(answer, Accepted)
    return answer


async def accepted_every(deployment: Deployment, seconds: float, *items: Event) -> None:
    """One after another, with a pause after each."""
    for item in items:
        assert (await accept(deployment, item)).wake is None
        deployment.clock.turn(timedelta(seconds=seconds))


async def joined(deployment: Deployment, lease: Lease) -> list[str]:
    answer = await deployment.lanes.join(lease, "s0")
    assert isinstance(answer, Joined)
    return [name.split(":")[2] for name in sorted(answer.entries, key=lambda name: int(name.split(":")[1]))]


async def state_of(deployment: Deployment, item: Event) -> tuple[EventState, str | None]:
    found = await deployment.lanes.status(item.event_id)
    assert found is not None
    return found[0].state, found[0].reason


async def due_in(deployment: Deployment, item: Event) -> float:
    """Seconds until the event may begin, found by trying."""
    begun_at = deployment.clock.ms
    for _ in range(1000):
        [answer] = await deployment.lanes.begin([Start(item.lane, item.event_id, "t-due")])
        if answer != NotBegun("not_due"):
            break
        deployment.clock.turn(timedelta(milliseconds=100))
    return (deployment.clock.ms - begun_at) / 1000


async def test_a_message_waits_for_its_quiet_time_and_the_alarm_wakes_it(deployment: Deployment) -> None:
    item = message()
    assert (await accept(deployment, item)).wake is None
    assert await state_of(deployment, item) == (EventState.QUEUED, None)
    assert await deployment.alarm_ms(item) == 2_000
    assert await deployment.lanes.sweep() == []
    deployment.clock.turn(timedelta(seconds=2))
    assert await deployment.lanes.sweep() == [wake(item)]
    begun = await deployment.begun(item)
    assert begun.waited is not None
    assert begun.waited.seconds == 0, "nobody could have run it before"


async def test_each_message_of_a_burst_makes_all_of_it_wait_anew_and_it_is_one_turn(deployment: Deployment) -> None:
    first, second, third = message(), message(), message()
    await accepted_every(deployment, 1.5, first, second, third)
    assert await deployment.alarm_ms(first) == 500
    assert await due_in(deployment, first) == pytest.approx(0.5)
    lease = (await deployment.begun(first, "t-due")).lease
    assert await joined(deployment, lease) == [second.event_id, third.event_id]
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, None)]
    assert await deployment.lanes.events_of(first.lane) == []


async def test_a_steady_typist_is_answered_after_five_quiet_times(deployment: Deployment) -> None:
    items = [message() for _ in range(12)]
    await accepted_every(deployment, 1, *items[:9])
    assert await due_in(deployment, items[0]) == pytest.approx(1.0)
    lease = (await deployment.begun(items[0], "t-due")).lease
    await accepted_every(deployment, 1, items[9])
    assert await joined(deployment, lease) == [item.event_id for item in items[1:10]], "it came before the call"
    await accepted_every(deployment, 1, *items[10:])
    assert await joined(deployment, lease) == [item.event_id for item in items[1:10]], "the next burst"


async def test_a_message_that_comes_when_the_first_is_due_but_not_begun_makes_it_wait(deployment: Deployment) -> None:
    first, late = message(), message()
    await accepted_every(deployment, 2.5, first)
    assert await deployment.lanes.sweep() == [wake(first)]
    await accept(deployment, late)
    [answer] = await deployment.lanes.begin([Start(first.lane, first.event_id, "t1")])
    assert answer == NotBegun("not_due")
    assert await deployment.alarm_ms(first) == 2_000


async def test_the_same_message_again_neither_wakes_it_nor_makes_it_wait_longer(deployment: Deployment) -> None:
    item = message()
    await accepted_every(deployment, 1.5, item)
    again = await accept(deployment, item)
    assert (again.duplicate, again.wake) == (True, None)
    assert await deployment.alarm_ms(item) == 500
    deployment.clock.turn(timedelta(seconds=1))
    assert (await accept(deployment, item)).wake == wake(item), "a duplicate of a head that is due wakes it"


async def test_a_cancel_of_the_first_leaves_the_others_one_turn(deployment: Deployment) -> None:
    first, second, third = message(), message(), message()
    await accepted_every(deployment, 1, first, second, third)
    cancellation = await deployment.lanes.cancel(first.event_id)
    assert (cancellation.result, cancellation.wake) == ("cancelled", None)
    assert await deployment.alarm_ms(second) == 1_000
    assert await due_in(deployment, second) == pytest.approx(1.0)
    assert await joined(deployment, (await deployment.begun(second, "t-due")).lease) == [third.event_id]


async def test_a_worker_that_is_killed_before_they_have_joined_leaves_them_to_the_next(deployment: Deployment) -> None:
    first, second = message(), message()
    await accepted_every(deployment, 0, first, second)
    deployment.clock.turn(timedelta(seconds=2))
    await deployment.begun(first)
    deployment.clock.turn(timedelta(seconds=11))
    assert await deployment.lanes.sweep() == [wake(first)]
    lease = (await deployment.begun(first, "t2", lanes=deployment.other)).lease
    assert await joined(deployment, lease) == [second.event_id]


async def test_a_burst_that_comes_while_a_turn_runs_waits_for_that_and_is_one_turn(deployment: Deployment) -> None:
    running, first, second = message(0), message(), message()
    lease = await deployment.started(running)
    await accepted_every(deployment, 1, first, second)
    assert await joined(deployment, lease) == []
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, None)]
    assert await deployment.alarm_ms(first) == 1_000, "quiet for another second"
    deployment.clock.turn(timedelta(seconds=1))
    assert await joined(deployment, (await deployment.begun(first, "t2")).lease) == [second.event_id]


async def test_a_burst_behind_a_turn_that_ran_longer_is_woken_when_that_ends(deployment: Deployment) -> None:
    running, first = message(0), message()
    lease = await deployment.started(running, first)
    deployment.clock.turn(timedelta(seconds=3))
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, wake(first))]


async def test_a_dead_workers_turn_is_found_in_time_though_a_burst_waits_behind_it(deployment: Deployment) -> None:
    first, second, third = message(30), message(30), message(30)
    await accepted_every(deployment, 0, first, second)
    deployment.clock.turn(timedelta(seconds=30))
    await deployment.begun(first)
    await accept(deployment, third)
    assert await deployment.alarm_ms(first) == 10_000


@pytest.mark.parametrize("mode", ["interrupt", "rollback", "reject"])
async def test_the_messages_of_a_burst_do_not_stop_each_other(deployment: Deployment, mode: str) -> None:
    first, second = message(mode=mode), message(mode=mode)
    await accepted_every(deployment, 0, first, second)
    deployment.clock.turn(timedelta(seconds=2))
    assert await joined(deployment, (await deployment.begun(first)).lease) == [second.event_id]


async def test_an_interrupting_burst_stops_what_runs_at_once_and_still_waits(deployment: Deployment) -> None:
    running, first, second = message(0), message(mode="interrupt"), message(mode="interrupt")
    lease = await deployment.started(running)
    await accepted_every(deployment, 0, first)
    assert await deployment.lanes.renew([lease]) == [CancelReason.INTERRUPTED]
    await accepted_every(deployment, 0, second)
    settled = await deployment.lanes.settle([Settlement(lease, Cancelled(CancelReason.INTERRUPTED))])
    assert settled == [Settled(EventState.CANCELLED, None)]
    deployment.clock.turn(timedelta(seconds=2))
    assert await joined(deployment, (await deployment.begun(first, "t2")).lease) == [second.event_id]


async def test_an_interrupting_message_that_waits_does_not_wake_itself_when_it_ends_what_waited(
    deployment: Deployment,
) -> None:
    await deployment.accepted(message(0))
    item = message(mode="interrupt")
    assert (await accept(deployment, item)).wake is None
    assert await deployment.alarm_ms(item) == 2_000


async def test_a_steering_message_joins_what_runs_without_waiting(deployment: Deployment) -> None:
    lease = await deployment.started(message(0))
    item = message(mode="steer")
    await accept(deployment, item)
    assert await joined(deployment, lease) == [item.event_id]


async def test_the_message_of_another_user_neither_joins_nor_makes_wait(deployment: Deployment) -> None:
    first, strange, later = message(), message(user="u2"), message()
    await accepted_every(deployment, 1, first, strange, later)
    deployment.clock.turn(timedelta(seconds=1))
    assert await joined(deployment, (await deployment.begun(first)).lease) == []


async def test_a_message_without_a_quiet_time_is_a_turn_of_its_own(deployment: Deployment) -> None:
    first, plain = message(), message(0)
    await accepted_every(deployment, 1, first, plain)
    deployment.clock.turn(timedelta(seconds=1))
    lease = (await deployment.begun(first)).lease
    assert await joined(deployment, lease) == []
    assert await deployment.lanes.settle([done(lease)]) == [Settled(EventState.DONE, wake(plain))]


async def test_what_needs_no_model_lies_between_the_messages_of_a_burst_and_is_left(deployment: Deployment) -> None:
    first, second = message(), message()
    await accepted_every(deployment, 1, first, event("e1", THREAD), second)
    deployment.clock.turn(timedelta(seconds=1))
    lease = (await deployment.begun(first)).lease
    assert await joined(deployment, lease) == [second.event_id]


async def test_a_burst_is_joined_by_what_came_while_its_first_message_waited_for_a_limit(
    deployment: Deployment,
) -> None:
    first, second, third = message(), message(), message()
    await accepted_every(deployment, 0, first, second)
    deployment.clock.turn(timedelta(seconds=2))
    lease = (await deployment.begun(first)).lease
    await deployment.lanes.settle([parked(lease)])
    await accept(deployment, third)
    deployment.clock.turn(timedelta(seconds=7))
    lease = (await deployment.begun(first, "t2")).lease
    assert await joined(deployment, lease) == [second.event_id, third.event_id]


async def test_the_creation_of_a_thread_and_its_first_messages_are_one_turn(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, debounce={"*": QUIET})
    create = create_event(tenant="acme")
    more = message_event(str(create.thread_id), tenant="acme")
    answers = await lanes.accept([(create, QUEUE), (more, QUEUE)])
    assert [answer.wake for answer in answers if isinstance(answer, Accepted)] == [None, None]
    deployment.clock.turn(timedelta(seconds=2))
    assert await joined(deployment, (await deployment.begun(create)).lease) == [more.event_id]


async def test_the_deployment_decides_by_type_for_requests_that_ask_for_nothing(deployment: Deployment) -> None:
    types = {"chatkit.threads.add_user_message": QUIET, "*": 0.0}
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, debounce=types)
    create, asked, unasked = create_event(tenant="acme"), message(0), message(None)
    answers = await lanes.accept([(create, QUEUE), (asked, QUEUE), (unasked, QUEUE)])
    assert [isinstance(one, Accepted) and one.wake for one in answers] == [wake(create), wake(asked), None]
    light = event("e1", "thr_2")
    assert (await accept(deployment, light)).wake == wake(light), "what needs no model waits for nothing"


async def test_nobody_rouses_a_message_that_waits_for_quiet(deployment: Deployment) -> None:
    """It asks for its limits when it runs."""
    item = message()
    await accept(deployment, item)
    roused: list[RouseResult] = await deployment.lanes.rouse([wake(item)])
    assert roused == ["coming"]
    [begun] = await deployment.lanes.begin([Start(item.lane, item.event_id, "t1")])
    assert begun == NotBegun("not_due")


async def test_a_redriven_message_waits_for_nothing_and_is_joined_by_nothing(deployment: Deployment) -> None:
    item, later = message(), message()
    [answer] = await deployment.lanes.accept([(item, QUEUE)], redriven=True)
    assert isinstance(answer, Accepted)
    assert answer.wake == wake(item)
    await accept(deployment, later)
    assert await joined(deployment, (await deployment.begun(item)).lease) == []


async def test_a_burst_whose_first_message_fails_goes_on_with_its_retry(deployment: Deployment) -> None:
    first, second = message(), message()
    await accepted_every(deployment, 0, first, second)
    deployment.clock.turn(timedelta(seconds=2))
    lease = (await deployment.begun(first)).lease
    await joined(deployment, lease)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.settle([retry(lease)])
    deployment.clock.turn(timedelta(seconds=3))
    begun = await deployment.begun(first, "t2")
    assert begun.journaled
    assert await joined(deployment, begun.lease) == [second.event_id]


async def test_a_full_lane_refuses_a_burst_as_well(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, per_lane=1)
    _, full = await lanes.accept([(message(), QUEUE), (message(), QUEUE)])
    assert isinstance(full, Refused)


@pytest.mark.parametrize("asked", ["2", -1, 61, True, [2]])
def test_a_quiet_time_that_is_none_is_refused_by_name(asked: Any) -> None:
    with pytest.raises(InvalidEventError) as refused:
        message_event(THREAD, debounce=asked)
    assert "data.metadata.debounce: must be a number of seconds from 0 to 60" in str(refused.value)
