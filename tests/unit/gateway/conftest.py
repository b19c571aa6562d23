"""A gateway over a fake Redis, called without sockets."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from schemas.events import Event
from schemas.outcome import Done
from tests.unit.gateway.stage import BEAT, Stage, calling, stage_on
from workers.lanes.records import Settlement
from workers.streams.turn_frames import TurnFrames


async def beat(frames: TurnFrames, _: Event) -> Settlement:
    """One frame, done."""
    await frames.send(BEAT)
    await frames.flush()
    return Settlement(frames._lease, Done())


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    state = FakeAsyncRedis()
    async with stage_on(state, "ck", beat) as stage:
        yield stage
    await state.aclose()


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(stage) as client:
        yield client
