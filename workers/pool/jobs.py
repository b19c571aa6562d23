"""The jobs of a pool: who runs, who waits for a slot, who is stopped and why. Lives on the loop thread."""

import asyncio
import contextvars
import logging
import threading
import time
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, Terminated, WorkerLostError
from sqlalchemy.util import greenlet_spawn

from workers.pool.bridge import DrainTimeout, StopCause, current_stop
from workers.pool.callbacks import Callbacks
from workers.pool.job import Job, failure

log = logging.getLogger(__name__)

RELEASE_SECONDS = 5.0
"""How long a job that is stopped may take to let go of what it holds. Then its slot is given to another."""


_current: "Jobs | None" = None


def current_load() -> tuple[int, int]:
    """How many jobs run in the pool of this process, and how many may: none any more in one that drains."""
    return (len(_current.running), 0 if _current.closed else _current.limit) if _current is not None else (0, 0)


class Jobs:
    """At most `limit` jobs run; the others wait in order. Its counts may be read from any thread."""

    def __init__(self, callbacks: Callbacks, limit: int) -> None:
        global _current
        _current = self
        self.limit = limit
        self.running: dict[int, Job] = {}
        self.pending: dict[int, Job] = {}
        self.abandoned: dict[int, Job] = {}
        """Met their hard limit or did not react to a stop: they hold no slot, but still exist."""
        self.idle = threading.Event()
        """Closed, and nothing runs any more."""
        self._callbacks = callbacks
        self.closed = False
        # Jobs start in copies of this one, not of the context of whichever job made room for them.
        self._context = contextvars.copy_context()

    def submit(self, job: Job) -> None:
        """Start a job, now or when there is a slot."""
        if self.closed:
            self._hand_back(job)
            return
        self.pending[job.id] = job
        self._fill()

    def resize(self, limit: int) -> None:
        """Change the limit. Fewer slots stop nobody: what runs beyond the limit ends as it would have."""
        self.limit = limit
        self._fill()

    def terminate(self, job: Job, signal: int | None) -> None:
        """Stop a job on Celery's order. A running one Celery reports itself; a waiting one is reported here."""
        if self.pending.pop(job.id, None) is not None:
            self._callbacks.post(job.on_failure, failure(Terminated(signal)))
        elif job.id in self.running:
            self._stop(job, StopCause.TERMINATED)

    def terminate_id(self, job_id: int, signal: int | None) -> None:
        """The same by id; an unknown id has ended."""
        job = self.running.get(job_id) or self.pending.get(job_id)
        if job is not None:
            self.terminate(job, signal)

    def drop_pending(self) -> None:
        """Forget what waits: the connection it came over is gone, and the broker hands it out again."""
        self.pending.clear()

    def close(self) -> None:
        """Start nothing any more. What waits goes back to the broker at once, for another worker."""
        self.closed = True
        for job in list(self.pending.values()):
            del self.pending[job.id]
            self._hand_back(job)
        self._note_idle()

    def drain(self) -> None:
        """The drain time is over: stop what still runs. Each job gets `RELEASE_SECONDS`."""
        for job in list(self.running.values()):
            self._stop(job, StopCause.DRAIN)

    def _hand_back(self, job: Job) -> None:
        self._callbacks.post(job.on_failure, failure(DrainTimeout()))

    def _fill(self) -> None:
        while not self.closed and self.pending and len(self.running) < self.limit:
            job = self.pending.pop(next(iter(self.pending)))
            if not _revoked(job):
                self._start(job)

    def _fill_after_celery(self) -> None:
        """Fill the slot of a terminated job when the main thread is done with what it is at.

        That may be a lost connection or a shutdown: it stops what runs first, and only then drops what waits.
        """
        if not self.closed:
            self._callbacks.post(asyncio.get_running_loop().call_soon_threadsafe, self._fill)

    def _start(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        context = self._context.copy()
        context.run(current_stop.set, job.stop)
        job.stop.soft_seconds = job.soft_seconds
        self.running[job.id] = job
        self._callbacks.post(job.on_accepted, job.id, time.monotonic())
        job.task = loop.create_task(_trace(job), name=f"job-{job.task_id or job.id}", context=context)
        job.task.add_done_callback(lambda task: self._ended(job, task), context=self._context)
        if job.soft_seconds:
            job.timers.append(loop.call_later(job.soft_seconds, self._soft_limit, job))
        if job.hard_seconds:
            job.timers.append(loop.call_later(job.hard_seconds, self._hard_limit, job))

    def _soft_limit(self, job: Job) -> None:
        if job.stop.cause is None:
            self._callbacks.post(job.on_timeout, True, job.soft_seconds)
            self._cancel(job, StopCause.SOFT_TIME_LIMIT)

    def _hard_limit(self, job: Job) -> None:
        """Reported and out of its slot at once, whatever the body makes of the cancellation."""
        if job.reported or job.stop.cause is StopCause.TERMINATED:
            return
        job.reported = True
        self._callbacks.post(job.on_timeout, False, job.hard_seconds)
        self._cancel(job, StopCause.HARD_TIME_LIMIT)
        self._abandon(job)

    def _stop(self, job: Job, cause: StopCause) -> None:
        if job.stop.cause in (StopCause.TERMINATED, StopCause.DRAIN):
            return  # it was told already, and is letting go
        self._cancel(job, cause)
        loop = asyncio.get_running_loop()
        job.timers.append(loop.call_later(RELEASE_SECONDS, self._overdue, job))

    def _overdue(self, job: Job) -> None:
        log.error("job_abandoned", extra={"task_id": job.task_id, "reason": job.stop.cause})
        job.reported = True
        self._cancel(job, job.stop.cause or StopCause.TERMINATED)
        self._abandon(job)

    def _cancel(self, job: Job, cause: StopCause) -> None:
        job.stop.cause = cause
        if job.task is not None:
            job.task.cancel(cause)

    def _abandon(self, job: Job) -> None:
        job.cancel_timers()
        if self.running.pop(job.id, None) is not None:
            self.abandoned[job.id] = job
        self._fill()
        self._note_idle()

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        job.cancel_timers()
        self.running.pop(job.id, None)
        self.abandoned.pop(job.id, None)
        error = None if task.cancelled() else task.exception()  # taken, or asyncio complains of it
        if not job.reported and job.stop.cause is not StopCause.TERMINATED:
            self._report(job, task, error)
        if job.stop.cause is StopCause.TERMINATED:
            self._fill_after_celery()
        else:
            self._fill()
        self._note_idle()

    def _report(self, job: Job, task: asyncio.Task[Any], error: BaseException | None) -> None:
        if task.cancelled():
            self._callbacks.post(job.on_failure, failure(_error_of_cancelled(job)))
        elif error is not None:
            self._callbacks.post(job.on_failure, failure(error))
        else:
            self._callbacks.post(job.on_result, task.result())

    def _note_idle(self) -> None:
        if self.closed and not self.running:
            self.idle.set()


async def _trace(job: Job) -> Any:
    """Run Celery's tracer in a greenlet of its own; the stacks behind `task.request` are keyed by greenlet."""
    try:
        return await greenlet_spawn(job.target, *job.args, **job.kwargs)
    except asyncio.CancelledError:
        raise
    except Exception:
        raise
    except BaseException as error:
        # SystemExit and KeyboardInterrupt would end the loop, and every other job with it.
        raise WorkerLostError(repr(error)) from error


def _error_of_cancelled(job: Job) -> Exception:
    """How a job ended whose tracer was cancelled from outside of `run_coroutine`, or before its first step."""
    match job.stop.cause:
        case StopCause.SOFT_TIME_LIMIT:
            return SoftTimeLimitExceeded(job.soft_seconds)  # type: ignore[no-any-return]  # Celery has no types
        case StopCause.DRAIN:
            return DrainTimeout()
        case _:
            return WorkerLostError("the task cancelled itself")  # type: ignore[no-any-return]  # same


def _revoked(job: Job) -> bool:
    try:
        return job.revoked()
    except Exception:
        log.exception("pool_callback_failed")
        return False
