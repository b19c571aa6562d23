"""Ending a worker from inside."""

from celery.platforms import EX_FAILURE
from celery.worker import state as worker_state
from kombu.asynchronous import get_event_loop


def shut_down() -> None:
    """Have the worker drain and end with exit code 1, for its supervisor to start another. From any thread."""
    if worker_state.should_stop is None:
        worker_state.should_stop = EX_FAILURE
    hub = get_event_loop()
    if hub is not None:
        # it looks for its shutdown each time it turns
        hub.call_soon(lambda: None)  # type: ignore[no-untyped-call]  # kombu has few types
