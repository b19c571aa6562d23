"""The flood guard, and what Sentry is told of a dead letter."""

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sentry_sdk

from schemas.events import parse_event
from schemas.outcome import DeadLettered, DeadReason, Done, ErrorRecord, EventState, Outcome, Parked, ParkReason
from tests.builders import create_event, delivery_of, feedback_event
from tests.lane_builders import Deployment
from tests.unit.telemetry.test_sentry import Kept, sentry
from workers.ends import Ends
from workers.lanes.pauses import Paused
from workers.lanes.records import Settlement, Wake

__all__ = ["sentry"]

DEAD = DeadLettered(DeadReason.PERMANENT, ErrorRecord(kind="BadRequestError", message="HTTP 400"))
CREATE = Paused("type", "chatkit.threads.create")


class Woken(list[Wake]):
    """A waker that remembers."""

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self += wakes


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def ends(deployment: Deployment, woken: Woken) -> Ends:
    lanes = deployment.lanes
    seconds = lambda: deployment.clock.us / 1_000_000  # noqa: E731
    return Ends(lanes.pauses, lanes.sign_ins, woken, flood_ratio=0.5, flood_least=4, clock=seconds)


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


async def test_a_refused_sign_in_is_an_alert_and_a_session_that_starts_lets_it_go_on(
    ends: Ends, deployment: Deployment, woken: Woken, caplog: pytest.LogCaptureFixture
) -> None:
    question = create_event("my secret question")
    lease = await deployment.started(question)
    parked = Parked(ParkReason.AUTHENTICATION, timedelta(minutes=1))
    await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
    await ends.note([(delivery_of(question, lease=lease), parked, EventState.WAITING_LIMIT)])
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert alert.msg == "sign_in_refused"
    assert "secret" not in str(vars(alert))

    for user in ("somebody_else", question.userid):
        assert not woken
        start = {"specversion": "1.0", "id": user, "source": "/tests", "type": "chatkit.session.start"}
        begun = parse_event({**start, "tenant": question.tenant, "userid": user, "data": {}})
        await ends.note([(delivery_of(begun), Done(), EventState.DONE)])
    assert [wake.event_id for wake in woken] == [question.event_id]
