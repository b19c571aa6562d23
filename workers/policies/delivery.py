"""What a policy and a handler are given: one event, leased to this worker."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas.events import Event
from schemas.outcome import CancelReason, ParkReason


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one event of a lane. Writes are fenced by `owner` and `epoch`; `token` makes them idempotent."""

    lane: str
    event_id: str
    owner: str
    token: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Waited:
    """How long an event could have run before this run of it began, or what it was parked for until then."""

    seconds: float
    parked: ParkReason | None = None


@dataclass(slots=True)
class StopSignal:
    """Says why the running turn is being cancelled: `reason` is set before its asyncio task is.

    A delivery that comes with a reason was stopped while nobody ran it: what was shown is kept, nothing is run.

    A cancelled task that finds no reason here was not stopped by the user (the worker drains, the lease is lost).
    """

    reason: CancelReason | None = None


@dataclass(slots=True)
class ModelUse:
    """Which model a run is to use, and what it used of it.

    `model` None: the deployment's. `calls` were begun, and the provider counts them however they ended; `requests` of
    them said what they used. `next_call`, if any, is awaited with the number of each call after the first, before it.
    """

    model: str | None = None
    calls: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    next_call: Callable[[int], Awaitable[None]] | None = None
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    async def begin_call(self) -> None:
        """To be awaited before each call to the model: waits until the limits let it go. The first is reserved."""
        async with self._one_at_a_time:  # tools of one response run at once, and may call the model as well
            if self.calls and self.next_call is not None:
                await self.next_call(self.calls + 1)
            self.calls += 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """One run of one event.

    `attempt` counts from 1 and only a Retry raises it; `deaths` counts the workers that began the event and did not
    come back, and this one, since it last ended or failed in a way that is tried again. `next_frame` is the number of
    the first frame that is not yet in the stream. `journaled`: an earlier run has completed steps, which are in its
    journal. `redriven`: it was a dead letter until `accepted_at`. `queue` is the one that wakes it now; `hops` counts
    how often a handoff has changed it. `age_seconds` is since `accepted_at`, at `begun_at` (monotonic). `waited`: None
    when it was taken over from a worker that died.
    """

    event: Event
    lease: Lease
    attempt: int
    deaths: int
    acceptance: int
    next_frame: int
    accepted_at: datetime
    journaled: bool = False
    redriven: bool = False
    queue: str = ""
    hops: int = 0
    age_seconds: float = 0.0
    waited: Waited | None = None
    begun_at: float = field(default_factory=time.monotonic, compare=False)
    stop: StopSignal = field(default_factory=StopSignal)
    use: ModelUse = field(default_factory=ModelUse)


@dataclass(frozen=True, slots=True)
class LastLook:
    """What is found of an event that is about to end without an answer.

    Args:
        frames: what takes back from the screen what is not stored.
        answered: its answer is stored, and so was shown before: whoever stored it died before it could say so.
    """

    frames: Sequence[bytes] = ()
    answered: bool = False
