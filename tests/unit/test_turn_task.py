"""A wake-up in the worker's main thread: what Celery's revoke and `expires` make of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Retry as CeleryRetry
from celery.worker import state as worker_state
from kombu.message import Message

from schemas.outcome import Released, ReleaseReason
from workers.tasks import show
from workers.turn_task import TurnRequest, TurnTask

EVENT = "evt_1"


@pytest.fixture
def cancelled() -> list[str]:
    return []


@pytest.fixture
def app(cancelled: list[str]) -> Iterator[Celery]:
    app = Celery("tests", set_as_current=False)

    def turn(lane: str, event_id: str) -> None:
        """Never run here."""

    app.task(turn, name="turn", shared=False, base=TurnTask, cancel_event=staticmethod(cancelled.append))
    yield app
    worker_state.revoked.discard(EVENT)
    app.close()


def request(app: Celery, **headers: Any) -> TurnRequest:
    message = Message(  # type: ignore[no-untyped-call]  # kombu has no types
        json.dumps([[], {"lane": "default/thr_1", "event_id": EVENT}, {}]),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "turn", "id": EVENT, **headers},
        channel=None,
    )
    return TurnRequest(message, app=app, task=app.tasks["turn"])


def test_a_revoked_wake_up_is_not_dropped(app: Celery) -> None:
    worker_state.revoked.add(EVENT)
    assert not request(app).revoked()


@pytest.mark.parametrize("revoked", [False, True])
def test_an_expired_wake_up_is_dropped_and_does_not_revoke_its_event(app: Celery, revoked: bool) -> None:
    if revoked:
        worker_state.revoked.add(EVENT)
    expired = request(app, expires="2020-01-01T00:00:00Z")
    assert expired.revoked()
    assert expired.revoked()  # and so it stays
    assert expired.acknowledged
    assert (EVENT in worker_state.revoked) is revoked
    assert not request(app, expires="2999-01-01T00:00:00Z").revoked()


def test_terminating_a_wake_up_cancels_its_event(app: Celery, cancelled: list[str]) -> None:
    request(app).terminate(pool=None)
    assert cancelled == [EVENT]


def test_a_turn_that_was_handed_over_is_shown_as_one_that_goes_on(app: Celery) -> None:
    with pytest.raises(CeleryRetry) as caught:
        show(app.tasks["turn"], Released(ReleaseReason.HANDOFF, "chatkit.agent.weather"), 1)
    assert repr(caught.value) == "released: handoff to chatkit.agent.weather (attempt 1)"
