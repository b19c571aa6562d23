"""The desk: grants become wake-ups, and limits that cannot be asked stop the model."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.events import Event
from schemas.outcome import Parked, ParkReason
from tests.builders import create_event, delivery_of, request_event, user_input
from tests.eventually import eventually
from tests.lane_builders import Deployment, deployment_on
from tests.limit_builders import MODEL, Stand
from workers.errors import DeferredError, LimiterAwayError, OverloadError
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.pauses import Paused
from workers.lanes.records import Settlement, Wake
from workers.limits import desk as desk_module
from workers.limits.desk import LimitDesk
from workers.limits.limiter import Ask, Limiter
from workers.limits.models import Models
from workers.limits.room import Room
from workers.policies.rate_limit import InLine, Reserved, Used


class Desk:
    """A desk over lanes and limits of one fakeredis, and the wake-ups that it sent."""

    def __init__(self, stand: Stand, limiter: Limiter | None = None) -> None:
        self.lanes: Deployment = deployment_on(stand.state, "ck")
        self.wakes: list[str] = []
        self.desk = LimitDesk(limiter or stand.limiter, self.lanes.lanes, self.wake, models=Models(MODEL))

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self.wakes += [wake.event_id for wake in wakes]


@pytest.fixture
def desk(stand: Stand) -> Desk:
    return Desk(stand)


async def parked(desk: Desk, name: str, **who: str) -> Event:
    """An event that was begun, found no room, and waits in its lane."""
    event = create_event(name, id=name, **who)
    await desk.lanes.accepted(event)
    begun = await desk.lanes.begun(event, f"token-{name}")
    assert isinstance(await desk.desk.reserve(delivery_of(event, lease=begun.lease)), InLine)
    wait = timedelta(minutes=5)
    await desk.lanes.lanes.settle([Settlement(begun.lease, Parked(ParkReason.RATE_LIMIT, wait), delay=wait)])
    return event


async def taken_up(desk: Desk, event: Event) -> None:
    """A woken event is begun, and has what it needs."""
    begun = await desk.lanes.begun(event, "again")
    assert isinstance(await desk.desk.reserve(delivery_of(event, lease=begun.lease)), Reserved)


async def test_a_grant_makes_the_event_due_and_wakes_it(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    event = await parked(desk, "a")
    await desk.desk.grant()
    assert desk.wakes == []
    stand.turn(1)
    await desk.desk.grant()
    assert desk.wakes == [event.event_id]
    await taken_up(desk, event)


async def test_a_grant_for_what_was_cancelled_goes_to_the_next(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    cancelled, following = await parked(desk, "a"), await parked(desk, "b")
    await desk.lanes.lanes.cancel(cancelled.event_id)
    stand.turn(1)
    await desk.desk.grant()
    await desk.desk.grant()
    assert desk.wakes == [following.event_id]


async def test_a_grant_for_what_is_paused_goes_to_the_next_and_what_is_resumed_stands_in_line_again(
    desk: Desk, stand: Stand
) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    event, following = await parked(desk, "a"), await parked(desk, "b", tenant="other")
    pauses, pause = desk.lanes.lanes.pauses, Paused("tenant", event.tenant)
    await pauses.pause(pause)
    stand.turn(1)
    await desk.desk.grant()
    await desk.desk.grant()
    assert desk.wakes == [following.event_id]
    await taken_up(desk, following)
    stand.turn(60)  # a grant that nobody takes up would be handed out again
    await desk.desk.grant()
    assert (await stand.status()).waiting == 0
    await pauses.resume(pause)
    await taken_up(desk, event)


async def test_a_grant_that_comes_before_the_event_has_settled_is_not_lost(
    desk: Desk, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "LOOK_AGAIN_SECONDS", 0.01)
    await stand.limit(rpm=60)
    await stand.reserved("first")
    event = create_event("a", id="a")
    await desk.lanes.accepted(event)
    begun = await desk.lanes.begun(event)
    await desk.desk.reserve(delivery_of(event, lease=begun.lease))
    stand.turn(1)
    await desk.desk.grant()
    wait = timedelta(minutes=5)
    await desk.lanes.lanes.settle([Settlement(begun.lease, Parked(ParkReason.RATE_LIMIT, wait), delay=wait)])

    async def woken() -> bool:
        return desk.wakes == [event.event_id]

    assert await eventually(woken)


async def test_a_call_that_would_wait_for_long_gives_the_turn_back_to_the_line(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=0.5)
    reserved = await stand.reserved("a")
    with pytest.raises(DeferredError) as raised:
        await desk.desk.next_call(reserved, 2)
    assert raised.value.retry_after == timedelta(seconds=120)


async def test_a_process_without_a_free_connection_runs_fewer_turns_and_slowly_more(desk: Desk, stand: Stand) -> None:
    seconds = 0.0
    desk.desk._room = Room(lambda: seconds)

    async def reserve(name: str) -> Reserved:
        event = create_event(name, id=name)
        answer = await desk.desk.reserve(delivery_of(event, lease=replace(delivery_of(event).lease, token=name)))
        assert isinstance(answer, Reserved)
        return answer

    running = [await reserve(f"a{number}") for number in range(10)]
    await desk.desk.settle(running.pop(), Used(1, 0, 0, "overload"))
    assert (await stand.status()).circuit == "closed"
    with pytest.raises(OverloadError):
        await reserve("b")
    for _ in range(3):  # 0.7 of ten remain
        await desk.desk.settle(running.pop(), Used(1, 1, 0, "ok"))
    running.append(await reserve("c"))
    with pytest.raises(OverloadError):
        await reserve("d")
    seconds = 1.5
    running.append(await reserve("e"))
    with pytest.raises(OverloadError):
        await reserve("f")
    seconds = 4.0  # more than when it was cut: no bound any more
    for number in range(20):
        await reserve(f"g{number}")


async def test_a_call_that_found_no_free_connection_was_not_made(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=60)
    await desk.desk.settle(await stand.reserved("a"), Used(1, 0, 0, "overload"))
    await stand.reserved("b")


async def test_a_message_gets_the_model_that_it_asks_for_if_the_deployment_has_it(stand: Stand) -> None:
    lanes: Deployment = deployment_on(stand.state, "ck")
    desk = LimitDesk(
        stand.limiter,
        lanes.lanes,
        Desk(stand).wake,
        models=Models(MODEL, "mini", frozenset({"mini"})),
    )
    for wanted, used in ((None, MODEL), ("mini", "mini"), ("removed-since", MODEL)):
        given = {**user_input("hi"), "inference_options": {"model": wanted}}
        answer = await desk.reserve(delivery_of(request_event("threads.create", {"input": given})))
        assert isinstance(answer, Reserved)
        assert answer.model == used
    answer = await desk.reserve(
        delivery_of(request_event("threads.retry_after_item", {"thread_id": "t", "item_id": "i"}))
    )
    assert isinstance(answer, Reserved)
    assert answer.model == MODEL


async def test_a_reservation_whose_turn_is_cancelled_while_it_asks_is_given_back(stand: Stand) -> None:
    class Slow(Limiter):
        """Answers once the test lets it."""

        answering = asyncio.Event()

        async def reserve(self, ask: Ask, token: str, lease: timedelta) -> Reserved | InLine:
            answer = await super().reserve(ask, token, lease)
            await self.answering.wait()
            return answer

    desk = Desk(stand, Slow(stand.state, Keys("ck", 2), clock=stand.clock))
    await stand.limit(models={MODEL: {"concurrency": 1}}, tenants={"*": {"rpm": 1}})
    asking = asyncio.create_task(desk.desk.reserve(delivery_of(create_event("a"))))

    async def taken() -> bool:
        return (await stand.status()).in_flight == 1

    await eventually(taken)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    Slow.answering.set()
    await desk.desk.close()
    await stand.reserved("b")


async def test_a_row_of_grants_for_what_has_ended_reaches_the_first_that_lives_at_once(
    desk: Desk, stand: Stand
) -> None:
    """A probe is one grant at a time: else each of those that are gone costs a look."""
    await stand.settle(await stand.reserved("refused"), "quota")  # the circuit is open
    gone = [await parked(desk, f"g{number}") for number in range(20)]
    alive = await parked(desk, "alive")
    for event in gone:
        await desk.lanes.lanes.cancel(event.event_id)
    stand.turn(61)
    await desk.desk.grant()
    assert desk.wakes == [alive.event_id]


async def test_what_has_ended_is_taken_out_of_the_line_behind_its_back(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    event = await parked(desk, "a")
    desk.desk.forget([event.event_id])
    await desk.desk.close()
    assert (await stand.status()).waiting == 0


async def test_what_the_provider_says_is_told_to_all_but_not_with_every_answer(desk: Desk, stand: Stand) -> None:
    await stand.limit(rpm=600)
    desk.desk.correct(MODEL, {"x-ratelimit-remaining-requests": "1", "x-ratelimit-remaining-tokens": "many"})
    desk.desk.correct(MODEL, {"x-ratelimit-remaining-requests": "0"})
    desk.desk.correct(MODEL, {})
    await asyncio.gather(*desk.desk._tasks)
    await stand.reserved("a")
    await stand.waits("b")


async def test_limits_that_cannot_be_asked_fail_closed_and_settling_them_is_no_failure(stand: Stand) -> None:
    nowhere = connect("redis://127.0.0.1:9/0")
    desk = Desk(stand, Limiter(nowhere, Keys("ck", 2)))
    with pytest.raises(LimiterAwayError):
        await desk.desk.reserve(delivery_of(create_event()))
    with pytest.raises(LimiterAwayError):
        await desk.desk.next_call(Reserved("evt_1", "t1", MODEL), 2)
    await desk.desk.settle(Reserved("evt_1", "t1", MODEL), Used(1, 1, 0, "ok"))
    desk.desk.forget(["evt_1"])
    await desk.desk.close()
    await nowhere.aclose()


async def test_a_reservation_that_a_later_run_holds_is_left_to_it_and_the_refusal_is_told(stand: Stand) -> None:
    await stand.limit(concurrency=2)
    stale: list[str] = []
    desk = LimitDesk(
        stand.limiter,
        deployment_on(stand.state, "ck").lanes,
        Desk(stand).wake,
        models=Models(MODEL),
        on_stale=stale.append,
    )
    first = await stand.reserved("e1", token="of the stale worker")
    await stand.reserved("e1", token="of its successor")
    await desk.settle(first, Used(1, 1, 7, "ok"))
    assert stale == [first.event_id]
    assert (await stand.status()).in_flight == 1
    await desk.settle(first, Used(1, 1, 7, "ok"))
    assert stale == [first.event_id] * 2
