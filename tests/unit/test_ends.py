"""The flood guard, what Sentry is told of a dead letter, and who leaves the line of the limits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
import sentry_sdk

from schemas.events import parse_event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    DropReason,
    ErrorRecord,
    EventState,
    Outcome,
    Parked,
    ParkReason,
)
from schemas.records import DeadLetter
from tests.builders import create_event, delivery_of, feedback_event, message_event
from tests.lane_builders import Deployment, letter
from tests.unit.telemetry.test_sentry import Kept, sentry
from workers.ends import TOLD_A_MINUTE, Ends
from workers.lanes.floods import Share
from workers.lanes.pauses import Paused
from workers.lanes.records import Owner, Settled, Settlement, Wake

__all__ = ["sentry"]

ERROR = ErrorRecord(kind="BadRequestError", message="HTTP 400")
DEAD = DeadLettered(DeadReason.PERMANENT, ERROR)
DEAD_QUOTA = DeadLettered(DeadReason.QUOTA, ERROR)
MESSAGE = Paused("type", "chatkit.threads.add_user_message")


class Woken(list[Wake]):
    """A waker that remembers."""

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self += wakes


@pytest.fixture
def woken() -> Woken:
    return Woken()


def ends_of(deployment: Deployment, woken: Woken, left: list[str]) -> Ends:
    """Those of one worker process."""
    lanes = deployment.lanes
    return Ends(
        lanes.pauses, lanes.floods, lanes.sign_ins, woken, flood_ratio=0.5, flood_least=4, leave_line=left.extend
    )


@pytest.fixture
def left() -> list[str]:
    """Who was taken out of the line of the limits."""
    return []


@pytest.fixture
def ends(deployment: Deployment, woken: Woken, left: list[str]) -> Ends:
    return ends_of(deployment, woken, left)


@dataclass
class Flood:
    """Ends events, each as it is told, in turns by two workers."""

    deployment: Deployment
    workers: list[Ends]
    count: int = 0

    async def end(self, *ends: Outcome | DeadReason) -> None:
        for how in ends:
            self.count += 1
            event = message_event(f"thr_{self.count}")
            lease = await self.deployment.started(event)
            outcome = DeadLettered(how, ERROR) if isinstance(how, DeadReason) else how
            dead = letter(event.event_id) if isinstance(outcome, DeadLettered) else None
            [settled] = await self.deployment.lanes.settle([Settlement(lease, outcome, dead=dead)])
            assert isinstance(settled, Settled)
            await self.workers[self.count % 2].note([(delivery_of(event), outcome, settled.state)])


@pytest.fixture
def flood(deployment: Deployment, woken: Woken) -> Flood:
    return Flood(deployment, [ends_of(deployment, woken, []), ends_of(deployment, woken, [])])


BUG = DeadReason.BUG


async def test_a_type_of_which_too_much_goes_dead_in_all_workers_together_is_paused_with_one_alert(
    flood: Flood, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    pauses = deployment.lanes.pauses
    await flood.end(BUG, DeadReason.ATTEMPTS_EXHAUSTED, DeadReason.WORKER_LOST)
    assert await pauses.all() == []
    await flood.end(Done(), Done())
    during = [message_event("thr_x"), message_event("thr_y")]
    leases = [await deployment.started(event) for event in during]
    await flood.end(DeadReason.AUTHENTICATION)
    assert await pauses.all() == [MESSAGE]
    for event, lease in zip(during, leases, strict=True):  # what runs goes on to its end
        outcome = DeadLettered(BUG, ERROR)
        await deployment.lanes.settle([Settlement(lease, outcome, dead=letter(event.event_id))])
        await flood.workers[0].note([(delivery_of(event), outcome, EventState.DEAD)])
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert alert.msg == "type_paused_by_flood_guard"
    await pauses.resume(MESSAGE)
    await flood.end(BUG)
    assert await pauses.all() == []  # counted anew


async def test_a_share_below_the_ratio_other_types_and_long_ago_do_not_count(
    flood: Flood, deployment: Deployment
) -> None:
    await flood.end(*[Done()] * 9, BUG, BUG, BUG, BUG)
    assert await deployment.lanes.floods.share(MESSAGE.value) == Share(13, 4)
    assert await deployment.lanes.floods.share("chatkit.threads.create") == Share(0, 0)
    deployment.clock.turn(timedelta(seconds=61))
    assert await deployment.lanes.floods.share(MESSAGE.value) == Share(0, 0)
    await flood.end(BUG, BUG, BUG)
    assert await deployment.lanes.pauses.all() == []


@pytest.mark.parametrize("reason", [DeadReason.PERMANENT, DeadReason.LOOP])
async def test_requests_that_can_never_be_answered_are_no_flood_however_many_somebody_sends(
    reason: DeadReason, flood: Flood, deployment: Deployment
) -> None:
    await flood.end(*[reason] * 10)
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


def invalid(number: int) -> DeadLetter:
    return letter(f"raw_{number}", DeadReason.INVALID)


async def test_sentry_is_told_of_what_ingest_keeps_and_of_what_never_parsed_at_a_bounded_rate(
    deployment: Deployment, woken: Woken, sentry: Kept
) -> None:
    lanes, seconds = deployment.lanes, 0.0
    ends = Ends(lanes.pauses, lanes.floods, lanes.sign_ins, woken, flood_ratio=1, flood_least=1, clock=lambda: seconds)
    bug = letter("evt_2", DeadReason.BUG).model_copy(update={"error": "KeyError: at rounds.py:7"})
    ends.buried([letter("evt_1", DeadReason.OVERFLOW), bug])
    sentry_sdk.flush()
    assert [told["message"] for told in sentry.sent] == [
        "dead letter: overflow (no error)",
        "dead letter: bug (KeyError)",
    ]
    ends.buried([invalid(number) for number in range(100)])
    seconds = 61.0
    ends.buried([invalid(101)])
    sentry_sdk.flush()
    assert len(sentry.sent) == 2 + TOLD_A_MINUTE + 1


async def test_a_quota_that_is_used_up_is_an_alert_though_not_with_every_event(
    flood: Flood, caplog: pytest.LogCaptureFixture
) -> None:
    await flood.end(DeadReason.PERMANENT, DeadReason.QUOTA)
    await flood.workers[flood.count % 2].note([(delivery_of(message_event("thr_1")), DEAD_QUOTA, EventState.DEAD)])
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert alert.msg == "quota_refused"


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


@pytest.mark.parametrize(
    ("outcome", "state", "reserved", "leaves"),
    [
        (Dropped(DropReason.EXPIRED), EventState.DROPPED, False, True),
        (Cancelled(CancelReason.THREAD_DELETED), EventState.CANCELLED, False, True),
        (Parked(ParkReason.RATE_LIMIT, timedelta(minutes=1)), EventState.CANCELLED, True, True),
        (Parked(ParkReason.RATE_LIMIT, timedelta(minutes=1)), EventState.WAITING_LIMIT, False, False),
        (Done(), EventState.DONE, True, False),
    ],
)
async def test_a_turn_that_ends_without_a_run_leaves_the_line(
    ends: Ends, left: list[str], outcome: Outcome, state: EventState, reserved: bool, leaves: bool
) -> None:
    turn = delivery_of(create_event())
    turn.use.model = "gpt-4.1" if reserved else None
    await ends.note([(turn, outcome, state), (delivery_of(feedback_event("thr_1")), outcome, state)])
    assert left == ([turn.event.event_id] if leaves else [])


async def test_a_sign_in_that_is_quicker_than_the_note_of_who_waits_lets_it_go_on_all_the_same(
    ends: Ends, deployment: Deployment, woken: Woken
) -> None:
    question = create_event()
    lease = await deployment.started(question)
    parked = Parked(ParkReason.AUTHENTICATION, timedelta(minutes=1))
    await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
    await deployment.lanes.sign_ins.signed_in([Owner(question.tenant, question.userid)])
    await ends.note([(delivery_of(question, lease=lease), parked, EventState.WAITING_LIMIT)])
    assert [wake.event_id for wake in woken] == [question.event_id]
