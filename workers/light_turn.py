"""An event that needs no model but did not run in a batch: it waited in its lane, and was woken by itself."""

from schemas.errors import WorkersError
from schemas.outcome import Done, Outcome
from workers.chat.ports import FrameSource
from workers.policies.batch import LightBatch
from workers.policies.delivery import Delivery


class LightTurn:
    """Runs one delivery as a batch of one, and shows its frames."""

    def __init__(self, light: LightBatch, frames: FrameSource) -> None:
        self._light, self._frames = light, frames

    async def __call__(self, delivery: Delivery) -> Outcome:
        if delivery.event.is_session and delivery.next_frame > 1:
            return Done()  # an earlier run has shown the secret, and another one would make it void
        [(result, frames)] = await self._light([delivery])
        if isinstance(result, WorkersError):
            raise result
        if delivery.next_frame > 1:
            return result  # an earlier run has shown them
        turn = self._frames.open(delivery)
        for frame in frames:
            await turn.send(frame)
        await turn.flush()
        return result
