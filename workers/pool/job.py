"""One task that Celery handed to the pool."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from billiard.einfo import ExceptionInfo

from workers.pool.bridge import Stop

Callback = Callable[..., object]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Job:
    """What to run and whom to tell. Celery keeps a weak reference to it, and calls `terminate`."""

    id: int
    """Unique in the process; Celery's `pid`."""
    task_id: str | None
    target: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    on_accepted: Callback | None
    on_result: Callback | None
    on_failure: Callback | None
    on_timeout: Callback | None
    soft_seconds: float | None
    hard_seconds: float | None
    on_terminate: Callable[["Job", int | None], None]
    stop: Stop = field(default_factory=Stop)
    task: asyncio.Task[Any] | None = None
    reported: bool = False
    """Celery knows how it ended: nothing that still comes from the body counts."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def terminate(self, signal: int | None = None) -> None:
        """Stop it, waiting or running. From any thread."""
        self.on_terminate(self, signal)

    def revoked(self) -> bool:
        """Whether it was revoked or has expired while it waited. Then Celery has acknowledged and reported it.

        Celery asks when it hands a request over, which may be long before there is a slot; the request is the owner
        of the callbacks. (The one call to Celery's state that is made on the loop thread: its answer is needed here.)
        """
        request = getattr(self.on_accepted, "__self__", None)
        ask = getattr(request, "revoked", None)
        return bool(ask()) if ask is not None else False

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


def failure(error: BaseException) -> ExceptionInfo:
    """An error in the form that Celery's failure callback takes."""
    try:
        raise error
    except type(error):
        return ExceptionInfo()
