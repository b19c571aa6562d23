"""accept: an event is put at the end of its lane and numbered, once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from schemas.outcome import EventState
from tests.lane_builders import QUEUE, Deployment, done, event, lanes_on
from workers.lanes.records import Accepted, Refused, Wake
from workers.lanes.scripts import Call, ScriptRunner

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")


async def test_the_head_of_a_lane_is_to_be_woken_and_what_stands_behind_it_is_not(deployment: Deployment) -> None:
    first, second = await deployment.lanes.accept([(FIRST, QUEUE), (SECOND, QUEUE)])
    wake = Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)
    assert first == Accepted(FIRST.event_id, FIRST.lane, 1, EventState.QUEUED, duplicate=False, wake=wake)
    assert second == Accepted(SECOND.event_id, SECOND.lane, 2, EventState.QUEUED, duplicate=False, wake=None)


async def test_accept_sets_the_alarm_that_stands_behind_the_wake_up(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    assert await deployment.alarm_ms(FIRST) == 2_000


async def test_a_known_event_gets_its_first_acceptance_and_state_again(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST, SECOND)
    await deployment.lanes.settle([done(lease)])
    again, waiting = await deployment.lanes.accept([(FIRST, "other"), (SECOND, "other")])
    assert again == Accepted(FIRST.event_id, FIRST.lane, 1, EventState.DONE, duplicate=True, wake=None)
    assert isinstance(waiting, Accepted)
    assert waiting.acceptance == 2


async def test_a_duplicate_of_a_waiting_head_wakes_it_on_its_first_queue(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    [again] = await deployment.lanes.accept([(FIRST, "other")])
    assert isinstance(again, Accepted)
    assert again.wake == Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)


async def test_a_duplicate_of_a_running_event_wakes_nothing(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    [again] = await deployment.lanes.accept([(FIRST, QUEUE)])
    assert isinstance(again, Accepted)
    assert (again.state, again.wake) == (EventState.RUNNING, None)


async def test_the_lane_recorded_first_counts_when_an_event_is_published_to_two(deployment: Deployment) -> None:
    elsewhere = event("e1", "thr_2")
    assert elsewhere.event_id == FIRST.event_id
    await deployment.accepted(FIRST)
    [again] = await deployment.lanes.accept([(elsewhere, QUEUE)])
    assert isinstance(again, Accepted)
    assert (again.lane, again.duplicate) == (FIRST.lane, True)
    assert await deployment.lanes.events_of(elsewhere.lane) == []


async def test_the_same_event_twice_in_one_batch_is_accepted_once(deployment: Deployment) -> None:
    answers = await deployment.lanes.accept([(FIRST, QUEUE), (FIRST, QUEUE)])
    assert [getattr(answer, "duplicate", None) for answer in answers] == [False, True]
    assert await deployment.lanes.events_of(FIRST.lane) == [FIRST.event_id]


async def test_a_full_lane_refuses_and_others_go_on(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, per_lane=1)
    answers = await lanes.accept([(FIRST, QUEUE), (SECOND, QUEUE), (event("e3", "thr_3"), QUEUE)])
    assert isinstance(answers[0], Accepted)
    assert answers[1] == Refused(SECOND.event_id, SECOND.lane, "lane_full", 5.0)
    assert isinstance(answers[2], Accepted)


async def test_a_full_shard_refuses_until_an_event_ends(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, waiting=2)  # one for each of two shards
    lease = await deployment.started(FIRST)
    assert [answer.reason for answer in await lanes.accept([(SECOND, QUEUE)]) if isinstance(answer, Refused)] == [
        "system_full"
    ]
    await lanes.settle([done(lease)])
    assert isinstance((await lanes.accept([(SECOND, QUEUE)]))[0], Accepted)


async def test_what_comes_after_a_refused_event_in_its_batch_does_not_overtake_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room may come between the two: another worker settles."""
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, waiting=2)  # one for each of two shards
    lease = await deployment.started(FIRST)
    run = ScriptRunner.run

    async def with_a_settlement_after_the_first(self: ScriptRunner, calls: Sequence[Call], **options: bool) -> Any:
        monkeypatch.undo()
        replies = await run(self, calls[:1], **options)
        await deployment.lanes.settle([done(lease)])
        return replies + await run(self, calls[1:], **options)

    monkeypatch.setattr(ScriptRunner, "run", with_a_settlement_after_the_first)
    third = event("e3", "thr_1")
    batch = [(SECOND, QUEUE), (third, QUEUE)]
    assert [getattr(answer, "reason", None) for answer in await lanes.accept(batch)] == ["system_full"] * 2
    again = await lanes.accept(batch)
    assert [getattr(answer, "reason", "accepted") for answer in again] == ["accepted", "system_full"]


async def test_the_record_of_a_refused_event_expires_and_a_later_acceptance_keeps_it(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, per_lane=1)
    await lanes.accept([(FIRST, QUEUE), (SECOND, QUEUE)])
    await lanes.sweep()
    where = deployment.keys.where(SECOND.event_id)
    assert await deployment.state.pttl(where) > 0
    await deployment.lanes.accept([(SECOND, QUEUE)])
    await deployment.lanes.sweep()
    assert await deployment.state.pttl(where) == -1


async def test_no_clock_starts_while_an_event_waits(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    deployment.clock.turn(timedelta(days=30))
    await deployment.lanes.sweep()
    tag = deployment.keys.tag_of(FIRST.lane)
    for key in (deployment.keys.where(FIRST.event_id), f"{tag}event:{FIRST.event_id}", f"{tag}lane:{FIRST.lane}"):
        assert await deployment.state.pttl(key) == -1


async def test_an_empty_batch_asks_nothing(deployment: Deployment) -> None:
    assert await deployment.lanes.accept([]) == []
    assert await deployment.lanes.begin([]) == []
    assert await deployment.lanes.renew([]) == []
