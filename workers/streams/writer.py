"""Writes the frames of all turns of a process, many at a time.

A delta costs its turn a list append. One flush is in flight at a time, for all turns together: every `INTERVAL`, and
at once for a turn's first frame and for whoever waits in `TurnFrames.flush`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from redis.exceptions import RedisError

from workers.errors import CancelRequestedError, LeaseLostError, StateAwayError, TransientError
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Append, Appended, AppendRefused, Joined, JoinRefused
from workers.policies.delivery import Delivery, Lease
from workers.redis_errors import may_pass
from workers.streams.turn_frames import TurnFrames
from workers.telemetry.context import no_context

log = logging.getLogger(__name__)

INTERVAL = timedelta(milliseconds=25)
"""How long a delta may wait for others."""

PATIENCE = timedelta(seconds=10)
"""How long an append is tried again while the state is away; by then the lease has run out too."""

PAUSE = timedelta(milliseconds=100)

FLUSH_BYTES = 8 * 1024 * 1024
"""Bytes of one append call from which on further turns wait for the next one."""


class FrameLanes(Protocol):
    """The part of `Lanes` that is used here."""

    async def append(self, appends: Sequence[Append]) -> list[Appended | AppendRefused]: ...
    async def join(self, lease: Lease, step: str) -> Joined | JoinRefused: ...


class FrameWriter:
    """One per process. Its flush task lives only while a turn has unwritten frames; `close` ends it."""

    def __init__(self, lanes: FrameLanes, *, interval: timedelta = INTERVAL, patience: timedelta = PATIENCE) -> None:
        self._lanes = lanes
        self._interval, self._patience = interval.total_seconds(), patience.total_seconds()
        # dicts as ordered sets: the turn that waits longest is written first
        self._waiting: dict[TurnFrames, None] = {}
        self._urgent: dict[TurnFrames, None] = {}
        self._hurry = asyncio.Event()
        self._last_flush = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def open(self, delivery: Delivery) -> TurnFrames:
        """The frames of a delivery, numbered on from what earlier attempts have shown."""
        return TurnFrames(delivery.lease, delivery.next_frame, self._want)

    async def join(self, delivery: Delivery, step: str) -> Mapping[str, bytes]:
        """Let the messages that wait to steer this turn join the step: the entries that its journal has of them.

        Raises:
            LeaseLostError: another worker has the turn.
            CancelRequestedError: the user stopped it.
            RedisError, OSError: the state is away.
        """
        joined = await self._lanes.join(delivery.lease, step)
        if isinstance(joined, Joined):
            return joined.entries
        event_id = delivery.event.event_id
        if joined.why == "cancelled":
            raise CancelRequestedError(f"{event_id} is to be stopped")
        raise LeaseLostError(f"{event_id} is no longer ours")

    async def close(self) -> None:
        """Write what is left, as far as the state lets us, and stop. To be called after the last turn has settled."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._patience)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _want(self, turn: TurnFrames, urgent: bool) -> None:
        """A turn has frames to be written."""
        if urgent:
            self._urgent[turn] = None
            self._hurry.set()
        else:
            self._waiting[turn] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="frame-writer", context=no_context())

    async def _run(self) -> None:
        while self._waiting or self._urgent:
            await self._until_due()
            turns = self._take()
            await self._write(turns, [turn.take() for turn in turns])

    async def _until_due(self) -> None:
        """Wait for the end of the interval, or for a turn that cannot wait."""
        try:
            async with asyncio.timeout_at(self._last_flush + self._interval):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()

    def _take(self) -> list[TurnFrames]:
        """The turns of the next call: all when the interval is over, else only those that cannot wait."""
        now = asyncio.get_running_loop().time()
        if now >= self._last_flush + self._interval:
            self._last_flush = now
            self._urgent |= self._waiting
            self._waiting.clear()
        taken: list[TurnFrames] = []
        room = FLUSH_BYTES
        while self._urgent and room > 0:
            turn = next(iter(self._urgent))
            del self._urgent[turn]
            self._waiting.pop(turn, None)
            if turn.size:
                taken.append(turn)
                room -= turn.size
        if self._urgent:
            self._hurry.set()
        return taken

    async def _write(self, turns: Sequence[TurnFrames], appends: Sequence[Append]) -> None:
        try:
            answers = await self._append(appends)
        except Exception as error:  # noqa: BLE001  # the loop guard: nobody may wait for ever in `flush`
            name = type(error).__name__
            log.warning("frames_not_written", extra={"count": len(turns), "error": name})
            failure = StateAwayError if isinstance(error, STATE_ERRORS) and may_pass(error) else TransientError
            for turn in turns:
                turn.fail(partial(failure, "the frames could not be written to the state", kind=name))
            return
        for turn, append, answer in zip(turns, appends, answers, strict=True):
            turn.written(append, answer)

    async def _append(self, appends: Sequence[Append]) -> Sequence[Appended | AppendRefused]:
        """Append, again and again while the state is away: frames that are there already are not written twice."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while appends:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._lanes.append(appends)
            except (RedisError, OSError, TimeoutError):
                if asyncio.get_running_loop().time() + PAUSE.total_seconds() >= deadline:
                    raise
                await asyncio.sleep(PAUSE.total_seconds())
        return []
