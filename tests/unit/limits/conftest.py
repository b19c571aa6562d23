"""Limits on fakeredis, in this process and without a socket."""

from collections.abc import AsyncIterator

import fakeredis
import pytest

from tests.limit_builders import Stand, stand_on


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    state = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    yield stand_on(state, "ck")
    await state.aclose()
