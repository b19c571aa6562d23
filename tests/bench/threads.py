"""Threads for events to stand in, made the way everything is made here: by turns."""

from schemas.outcome import EventState
from tests.bench.stack import MODEL_APP, Stack, until
from tests.builders import create_event
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher


def prepare_threads(parts: Stack, count: int) -> list[str]:
    """Create threads of user u1; their ids."""
    events = [create_event("hi", source="/bench/threads") for _ in range(count)]
    with Publisher(parts.broker_url) as publisher:
        publisher.publish_many(events)

    async def all_done(lanes: Lanes) -> bool:
        return (await lanes.depth()).states[EventState.DONE] == count

    worker = parts.worker(MODEL_APP, BENCH_DELTAS="1")
    until(parts, all_done, within=300)
    worker.stop()
    return [event.thread_id for event in events if event.thread_id is not None]
