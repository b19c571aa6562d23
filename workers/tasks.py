"""The Celery tasks. Each body: decode, run, tell Celery (and so Flower) how it ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.exceptions import Retry as CeleryRetry

from schemas.events import event_types
from schemas.outcome import Cancelled, DeadLettered, Done, Dropped, Parked, Released, ReleaseReason, Retry
from workers.ingest.letters import json_bytes
from workers.pool import DrainTimeout, run_coroutine
from workers.runner import NothingToDo, Verdict
from workers.runtime import WorkerProcess

INGEST_TASK = "chatkit.ingest"
BATCH = 100


class DeadLetterFailure(Exception):  # noqa: N818  # Flower shows this name as the row's failure
    """Shown by Celery and Flower as FAILURE; the dead letter itself is in the lane's shard."""


class GoesOn(CeleryRetry):  # type: ignore[misc]  # Celery has no types
    """Shown by Celery and Flower as RETRY. Flower shows the text, where it would show Celery's own as `Retry(…)`."""

    def __repr__(self) -> str:
        return str(self)


def show(task: Task, verdict: Verdict) -> str:
    """Make Celery show the verdict as it is: SUCCESS, RETRY, REVOKED, FAILURE, or ignored."""
    match verdict:
        case Done():
            return "done"
        case Dropped(reason):
            return f"dropped: {reason}"
        case Retry(reason, delay) | Parked(reason, delay):
            # Raised without publishing: the lane's alarm sends the next wake-up, under the same task id.
            seconds = delay.total_seconds()
            raise GoesOn(f"{reason}, again in {seconds:.1f} s", when=seconds)
        case Released(reason):
            raise GoesOn(f"released: {reason}", when=0)
        case Cancelled(reason):
            task.send_event("task-revoked", terminated=True, signum=None, expired=False, reason=reason)
            raise Ignore(f"cancelled: {reason}")
        case DeadLettered(reason, error):
            raise DeadLetterFailure(f"{reason}: {error.kind if error else 'no error'}")
        case NothingToDo(why):
            raise Ignore(why)
        case _:
            assert_never(verdict)


def register(app: Celery, worker: WorkerProcess) -> None:
    """Register one task per event type, and the ingest task."""

    def turn(self: Task, lane: str, event_id: str) -> str:
        """A wake-up: run the event at the head of the lane, if it is this one's turn."""
        try:
            verdict = run_coroutine(worker.runtime.runner.run(lane, event_id))
        except DrainTimeout:
            verdict = Released(ReleaseReason.SHUTDOWN)  # the runner has given the event back already
        return show(self, verdict)

    def ingest(*args: Any, **kwargs: Any) -> dict[str, int]:
        """Take one event or a list, in order. Acknowledged late: only when every one of them is kept.

        Whatever it is called with is taken or buried: a failed task would leave nothing of it.
        """
        return run_coroutine(admit(worker, args, kwargs))

    for type_ in event_types():
        app.task(turn, name=type_, bind=True, throws=(DeadLetterFailure,))  # expected: no traceback in the log
    # A redelivery after a crash is harmless: events that are known are not taken twice. Flower is not told of the
    # transport, which would cost more than the work; it knows the turns, and each event's record knows its own way.
    app.task(ingest, name=INGEST_TASK, acks_late=True, send_events=False)


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
