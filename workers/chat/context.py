"""The request context of ChatKit: on whose behalf, for which event, and what came of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from chatkit.store import StoreItemType

from schemas.chatkit import ThreadItem
from schemas.ids import derived_id
from workers.chat.joints import Join, Joints
from workers.chat.journal import TurnJournal
from workers.lanes.records import Owner
from workers.policies.delivery import ModelUse, StopSignal

ID_PREFIXES: dict[StoreItemType, str] = {
    "thread": "thr",
    "message": "msg",
    "tool_call": "tc",
    "workflow": "wf",
    "task": "tsk",
    "attachment": "atc",
    "sdk_hidden_context": "shcx",
}


_ID_SCOPE: ContextVar[str] = ContextVar("id_scope", default="")


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that waits for the user's consent to some calls: name, and arguments to be read."""

    calls: Sequence[tuple[str, str]]
    state: str


@dataclass(slots=True, eq=False)
class TurnContext:
    """One request of one user. Ids are derived from the event, so that a redelivery makes the same ones."""

    owner: Owner
    event_id: str
    attempt: int = 1
    traceparent: str | None = None
    queue: str = ""
    """What wakes the event now."""
    hops: int = 0
    """How often a handoff has changed the queue."""
    agent: str | None = None
    """The short name of the agent that a route wants to begin."""
    stop: StopSignal = field(default_factory=StopSignal)
    session_id: str | None = None
    """Of the page that sent the request."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The request's `metadata`."""
    failure: Exception | None = None
    """What ended the answer. ChatKit would make an error frame of it; the policies are to decide instead."""
    error_is_told: bool = False
    """Whether the answer ended with an error that its maker wants the user to see."""
    given: list[ThreadItem] = field(default_factory=list)
    """What the request itself put into the thread: the user's message, a tool's output, an action."""
    use: ModelUse = field(default_factory=ModelUse)
    journal: TurnJournal | None = None
    """Completed steps. None: this turn keeps none, and a run of it starts at its beginning."""
    asked: Asked | None = None
    """What the run waits with, at its end."""
    joints: Joints | None = None
    """Messages that steer this turn. None: nothing joins it."""
    join: Join | None = None
    """Lets messages that wait join a step; with it, the agents' answer gets `joints`."""
    replaying: bool = False
    """Whether what is being shown comes from the journal."""
    _ordinals: Counter[str] = field(default_factory=Counter)

    @property
    def tenant(self) -> str:
        return self.owner.tenant

    @property
    def user(self) -> str:
        return self.owner.user

    @property
    def model(self) -> str | None:
        return self.use.model

    def next_id(self, kind: StoreItemType) -> str:
        """The next id of its kind in this event, or in the scope that this code runs in."""
        place = f"{kind}\n{scope}" if (scope := _ID_SCOPE.get()) else kind
        self._ordinals[place] += 1
        seed = f"{self.owner.tenant}\n{self.event_id}\n{place}\n{self._ordinals[place]}"
        return derived_id(ID_PREFIXES[kind], seed.encode())

    @contextmanager
    def id_scope(self, scope: str) -> Iterator[None]:
        """Ids that are asked for inside count on their own: tools run side by side, now this one first, now that."""
        token = _ID_SCOPE.set(scope)
        try:
            yield
        finally:
            _ID_SCOPE.reset(token)

    def fail(self, error: Exception) -> None:
        """Keep the first failure; what follows from it is noise."""
        if self.failure is None:
            self.failure = error

    def add_usage(self, *, requests: int, input_tokens: int, output_tokens: int) -> None:
        """Count the model calls of a run that said what they used, and their tokens; an unfinished run's included."""
        self.use.requests += requests
        self.use.input_tokens += input_tokens
        self.use.output_tokens += output_tokens

    def ask_approval(self, calls: Sequence[tuple[str, str]], state: str) -> None:
        """Keep the run, which waits for the user's consent to these calls, and ask in the thread."""
        self.asked = Asked(calls, state)

    async def next_call(self) -> None:
        """Wait for what the limits say to one more call of this turn, and count it."""
        await self.use.begin_call()

    def raise_failure(self) -> None:
        """Raise what ended the answer, if anything did."""
        if self.failure is not None:
            raise self.failure
