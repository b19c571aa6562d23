"""Event type -> policies and handler, as data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.chatkit import TURN_REQUESTS
from schemas.errors import WorkersError
from schemas.events import PREFIX
from schemas.outcome import Cancelled, Outcome
from workers.clock import utc_now
from workers.policies.compose import Handler, Judge, Policy, compose
from workers.policies.dead_letter import DeadLetterPolicy
from workers.policies.deadline import DeadlinePolicy
from workers.policies.delivery import Delivery
from workers.policies.filter import FilterPolicy
from workers.policies.rate_limit import Limits, RateLimitPolicy
from workers.policies.retry import Backoff, RetryPolicy
from workers.policies.session import SessionPolicy, Sessions
from workers.policies.worker_lost import Quarantine, WorkerLostPolicy
from workers.setting_types import TaskPolicy
from workers.settings import Settings

TASK_POLICIES: dict[str, TaskPolicy] = {
    # the caller waits for the one JSON answer, so neither a long row of retries nor a late answer helps anybody
    "threads.sync_custom_action": TaskPolicy(max_attempts=2, deadline=60),
    "input.transcribe": TaskPolicy(max_attempts=2, deadline=60),
}
"""Numbers of single types. `CHATKIT_TASK_POLICIES` may override them."""

TURN_POLICY = TaskPolicy(deadline=3600)
"""Of every type that needs a turn: an answer that comes an hour late is answered to nobody."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the policies of an event type go by. Durations are in seconds."""

    max_attempts: int
    backoff_base: float
    backoff_cap: float
    deadline: float | None = None


def numbers_of(type_: str, settings: Settings) -> Numbers:
    """The numbers of an event type: those of the settings for the type, ours for the type, those of the settings for
    `*`, ours for every turn, and at last the deployment's `MAX_ATTEMPTS`, `BACKOFF_BASE` and `BACKOFF_CAP`."""
    name, given = type_.removeprefix(PREFIX), settings.task_policies
    entries = [given.get(name), TASK_POLICIES.get(name), given.get("*"), TURN_POLICY if name in TURN_REQUESTS else None]
    numbers: dict[str, Any] = settings.model_dump(include={"max_attempts", "backoff_base", "backoff_cap"})
    for entry in reversed(entries):
        if entry is not None:
            numbers.update(entry.model_dump(exclude_none=True))
    return Numbers(**numbers)


class Dispatcher:
    """Gives each delivery the policies of its type and the handler that runs it."""

    def __init__(
        self,
        settings: Settings,
        turns: Handler,
        light: Handler,
        limits: Limits | None = None,
        quarantine: Quarantine | None = None,
        now: Callable[[], datetime] = utc_now,
        sessions: Sessions | None = None,
        more: Sequence[Policy] = (),
    ) -> None:
        """`limits` are asked before every turn; without them a turn uses the model as it likes. `quarantine` runs the
        events that may have killed workers. `sessions` say which were revoked while their turns waited; the handler of
        what is no turn asks them itself, a batch at a time. `more` are policies of plug-ins."""
        self._settings, self._now, self._sessions = settings, now, sessions
        self._limits, self._quarantine, self._more = limits, quarantine, more
        self._turns, self._light = turns, light
        self._stacks: dict[str, list[Policy]] = {}
        self._judges: dict[str, list[Callable[[Delivery], Outcome | None]]] = {}
        self._handlers: dict[tuple[str, bool], Handler] = {}

    async def __call__(self, delivery: Delivery) -> Outcome:
        event, stopped = delivery.event, delivery.stop.reason
        if stopped is not None and not event.needs_turn:
            return Cancelled(stopped)  # what it has shown was stored before
        key = event.type, stopped is not None
        if key not in self._handlers:
            handler = self._turns if event.needs_turn else self._light
            self._handlers[key] = compose(self.policies(event.type, stopped=stopped is not None), handler)
        return await self._handlers[key](delivery)

    def policies(self, type_: str, *, stopped: bool = False) -> Sequence[Policy]:
        """The stack, outermost first. It is written here and nowhere else:

        - Dead letter is the net: it catches what any of the others lets through.
        - Worker lost: an event that kills workers is given up, or runs elsewhere, before anything looks at it again.
        - Deadline: a stale event is dropped before it can fail, and what waits inside waits no longer.
        - Filter: what is not to be processed never meets a limit or spends an attempt.
        - Those of plug-ins, in their order.
        - Retry: it decides about each failure of what is inside it.
        - Session, of turns only: what was sent in a session that was revoked meanwhile reserves nothing and is not run.
        - Rate limit, of turns only: innermost, so that nothing is reserved for what does not run, and what was reserved
          is settled before anything is decided about the failure.

        An event that was stopped while nobody ran it is only ended: nothing judges it, for what it has shown is kept.
        """
        if type_ not in self._stacks:
            self._stacks[type_] = self._build(type_)
        stack = self._stacks[type_]
        return [policy for policy in stack if isinstance(policy, DeadLetterPolicy | RetryPolicy)] if stopped else stack

    def judge(self, delivery: Delivery) -> Outcome | None:
        """For events that run in a batch: what the policies say before the run; None runs it."""
        if delivery.stop.reason is not None:
            return Cancelled(delivery.stop.reason)
        type_ = delivery.event.type
        if type_ not in self._judges:
            self._judges[type_] = [policy.judge for policy in self.policies(type_) if isinstance(policy, Judge)]
        for judge in self._judges[type_]:
            if (outcome := judge(delivery)) is not None:
                return outcome
        return None

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        """For events that run in a batch: the outcome of a failed run."""
        [retry] = [policy for policy in self.policies(delivery.event.type) if isinstance(policy, RetryPolicy)]
        return retry.decide(error, delivery)

    def _build(self, type_: str) -> list[Policy]:
        numbers, patterns = numbers_of(type_, self._settings), self._settings.event_filter
        backoff = Backoff(timedelta(seconds=numbers.backoff_base), timedelta(seconds=numbers.backoff_cap))
        turn = type_.removeprefix(PREFIX) in TURN_REQUESTS
        return [
            DeadLetterPolicy(),
            WorkerLostPolicy(self._quarantine),
            DeadlinePolicy(self._now, timedelta(seconds=numbers.deadline) if numbers.deadline else None),
            FilterPolicy(patterns.allow, patterns.deny),
            *self._more,
            RetryPolicy(backoff, numbers.max_attempts),
            *([SessionPolicy(self._sessions)] if turn and self._sessions is not None else []),
            *([RateLimitPolicy(self._limits)] if turn and self._limits is not None else []),
        ]
