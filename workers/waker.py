"""Wake-ups: a Celery message per lane that has work. Losing one is harmless, the lane's alarm sends another."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workers.lanes.records import Wake

log = logging.getLogger(__name__)


class CeleryWaker:
    """Sends wake-ups from one thread of its own, since kombu's publishing blocks."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waker")

    async def wake(self, wakes: Sequence[Wake]) -> None:
        """Send the wake-ups, in order. A broker that is away costs a log line: the alarms stand behind it."""
        if wakes:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._send, wakes)

    def _send(self, wakes: Sequence[Wake]) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
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
        except Exception as error:  # noqa: BLE001  # any broker's error; the alarms wake these lanes later
            log.warning("wakes_not_sent", extra={"count": len(wakes), "error": type(error).__name__})

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
