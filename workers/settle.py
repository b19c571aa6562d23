"""Outcome -> effect. The one place that acts on what the policies decided: consequence first, then the message."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas.chatkit import ErrorEvent, frame_of
from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    Outcome,
    Parked,
    Released,
    Retry,
)
from schemas.records import DeadLetter
from workers.lanes.records import Settlement
from workers.policies.delivery import Delivery


@dataclass(frozen=True, slots=True)
class Settler:
    """Makes the settlement of an outcome. `worker` is the name that a dead letter keeps."""

    worker: str

    def settlement(
        self, delivery: Delivery, outcome: Outcome, now: datetime, frames: Sequence[bytes] = ()
    ) -> Settlement:
        """What the lane is told. `frames` are the last ones but for the one that closes the turn: those of an event
        that ran in a batch, or those that take back an answer."""
        lease = delivery.lease
        match outcome:
            case Done() | Cancelled():
                return Settlement(lease, outcome, final_frames=tuple(frames))
            case Dropped(reason):
                text = f"This message was not answered ({reason}). You can send it again."
                return Settlement(lease, outcome, final_frames=(*frames, closing_frame(text)))
            case Retry(delay=delay) | Parked(delay=delay):
                return Settlement(lease, outcome, delay=delay)
            case Released():
                return Settlement(lease, outcome, delay=timedelta(0))
            case DeadLettered(reason, error):
                message = f"{error.kind}: {error.message}" if error else None
                letter = dead_letter(delivery.event, reason, message, worker=self.worker, now=now)
                text = f"Something went wrong and this message could not be answered. Reference: {letter.id}"
                return Settlement(lease, outcome, dead=letter, final_frames=(*frames, closing_frame(text)))
            case _:
                assert_never(outcome)


def closing_frame(text: str) -> bytes:
    """The error frame that closes a turn in the chat, with a way to try again."""
    return frame_of(ErrorEvent(code="custom", message=text, allow_retry=True))


def dead_letter(event: Event, reason: DeadReason, error: str | None, *, worker: str, now: datetime) -> DeadLetter:
    """The dead letter of a valid event; the lane adds the attempts that it has counted."""
    return DeadLetter(
        id=event.event_id,
        source=event.source,
        type=event.type,
        thread_id=event.thread_id,
        tenant=event.tenant,
        reason=reason,
        error=error,
        died_at=now,
        trace_id=event.traceparent.split("-")[1] if event.traceparent else None,
        worker=worker,
        body=event.to_json(),
    )
