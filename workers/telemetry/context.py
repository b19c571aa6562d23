"""What every log line of a run says beside its own fields: which event, where, which attempt, which trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

import structlog.contextvars

from workers.telemetry.sentry import traced


@contextmanager
def run_context(
    *, event_id: str, type_: str, lane: str, attempt: int, trace: str, traceparent: str | None
) -> Iterator[None]:
    """The lines of this run, and what Sentry is told during it, belong to it. `trace` is the id of the trace."""
    fields = {"event_id": event_id, "lane": lane, "attempt": attempt, "trace": trace}
    with structlog.contextvars.bound_contextvars(**fields), traced(type_, event_id, attempt, traceparent):
        yield


def no_context() -> Context:
    """For a task that outlives the run that happened to start it: its lines are not of that run."""
    return Context()
