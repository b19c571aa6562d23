"""Celery's events for Flower, while the broker is away."""

from typing import Any

import pytest
from celery import Celery

from workers.pool import dispatcher as dispatcher_module
from workers.pool.dispatcher import BriefDispatcher


class Producer:
    """Notes what is published, and how it was asked to try."""

    def __init__(self) -> None:
        self.away = False
        self.tries: list[tuple[str, bool]] = []

    def publish(self, event: Any, *, retry: bool, **_: Any) -> None:
        self.tries.append((event["type"], retry))
        if self.away:
            raise ConnectionError("refused")


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def dispatcher(producer: Producer) -> BriefDispatcher:
    app = Celery("tests", broker="memory://", set_as_current=False)
    dispatcher = BriefDispatcher(app.connection_for_write(), app=app, hostname="w@here")
    dispatcher.producer = producer
    return dispatcher


def test_an_event_is_tried_once_whatever_celery_asks_for(dispatcher: BriefDispatcher, producer: Producer) -> None:
    dispatcher.send("worker-heartbeat", retry=True)
    assert producer.tries == [("worker-heartbeat", False)]


def test_while_the_broker_is_away_events_wait_without_a_try_and_are_sent_later(
    dispatcher: BriefDispatcher, producer: Producer
) -> None:
    producer.away = True
    for number in range(3):
        dispatcher.send(f"worker-{number}", retry=True)
    dispatcher.flush()
    assert producer.tries == [("worker-0", False)]
    producer.away = False
    dispatcher._away_until = 0
    dispatcher.flush()
    assert [type_ for type_, _ in producer.tries[1:]] == ["worker-0", "worker-1", "worker-2"]


def test_of_a_long_outage_the_newest_events_are_kept(
    dispatcher: BriefDispatcher, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "PAUSE_SECONDS", 0.0)
    producer.away = True
    for number in range(dispatcher_module.KEPT + 5):
        dispatcher.send(f"worker-{number}")
    kept = [event["type"] for event, _ in dispatcher._outbound_buffer]
    assert (kept[0], kept[-1], len(kept)) == (
        "worker-5",
        f"worker-{dispatcher_module.KEPT + 4}",
        dispatcher_module.KEPT,
    )
