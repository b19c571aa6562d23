"""The flood guard, and what Sentry is told of a dead letter."""

import json
from datetime import timedelta

import pytest
import sentry_sdk

from schemas.outcome import DeadLettered, DeadReason, Done, ErrorRecord, EventState, Outcome
from tests.builders import create_event, delivery_of, feedback_event
from tests.lane_builders import Deployment
from tests.unit.telemetry.test_sentry import Kept, sentry
from workers.ends import Ends
from workers.lanes.pauses import Paused

__all__ = ["sentry"]

DEAD = DeadLettered(DeadReason.PERMANENT, ErrorRecord(kind="BadRequestError", message="HTTP 400"))
CREATE = Paused("type", "chatkit.threads.create")


@pytest.fixture
def ends(deployment: Deployment) -> Ends:
    return Ends(deployment.lanes.pauses, flood_ratio=0.5, flood_least=4, clock=lambda: deployment.clock.us / 1_000_000)


async def end(ends: Ends, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        state = EventState.DEAD if isinstance(outcome, DeadLettered) else EventState.DONE
        await ends.note([(delivery_of(create_event()), outcome, state)])


async def test_a_type_of_which_too_much_goes_dead_is_paused_with_an_alert(
    ends: Ends, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    await end(ends, DEAD, DEAD, DEAD)
    assert await deployment.lanes.pauses.all() == []
    await end(ends, Done(), Done(), DEAD)
    assert await deployment.lanes.pauses.all() == [CREATE]
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert alert.msg == "type_paused_by_flood_guard"
    await deployment.lanes.pauses.resume(CREATE)
    await end(ends, DEAD)
    assert await deployment.lanes.pauses.all() == []  # counted anew


async def test_a_share_below_the_ratio_other_types_and_long_ago_do_not_count(
    ends: Ends, deployment: Deployment
) -> None:
    await end(ends, *[Done()] * 9, DEAD, DEAD, DEAD, DEAD)
    for _ in range(3):
        await ends.note([(delivery_of(feedback_event("thr_1")), DEAD, EventState.DEAD)])
    await ends.note([(delivery_of(create_event()), DEAD, EventState.CANCELLED)])
    deployment.clock.turn(timedelta(seconds=61))
    await end(ends, DEAD, DEAD, DEAD)
    assert await deployment.lanes.pauses.all() == []


async def test_sentry_is_told_once_of_each_dead_letter_and_of_nothing_else(ends: Ends, sentry: Kept) -> None:
    event = create_event("my secret question")
    await ends.note([(delivery_of(event), DEAD, EventState.DEAD)])
    await ends.note([(delivery_of(event), DEAD, EventState.CANCELLED)])
    await ends.note([(delivery_of(event), Done(), EventState.DONE)])
    sentry_sdk.flush()
    [told] = sentry.sent
    assert told["message"] == "dead letter: permanent (BadRequestError)"
    assert told["tags"]["event_type"] == "chatkit.threads.create"
    assert told["extra"]["event_id"] == event.event_id
    assert "secret" not in json.dumps(told, default=str)
