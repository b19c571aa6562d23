"""Filter: which types, sources and tenants this deployment processes. What it ignores is dropped, and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from schemas.events import Event
from schemas.outcome import Dropped, DropReason, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery

Attribute = Literal["type", "source", "tenant"]

Patterns = Mapping[Attribute, Sequence[str]]
"""Attribute of the event -> shell-style patterns."""


@dataclass(frozen=True, slots=True)
class FilterPolicy:
    """Drops an event that a pattern of `deny` matches, or that matches none of the patterns that `allow` has for an
    attribute. Without patterns everything passes."""

    allow: Patterns
    deny: Patterns

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        judged = self.judge(delivery)
        return judged if judged is not None else await call_next(delivery)

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it."""
        return None if self.passes(delivery.event) else Dropped(DropReason.FILTERED)

    def passes(self, event: Event) -> bool:
        """Whether an event is to be processed."""
        denied = any(_matches(event, name, patterns) for name, patterns in self.deny.items())
        return not denied and all(_matches(event, name, patterns) for name, patterns in self.allow.items())


def _matches(event: Event, attribute: Attribute, patterns: Sequence[str]) -> bool:
    value: str = getattr(event, attribute)
    return any(fnmatchcase(value, pattern) for pattern in patterns)
