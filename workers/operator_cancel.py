"""What an operator's revoke means: the event is cancelled, wherever it stands."""

from schemas.outcome import Cancelled, CancelReason, EventState
from workers.lanes.lanes import Lanes
from workers.lanes.ports import Waker
from workers.limits.limiter import Limiter
from workers.limits.places import forget


class OperatorCancel:
    """Cancels events on an operator's wish."""

    def __init__(self, lanes: Lanes, waker: Waker, limiter: Limiter) -> None:
        self._lanes, self._waker, self._limiter = lanes, waker, limiter

    async def __call__(self, event_id: str) -> Cancelled | None:
        """Cancel an event. None: it is a run that has to end it, here or elsewhere, or it had ended in another way."""
        cancellation = await self._lanes.cancel(event_id, CancelReason.OPERATOR)
        await forget(event_id, self._limiter)
        await self._waker.wake([cancellation.wake] if cancellation.wake else [])
        if cancellation.result == "cancelled" or await self._was_cancelled(event_id):
            return Cancelled(CancelReason.OPERATOR)
        return None

    async def _was_cancelled(self, event_id: str) -> bool:
        found = await self._lanes.status(event_id)
        return found is not None and found[0].state is EventState.CANCELLED
