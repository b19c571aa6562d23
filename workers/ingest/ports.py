"""What the intake asks of others: the lanes, the graveyard, the policies."""

from collections.abc import Sequence
from typing import Protocol

from schemas.errors import WorkersError
from schemas.events import Event
from schemas.outcome import Outcome
from schemas.records import DeadLetter
from workers.lanes.records import (
    Accepted,
    Begun,
    NotBegun,
    Refused,
    Settled,
    Settlement,
    SettleRefused,
    Start,
)
from workers.policies.delivery import Delivery


class IntakeLanes(Protocol):
    """The part of `Lanes` that the intake uses: batches, one round trip each."""

    async def accept(self, events: Sequence[tuple[Event, str]]) -> list[Accepted | Refused]: ...

    async def begin(self, starts: Sequence[Start]) -> list[Begun | NotBegun]: ...

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled | SettleRefused]: ...


class Graveyard(Protocol):
    """Keeps what never became an event."""

    async def bury(self, letters: Sequence[DeadLetter]) -> list[bool]:
        """Of each letter, whether it was not kept before."""


class LightPolicies(Protocol):
    """What the policies say about an event that runs in a batch."""

    def judge(self, delivery: Delivery) -> Outcome | None:
        """An outcome without running it (it was stopped, its deadline has passed, it kills workers); None runs it."""

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        """The outcome of a run that failed."""


class Mourner(Protocol):
    """Tells whoever has to know."""

    def buried(self, letters: Sequence[DeadLetter]) -> None:
        """These letters are kept, and were not before."""
