"""Wake-ups: a Celery message per lane that has work. Losing one is harmless, the lane's alarm sends another."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workers.lanes.records import Wake

log = logging.getLogger(__name__)


WAIT_SECONDS = 2.0
"""How long anybody waits for a wake-up to be sent: a broker that is half-open answers nothing for a while."""

MOST_WAITING = 1_000
"""Calls that may wait for the thread; further ones are left to the alarms."""


class CeleryWaker:
    """Sends wake-ups from one thread of its own, since kombu's publishing blocks."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waker")
        self._waiting: set[asyncio.Future[None]] = set()

    async def wake(self, wakes: Sequence[Wake]) -> None:
        """Send the wake-ups, in order. A broker that is away costs a log line: the alarms stand behind it."""
        if not wakes:
            return
        if len(self._waiting) >= MOST_WAITING:
            log.warning("wakes_not_sent", extra={"count": len(wakes), "error": "the broker is slow"})
            return
        sending = asyncio.get_running_loop().run_in_executor(self._thread, self._send, wakes)
        self._waiting.add(sending)
        sending.add_done_callback(self._waiting.discard)
        await asyncio.wait([sending], timeout=WAIT_SECONDS)

    def _send(self, wakes: Sequence[Wake]) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                try:
                    self._send_with(producer, wakes)
                except Exception:
                    producer.connection.collect()  # a Redis that was demoted must not meet the next wake-ups
                    raise
        except Exception as error:  # noqa: BLE001  # any broker's error; the alarms wake these lanes later
            log.warning("wakes_not_sent", extra={"count": len(wakes), "error": type(error).__name__})

    def _send_with(self, producer: Any, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            self._app.send_task(
                wake.type,
                kwargs={"lane": wake.lane, "event_id": wake.event_id},
                task_id=wake.event_id,
                queue=wake.queue,
                producer=producer,
                retry=True,
                retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
            )

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
