"""`chatkit-workers autoscale` with real workers: they follow the load, none of their turns is cut, and what waits for a
limit starts none."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import start
from tests.deployment import Deployment
from tests.integration.test_worker import ended, publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Late, Text

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]

TURN_SECONDS = 2.0
STARTED = 90.0
"""What a worker may take to start on a busy machine."""

Line = dict[str, Any]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(lambda _: Late(TURN_SECONDS, Text("Here you are."))) as provider:
        yield provider


class Supervised:
    """`autoscale --json`, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[Line] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def said(self, change: str, times: int, within: float = STARTED) -> None:
        async with asyncio.timeout(within):
            while len(self.of(change)) < times:
                assert self.process.returncode is None, self.lines
                await asyncio.sleep(0.05)

    def of(self, change: str) -> list[Line]:
        return [line for line in self.lines if line["change"] == change]


@asynccontextmanager
async def supervised(deployment: Deployment, *options: str, **environment: str) -> AsyncIterator[Supervised]:
    """A fleet that ends with the block, in good order."""
    process = await start("autoscale", "--json", *options, env=deployment.process_environment() | environment)
    fleet = Supervised(process)
    assert process.stderr is not None
    reading = [asyncio.create_task(fleet.read()), asyncio.create_task(process.stderr.read())]
    try:
        yield fleet
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await process.wait() == 0, await reading[1]
    finally:
        if process.returncode is None:
            process.kill()  # its workers die with it
            await process.wait()
        await asyncio.gather(*reading, return_exceptions=True)
        print(*fleet.lines, sep="\n")


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_CONCURRENCY="4",
        CHATKIT_SCALE_SPARE="1",  # of the four slots, two may be taken for long
        CHATKIT_SCALE_TARGET_AGE="2",
        CHATKIT_SCALE_IDLE="3",
        CHATKIT_DRAIN_SECONDS="0.2",  # shorter than a turn: whoever drains by it would cut one
    ) as deployment:
        yield deployment


async def test_workers_follow_the_load_and_no_turn_is_cut_on_the_way_down(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with deployment.lanes() as lanes, supervised(deployment, "--min", "1", "--max", "3") as fleet:
        await fleet.said("start", 1)
        events = [create_event(f"question {number}") for number in range(60)]
        publish(deployment, *events)
        await fleet.said("start", 3)
        for event in events:
            assert await ended(lanes, event, within=STARTED) is EventState.DONE
        async with asyncio.timeout(STARTED):
            while len(fleet.of("ended")) < 2:  # so few that one worker has room for them; each has some while it drains
                events.append(create_event("one more"))
                publish(deployment, events[-1])
                await asyncio.sleep(1.2)
        for event in events:
            assert await ended(lanes, event) is EventState.DONE
            found = await lanes.status(event.event_id)
            assert found is not None
            assert found[0].attempt == 1
        assert not fleet.of("crashed")
        assert [line["workers"] for line in fleet.of("start")] == [1, 2, 3]
    assert len(provider.calls) == len(events), "a turn that was cut would have called again"


async def test_a_backlog_that_waits_for_a_limit_starts_no_worker(
    deployment: Deployment, provider: FakeProvider
) -> None:
    async with (
        deployment.lanes() as lanes,
        supervised(deployment, "--min", "1", "--max", "4", CHATKIT_LIMITS='{"models": {"*": {"rpm": 6}}}') as fleet,
    ):
        await fleet.said("start", 1)
        worker = create_event("is anybody there?")
        publish(deployment, worker)
        assert await ended(lanes, worker, within=STARTED) is EventState.DONE
        publish(deployment, *(create_event(f"question {number}") for number in range(200)))
        waiting = 0
        for _ in range(100):
            waiting = max(waiting, (await lanes.depth()).states[EventState.WAITING_LIMIT])
            await asyncio.sleep(0.1)
        assert waiting > 150
        assert [line["change"] for line in fleet.lines] == ["start"]


async def test_a_worker_that_was_killed_is_replaced(deployment: Deployment, provider: FakeProvider) -> None:
    async with supervised(deployment, "--min", "1", "--max", "2") as fleet:
        await fleet.said("start", 1)
        os.kill(int(fleet.of("start")[0]["worker"].rpartition(":")[2]), signal.SIGKILL)
        await fleet.said("start", 2)
        assert [line["change"] for line in fleet.lines] == ["start", "crashed", "start"]
        assert fleet.of("crashed")[0]["reason"] == "exit code -9; another in 1 s"
