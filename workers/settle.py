"""Outcome -> effect. The one place that acts on what the policies decided: consequence first, then the message."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas.chatkit import ErrorEvent, frame_of
from schemas.errors import InvalidEventError
from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    ErrorRecord,
    Outcome,
    Parked,
    Released,
    Retry,
)
from schemas.records import DeadLetter
from workers.lanes.records import Begun, Settlement
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
                return Settlement(lease, outcome, dead=letter, final_frames=(*frames, given_up(letter.id)))
            case _:
                assert_never(outcome)

    def unreadable(self, begun: Begun, error: InvalidEventError, now: datetime) -> Settlement:
        """Of an event whose body this version cannot read: no policy can be asked about it, and its lane must go on."""
        record = ErrorRecord(kind=type(error).__name__, message=str(error))
        id_ = begun.lease.event_id
        letter = DeadLetter(
            id=id_,
            reason=DeadReason.BUG,
            error=f"{record.kind}: {record.message}",
            died_at=now,
            worker=self.worker,
            body=begun.body,
            **_said_of_itself(begun.body),
        )
        outcome = DeadLettered(DeadReason.BUG, record)
        return Settlement(begun.lease, outcome, dead=letter, final_frames=(given_up(id_),))


def given_up(id_: str) -> bytes:
    """The frame that closes the turn of an event that is a dead letter."""
    return closing_frame(f"Something went wrong and this message could not be answered. Reference: {id_}")


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


def _said_of_itself(body: str | None) -> dict[str, str]:
    """What a letter says of an event that cannot be read, as far as its body still is an object with these names."""
    try:
        found = json.loads(body or "")
    except ValueError:
        return {}
    names = ("source", "type", "tenant") if isinstance(found, dict) else ()
    return {name: found[name] for name in names if isinstance(found.get(name), str)}
