"""Readers and writer on a real Redis Cluster: announcements cross the nodes, streams are looked into where they are."""

import asyncio

import pytest

from tests.builders import create_event
from tests.integration.test_lanes_cluster import cluster_url
from tests.lane_builders import lanes_on
from tests.unit.streams.running import accepted, begun
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.streams.reader import FrameReader
from workers.streams.records import StreamEnd, StreamFrame

__all__ = ["cluster_url"]

pytestmark = pytest.mark.redis


async def test_frames_of_events_on_all_nodes_come_over_one_subscription(cluster_url: str, prefix: str) -> None:
    keys = Keys(prefix, 8)
    state = connect(cluster_url)
    reader = FrameReader(state, keys)
    events = [create_event() for _ in range(12)]
    for event in events:
        await accepted(lanes_on(state, keys), event)
    readings = [
        asyncio.create_task(asyncio.wait_for(_read(reader, event.lane, event.event_id), 20)) for event in events
    ]
    turns = [await begun(state, keys, event) for event in events]
    for number in range(5):
        for turn in turns:
            await turn.show(b"%d" % number)
    for turn in turns:
        await turn.settle()
    for entries in await asyncio.gather(*readings):
        assert [entry.data for entry in entries if isinstance(entry, StreamFrame)] == [b"0", b"1", b"2", b"3", b"4"]
        assert isinstance(entries[-1], StreamEnd)
    await reader.close()
    await state.aclose()


async def _read(reader: FrameReader, lane: str, event_id: str) -> list[StreamFrame | StreamEnd]:
    return [entry async for entry in reader.stream(lane, event_id)]
