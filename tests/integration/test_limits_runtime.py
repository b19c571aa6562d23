"""How a worker's parts are put together around the limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from tests.builders import create_event
from tests.eventually import eventually
from workers.broker import sending_app
from workers.chat.database import Database
from workers.limits.desk import LimitDesk
from workers.limits.limiter import Limiter
from workers.routing import QUEUE_INTERACTIVE
from workers.runtime import Core, open_core, turn_runtime, worker_runtime
from workers.setting_types import Limits
from workers.settings import Settings
from workers.telemetry.metrics import Metrics

pytestmark = pytest.mark.redis

OF_THE_SETTINGS = Limits.model_validate({"users": {"*": {"rpm": 1}}})


@pytest.fixture
async def core(redis_url: str, sqlite_url: str) -> AsyncIterator[Core]:
    database = Database(sqlite_url)
    await database.upgrade()
    await database.close()
    settings = Settings(broker_url=redis_url, state_url=redis_url, database_url=sqlite_url, limits=OF_THE_SETTINGS)
    with closing(sending_app(settings)) as app:
        async with open_core(settings, app) as core:
            yield core


async def test_a_limits_node_that_hangs_holds_up_no_lane(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = asyncio.Event()

    async def hang(_: LimitDesk) -> None:
        hangs.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(LimitDesk, "grant", hang)
    state: Any = core.state

    async def woken() -> bool:
        return bool(await state.llen(QUEUE_INTERACTIVE))

    async with worker_runtime(core):
        await asyncio.wait_for(hangs.wait(), 5)
        event = create_event()
        await core.lanes.accept([(event, QUEUE_INTERACTIVE)])  # and its wake-up is lost
        assert await eventually(woken, within=5)


async def test_a_worker_installs_the_limits_of_its_settings_and_a_quarantine_does_not(core: Core) -> None:
    """The quarantine of an old worker would put back what a rolling change has brought."""
    changed = Limits.model_validate({"users": {"*": {"rpm": 2}}})
    limiter = Limiter(core.state, core.keys)
    await limiter.install(changed)
    async with turn_runtime(core, Metrics()):
        assert await limiter.limits() == changed
    async with worker_runtime(core):
        assert await limiter.limits() == OF_THE_SETTINGS
