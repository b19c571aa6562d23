"""Stacking policies around a handler."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from schemas.outcome import Outcome
from workers.policies.delivery import Delivery

Handler = Callable[[Delivery], Awaitable[Outcome]]


class Policy(Protocol):
    """Decides one thing about a delivery: answers itself, or calls the next and looks at what came of it."""

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome: ...


@runtime_checkable
class Judge(Protocol):
    """A policy that can decide before the run alone, and so for events that run in a batch."""

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it."""


def compose(policies: Sequence[Policy], handler: Handler) -> Handler:
    """Wrap `handler` in `policies`, the first one outermost."""
    for policy in reversed(policies):
        handler = _bind(policy, handler)
    return handler


def _bind(policy: Policy, call_next: Handler) -> Handler:
    async def bound(delivery: Delivery) -> Outcome:
        return await policy(delivery, call_next)

    return bound
