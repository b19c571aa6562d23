"""accept meets other turns: it rejects, interrupts or rolls back, in one step with what it does to them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from schemas.double_text import DoubleText
from schemas.errors import InvalidEventError
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done, EventState
from tests.builders import create_event, message_event
from tests.lane_builders import FRAME, LEASE, QUEUE, Deployment, done, event, lanes_on, parked, released, retry
from workers.lanes.records import Accepted, Append, Refused, Settled, Settlement, SettleRefused, Wake

THREAD = "thr_1"


def message(mode: str | None = None, user: str = "u1") -> Event:
    return message_event(THREAD, tenant="acme", userid=user, double_text=mode)


async def accept(deployment: Deployment, item: Event) -> Accepted | Refused:
    [answer] = await deployment.lanes.accept([(item, QUEUE)])
    return answer


async def state_of(deployment: Deployment, item: Event) -> tuple[EventState, str | None]:
    found = await deployment.lanes.status(item.event_id)
    assert found is not None
    return found[0].state, found[0].reason


def wake(item: Event) -> Wake:
    return Wake(item.lane, item.event_id, item.type, QUEUE)


async def test_a_message_is_rejected_while_a_turn_runs_or_waits_and_not_after(deployment: Deployment) -> None:
    running, waiting = message(), message()
    lease = await deployment.started(running, waiting)
    refused = message("reject")
    assert await accept(deployment, refused) == Refused(refused.event_id, refused.lane, "busy", 5.0, running.event_id)
    _, _ = await deployment.lanes.settle([done(lease)]), await deployment.lanes.cancel(waiting.event_id)
    again = await accept(deployment, refused)
    assert isinstance(again, Accepted), "the same request may come again"
    assert not again.duplicate


async def test_a_message_behind_a_rejected_one_of_its_batch_overtakes_nobody(deployment: Deployment) -> None:
    await deployment.started(message())
    answers = await deployment.lanes.accept([(message("reject"), QUEUE), (message(), QUEUE)])
    assert [getattr(answer, "reason", "accepted") for answer in answers] == ["busy", "accepted"]


async def test_what_needs_no_turn_makes_a_conversation_not_busy(deployment: Deployment) -> None:
    await deployment.started(event("e1", THREAD))
    assert isinstance(await accept(deployment, message("reject")), Accepted)


@pytest.mark.parametrize(("mode", "reason"), [("interrupt", "interrupted"), ("rollback", "rolled_back")])
async def test_what_runs_and_what_waits_is_stopped_and_the_new_one_is_next(
    deployment: Deployment, mode: str, reason: str
) -> None:
    running, waiting, light = message(), message(), event("e1", THREAD)
    lease = await deployment.started(running, light, waiting)
    new = message(mode)
    answer = await accept(deployment, new)
    assert isinstance(answer, Accepted)
    assert answer.wake is None, "the running one's worker wakes it"
    assert await deployment.lanes.renew([lease]) == [CancelReason(reason)]
    assert await state_of(deployment, waiting) == (EventState.CANCELLED, reason)
    assert await deployment.lanes.events_of(new.lane) == [running.event_id, light.event_id, new.event_id]
    settled = await deployment.lanes.settle([Settlement(lease, Cancelled(CancelReason(reason)))])
    assert settled == [Settled(EventState.CANCELLED, wake(light))]


@pytest.mark.parametrize("mode", ["reject", "interrupt", "rollback"])
async def test_the_turn_of_another_user_is_neither_stopped_nor_told_of(deployment: Deployment, mode: str) -> None:
    running = message()
    lease = await deployment.started(running)
    assert isinstance(await accept(deployment, message(mode, "u2")), Accepted)
    assert await deployment.lanes.renew([lease]) == ["held"]
    assert (await state_of(deployment, running))[0] is EventState.RUNNING


async def test_two_interrupts_at_once_leave_one_to_run(deployment: Deployment) -> None:
    running, new = message(), [message("interrupt") for _ in range(2)]
    lease = await deployment.started(running)
    await asyncio.gather(*(accept(deployment, item) for item in new))
    [settled] = await deployment.lanes.settle([done(lease)])
    assert isinstance(settled, Settled)
    [left] = await deployment.lanes.events_of(running.lane)
    assert settled.wake is not None
    assert settled.wake.event_id == left
    states = [await state_of(deployment, item) for item in new]
    assert sorted(states) == [(EventState.CANCELLED, "interrupted"), (EventState.QUEUED, None)]


async def test_asked_again_after_a_lost_reply_it_stops_nothing_more(deployment: Deployment) -> None:
    await deployment.started(message())
    new, later = message("interrupt"), message()
    await accept(deployment, new)
    await accept(deployment, later)
    again = await accept(deployment, new)
    assert isinstance(again, Accepted)
    assert again.duplicate
    assert (await state_of(deployment, later))[0] is EventState.QUEUED


async def test_an_interrupt_that_meets_the_end_just_runs(deployment: Deployment) -> None:
    running, new = message(), message("interrupt")
    lease = await deployment.started(running)
    await deployment.lanes.settle([done(lease)])
    answer = await accept(deployment, new)
    assert isinstance(answer, Accepted)
    assert answer.wake == wake(new)
    assert (await state_of(deployment, running))[0] is EventState.DONE


@pytest.mark.parametrize("settle", [retry, parked, released])
async def test_a_turn_that_has_shown_something_and_waits_is_given_to_a_worker_first(
    deployment: Deployment, settle: Any
) -> None:
    running, new = message(), message("rollback")
    lease = await deployment.started(running)
    await deployment.lanes.append([Append(lease, 1, [FRAME])])
    await deployment.lanes.settle([settle(lease)])
    answer = await accept(deployment, new)
    assert isinstance(answer, Accepted)
    assert answer.wake == wake(running)
    assert (await deployment.begun(running, "t2")).cancelled is CancelReason.ROLLED_BACK


async def test_a_waiting_creation_is_ended_by_a_worker_which_makes_the_thread(deployment: Deployment) -> None:
    create = create_event(tenant="acme")
    await deployment.accepted(create)
    new = message_event(str(create.thread_id), tenant="acme", double_text="interrupt")
    answer = await accept(deployment, new)
    assert isinstance(answer, Accepted)
    assert answer.wake == wake(create)
    assert (await deployment.begun(create, "t2")).cancelled is CancelReason.INTERRUPTED


@pytest.mark.parametrize("settle", [done, lambda lease: Settlement(lease, Done())])
async def test_a_rolled_back_turn_does_not_end_before_its_worker_has_taken_it_back(
    deployment: Deployment, settle: Any
) -> None:
    running, new = message(), message("rollback")
    lease = await deployment.started(running)
    await accept(deployment, new)
    assert await deployment.lanes.settle([settle(lease)]) == [SettleRefused("rollback")]
    assert await deployment.lanes.settle([Settlement(lease, Cancelled(CancelReason.ROLLED_BACK))]) == [
        Settled(EventState.CANCELLED, wake(new))
    ]


@pytest.mark.parametrize("settle", [retry, parked, released])
async def test_a_rolled_back_turn_that_waits_is_taken_back_by_its_next_run(deployment: Deployment, settle: Any) -> None:
    running = message()
    lease = await deployment.started(running)
    await accept(deployment, message("rollback"))
    [settled] = await deployment.lanes.settle([settle(lease)])
    assert isinstance(settled, Settled)
    assert not settled.state.ended
    deployment.clock.turn(timedelta(minutes=1))
    assert (await deployment.begun(running, "t2")).cancelled is CancelReason.ROLLED_BACK


async def test_the_next_worker_learns_of_it_when_the_first_one_died(deployment: Deployment) -> None:
    running = message()
    await deployment.started(running)
    await accept(deployment, message("interrupt"))
    deployment.clock.turn(LEASE)
    begun = await deployment.begun(running, "t2", lanes=deployment.other)
    assert begun.cancelled is CancelReason.INTERRUPTED


async def test_an_interrupt_is_taken_by_a_lane_that_is_full(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, per_lane=2)
    await deployment.started(message(), message())
    [full] = await lanes.accept([(message(), QUEUE)])
    assert isinstance(full, Refused)
    [taken] = await lanes.accept([(message("interrupt"), QUEUE)])
    assert isinstance(taken, Accepted)


async def test_a_redriven_dead_letter_stops_nothing(deployment: Deployment) -> None:
    running = message()
    await deployment.started(running)
    await deployment.lanes.accept([(message("interrupt"), QUEUE)], redriven=True)
    assert (await state_of(deployment, running))[0] is EventState.RUNNING


async def test_the_deployment_decides_for_requests_that_ask_for_nothing(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, double_text={"*": DoubleText.REJECT})
    await deployment.started(message())
    [refused] = await lanes.accept([(message(), QUEUE)])
    assert isinstance(refused, Refused)
    [asked] = await lanes.accept([(message("enqueue"), QUEUE)])
    assert isinstance(asked, Accepted)
    [light] = await lanes.accept([(event("e9", THREAD), QUEUE)])
    assert isinstance(light, Accepted)


@pytest.mark.parametrize("asked", ["Interrupt", "", 1, ["reject"], {"a": 1}, True])
def test_a_mode_that_is_none_is_refused_by_name(asked: Any) -> None:
    with pytest.raises(InvalidEventError) as refused:
        message_event(THREAD, double_text=asked)
    assert "data.metadata.double_text: must be one of enqueue, reject, interrupt, rollback" in str(refused.value)
