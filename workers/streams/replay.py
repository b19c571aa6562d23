"""The frames of a turn, as its worker needs them: to write on, and to know what earlier attempts have shown."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from workers.errors import StateAwayError
from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.policies.delivery import Delivery
from workers.streams.packing import unpack
from workers.streams.turn_frames import TurnFrames
from workers.streams.writer import FrameWriter

PAGE = 500


class TurnStreams:
    """Opens a delivery's frames for writing, and reads back what is in its stream."""

    def __init__(self, writer: FrameWriter, state: State, keys: Keys) -> None:
        self._writer, self._state, self._keys = writer, state, keys

    def open(self, delivery: Delivery) -> TurnFrames:
        return self._writer.open(delivery)

    async def shown(self, delivery: Delivery) -> list[bytes]:
        """The frames of all attempts so far, in order. The end entries of earlier ends are left out.

        Raises:
            StateAwayError: they cannot be read.
        """
        with _away():
            return await self._read(delivery)

    async def _read(self, delivery: Delivery) -> list[bytes]:
        stream = self._keys.stream(delivery.lease.lane, delivery.lease.event_id)
        frames: list[bytes] = []
        after = "-"
        while True:
            page: Any = await self._state.xrange(stream, min=after, count=PAGE)
            frames += [fields[b"d"] for _, fields in page if b"d" in fields]
            if len(page) < PAGE:
                return frames
            after = f"({page[-1][0].decode()}"

    async def journal(self, delivery: Delivery) -> dict[str, bytes]:
        """The steps that earlier attempts have completed, by name.

        Raises:
            StateAwayError: they cannot be read.
        """
        with _away():
            entries: Any = await self._state.hgetall(self._keys.journal(delivery.lease.lane, delivery.lease.event_id))
        return {str(step, "utf-8"): unpack(entry) for step, entry in entries.items()}

    async def join(self, delivery: Delivery, step: str) -> Mapping[str, bytes]:
        """`FrameWriter.join`. Raises StateAwayError: it cannot be asked."""
        with _away():
            return await self._writer.join(delivery, step)


@contextmanager
def _away() -> Iterator[None]:
    """A state that is away costs no attempt, and the provider is not to blame."""
    try:
        yield
    except STATE_ERRORS as error:
        raise StateAwayError("the state cannot be read", kind=type(error).__name__) from None
