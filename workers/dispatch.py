"""Event type -> queue, policies and handler, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.errors import WorkersError
from schemas.events import PREFIX, Event
from schemas.outcome import Outcome
from workers.clock import utc_now
from workers.policies.compose import Handler, Policy, compose
from workers.policies.dead_letter import DeadLetterPolicy
from workers.policies.deadline import DeadlinePolicy
from workers.policies.delivery import Delivery
from workers.policies.retry import Backoff, RetryPolicy
from workers.policies.worker_lost import WorkerLostPolicy
from workers.settings import Settings

QUEUE_INGEST = "chatkit.events"
QUEUE_INTERACTIVE = "chatkit.interactive"
QUEUE_BACKGROUND = "chatkit.background"
AGENT_QUEUES = ("chatkit.agent.ui_coordination", "chatkit.agent.service_orchestrator")
QUEUES = (QUEUE_INGEST, QUEUE_INTERACTIVE, QUEUE_BACKGROUND, *AGENT_QUEUES)
"""Every queue that a worker consumes unless `-Q` says otherwise."""


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """The numbers of an event type. Unset: the deployment's settings."""

    max_attempts: int | None = None


TASK_POLICIES: dict[str, TaskPolicy] = {
    # the caller waits for the one JSON answer, so a long row of retries helps nobody
    "threads.sync_custom_action": TaskPolicy(max_attempts=2),
    "input.transcribe": TaskPolicy(max_attempts=2),
}


def queue_of(event: Event) -> str:
    """The queue that wakes the event's lane."""
    return QUEUE_BACKGROUND if event.priority == "background" or not event.needs_turn else QUEUE_INTERACTIVE


class Dispatcher:
    """Gives each delivery the policies of its type and the handler that runs it."""

    def __init__(
        self, settings: Settings, turns: Handler, light: Handler, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._settings = settings
        self._turns, self._light = turns, light
        self._worker_lost, self._deadline = WorkerLostPolicy(), DeadlinePolicy(now)
        self._stacks: dict[str, Handler] = {}

    async def __call__(self, delivery: Delivery) -> Outcome:
        return await self._stack(delivery.event)(delivery)

    def retry_policy(self, type_: str) -> RetryPolicy:
        """The retry policy of an event type."""
        settings = self._settings
        numbers = TASK_POLICIES.get(type_.removeprefix(PREFIX), TaskPolicy())
        backoff = Backoff(timedelta(seconds=settings.backoff_base), timedelta(seconds=settings.backoff_cap))
        return RetryPolicy(backoff, numbers.max_attempts or settings.max_attempts)

    def policies(self, type_: str) -> list[Policy]:
        """The stack, outermost first. The net catches what any of the others lets through; an event that kills
        workers is given up before anything looks at it again; a stale one is dropped before it can fail."""
        return [DeadLetterPolicy(), self._worker_lost, self._deadline, self.retry_policy(type_)]

    def judge(self, delivery: Delivery) -> Outcome | None:
        """For events that run in a batch: what the policies say before the run; None runs it."""
        return self._worker_lost.judge(delivery) or self._deadline.judge(delivery)

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        """For events that run in a batch: the outcome of a failed run."""
        return self.retry_policy(delivery.event.type).decide(error, delivery)

    def _stack(self, event: Event) -> Handler:
        stack = self._stacks.get(event.type)
        if stack is None:
            handler = self._turns if event.needs_turn else self._light
            stack = self._stacks[event.type] = compose(self.policies(event.type), handler)
        return stack
