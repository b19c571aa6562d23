"""Running a woken event: one run, one settlement, whatever stops it. Real lanes on fakeredis, handlers of the test."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as StateConnectionError
from redis.exceptions import OutOfMemoryError

from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    EventState,
    Outcome,
    Parked,
    Released,
    ReleaseReason,
    Retry,
)
from tests.builders import create_event, message_event, no_floods
from tests.eventually import eventually
from tests.unit.policies.test_rate_limit import NotedLimits
from workers.dispatch import Dispatcher
from workers.errors import DatabaseError, PermanentError, StateAwayError, TransientError
from workers.lanes.keeper import LeaseKeeper
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Accepted, Settled, Settlement, SettleRefused, Start, Wake
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery, LastLook
from workers.policies.rate_limit import InLine, Limits, Reserved
from workers.routing import default_queue
from workers.runner import EventRunner, NothingToDo
from workers.settings import Settings
from workers.settle import Settler


class Bench:
    """One process with real lanes; `handler` is what a turn does."""

    def __init__(self) -> None:
        self.state, self.keys = FakeAsyncRedis(), Keys("ck", 2)
        self.lanes = Lanes(
            self.state,
            self.keys,
            owner="w1",
            lease=timedelta(seconds=10),
            max_waiting_per_lane=10,
            max_waiting=100,
            retention=timedelta(hours=1),
        )
        self.keeper = LeaseKeeper(self.lanes, self.state, self.keys, lease=timedelta(seconds=10))
        self.woken: list[Wake] = []
        self.looks: list[LastLook | Exception] = [LastLook()]
        """What last looks find, one after another; the last one stays."""
        self.started = asyncio.Event()

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self.woken += wakes

    async def accept(self, event: Event) -> None:
        [answer] = await self.lanes.accept([(event, default_queue(event))])
        assert isinstance(answer, Accepted)

    def runner(self, handler: Handler, *, limits: Limits | None = None, **settings: object) -> EventRunner:
        async def noted(delivery: Delivery) -> Outcome:
            self.started.set()
            return await handler(delivery)

        dispatcher = Dispatcher(Settings.model_validate(settings), turns=noted, light=noted, limits=limits)
        return EventRunner(
            self.lanes, self.keeper, self, dispatcher, Settler("w1"), self.last_look, no_floods(self.lanes, self)
        )

    async def last_look(self, delivery: Delivery) -> LastLook:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    async def state_of(self, event: Event) -> EventState:
        found = await self.lanes.status(event.event_id)
        assert found is not None
        return found[0].state


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.state.aclose()


async def done(delivery: Delivery) -> Outcome:
    return Done()


async def hangs(delivery: Delivery) -> Outcome:
    if delivery.stop.reason is not None:
        return Cancelled(delivery.stop.reason)
    await asyncio.Event().wait()
    return Done()


async def fails_for_good(delivery: Delivery) -> Outcome:
    raise PermanentError("400")


async def test_a_wake_up_runs_the_head_and_wakes_the_next(bench: Bench) -> None:
    first = create_event()
    assert first.thread_id is not None
    second = message_event(first.thread_id)
    await bench.accept(first)
    await bench.accept(second)
    runner = bench.runner(done)
    assert await runner.run(second.lane, second.event_id) == NothingToDo("not_head")
    assert await runner.run(first.lane, first.event_id) == Done()
    assert [wake.event_id for wake in bench.woken] == [second.event_id]
    assert await runner.run(first.lane, first.event_id) == NothingToDo("ended")
    assert await runner.run(second.lane, second.event_id) == Done()


async def test_a_failure_that_may_pass_keeps_the_place_at_the_head(bench: Bench) -> None:
    async def fails(delivery: Delivery) -> Outcome:
        raise TransientError("503")

    event = create_event()
    await bench.accept(event)
    outcome = await bench.runner(fails, backoff_base=60).run(event.lane, event.event_id)
    assert isinstance(outcome, Retry)
    assert await bench.state_of(event) is EventState.WAITING_RETRY
    assert await bench.runner(done).run(event.lane, event.event_id) == NothingToDo("not_due")


async def test_a_bug_ends_as_a_dead_letter_with_a_frame_that_closes_the_turn(bench: Bench) -> None:
    async def trips(delivery: Delivery) -> Outcome:
        raise ZeroDivisionError("what the user wrote")

    event = create_event()
    await bench.accept(event)
    assert isinstance(await bench.runner(trips).run(event.lane, event.event_id), DeadLettered)
    entries: Any = await bench.state.xrange(bench.keys.stream(event.lane, event.event_id))
    assert event.event_id.encode() in entries[0][1][b"d"]
    assert entries[-1][1][b"e"] == b'{"state":"dead","reason":"bug"}'
    assert b"what the user wrote" not in b"".join(value for _, entry in entries for value in entry.values())


@pytest.mark.parametrize("body", ['{"specversion": "2.0", "type": "chatkit.threads.create"}', "{", "[]", ""])
async def test_an_event_that_this_version_cannot_read_ends_at_once_and_its_lane_goes_on(
    bench: Bench, body: str
) -> None:
    event = create_event("what the user wrote")
    following = message_event(str(event.thread_id))
    await bench.accept(event)
    await bench.accept(following)
    await bench.state.set(f"{bench.keys.tag_of(event.lane)}body:{event.event_id}", body)
    outcome = await bench.runner(done).run(event.lane, event.event_id)
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason is DeadReason.BUG
    assert [wake.event_id for wake in bench.woken] == [following.event_id]
    kept = await bench.lanes.dead_letters.get(event.event_id)
    assert kept is not None
    assert (kept.reason, kept.body) == (DeadReason.BUG, body)
    assert kept.type == ("chatkit.threads.create" if "type" in body else None)
    entries: Any = await bench.state.xrange(bench.keys.stream(event.lane, event.event_id))
    assert event.event_id.encode() in entries[0][1][b"d"]


async def test_an_event_in_any_script_is_run_as_it_was_accepted(bench: Bench) -> None:
    ran: list[Event] = []

    async def notes(delivery: Delivery) -> Outcome:
        ran.append(delivery.event)
        return Done()

    event = create_event("你好，我的订单在哪里？ 🙂" * 20)
    await bench.accept(event)
    assert await bench.runner(notes).run(event.lane, event.event_id) == Done()
    assert ran == [event]


@pytest.mark.parametrize("attributes", [{}, {"expirytime": "2020-01-01T00:00:00Z"}])
async def test_an_event_that_is_given_up_takes_back_what_it_has_shown_and_then_closes(
    bench: Bench, attributes: dict[str, str]
) -> None:
    removals = [b'{"removed":1}', b'{"removed":2}']
    bench.looks = [LastLook(removals)]
    event = create_event(**attributes)
    await bench.accept(event)
    assert isinstance(await bench.runner(fails_for_good).run(event.lane, event.event_id), DeadLettered | Dropped)
    entries: Any = await bench.state.xrange(bench.keys.stream(event.lane, event.event_id))
    frames = [entry[b"d"] for _, entry in entries if b"d" in entry]
    assert frames[:-1] == removals
    assert frames[-1].startswith(b'{"type":"error"')


async def test_an_event_that_is_given_up_ends_even_if_nothing_can_be_taken_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.looks = [DatabaseError("away")]
    event = create_event()
    await bench.accept(event)
    assert isinstance(await bench.runner(fails_for_good).run(event.lane, event.event_id), DeadLettered)
    assert await bench.state_of(event) is EventState.DEAD
    assert [record.message for record in caplog.records] == ["answer_not_taken_back"]


async def test_an_event_that_is_given_up_waits_with_its_last_look_for_a_state_that_is_away(bench: Bench) -> None:
    removals = [b'{"removed":1}']
    bench.looks = [StateConnectionError("gone"), LastLook(removals)]
    event = create_event()
    await bench.accept(event)
    assert isinstance(await bench.runner(fails_for_good).run(event.lane, event.event_id), DeadLettered)
    entries: Any = await bench.state.xrange(bench.keys.stream(event.lane, event.event_id))
    assert [entry[b"d"] for _, entry in entries if b"d" in entry][:-1] == removals


@pytest.mark.parametrize("attributes", [{}, {"expirytime": "2020-01-01T00:00:00Z"}])
async def test_an_event_whose_answer_was_stored_by_a_worker_that_then_died_is_done(
    bench: Bench, attributes: dict[str, str]
) -> None:
    bench.looks = [LastLook(answered=True)]
    event = create_event(**attributes)
    await bench.accept(event)
    assert await bench.runner(fails_for_good).run(event.lane, event.event_id) == Done()
    assert await bench.state_of(event) is EventState.DONE


async def test_what_a_cancel_leaves_on_the_screen_and_nowhere_else_is_taken_back(bench: Bench) -> None:
    removals = [b'{"removed":1}']
    bench.looks = [LastLook(removals)]
    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(hangs).run(event.lane, event.event_id))
    await bench.started.wait()
    await bench.lanes.cancel(event.event_id)
    await bench.keeper.renew()
    assert await running == Cancelled(CancelReason.USER)
    entries: Any = await bench.state.xrange(bench.keys.stream(event.lane, event.event_id))
    assert [entry[b"d"] for _, entry in entries if b"d" in entry] == removals


async def test_a_cancel_stops_a_turn_that_hangs(bench: Bench) -> None:
    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(hangs).run(event.lane, event.event_id))
    await bench.started.wait()
    await bench.lanes.cancel(event.event_id, CancelReason.OPERATOR)
    await bench.keeper.renew()  # the message may be lost; the renewal tells as well
    assert await running == Cancelled(CancelReason.OPERATOR)
    assert await bench.state_of(event) is EventState.CANCELLED


async def test_a_cancel_that_meets_an_event_outside_of_its_handler_still_keeps_what_was_shown(bench: Bench) -> None:
    """An earlier run has shown half an answer; this one waits for the limits, or runs in quarantine."""
    stops: list[CancelReason | None] = []

    class Away(NotedLimits):
        async def reserve(self, delivery: Delivery) -> Reserved | InLine:
            bench.started.set()
            return await asyncio.Future()

    async def keeps(delivery: Delivery) -> Outcome:
        stops.append(delivery.stop.reason)
        return Cancelled(CancelReason.USER)

    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(keeps, limits=Away()).run(event.lane, event.event_id))
    await bench.started.wait()
    await bench.lanes.cancel(event.event_id)
    await bench.keeper.renew()
    assert await running == Cancelled(CancelReason.USER)
    assert stops == [CancelReason.USER]
    assert await bench.state_of(event) is EventState.CANCELLED


async def test_a_cancelled_event_whose_worker_died_comes_to_the_handler_as_stopped_though_it_is_stale(
    bench: Bench,
) -> None:
    stops: list[CancelReason | None] = []

    async def ends(delivery: Delivery) -> Outcome:
        stops.append(delivery.stop.reason)
        return Cancelled(CancelReason.OPERATOR)

    event = create_event(expirytime="2020-01-01T00:00:00Z")
    await bench.accept(event)
    await bench.lanes.begin([Start(event.lane, event.event_id, token="of the dead worker")])
    await bench.lanes.cancel(event.event_id, CancelReason.OPERATOR)
    await bench.state.delete(bench.keys.tag_of(event.lane) + "lease:" + event.lane)  # its lease ran out
    assert await bench.runner(ends).run(event.lane, event.event_id) == Cancelled(CancelReason.OPERATOR)
    assert stops == [CancelReason.OPERATOR]


async def test_a_worker_that_drains_gives_the_event_back_with_no_attempt_spent(bench: Bench) -> None:
    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(hangs).run(event.lane, event.event_id))
    await bench.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [wake.event_id for wake in bench.woken] == [event.event_id]
    found = await bench.lanes.status(event.event_id)
    assert found is not None
    assert found[0].attempt == 1
    assert await bench.runner(done).run(event.lane, event.event_id) == Done()


async def test_a_run_over_its_time_spends_an_attempt_and_at_last_is_a_dead_letter(bench: Bench) -> None:
    event = create_event()
    await bench.accept(event)
    runner = bench.runner(hangs, max_attempts=2, backoff_base=1e-6)
    for outcome in (Retry, DeadLettered):
        bench.started.clear()
        running = asyncio.create_task(runner.run(event.lane, event.event_id, lambda: True))
        await bench.started.wait()
        running.cancel()
        assert isinstance(await running, outcome)
        assert not running.cancelling()  # else the next `asyncio.timeout` of the body would take it for its own
    [letter] = (await bench.lanes.dead_letters.page()).items
    assert [attempt.error for attempt in letter.attempts] == ["TaskTimeLimit: the task's time limit passed"] * 2


async def test_a_cancel_that_comes_just_before_the_end_is_what_the_run_is_said_to_be(bench: Bench) -> None:
    async def ends_too_late(delivery: Delivery) -> Outcome:
        await bench.lanes.cancel(delivery.event.event_id)
        return Done()

    event = create_event()
    await bench.accept(event)
    assert await bench.runner(ends_too_late).run(event.lane, event.event_id) == Cancelled(CancelReason.USER)
    assert await bench.state_of(event) is EventState.CANCELLED


async def test_a_worker_that_lost_its_lease_stops_and_settles_nothing(bench: Bench) -> None:
    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(hangs).run(event.lane, event.event_id))
    await bench.started.wait()
    await bench.state.delete(bench.keys.tag_of(event.lane) + "lease:" + event.lane)
    await bench.keeper.renew()
    assert await running == NothingToDo("stale")
    assert await bench.runner(done).run(event.lane, event.event_id) == Done()


async def test_a_wake_up_that_comes_twice_at_once_runs_the_event_once(bench: Bench) -> None:
    ran = 0

    async def counts(delivery: Delivery) -> Outcome:
        nonlocal ran
        ran += 1
        return Done()

    event = create_event()
    await bench.accept(event)
    runner = bench.runner(counts)
    verdicts = await asyncio.gather(*(runner.run(event.lane, event.event_id) for _ in range(10)))
    assert ran == 1
    assert verdicts.count(Done()) == 1


async def test_the_lease_is_released_from_the_keeper_however_the_run_ends(bench: Bench) -> None:
    event = create_event()
    await bench.accept(event)
    running = asyncio.create_task(bench.runner(hangs).run(event.lane, event.event_id))

    async def held() -> bool:
        return bench.keeper.count == 1

    await eventually(held)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.keeper.count == 0


async def test_while_the_state_is_away_nothing_begins_and_the_alarm_is_left_to_wake_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = create_event()
    await bench.accept(event)

    async def away(_: object) -> None:
        raise StateConnectionError("refused")

    with monkeypatch.context() as patched:
        patched.setattr(bench.lanes, "begin", away)
        assert await bench.runner(done).run(event.lane, event.event_id) == NothingToDo("state_away")
    assert await bench.runner(done).run(event.lane, event.event_id) == Done()


async def test_a_settlement_waits_for_a_state_that_is_away_so_that_no_death_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = create_event()
    await bench.accept(event)
    settle, failures = bench.lanes.settle, [StateConnectionError("refused"), OutOfMemoryError("full")]

    async def away_at_first(settlements: Sequence[Settlement]) -> list[Settled | SettleRefused]:
        if failures:
            raise failures.pop()
        return await settle(settlements)

    monkeypatch.setattr(bench.lanes, "settle", away_at_first)
    assert await bench.runner(done).run(event.lane, event.event_id) == Done()
    assert failures == []
    assert await bench.state_of(event) is EventState.DONE


@pytest.mark.parametrize("failure", [StateAwayError("full"), DatabaseError("away")])
async def test_what_is_away_spends_no_attempt(bench: Bench, failure: Exception) -> None:
    async def fails(delivery: Delivery) -> Outcome:
        raise failure

    event = create_event()
    await bench.accept(event)
    assert isinstance(await bench.runner(fails).run(event.lane, event.event_id), Parked)
    found = await bench.lanes.status(event.event_id)
    assert found is not None
    assert (found[0].state, found[0].attempt) == (EventState.WAITING_LIMIT, 1)


async def test_a_turn_that_was_handed_over_is_woken_in_the_other_queue_and_begins_there_before_those_behind_it(
    bench: Bench,
) -> None:
    queues: list[tuple[str, int]] = []

    async def hands_over(delivery: Delivery) -> Outcome:
        queues.append((delivery.queue, delivery.hops))
        return Released(ReleaseReason.HANDOFF, "chatkit.agent.other") if delivery.hops == 0 else Done()

    event = create_event()
    await bench.accept(event)
    await bench.accept(following := message_event(str(event.thread_id)))
    runner = bench.runner(hands_over)
    assert await runner.run(event.lane, event.event_id) == Released(ReleaseReason.HANDOFF, "chatkit.agent.other")
    assert [(wake.event_id, wake.queue) for wake in bench.woken] == [(event.event_id, "chatkit.agent.other")]
    assert await runner.run(following.lane, following.event_id) == NothingToDo("not_head")
    assert await runner.run(event.lane, event.event_id) == Done()
    assert queues == [("chatkit.interactive", 0), ("chatkit.agent.other", 1)]
    assert [wake.event_id for wake in bench.woken[1:]] == [following.event_id]
