"""The span of an event's acceptance: the first that this system has of it."""

from collections.abc import Iterable

from schemas.events import Event
from schemas.traces import origin_of
from workers.lanes.records import Accepted, Refused
from workers.telemetry.spans import EVENT_ID, EVENT_TYPE, past


def note_acceptance(events: Iterable[tuple[Event, Accepted | Refused]], seconds: float) -> None:
    """Events were accepted together within so many seconds. Of what had been accepted before nothing is said."""
    for event, answer in events:
        if isinstance(answer, Accepted) and not answer.duplicate:
            past(
                "accept",
                origin_of(event.event_id, event.traceparent),
                seconds,
                {EVENT_ID: event.event_id, EVENT_TYPE: event.type},
                own=event.traceparent is None,  # nobody has begun its trace
            )
