"""A deployment on fakeredis, in this process and without a socket."""

from collections.abc import AsyncIterator

import fakeredis
import pytest

from tests.lane_builders import Deployment, deployment_on


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    state = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    yield deployment_on(state, "ck")
    await state.aclose()
