"""Handlers of events that run together."""

from collections.abc import Sequence
from typing import Protocol

from schemas.errors import WorkersError
from schemas.outcome import Outcome
from workers.policies.delivery import Delivery

LightResult = tuple[Outcome | WorkersError, list[bytes]]
"""How one event without a model went: its outcome or what failed, and the frames it shows."""


class LightBatch(Protocol):
    """Runs events that need no model, together. One result for each delivery, in order."""

    async def __call__(self, deliveries: Sequence[Delivery], /) -> Sequence[LightResult]: ...
