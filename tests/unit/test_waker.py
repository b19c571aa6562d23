"""Wake-ups that can be sent, and those that cannot."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.eventually import eventually
from workers import waker as waker_module
from workers.lanes.records import Wake
from workers.waker import CeleryWaker


class Broker:
    """A Celery app, as far as the waker uses one. `away` makes it fail."""

    def __init__(self) -> None:
        self.away = False
        self.sent: list[str] = []
        self.collected = 0
        self.spared = 0
        self.channel = SimpleNamespace(async_pool=SimpleNamespace(disconnect=self.spare))

    @contextmanager
    def producer_or_acquire(self) -> Iterator[Any]:
        transport = SimpleNamespace(driver_type="redis")
        connection = SimpleNamespace(collect=self.collect, transport=transport)
        yield SimpleNamespace(connection=connection, channel=self.channel)

    def spare(self) -> None:
        self.spared += 1

    def collect(self) -> None:
        self.collected += 1

    def send_task(self, name: str, *, task_id: str, **_: Any) -> None:
        if self.away:
            raise ConnectionError("refused")
        self.sent.append(task_id)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def waker(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(waker_module, "AGAIN_SECONDS", 0.01)
    waker = CeleryWaker(broker)
    yield waker
    waker.close()


def wake(event: str, lane: str | None = None) -> Wake:
    return Wake(lane or f"lane of {event}", event, "chatkit.threads.create", "q")


async def test_wake_ups_are_sent_in_order(broker: Broker, waker: CeleryWaker) -> None:
    await waker.wake([wake("1"), wake("2")])
    await waker.wake([wake("3")])
    assert broker.sent == ["1", "2", "3"]
    assert broker.spared == 1, "each channel once"


async def test_what_cannot_be_sent_is_sent_when_the_broker_is_back_once_for_each_lane(
    broker: Broker, waker: CeleryWaker
) -> None:
    broker.away = True
    await waker.wake([wake("1"), wake("2")])
    await waker.wake([wake("3", lane="lane of 1")])
    await asyncio.sleep(0.05)
    assert broker.sent == []
    broker.away = False

    async def sent() -> bool:
        return sorted(broker.sent) == ["2", "3"]

    await eventually(sent)


async def test_a_connection_that_failed_is_given_up(broker: Broker, waker: CeleryWaker) -> None:
    broker.away = True
    await waker.wake([wake("1")])
    assert broker.collected >= 1


async def test_no_more_is_kept_than_fits(broker: Broker, waker: CeleryWaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waker_module, "MOST_UNSENT", 3)
    broker.away = True
    await waker.wake([wake(str(number)) for number in range(10)])
    broker.away = False

    async def sent() -> bool:
        return broker.sent == ["0", "1", "2"]

    await eventually(sent)


async def test_nobody_waits_long_for_a_broker_that_does_not_answer(
    broker: Broker, waker: CeleryWaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waker_module, "WAIT_SECONDS", 0.01)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(*_: Any, **__: Any) -> None:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(5)

    monkeypatch.setattr(broker, "send_task", hang)
    async with asyncio.timeout(1):
        await waker.wake([wake("1")])
    released.set()
