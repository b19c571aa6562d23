"""Wake-ups: a Celery message per lane that has work. Losing one is harmless: the lane's alarm sends another."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from amqp import spec

from workers.lanes.records import Wake
from workers.telemetry.context import no_context

log = logging.getLogger(__name__)


WAIT_SECONDS = 2.0
"""How long anybody waits for a wake-up to be sent: a broker that is half-open answers nothing for a while."""

MOST_WAITING = 1_000
"""Calls that may wait for the thread."""

MOST_UNSENT = 10_000
AGAIN_SECONDS = 1.0
TOGETHER = 100

PROOF_SECONDS = 2.0
PROVEN_SECONDS = 3.0


class CeleryWaker:
    """Sends wake-ups from one thread of its own, since kombu's publishing blocks.

    What cannot be sent is kept, one wake-up for each lane, and sent when the broker is back: alarms that ring in vain
    ring again after a time that doubles, and would take minutes to notice. What does not fit is left to them.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waker")
        self._waiting: set[asyncio.Future[None]] = set()
        self._unsent: dict[str, Wake] = {}
        self._proven_until = 0.0
        self._spared: Any = None
        self._again: asyncio.Task[None] | None = None

    async def wake(self, wakes: Sequence[Wake]) -> None:
        """Send the wake-ups, in order. A broker that is away costs a log line."""
        if not wakes:
            return
        if len(self._waiting) >= MOST_WAITING:
            log.warning("wakes_not_sent", extra={"count": len(wakes), "error": "the broker is slow"})
            self._keep(wakes)
            return
        sending = asyncio.ensure_future(self._try(wakes))
        self._waiting.add(sending)
        sending.add_done_callback(self._waiting.discard)
        await asyncio.wait([sending], timeout=WAIT_SECONDS)

    def close(self) -> None:
        """Send no more."""
        if self._again is not None:
            self._again.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _try(self, wakes: Sequence[Wake]) -> None:
        if not await asyncio.get_running_loop().run_in_executor(self._thread, self._send, wakes):
            self._keep(wakes)

    def _keep(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            if len(self._unsent) < MOST_UNSENT or wake.lane in self._unsent:
                self._unsent[wake.lane] = wake
        if self._again is None or self._again.done():
            self._again = asyncio.create_task(self._send_unsent(), name="waker-again", context=no_context())

    async def _send_unsent(self) -> None:
        """Some at a time: as long as the broker is away, the first of them find out."""
        while self._unsent:
            await asyncio.sleep(AGAIN_SECONDS * (0.5 + random.random()))  # noqa: S311  # jitter
            sent = True
            while self._unsent and sent:
                wakes = list(islice(self._unsent.values(), TOGETHER))
                sent = await asyncio.get_running_loop().run_in_executor(self._thread, self._send, wakes)
                for wake in wakes if sent else ():
                    if self._unsent.get(wake.lane) is wake:
                        del self._unsent[wake.lane]

    def _send(self, wakes: Sequence[Wake]) -> bool:
        """In the thread; whether they were sent."""
        try:
            with self._app.producer_or_acquire() as producer:
                self._prove(producer)
                self._spare(producer)
                try:
                    self._send_with(producer, wakes)
                except Exception:
                    producer.connection.collect()  # a Redis that was demoted must not meet the next wake-ups
                    raise
        except Exception as error:  # noqa: BLE001  # any broker's error
            log.warning("wakes_not_sent", extra={"count": len(wakes), "error": type(error).__name__})
            return False
        return True

    def _prove(self, producer: Any) -> None:
        """Find out whether anybody is at the other end. On AMQP nobody answers what is published, and a connection that
        only publishes has no heartbeats."""
        if producer.connection.transport.driver_type != "amqp" or time.monotonic() < self._proven_until:
            return
        try:
            producer.channel.send_method(spec.Basic.Qos, "lBb", (0, 0, False))  # changes nothing, and is answered
            producer.channel.wait(spec.Basic.QosOk, timeout=PROOF_SECONDS)
            self._proven_until = time.monotonic() + PROVEN_SECONDS
        except Exception as error:  # noqa: BLE001  # any broker's error
            log.info("broker_connection_given_up", extra={"error": type(error).__name__})
            producer.connection.collect()  # sending makes it anew

    def _spare(self, producer: Any) -> None:
        """Close the second connection of a channel of kombu's on Redis: it has been pinged, and is for consumers."""
        if producer.connection.transport.driver_type == "redis" and producer.channel is not self._spared:
            producer.channel.async_pool.disconnect()
            self._spared = producer.channel

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
