"""Turns as Celery sees them: tasks whose revoke cancels the event, since a wake-up alone decides nothing."""

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.worker import state as worker_state
from celery.worker.request import Request


class TurnRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A wake-up in the worker's main thread.

    Celery drops what was revoked, for hours. Dropped wake-ups would leave the event where it is, and its lane with it.
    """

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Cancel the event. If it runs here it is stopped as by its user: what was shown is kept, and the task ends."""
        self.task.cancel_event(self.id)

    def revoked(self) -> bool:
        """Whether there is nothing to run: of a revoked event there is, for the task's body cancels it."""
        if self._already_revoked:
            return True
        was_revoked = self.id in worker_state.revoked
        if not self.maybe_expire():
            return False
        if not was_revoked:  # `maybe_expire` revokes the id, which the event's later wake-ups have as well
            worker_state.revoked.discard(self.id)
        self._announce_revoked("expired", False, None, True)
        return True


class TurnTask(Task):  # type: ignore[misc]  # Celery has no types
    """The base of every turn. `cancel_event` gets the event's id in the main thread, and returns at once."""

    Request = TurnRequest
    cancel_event: Callable[[str], None]
