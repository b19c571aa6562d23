"""The usher: who has to wait waits at once, and no worker is woken for it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as StateAway

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event, message_event, request_event, user_input
from tests.lane_builders import lanes_on
from tests.limit_builders import GRANT, LEASE, MODEL, Stand, usher_on
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Accepted, Begun, Start, Wake
from workers.limits.models import Models
from workers.limits.usher import Usher
from workers.policies.rate_limit import InLine, Reserved, Used

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Hall:
    """Lanes and limits on one state and one clock, and an usher between them."""

    def __init__(self, stand: Stand, **options: Any) -> None:
        self.stand = stand
        self.lanes: Lanes = lanes_on(stand.state, Keys("ck", 2), stand.clock)
        self.usher: Usher = usher_on(stand.limiter, self.lanes, now=lambda: NOW, **options)

    async def accept(self, *events: Event) -> list[tuple[Event, Wake]]:
        answers = await self.lanes.accept([(event, "q") for event in events])
        return [
            (event, answer.wake)
            for event, answer in zip(events, answers, strict=True)
            if isinstance(answer, Accepted) and answer.wake is not None
        ]

    async def woken(self, *events: Event) -> list[str]:
        return [wake.event_id for wake in await self.usher.to_wake(await self.accept(*events))]

    async def state_of(self, event: Event) -> tuple[EventState, str | None]:
        found = await self.lanes.status(event.event_id)
        assert found is not None
        return found[0].state, found[0].reason

    async def reserve(self, event: Event) -> Reserved | InLine:
        return await self.stand.limiter.reserve(Models(MODEL).ask_of(event, event.lane, "q"), "t1", LEASE)

    async def begin(self, event: Event) -> bool:
        [answer] = await self.lanes.begin([Start(event.lane, event.event_id, "t1")])
        return isinstance(answer, Begun)


@pytest.fixture
def hall(stand: Stand) -> Hall:
    return Hall(stand)


async def test_of_a_flood_only_those_are_woken_that_may_go(hall: Hall) -> None:
    await hall.stand.limit(concurrency=2)
    flood = [create_event(str(number), tenant="flood") for number in range(20)]
    assert await hall.woken(*flood) == [event.event_id for event in flood[:2]]
    assert await hall.state_of(flood[1]) == (EventState.QUEUED, None)
    assert await hall.state_of(flood[2]) == (EventState.WAITING_LIMIT, "rate_limit")
    assert (await hall.stand.status()).waiting == 18


async def test_a_message_waits_for_the_model_that_it_asks_for(stand: Stand) -> None:
    hall = Hall(stand, models=Models(MODEL, others=frozenset({"mini"})))
    await stand.limit(models={"mini": {"concurrency": 1}})
    given = {**user_input("hi"), "inference_options": {"model": "mini"}}
    first, second = (request_event("threads.create", {"input": given}) for _ in range(2))
    assert await hall.woken(first, second, other := create_event("hello")) == [first.event_id, other.event_id]
    assert await hall.state_of(second) == (EventState.WAITING_LIMIT, "rate_limit")


async def test_who_was_let_through_takes_its_grant_up_and_one_that_waits_is_granted_in_turn(hall: Hall) -> None:
    await hall.stand.limit(concurrency=1)
    first, second = create_event("a"), create_event("b")
    await hall.woken(first, second)
    assert await hall.begin(first)
    reserved = await hall.reserve(first)
    assert isinstance(reserved, Reserved)
    [grant] = await hall.stand.limiter.settle(reserved, Used(1, 1, 10, "ok"))
    assert grant.event_id == second.event_id
    assert await hall.lanes.rouse([grant]) == ["wake"]
    assert await hall.begin(second)


async def test_a_grant_that_no_worker_takes_up_goes_back_to_the_front(hall: Hall) -> None:
    await hall.stand.limit(concurrency=1)
    first, second = create_event("a"), create_event("b")
    await hall.woken(first, second)
    hall.stand.turn(GRANT.total_seconds() + 1)
    assert [wake.event_id for wake in await hall.stand.limiter.grant()] == [first.event_id]


async def test_without_limits_everybody_is_woken_and_nothing_is_kept(hall: Hall) -> None:
    events = [create_event(str(number)) for number in range(5)]
    assert await hall.woken(*events) == [event.event_id for event in events]
    assert await hall.stand.keys() == set()


async def test_an_event_that_waits_alone_wakes_by_its_own_alarm_at_its_deadline(stand: Stand) -> None:
    hall = Hall(stand, patience=lambda _: timedelta(seconds=7))
    await stand.limit(concurrency=1)
    expires = (NOW + timedelta(seconds=3)).isoformat()
    first, second, third = create_event("a"), create_event("b"), create_event("c", expirytime=expires)
    await hall.woken(first, second, third)
    for event, seconds in ((third, 3), (second, 4)):
        assert not await hall.begin(event)
        stand.turn(seconds)
        assert await hall.begin(event)


async def test_what_is_not_processed_meets_no_limit(stand: Stand) -> None:
    hall = Hall(stand, passes=lambda event: event.tenant != "ignored")
    await stand.limit(concurrency=1)
    taken, ignored, waits = create_event("a"), create_event("b", tenant="ignored"), create_event("c")
    assert await hall.woken(taken, ignored, waits) == [taken.event_id, ignored.event_id]


async def test_one_that_a_worker_has_begun_meanwhile_stays_with_it(hall: Hall) -> None:
    await hall.stand.limit(concurrency=1)
    first, second = create_event("a"), create_event("b")
    heads = await hall.accept(first, second)
    assert await hall.begin(second)
    await hall.usher.to_wake(heads)
    assert (await hall.state_of(second))[0] is EventState.RUNNING
    assert isinstance(await hall.reserve(second), InLine)  # at the place that it was shown


async def test_the_second_of_a_lane_is_no_head_and_a_publication_again_changes_nothing(hall: Hall) -> None:
    await hall.stand.limit(concurrency=1)
    busy, first = create_event("a"), create_event("b")
    await hall.woken(busy, first, message_event(str(first.thread_id)))
    assert (await hall.stand.status()).waiting == 1
    assert await hall.woken(first) == []
    assert (await hall.state_of(first))[0] is EventState.WAITING_LIMIT


async def test_a_wake_up_of_the_event_that_a_worker_has_to_end_first_takes_no_place_in_line(hall: Hall) -> None:
    await hall.stand.limit(concurrency=1)
    ending, event = create_event("a"), create_event("b")
    wake = Wake(ending.lane, ending.event_id, ending.type, "q")
    assert await hall.usher.to_wake([(event, wake)]) == [wake]
    assert await hall.stand.keys() == set()


async def test_while_the_limits_are_away_everybody_is_woken(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> None:
        raise StateAway

    monkeypatch.setattr(hall.stand.limiter, "usher", away)
    event = create_event("a")
    assert await hall.woken(event) == [event.event_id]
