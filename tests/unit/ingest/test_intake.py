"""The intake: group commit, order, light rounds."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.outcome import Cancelled, CancelReason, DeadLettered, DeadReason, Done, Dropped, DropReason
from tests.builders import create_event, feedback_event, message_event
from tests.unit.ingest.doubles import Bench, MemoryLanes, RememberedRuns
from workers.errors import PermanentError, TransientError
from workers.ingest import intake, rounds
from workers.lanes.records import Accepted, Refused
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a hundred, and room for five hundred heads."""
    monkeypatch.setattr(intake, "BATCH", 100)
    monkeypatch.setattr(rounds, "ROUND", 100)
    monkeypatch.setattr(rounds, "MAX_HEADS", 500)


async def test_events_of_concurrent_callers_share_batches() -> None:
    async with Bench() as bench:
        events = [feedback_event(f"thr_{number}") for number in range(150)]
        answers = await asyncio.gather(*(bench.intake.submit([event]) for event in events))
        assert [answer[0].event_id for answer in answers] == [event.event_id for event in events]
        assert bench.lanes.batches == [100, 50]


async def test_an_event_that_comes_alone_does_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SPACING_SECONDS", 3600.0)
    async with Bench() as bench:
        await bench.intake.submit([feedback_event("thr_1")])
        assert bench.lanes.batches == [1]


async def test_single_events_that_follow_each_other_share_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SPACING_SECONDS", 0.2)
    async with Bench() as bench:
        await bench.intake.submit([feedback_event("thr_0")])
        later = []
        for number in range(1, 6):
            later.append(asyncio.create_task(bench.intake.submit([feedback_event(f"thr_{number}")])))
            await asyncio.sleep(0.001)
        await asyncio.gather(*later)
        assert bench.lanes.batches == [1, 5]


async def test_whole_batches_follow_each_other_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SPACING_SECONDS", 3600.0)
    async with Bench() as bench:
        for number in range(3):
            await bench.intake.submit([feedback_event(f"thr_{number}_{place}") for place in range(100)])
        assert bench.lanes.batches == [100, 100, 100]


async def test_what_is_handed_over_together_is_accepted_together() -> None:
    async with Bench() as bench:
        submissions = [[feedback_event("thr_1") for _ in range(size)] for size in (60, 60, 40, 30, 71)]
        answers = await asyncio.gather(*(bench.intake.submit(events) for events in submissions))
        assert bench.lanes.batches == [60, 100, 30, 71]
        for events, of_events in zip(submissions, answers, strict=True):
            assert [answer.event_id for answer in of_events] == [event.event_id for event in events]


async def test_a_large_submission_is_cut_into_batches_and_answered_in_order() -> None:
    async with Bench() as bench:
        events = [feedback_event("thr_1") for _ in range(250)]
        answers = await bench.intake.submit(events)
        assert [answer.event_id for answer in answers] == [event.event_id for event in events]
        assert bench.lanes.batches == [100, 100, 50]


async def test_light_events_of_a_lane_run_in_order_of_acceptance() -> None:
    async with Bench() as bench:
        events = [feedback_event("thr_1") for _ in range(20)]
        await bench.intake.submit(events)
        await bench.settle_down()
        assert bench.runs.order == [event.id for event in events]


async def test_light_events_of_many_lanes_run_in_one_batch() -> None:
    async with Bench() as bench:
        await bench.intake.submit([feedback_event(f"thr_{number}") for number in range(60)])
        await bench.settle_down()
        assert [len(batch) for batch in bench.runs.batches] == [60]


async def test_a_turn_gets_a_wake_up_on_its_queue_and_is_not_run_here() -> None:
    async with Bench() as bench:
        event = create_event(priority="background")
        await bench.intake.submit([event])
        await bench.settle_down()
        assert [(wake.event_id, wake.queue) for wake in bench.wakes.sent] == [(event.event_id, "q.background")]
        assert bench.runs.order == []


async def test_a_turn_behind_a_light_event_is_woken_when_its_time_comes() -> None:
    async with Bench() as bench:
        turn = message_event("thr_1")
        await bench.intake.submit([feedback_event("thr_1"), turn, feedback_event("thr_1")])
        await bench.settle_down()
        assert [wake.event_id for wake in bench.wakes.sent] == [turn.event_id]
        assert len(bench.runs.order) == 1


async def test_the_frames_of_a_light_event_go_out_with_its_settlement() -> None:
    async with Bench() as bench:
        await bench.intake.submit([feedback_event("thr_1")])
        await bench.settle_down()
        [settlement] = bench.lanes.settled
        assert settlement.outcome == Done()
        assert settlement.final_frames == (b'{"type":"ok"}',)


async def test_an_event_that_this_version_cannot_read_ends_and_those_behind_it_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoilt, following = feedback_event("thr_1"), feedback_event("thr_1")
    async with Bench(lanes=MemoryLanes(spoilt={spoilt.event_id})) as bench:
        monkeypatch.setattr(bench.rounds, "remember", lambda _: None)  # accepted by another process
        await bench.intake.submit([spoilt, following, feedback_event("thr_2")])
        await bench.settle_down()
        assert len(bench.runs.order) == 2
        [dead] = [one.dead for one in bench.lanes.settled if one.dead is not None]
        assert (dead.id, dead.reason, dead.body) == (spoilt.event_id, DeadReason.BUG, "{")


async def test_a_duplicate_gets_the_first_acceptance_and_runs_once() -> None:
    async with Bench() as bench:
        event = feedback_event("thr_1")
        answers = await asyncio.gather(*(bench.intake.submit([event]) for _ in range(50)))
        await bench.settle_down()
        accepted = [answer for [answer] in answers if isinstance(answer, Accepted)]
        assert len(accepted) == 50
        assert {answer.acceptance for answer in accepted} == {1}
        assert [answer.duplicate for answer in accepted].count(False) == 1
        assert bench.runs.order == [event.id]


async def test_a_full_lane_refuses_the_caller() -> None:
    async with Bench(lanes=MemoryLanes(lane_bound=1)) as bench:
        answers = await bench.intake.submit([create_event(id="1"), message_event("thr_9"), message_event("thr_9")])
        assert [isinstance(answer, Refused) for answer in answers] == [False, False, True]


async def test_when_redis_is_away_the_callers_of_the_batch_are_told_and_the_next_ones_are_served() -> None:
    async with Bench(lanes=MemoryLanes(failures=[RedisConnectionError("away")])) as bench:
        with pytest.raises(RedisConnectionError):
            await bench.intake.submit([feedback_event("thr_1")])
        assert isinstance((await bench.intake.submit([feedback_event("thr_1")]))[0], Accepted)


async def test_what_is_left_of_a_failed_submission_does_not_overtake_what_failed() -> None:
    async with Bench(lanes=MemoryLanes(failures=[RedisConnectionError("away")])) as bench:
        with pytest.raises(RedisConnectionError):
            await bench.intake.submit([feedback_event("thr_1") for _ in range(150)])
        await bench.intake.submit([feedback_event("thr_2")])
        assert bench.lanes.batches == [1]


async def test_a_caller_that_goes_away_takes_nothing_with_it() -> None:
    async with Bench() as bench:
        gone = asyncio.create_task(bench.intake.submit([feedback_event("thr_1")]))
        await asyncio.sleep(0)
        gone.cancel()
        stays = feedback_event("thr_2")
        assert (await bench.intake.submit([stays]))[0].event_id == stays.event_id


async def test_a_failed_light_event_is_settled_as_the_policies_decide() -> None:
    runs = RememberedRuns(answer=lambda _: PermanentError("no such item"))
    async with Bench(runs=runs) as bench:
        await bench.intake.submit([feedback_event("thr_1")])
        await bench.settle_down()
        [settlement] = bench.lanes.settled
        assert isinstance(settlement.outcome, DeadLettered)
        assert settlement.outcome.reason is DeadReason.PERMANENT


async def test_an_event_that_trips_the_handler_over_does_not_take_its_batch_with_it() -> None:
    def answer(delivery: Delivery) -> Done:
        if delivery.event.id == "bad":
            raise ZeroDivisionError
        return Done()

    async with Bench(runs=RememberedRuns(answer=answer)) as bench:
        await bench.intake.submit([feedback_event("thr_1"), feedback_event("thr_2", id="bad"), feedback_event("thr_3")])
        await bench.settle_down()
        outcomes = [settlement.outcome for settlement in bench.lanes.settled]
        assert [type(outcome) for outcome in outcomes] == [Done, DeadLettered, Done]


async def test_a_light_event_that_the_user_cancelled_is_not_run() -> None:
    lanes = MemoryLanes()
    async with Bench(lanes=lanes) as bench:
        event = feedback_event("thr_1")
        lanes.cancelled.add(event.event_id)
        await bench.intake.submit([event])
        await bench.settle_down()
        assert [settlement.outcome for settlement in lanes.settled] == [Cancelled(CancelReason.USER)]
        assert bench.runs.order == []


async def test_the_body_of_an_event_that_was_just_accepted_is_not_asked_for_again() -> None:
    async with Bench() as bench:
        await bench.intake.submit([feedback_event("thr_1"), feedback_event("thr_1")])
        await bench.settle_down()
        assert [start.want_body for starts in bench.lanes.starts for start in starts] == [False, False]


async def test_a_head_that_another_worker_accepted_is_run_from_its_stored_body() -> None:
    async with Bench() as bench:
        event = feedback_event("thr_1")
        [accepted] = await bench.lanes.accept([(event, "q")])
        assert isinstance(accepted, Accepted)
        assert accepted.wake is not None
        bench.rounds.put([accepted.wake])
        await bench.settle_down()
        assert bench.runs.order == [event.id]


async def test_more_events_than_are_remembered_all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_KNOWN", 10)
    async with Bench() as bench:
        events = [feedback_event(f"thr_{number}") for number in range(350)]
        await bench.intake.submit(events)
        await bench.settle_down()
        assert sorted(bench.runs.order) == sorted(event.id for event in events)


async def test_an_event_that_the_policies_judge_is_not_run() -> None:
    async with Bench() as bench:
        await bench.intake.submit([feedback_event("thr_1", expirytime="2020-01-01T00:00:00Z"), feedback_event("thr_2")])
        await bench.settle_down()
        outcomes = [settlement.outcome for settlement in bench.lanes.settled]
        assert outcomes == [Dropped(DropReason.EXPIRED), Done()]
        assert len(bench.runs.order) == 1


async def test_a_batch_that_outlasts_its_lease_is_given_up() -> None:
    async def hang(_deliveries: Sequence[Delivery]) -> list[LightResult]:
        await asyncio.sleep(3600)
        return []

    bench = Bench()
    bench.rounds._light = hang
    async with bench:
        await bench.intake.submit([feedback_event("thr_1")])
        await bench.settle_down()
        [settlement] = bench.lanes.settled
        assert isinstance(settlement.outcome, DeadLettered)
        assert settlement.outcome.error is not None
        assert settlement.outcome.error.kind == "TimeoutError"


async def test_accepting_waits_while_too_many_heads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_HEADS", 50)
    go_on = asyncio.Event()
    bench = Bench()
    handle = bench.rounds._light

    async def slow(deliveries: Sequence[Delivery]) -> Sequence[LightResult]:
        await go_on.wait()
        return await handle(deliveries)

    bench.rounds._light = slow
    async with bench:
        submitting = asyncio.create_task(bench.intake.submit([feedback_event(f"thr_{n}") for n in range(900)]))
        await asyncio.sleep(0.05)
        assert sum(bench.lanes.batches) < 900
        go_on.set()
        assert len(await submitting) == 900


async def test_closing_finishes_what_was_taken_and_takes_no_more() -> None:
    bench = Bench()
    await bench.intake.start()
    submitting = bench.intake.submit([feedback_event("thr_1") for _ in range(120)])
    answers, _ = await asyncio.gather(submitting, bench.intake.close())
    assert len(answers) == 120
    assert len(bench.runs.order) == 120
    with pytest.raises(TransientError):
        await bench.intake.submit([feedback_event("thr_1")])
