"""An event without a model, woken by itself."""

from collections.abc import Sequence

from schemas.outcome import Cancelled, CancelReason, Done
from tests.builders import delivery_of, feedback_event
from tests.conformance.chats import Recorder
from workers.light_turn import LightTurn
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery, StopSignal


async def test_an_event_that_was_stopped_while_nobody_ran_it_is_not_run() -> None:
    ran: list[Delivery] = []

    async def light(deliveries: Sequence[Delivery]) -> list[LightResult]:
        ran.extend(deliveries)
        return [(Done(), [b"{}"])]

    recorder, event = Recorder(), feedback_event("thr_1")
    stopped = delivery_of(event, stop=StopSignal(CancelReason.OPERATOR))
    assert await LightTurn(light, recorder)(stopped) == Cancelled(CancelReason.OPERATOR)
    assert (ran, recorder.streams[event.event_id]) == ([], [])
