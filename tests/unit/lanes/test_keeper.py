"""The keeper renews what is held, and tells holders when to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta

import fakeredis
import pytest

from schemas.outcome import CancelReason
from tests.eventually import eventually
from tests.lane_builders import LEASE, Deployment, deployment_on, event
from workers.lanes.keeper import LeaseKeeper

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_2")
SHORT = timedelta(milliseconds=80)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def keeper(deployment: Deployment) -> LeaseKeeper:
    return LeaseKeeper(deployment.lanes, deployment.state, deployment.keys, lease=SHORT)


@pytest.fixture
async def running(keeper: LeaseKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def tell(told: list[str], *words: str) -> Callable[..., None]:
    """A callback that notes its words, and then what it is called with."""
    return lambda *given: told.append(" ".join([*words, *given]))


async def test_one_call_renews_every_lease_that_is_held(
    deployment: Deployment, keeper: LeaseKeeper, told: list[str]
) -> None:
    leases = [await deployment.started(FIRST), await deployment.started(SECOND)]
    for lease in leases:
        keeper.hold(lease, tell(told, "lost"), tell(told, "cancel"))
    deployment.clock.turn(timedelta(seconds=9))
    await keeper.renew()
    assert [await deployment.alarm_ms(item) for item in (FIRST, SECOND)] == [10_000, 10_000]
    assert told == []


async def test_what_is_released_is_renewed_no_more(
    deployment: Deployment, keeper: LeaseKeeper, told: list[str]
) -> None:
    lease = await deployment.started(FIRST)
    keeper.hold(lease, tell(told, "lost"), tell(told, "cancel"))
    keeper.release(lease)
    keeper.release(lease)
    deployment.clock.turn(timedelta(seconds=9))
    await keeper.renew()
    assert await deployment.alarm_ms(FIRST) == 1_000
    assert keeper.count == 0


async def test_the_holder_of_a_lost_lease_is_told_once(
    deployment: Deployment, keeper: LeaseKeeper, told: list[str]
) -> None:
    lease = await deployment.started(FIRST)
    keeper.hold(lease, tell(told, "lost"), tell(told, "cancel"))
    deployment.clock.turn(LEASE)
    await deployment.begun(FIRST, "t2", lanes=deployment.other)
    await keeper.renew()
    await keeper.renew()
    assert (told, keeper.count) == (["lost"], 0)


async def test_a_cancel_whose_message_was_missed_shows_at_the_next_renewal_once(
    deployment: Deployment, keeper: LeaseKeeper, told: list[str]
) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.cancel(FIRST.event_id, CancelReason.OPERATOR)
    keeper.hold(lease, tell(told, "lost"), tell(told, "cancel"))
    await keeper.renew()
    await keeper.renew()
    assert (told, keeper.count) == (["cancel operator"], 1)


@pytest.mark.usefixtures("running")
async def test_leases_are_renewed_again_and_again_while_the_keeper_runs(
    deployment: Deployment, keeper: LeaseKeeper, told: list[str]
) -> None:
    lease = await deployment.started(FIRST)
    keeper.hold(lease, tell(told, "lost"), tell(told, "cancel"))
    for _ in range(3):
        deployment.clock.turn(timedelta(seconds=9))

        async def renewed() -> bool:
            return await deployment.alarm_ms(FIRST) == 10_000

        await eventually(renewed)
    assert told == []


async def test_a_cancel_is_heard_without_waiting_for_a_renewal(deployment: Deployment, told: list[str]) -> None:
    keeper = LeaseKeeper(deployment.lanes, deployment.state, deployment.keys, lease=timedelta(hours=1))
    for item in (FIRST, SECOND):
        keeper.hold(await deployment.started(item), tell(told, "lost"), tell(told, item.id))
    task = asyncio.create_task(keeper.run())

    async def heard() -> bool:
        await deployment.other.cancel(
            FIRST.event_id, CancelReason.OPERATOR
        )  # again, in case the keeper had not subscribed yet
        return bool(told)

    await eventually(heard)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert told == ["e1 operator"]


async def test_a_state_that_is_away_costs_no_lease(told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    server = fakeredis.FakeServer()
    state = fakeredis.FakeAsyncRedis(server=server)
    deployment = deployment_on(state, "ck")
    keeper = LeaseKeeper(deployment.lanes, state, deployment.keys, lease=SHORT)
    keeper.hold(await deployment.started(FIRST), tell(told, "lost"), tell(told, "cancel"))
    task = asyncio.create_task(keeper.run())
    with caplog.at_level(logging.WARNING):
        server.connected = False

        async def noticed() -> bool:
            return "leases_not_renewed" in caplog.messages

        await eventually(noticed)
        server.connected = True
    deployment.clock.turn(timedelta(seconds=9))

    async def renewed() -> bool:
        return await deployment.alarm_ms(FIRST) == 10_000

    await eventually(renewed)
    assert (told, keeper.count) == ([], 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await state.aclose()


async def test_a_cancellation_that_a_renewal_swallowed_still_ends_the_keeper(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py's sending may do that; a task group cancels its tasks only once."""
    renewing = asyncio.Event()

    async def swallow(_: object) -> list[str]:
        renewing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(deployment.lanes, "renew", swallow)
    keeper = LeaseKeeper(deployment.lanes, deployment.state, deployment.keys, lease=SHORT)
    task = asyncio.create_task(keeper.run())
    await asyncio.wait_for(renewing.wait(), 5)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
