"""A worker in few lines: accepts an event, begins it, shows frames through the real writer, settles it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import Event
from schemas.outcome import Done, Outcome
from tests.builders import delivery_of
from tests.lane_builders import QUEUE, lanes_on
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Accepted, Begun, Settled, Settlement, Start
from workers.policies.delivery import Lease
from workers.streams.turn_frames import TurnFrames
from workers.streams.writer import FrameWriter


@dataclass
class Running:
    """An event that this worker holds."""

    lanes: Lanes
    lease: Lease
    acceptance: int
    frames: TurnFrames

    async def show(self, *frames: bytes) -> None:
        for frame in frames:
            await self.frames.send(frame)
        await self.frames.flush()

    async def settle(self, outcome: Outcome | None = None, final_frames: Sequence[bytes] = ()) -> None:
        [settled] = await self.lanes.settle([Settlement(self.lease, outcome or Done(), final_frames=final_frames)])
        assert isinstance(settled, Settled)


async def accepted(lanes: Lanes, event: Event) -> Accepted:
    [answer] = await lanes.accept([(event, QUEUE)])
    assert isinstance(answer, Accepted)
    return answer


async def begun(state: State, keys: Keys, event: Event) -> Running:
    """Take an accepted event to work."""
    lanes = lanes_on(state, keys)
    [begun] = await lanes.begin([Start(event.lane, event.event_id, uuid.uuid4().hex)])
    assert isinstance(begun, Begun), begun
    delivery = delivery_of(event, lease=begun.lease, next_frame=begun.next_frame)
    return Running(lanes, begun.lease, begun.acceptance, FrameWriter(lanes).open(delivery))
