"""Counting writes of stale workers that were refused elsewhere than in the lanes' scripts, which count their own."""

import asyncio
import logging
from typing import Literal

from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.lanes.scripts import pipeline_of

log = logging.getLogger(__name__)

Refused = Literal["store", "limits"]
"""Where: the conversation store, the limits. (`frames`, `journal` and `settle` are counted by their scripts.)"""


class Refusals:
    """The counter of a process. Made on the loop that it counts on."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._state, self._keys = state, keys
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, kind: Refused, event_id: str) -> None:
        """A write of this worker was refused. From any thread: whoever waited for the write may be gone by now."""
        self._loop.call_soon_threadsafe(self._start, kind, event_id)

    def _start(self, kind: Refused, event_id: str) -> None:
        log.warning("stale_write_refused", extra={"event_id": event_id, "kind": kind})
        task = asyncio.create_task(self._count(kind, event_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, kind: Refused, event_id: str) -> None:
        """In the shard of the event's own id, since its lane is not known everywhere; the sum is over all shards."""
        counts = f"{self._keys.tag_of(event_id)}counts"
        pipeline = pipeline_of(self._state)
        pipeline.hincrby(counts, "fenced", 1)
        pipeline.hincrby(counts, f"fenced:{kind}", 1)
        try:
            await pipeline.execute()
        except STATE_ERRORS as error:
            log.warning("refusal_not_counted", extra={"event_id": event_id, "error": type(error).__name__})
