"""Keeps the leases of this process alive, and tells their holders when to stop."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from schemas.outcome import CancelReason
from workers.cancellation import raise_if_cancelled
from workers.lanes.connection import STATE_ERRORS, State, open_pubsub
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.listening import messages_of
from workers.policies.delivery import Lease

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = timedelta(seconds=0.5)


@dataclass(slots=True)
class _Held:
    lease: Lease
    on_lost: Callable[[], None]
    on_cancel: Callable[[CancelReason], None]
    stopping: bool = False

    def cancel(self, reason: CancelReason) -> None:
        """Once: the message and the renewal both tell."""
        if not self.stopping:
            self.stopping = True
            self.on_cancel(reason)


class LeaseKeeper:
    """Renews all leases of the process together, every quarter of their term, and listens for cancels.

    The message of a cancel is at most once: one that was missed, or that came before `hold`, shows at the next renewal.
    """

    def __init__(self, lanes: Lanes, state: State, keys: Keys, *, lease: timedelta) -> None:
        self._lanes, self._state = lanes, state
        self._channel = keys.cancel_channel()
        self._term = lease.total_seconds()
        self._held: dict[Lease, _Held] = {}

    def hold(self, lease: Lease, on_lost: Callable[[], None], on_cancel: Callable[[CancelReason], None]) -> None:
        """Keep a lease until it is released. Each callback is called at most once, on the loop."""
        self._held[lease] = _Held(lease, on_lost, on_cancel)

    def release(self, lease: Lease) -> None:
        """Keep it no longer."""
        self._held.pop(lease, None)

    @property
    def count(self) -> int:
        """How many leases are held."""
        return len(self._held)

    async def run(self) -> None:
        """Renew and listen until cancelled. Cancel it after the last turn was settled, or its lease runs out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_renewing(), name="lease-renewal")
            tasks.create_task(self._keep_listening(), name="cancel-listener")

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._term / 4)
            try:
                async with asyncio.timeout(self._term):
                    await self.renew()
            except STATE_ERRORS as error:
                # Nobody else can begin these events either while the state is away: go on, and ask again.
                log.warning("leases_not_renewed", extra={"count": self.count, "error": type(error).__name__})
            raise_if_cancelled()  # a task group cancels its tasks once

    async def renew(self) -> None:
        """Renew every lease once."""
        held = list(self._held.values())
        answers = await self._lanes.renew([item.lease for item in held])
        for item, answer in zip(held, answers, strict=True):
            # released while the call was under way: its holder has settled, and wants no word of it
            if item.lease not in self._held:
                continue
            if answer == "lost":
                self.release(item.lease)
                item.on_lost()
            elif isinstance(answer, CancelReason):
                item.cancel(answer)

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except STATE_ERRORS as error:
                log.warning("cancels_not_heard", extra={"error": type(error).__name__})
                raise_if_cancelled()
                await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())

    async def _listen(self) -> None:
        async with await open_pubsub(self._state) as messages:
            await messages.subscribe(self._channel)
            async for message in messages_of(messages):
                if message is not None:
                    event_id, _, reason = message["data"].decode().partition(" ")
                    self._cancel(event_id, CancelReason(reason))
                raise_if_cancelled()

    def _cancel(self, event_id: str, reason: CancelReason) -> None:
        for item in list(self._held.values()):
            if item.lease.event_id == event_id:
                item.cancel(reason)
