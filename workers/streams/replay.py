"""The frames of a turn, as its worker needs them: to write on, and to know what earlier attempts have shown."""

from typing import Any

from workers.errors import TransientError
from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.policies.delivery import Delivery
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
            TransientError: the state is away.
        """
        try:
            return await self._read(delivery)
        except STATE_ERRORS as error:
            # no kind of its own: the provider has nothing to do with it
            raise TransientError(f"the frames could not be read from the state ({type(error).__name__})") from None

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
        """The steps that earlier attempts have completed, by name."""
        entries: Any = await self._state.hgetall(self._keys.journal(delivery.lease.lane, delivery.lease.event_id))
        return {str(step, "utf-8"): entry for step, entry in entries.items()}
