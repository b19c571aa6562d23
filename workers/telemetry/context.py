"""What every log line of a run says beside its own fields: which event, where, which attempt, which trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

import structlog.contextvars

from schemas.traces import origin_of
from workers.telemetry.sentry import traced
from workers.telemetry.spans import ATTEMPT, EVENT_ID, EVENT_TYPE, Kind, span


@contextmanager
def run_context(
    *, event_id: str, type_: str, lane: str, attempt: int, trace: str, traceparent: str | None
) -> Iterator[None]:
    """The lines of this run, its spans, and what Sentry is told during it, belong to it. `trace` is the trace's id."""
    fields = {"event_id": event_id, "lane": lane, "attempt": attempt, "trace": trace}
    with (
        structlog.contextvars.bound_contextvars(**fields),
        traced(type_, event_id, attempt, traceparent),
        span(
            "turn",
            origin_of(event_id, traceparent),
            kind=Kind.CONSUMER,
            attributes={EVENT_ID: event_id, EVENT_TYPE: type_, ATTEMPT: attempt},
        ),
    ):
        yield


def no_context() -> Context:
    """For a task that outlives the run that happened to start it: its lines are not of that run."""
    return Context()
