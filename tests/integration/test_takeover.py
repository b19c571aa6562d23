"""How soon another worker takes up what one leaves behind: given back after a SIGTERM, or left by a SIGKILL."""

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.viewer import answer_of
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Text

LEASE_SECONDS = 2.0
RELEASED_SECONDS = 0.5
KILLED_SECONDS = LEASE_SECONDS + 1
WORDS = "It is on its way to you and will be there tomorrow."


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def deployment(
    request: pytest.FixtureRequest, redis_url: str, sqlite_url: str, provider: FakeProvider
) -> Iterator[Deployment]:
    broker = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else redis_url
    settings = {
        **provider.environment,
        "CHATKIT_DRAIN_SECONDS": "0.2",
        "CHATKIT_LEASE_TTL": str(LEASE_SECONDS),
    }
    with Deployment(redis_url, sqlite_url, broker_url=broker, **settings) as deployment:
        yield deployment


class Turn:
    """An event whose model says some words and then nothing any more, until the next worker asks it again."""

    def __init__(self, deployment: Deployment, lanes: Lanes, provider: FakeProvider) -> None:
        self.deployment, self.lanes, self.provider = deployment, lanes, provider
        self.event: Event = create_event("where is it?")
        self._tag = deployment.keys.tag_of(self.event.lane)

    async def hang(self) -> None:
        """Publish it, and wait until some of its words are shown."""
        self.provider.plan(Hang(after_deltas=5), Text(WORDS))
        with Publisher(self.deployment.broker_url) as publisher:
            publisher.publish(self.event)

        async def shown() -> bool:
            return b"thread.item.updated" in b"".join(await self.frames())

        await eventually(shown, within=20)

    async def frames(self) -> list[bytes]:
        state: Any = self.lanes._state
        return [fields.get(b"d", b"") for _, fields in await state.xrange(self._stream)]

    @property
    def _stream(self) -> str:
        return self.deployment.keys.stream(self.event.lane, self.event.event_id)

    async def released_at(self) -> float:
        """When it was given back, as the state noted it."""
        state: Any = self.lanes._state
        return int(await state.hget(f"{self._tag}event:{self.event.event_id}", "due")) / 1000

    async def begun_at(self) -> float:
        """When it last began: an epoch is the time of its begin, in microseconds."""
        state: Any = self.lanes._state
        return int(await state.get(f"{self._tag}epoch")) / 1e6

    async def holder(self) -> int:
        """The process that runs it."""
        state: Any = self.lanes._state
        owner: bytes = await state.hget(f"{self._tag}lease:{self.event.lane}", "owner")
        return int(owner.decode().rpartition(":")[2])

    async def is_answered_once(self) -> None:
        """Whole, without a word twice, by the first attempt, in frames without a gap."""

        async def ended() -> bool:
            found = await self.lanes.status(self.event.event_id)
            return found is not None and found[0].state.ended

        await eventually(ended, within=20)
        found = await self.lanes.status(self.event.event_id)
        assert found is not None
        assert (found[0].state, found[0].attempt) == (EventState.DONE, 1)
        frames = await self.frames()
        assert answer_of(frame for frame in frames if frame) == WORDS
        assert found[0].last_frame_id == f"{found[0].last_frame_id.partition('-')[0]}-{len(frames)}"  # type: ignore[union-attr]  # it has frames


@pytest.mark.redis
async def test_what_a_worker_leaves_is_taken_up_at_once_when_it_is_given_back_and_after_its_lease_when_it_is_not(
    deployment: Deployment, provider: FakeProvider
) -> None:
    first = deployment.worker()
    async with deployment.lanes() as lanes:
        turn = Turn(deployment, lanes, provider)
        await turn.hang()
        others = await asyncio.gather(*(asyncio.to_thread(deployment.worker) for _ in range(2)))
        first.signal(signal.SIGTERM)
        await turn.is_answered_once()
        released = await turn.begun_at() - await turn.released_at()
        assert 0 <= released < RELEASED_SECONDS
        assert first.wait() == 0

        turn = Turn(deployment, lanes, provider)
        await turn.hang()
        [holder] = [worker for worker in others if worker.pid == await turn.holder()]
        killed_at = time.time()
        holder.kill()
        await turn.is_answered_once()
        killed = await turn.begun_at() - killed_at
        assert killed < KILLED_SECONDS
    print(
        f"taken up {released * 1000:.0f} ms after a release, {killed:.2f} s after a SIGKILL (lease {LEASE_SECONDS} s)"
    )
