"""The Celery tasks. Each body: decode, run, tell Celery (and so Flower) how it ended."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.exceptions import Retry as CeleryRetry
from celery.worker import state as worker_state

from schemas.events import event_types
from schemas.outcome import Cancelled, DeadLettered, Done, Dropped, Parked, Released, ReleaseReason, Retry
from workers.ingest.letters import json_bytes
from workers.lanes.connection import STATE_ERRORS
from workers.pool import DrainTimeout, StopCause, current_loop, run_coroutine, stop_cause
from workers.runner import OVER_TIME, NothingToDo, Verdict
from workers.runtime import WorkerProcess
from workers.turn_task import TurnTask

log = logging.getLogger(__name__)

INGEST_TASK = "chatkit.ingest"
BATCH = 100
YEAR_SECONDS = 365 * 24 * 3600


class DeadLetterFailure(Exception):  # noqa: N818  # Flower shows this name as the row's failure
    """Shown by Celery and Flower as FAILURE; the dead letter itself is in the lane's shard."""


class GoesOn(CeleryRetry):  # type: ignore[misc]  # Celery has no types
    """Shown by Celery and Flower as RETRY. Flower shows the text, where it would show Celery's own as `Retry(…)`."""

    def __repr__(self) -> str:
        return str(self)


def show(task: Task, verdict: Verdict, attempt: int | None) -> str:
    """Make Celery show the verdict as it is: SUCCESS, RETRY, REVOKED, FAILURE, or ignored. `attempt`: None, not run."""
    which = f" (attempt {attempt})" if attempt else ""
    match verdict:
        case Done():
            return f"done{which}"
        case Dropped(reason):
            return f"dropped: {reason}{which}"
        case Retry(reason, delay) | Parked(reason, delay):
            # Raised without publishing: the lane's alarm sends the next wake-up, under the same task id.
            seconds = delay.total_seconds()
            raise GoesOn(f"{reason}, again in {seconds:.1f} s{which}", when=seconds)
        case Released(reason, queue):
            raise GoesOn(f"released: {reason} to {queue}{which}" if queue else f"released: {reason}{which}", when=0)
        case Cancelled(reason):
            request = task.request
            run_coroutine(asyncio.to_thread(tell_revoked, task.app, request.hostname, request.id, reason))
            raise Ignore(f"cancelled: {reason}")
        case DeadLettered(reason, error):
            raise DeadLetterFailure(f"{reason}: {error.kind if error else 'no error'}{which}")
        case NothingToDo(why):
            raise Ignore(why)
        case _:
            assert_never(verdict)


def tell_revoked(app: Celery, hostname: str, task_id: str, reason: str) -> None:
    """Tell Flower. It blocks, and a broker that is away costs a row in Flower, nothing else."""
    try:
        with app.events.default_dispatcher(hostname=hostname) as dispatcher:
            fields = {"terminated": True, "signum": None, "expired": False, "reason": reason}
            dispatcher.send("task-revoked", uuid=task_id, **fields)
    except Exception as error:  # noqa: BLE001  # any broker's error
        log.warning("cancel_not_shown", extra={"event_id": task_id, "error": type(error).__name__})


def register(app: Celery, worker: WorkerProcess) -> None:
    """Register one task per event type, and the ingest task."""

    def turn(self: Task, lane: str, event_id: str) -> str:
        """A wake-up: run the event at the head of the lane, if it is this one's turn."""
        revoked = self.request.id in worker_state.revoked
        attempts: list[int] = []
        try:
            verdict = run_coroutine(run_turn(worker, lane, event_id, attempts.append, revoked=revoked))
        except DrainTimeout:
            verdict = Released(ReleaseReason.SHUTDOWN)  # the runner has given the event back already
        except SoftTimeLimitExceeded:
            verdict = NothingToDo(OVER_TIME)  # before the run began, or when it had ended
        return show(self, verdict, attempts[0] if attempts else None)

    def ingest(*args: Any, **kwargs: Any) -> dict[str, int]:
        """Take one event or a list, in order. Acknowledged late: only when every one of them is kept.

        Whatever it is called with is taken or buried: a failed task would leave nothing of it.
        """
        try:
            return run_coroutine(admit(worker, args, kwargs))
        except SoftTimeLimitExceeded:
            raise Reject("not kept in time", requeue=True) from None

    def cancel_event(event_id: str) -> None:
        loop = current_loop()
        if loop is not None:
            asyncio.run_coroutine_threadsafe(cancel(worker, event_id), loop)

    options = {"base": TurnTask, "cancel_event": staticmethod(cancel_event)}
    for type_ in event_types():
        # a dead letter is expected: no traceback in the log
        app.task(turn, name=type_, bind=True, throws=(DeadLetterFailure,), **options)
    # A redelivery after a crash is harmless: events that are known are not taken twice. Flower is not told of the
    # transport, which would cost more than the work; it knows the turns, and each event's record knows its own way.
    # The worker's time limits are for turns: while the state is away this waits, and what runs out of time is lost.
    limits = {"soft_time_limit": YEAR_SECONDS, "time_limit": YEAR_SECONDS, "acks_on_timeout": False}
    app.task(ingest, name=INGEST_TASK, acks_late=True, send_events=False, **limits)


async def run_turn(
    worker: WorkerProcess, lane: str, event_id: str, begun: Callable[[int], None], *, revoked: bool
) -> Verdict:
    """Run an event; one that was revoked is cancelled first, and run only if that takes a run (it has shown frames).
    `begun` is told which attempt it is."""
    runtime = worker.runtime
    cancelled = await runtime.cancel(event_id) if revoked else None
    return cancelled or await runtime.runner.run(lane, event_id, over_time, begun)


def over_time() -> bool:
    """Whether the task that this is called in has passed one of its time limits."""
    return stop_cause() in (StopCause.SOFT_TIME_LIMIT, StopCause.HARD_TIME_LIMIT)


async def cancel(worker: WorkerProcess, event_id: str) -> None:
    """Cancel an event now. If the state is away it goes on: whoever revokes sees it, and can do so again."""
    try:
        await worker.runtime.cancel(event_id)
    except STATE_ERRORS as error:
        log.error("event_not_cancelled", extra={"event_id": event_id, "error": type(error).__name__})


async def admit(worker: WorkerProcess, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, int]:
    """Take the events of one call in order, in batches; how many became what."""
    admission, source = worker.runtime.admission, f"task {INGEST_TASK}"
    given = list(args) if args or kwargs.keys() != {"event"} else [kwargs["event"]]
    if len(given) != 1 or (args and kwargs):
        error = f"{INGEST_TASK} takes one argument, an event or a list of events"
        await admission.bury([admission.letter(json_bytes([args, kwargs]), error, source=source)])
        return {"accepted": 0, "duplicates": 0, "buried": 1}
    events = given[0] if isinstance(given[0], list) else given
    total: Counter[str] = Counter()
    for start in range(0, len(events), BATCH):
        admitted = await admission.admit(events[start : start + BATCH], source=source)
        total.update(accepted=admitted.accepted, duplicates=admitted.duplicates, buried=admitted.buried)
    return dict(total)
