"""A worker that was stopped for longer than its lease goes on as if nothing had been: it writes, and is refused."""

import asyncio
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from schemas.chatkit import AssistantMessageItem, Page, ThreadItem
from schemas.events import Event
from schemas.outcome import EventState
from tests.builders import create_event
from tests.deployment import Deployment
from tests.eventually import eventually
from tests.viewer import answer_of
from workers.chat import rows
from workers.chat.database import Database
from workers.lanes.lanes import Lanes
from workers.lanes.records import Owner
from workers.publisher import Publisher

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

APP = "tests.freezing_worker"
DELTAS, DELTA_MS = 30, 40
ANSWER = "word " * DELTAS
OTHERS = 4


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    settings = {"CHATKIT_LEASE_TTL": "1", "TEST_DELTAS": str(DELTAS), "TEST_DELTA_MS": str(DELTA_MS)}
    with Deployment(redis_url, sqlite_url, **settings) as deployment:
        yield deployment


async def test_a_worker_that_wakes_after_its_lease_writes_no_frame_and_no_row(
    deployment: Deployment, tmp_path: Path
) -> None:
    """It stops between the last frame and the commit of one answer, in the middle of others."""
    stale = deployment.worker(APP, TEST_FREEZE=str(tmp_path))
    first = create_event("freeze before you store the answer")
    others = [create_event("hello", userid=f"u{number}") for number in range(OTHERS)]
    async with deployment.lanes() as lanes:
        with Publisher(deployment.broker_url) as publisher:
            await publisher.apublish(first)
            await eventually(partial(there_is, tmp_path / "reached"))
            await asyncio.gather(*(publisher.apublish(event) for event in others))
        for event in others:
            await eventually(partial(shows, lanes, deployment, event, DELTAS // 6))
        (tmp_path / "go").touch()
        await eventually(partial(there_is, tmp_path / "frozen"))
        deployment.worker(APP)  # its start takes longer than the lease
        for event in (first, *others):
            await eventually(partial(is_done, lanes, event), within=30)
        assert (await lanes.depth()).fenced_writes == 0  # nobody has tried yet

        stale.signal(signal.SIGCONT)

        async def refused() -> bool:
            return {"frames", "store", "settle"} <= (await lanes.depth()).fenced.keys()

        await eventually(refused)
        depth = await lanes.depth()
        assert sum(depth.fenced.values()) == depth.fenced_writes
        assert depth.dead == {}
        for event in (first, *others):
            ids, frames = await stream_of(lanes, deployment, event)
            assert answer_of(frames) == ANSWER
            assert ids == list(range(1, len(ids) + 1))
            assert await answers_stored(deployment, event) == [ANSWER]
    assert stale.exit_code is None
    print(f"refused: {dict(depth.fenced)}")


async def stream_of(lanes: Lanes, deployment: Deployment, event: Event) -> tuple[list[int], list[bytes]]:
    """Numbers of the entries, and the frames among them."""
    state: Any = lanes._state
    entries = await state.xrange(deployment.keys.stream(event.lane, event.event_id))
    ids = [int(id_.decode().rpartition("-")[2]) for id_, _ in entries]
    return ids, [fields[b"d"] for _, fields in entries if b"d" in fields]


async def there_is(file: Path) -> bool:
    return file.exists()


async def shows(lanes: Lanes, deployment: Deployment, event: Event, frames: int) -> bool:
    stream = deployment.keys.stream(event.lane, event.event_id)
    return int(await lanes._state.xlen(stream)) >= frames


async def is_done(lanes: Lanes, event: Event) -> bool:
    found = await lanes.status(event.event_id)
    return found is not None and found[0].state is EventState.DONE


async def answers_stored(deployment: Deployment, event: Event) -> list[str]:
    def read(connection: Connection) -> Page[ThreadItem]:
        owner = Owner(event.tenant, event.userid)
        return rows.list_items(connection, owner, str(event.thread_id), None, 100, "asc")

    database = Database(deployment.database_url)
    page = await database.read(read)
    await database.close()
    return [item.content[0].text for item in page.data if isinstance(item, AssistantMessageItem)]
