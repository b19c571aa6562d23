"""Redriving what was never accepted."""

from datetime import timedelta

import pytest

from schemas.events import Event
from schemas.outcome import DeadReason, EventState
from tests.builders import NOW, create_event, message_event
from tests.lane_builders import Deployment, done, event, lanes_on, letter
from workers.lanes.dead_letters import Redriven
from workers.lanes.records import Begun, Start
from workers.redrive import redrive
from workers.routing import default_queue
from workers.settle import dead_letter

ITEM = message_event("thr_1", expirytime=(NOW - timedelta(days=1)).isoformat())


async def refused(deployment: Deployment, item: Event, reason: DeadReason = DeadReason.OVERFLOW) -> None:
    """The ways in had no room for it, or tripped over it."""
    await deployment.lanes.bury([dead_letter(item, reason, "no room", worker="w1", now=NOW)])


@pytest.mark.parametrize("reason", [DeadReason.OVERFLOW, DeadReason.BUG])
async def test_a_valid_event_that_was_never_accepted_is_accepted_once(
    deployment: Deployment, reason: DeadReason
) -> None:
    await refused(deployment, ITEM, reason)
    redriven = await redrive(deployment.lanes, ITEM.event_id, default_queue)
    assert redriven.result == "redriven"
    assert redriven.wake is not None
    assert redriven.wake.event_id == ITEM.event_id
    assert await deployment.lanes.dead_letters.get(ITEM.event_id) is None
    assert (await redrive(deployment.lanes, ITEM.event_id, default_queue)).result == "gone"
    [begun] = await deployment.lanes.begin([Start(ITEM.lane, ITEM.event_id, "t1")])
    assert isinstance(begun, Begun)
    assert begun.body == ITEM.to_json()
    assert begun.redriven  # its deadline counts from now
    assert await deployment.lanes.events_of(ITEM.lane) == [ITEM.event_id]


async def test_an_event_that_was_published_again_meanwhile_is_not_run_twice(deployment: Deployment) -> None:
    await refused(deployment, ITEM)
    await deployment.lanes.settle([done(await deployment.started(ITEM))])
    assert (await redrive(deployment.lanes, ITEM.event_id, default_queue)).result == "gone"
    assert await deployment.lanes.dead_letters.get(ITEM.event_id) is None
    found = await deployment.lanes.status(ITEM.event_id)
    assert found is not None
    assert found[0].state is EventState.DONE


async def test_an_event_for_which_there_still_is_no_room_stays(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock, per_lane=1)
    await deployment.accepted(event("before", "thr_1", tenant=ITEM.tenant))
    await refused(deployment, ITEM)
    assert await redrive(lanes, ITEM.event_id, default_queue) == Redriven("full")
    assert await lanes.dead_letters.get(ITEM.event_id) is not None


async def test_what_never_parsed_is_no_event(deployment: Deployment) -> None:
    raw = letter("raw_1", DeadReason.INVALID).model_copy(update={"raw": True, "body": "aGVsbG8="})
    spoilt = letter("evt_1", DeadReason.BUG).model_copy(update={"body": "{"})
    await deployment.lanes.bury([raw, spoilt])
    for id_ in ("raw_1", "evt_1"):
        assert await redrive(deployment.lanes, id_, default_queue) == Redriven("refused")
        assert await deployment.lanes.dead_letters.get(id_) is not None
    assert await redrive(deployment.lanes, create_event().event_id, default_queue) == Redriven("gone")
