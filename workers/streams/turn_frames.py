"""The frames of one turn on their way to the stream."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from workers.errors import CancelRequestedError, LeaseLostError, PermanentError, StateAwayError
from workers.lanes.records import Append, Appended, AppendRefused, JournalStep
from workers.policies.delivery import Lease
from workers.streams.packing import pack

log = logging.getLogger(__name__)

TURN_BYTES = 256 * 1024
"""Unwritten bytes of one turn above which `send` waits for the writer."""

FRAME_BYTES = 4 * 1024 * 1024
"""The largest frame: a generated image, as a data URL."""

Failure = Callable[[], Exception]
"""Makes the error that `send` and `flush` raise: a new one each time, so that tracebacks do not grow."""


class TurnFrames:
    """Takes the frames of one turn, in order, from one task. `FrameWriter.open` makes it."""

    __slots__ = (
        "_failure",
        "_first",
        "_full",
        "_lease",
        "_listed",
        "_pending",
        "_shown",
        "_step",
        "_tell",
        "_tell_at",
        "_want",
        "_written",
        "next_frame",
        "size",
    )

    def __init__(self, lease: Lease, next_frame: int, want: "Callable[[TurnFrames, bool], None]") -> None:
        """`want` puts this turn on the writer's list, as urgent or not."""
        self._lease, self._want = lease, want
        self._first = next_frame
        self._pending: list[bytes] = []
        self._step: JournalStep | None = None
        self._failure: Failure | None = None
        self._written = asyncio.Event()
        self._written.set()
        self._full = False
        self._listed = False
        self._shown = False
        self._tell: Callable[[], None] | None = None
        self._tell_at = 0
        self.next_frame = next_frame
        """Number of the frame that the next `send` shows."""
        self.size = 0
        """Unwritten bytes, those in flight included."""

    async def send(self, frame: bytes) -> None:
        """Show one frame, the JSON of a `ThreadStreamEvent`, soon. Waits only when the state falls behind.

        Raises:
            LeaseLostError: another worker has the turn, or it has ended.
            CancelRequestedError: the user stopped it.
            StateAwayError: the state could not be reached for long, or it has lost frames.
            PermanentError: the frame is larger than any client should get.
        """
        if self._failure is not None:
            raise self._failure()
        if len(frame) > FRAME_BYTES:
            raise PermanentError(f"a frame of {len(frame)} bytes; {FRAME_BYTES} is the most", kind="FrameTooLarge")
        self._pending.append(frame)
        self.size += len(frame)
        if not self._listed:
            self._listed = True
            self._want(self, not self._shown)
            self._shown = True
        self.next_frame += 1
        if self.size > TURN_BYTES:
            await self.flush()

    async def keep(self, step: JournalStep) -> bool:
        """Return when the step is in the journal and every frame sent so far in the stream. False when the journal has
        no room for it. Raises what `send` does."""
        self._step, self._full = JournalStep(step.name, pack(step.entry)), False
        self.size += len(self._step.entry)
        await self.flush()
        return not self._full

    async def flush(self) -> None:
        """Return when every frame sent so far is in the stream. Raises what `send` raises."""
        if self._pending or self._step is not None:
            self._written.clear()
            self._want(self, True)
            await self._written.wait()
        if self._failure is not None:
            raise self._failure()

    def when_shown(self, tell: Callable[[], None]) -> None:
        """Call `tell` once every frame sent so far is in the stream; never, if they cannot be written."""
        self._tell, self._tell_at = tell, self.next_frame

    def take(self) -> Append:
        """For the writer: what is to be written now. It is kept until `written` or `fail`."""
        return Append(self._lease, self._first, self._pending.copy(), self._step)

    def written(self, append: Append, answer: Appended | AppendRefused) -> None:
        """For the writer: what came of it."""
        if isinstance(answer, AppendRefused):
            self.fail(_failure_of(answer, append.lease.event_id))
            return
        self._first += len(append.frames)
        self.size -= sum(map(len, append.frames))
        if self._tell is not None and self._first >= self._tell_at:
            tell, self._tell = self._tell, None
            tell()
        if append.step is not None:
            self.size -= len(append.step.entry)
            self._step = None
            if answer.journal_full:
                self._full = True
                log.warning("journal_full", extra={"event_id": append.lease.event_id, "step": append.step.name})
        del self._pending[: len(append.frames)]
        self._listed = bool(self._pending) or self._step is not None
        if self._listed:
            # somebody who waits in `flush` sent them before, and must not wait for the interval
            self._want(self, not self._written.is_set())
        else:
            self._written.set()

    def fail(self, failure: Failure) -> None:
        """For the writer: nothing more can be shown."""
        self._failure = failure
        self._pending.clear()
        self._step = None
        self.size = 0
        self._written.set()


def _failure_of(refusal: AppendRefused, event_id: str) -> Failure:
    match refusal.why:
        case "cancelled":
            return partial(CancelRequestedError, f"{event_id} is to be stopped")
        case "gap":
            # A failover of the state took frames with it; the next attempt goes on from where the stream really ends.
            return partial(StateAwayError, "the state has lost frames of this turn", kind="FramesLost")
        case "stale" | "ended":
            return partial(LeaseLostError, f"{event_id} is no longer ours")
