"""W3C trace context: which trace an event belongs to, from its publisher to its stream."""

import hashlib
import os
import re

from schemas.events import Event
from schemas.names import TRACE_PATTERN

HEADER = "traceparent"

_FORM = re.compile(TRACE_PATTERN)


def is_traceparent(value: str) -> bool:
    """Whether it is one that may be passed on."""
    return _FORM.fullmatch(value) is not None


def new_traceparent() -> str:
    """The beginning of a trace, not sampled."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"


def with_trace(event: Event, traceparent: str) -> Event:
    """The event in this trace, unless its publisher has put it into one."""
    return event if event.traceparent is not None else event.model_copy(update={HEADER: traceparent})


def origin_of(event_id: str, traceparent: str | None) -> str:
    """Where in its trace everything hangs that is done for an event: the place that it came with, else one that follows
    from its id, so that every process names the same."""
    if traceparent is not None:
        return traceparent
    digest = hashlib.sha256(event_id.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def trace_of(event: Event) -> str:
    """The id of the event's trace, 32 hexadecimal digits: of its publisher's, else one that follows from its id."""
    return origin_of(event.event_id, event.traceparent).split("-")[1]
