"""The journals of running events: read when a worker takes an event up again, written step by step."""

import asyncio
import random
from datetime import timedelta
from typing import Protocol

from workers.errors import TransientError
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Record, RecordResult
from workers.policies.delivery import Delivery

PATIENCE = timedelta(seconds=10)
"""How long a call is tried again while the state is away; by then the lease has run out too."""

PAUSE_SECONDS = 0.1


class JournalLanes(Protocol):
    """The part of `Lanes` that is used here."""

    async def record(self, records: list[Record]) -> list[RecordResult]: ...

    async def journal(self, lane: str, event_id: str) -> dict[str, bytes]: ...


class Journals:
    """Reads and writes under the lease of a delivery. Implements `workers.chat.ports.JournalStore`."""

    def __init__(self, lanes: JournalLanes, *, patience: timedelta = PATIENCE) -> None:
        self._lanes, self._patience = lanes, patience.total_seconds()

    async def read(self, delivery: Delivery) -> dict[str, bytes]:
        """The steps that earlier attempts have completed. Raises TransientError."""
        lease = delivery.lease
        try:
            return await self._lanes.journal(lease.lane, lease.event_id)
        except STATE_ERRORS as error:
            raise TransientError("the journal could not be read", kind=type(error).__name__) from None

    async def write(self, delivery: Delivery, step: str, entry: bytes) -> RecordResult:
        """Keep one more. Raises TransientError: the state was away for long."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                [answer] = await self._lanes.record([Record(delivery.lease, step, entry)])
                return answer
            except STATE_ERRORS as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise TransientError("the journal could not be written", kind=type(error).__name__) from None
                await asyncio.sleep(PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311  # jitter
