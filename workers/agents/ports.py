"""What the agents ask of the turn that they answer, and of the services that they look things up in."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from agents import RunContextWrapper
from chatkit.agents import AgentContext

from schemas.chatkit import UserMessageItem
from schemas.records import PageState
from workers.allow_lists import ANY_ACTION, ActionRules
from workers.lanes.records import Owner
from workers.sessions.issuer import Issued
from workers.streams.outcomes import Reported

ToolContext = RunContextWrapper[AgentContext[Any]]
"""What a tool gets: `.context` is the turn's `AgentContext`, `.context.request_context` is a `Turn`."""


class Journal(Protocol):
    """The completed steps of the event: what an earlier attempt has done is not done again."""

    def get(self, step: str) -> bytes | None:
        """What was kept of a step."""
        ...

    def steps(self) -> list[str]:
        """The names of the steps at hand."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every step of this attempt could be kept; the journal of an event has a bound."""
        ...

    def forget(self, steps: Iterable[str]) -> list[str]:
        """These do not fit the run any more; the ids of what they have shown, to be taken back."""
        ...

    async def put(self, step: str, entry: bytes, items: Sequence[str]) -> None:
        """Keep a step, all of whose frames have been shown; `items` are the ids of what it has shown.

        Raises:
            WorkersError: it cannot be kept, and the run must end.
        """
        ...


class Joints(Protocol):
    """Messages that steer the turn."""

    async def joined(self, response: int) -> list[UserMessageItem]:
        """Those that had joined it up to the response of this number, in an earlier attempt; each is given once."""
        ...

    async def join(self, response: int) -> list[UserMessageItem]:
        """Those that join it now, before the model is asked for this response.

        Raises:
            WorkersError: the run must end.
        """
        ...

    async def commit(self) -> None:
        """Called when one of them has been shown: it is stored, with what was shown before it."""
        ...


class Turn(Protocol):
    """The turn that is being answered, as `workers.chat` describes it."""

    replaying: bool
    """Set while what is shown comes from the journal: it has been shown before."""

    @property
    def journal(self) -> Journal | None:
        """None: this turn keeps none."""
        ...

    @property
    def joints(self) -> Joints | None:
        """None: nothing joins this turn."""
        ...

    def id_scope(self, scope: str) -> AbstractContextManager[None]:
        """Ids that are asked for inside count on their own."""
        ...

    @property
    def event_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def queue(self) -> str:
        """What wakes the event now."""
        ...

    @property
    def hops(self) -> int:
        """How often a handoff has changed that."""
        ...

    @property
    def agent(self) -> str | None:
        """The short name of the agent that begins, whoever answered last; None: no route says so."""
        ...

    @property
    def tenant(self) -> str: ...

    @property
    def user(self) -> str: ...

    @property
    def owner(self) -> Owner: ...

    @property
    def session_id(self) -> str | None:
        """The session of the page that sent the request; None: a service sent it."""
        ...

    @property
    def traceparent(self) -> str | None:
        """The W3C trace header of the event, if it has one."""
        ...

    @property
    def variables(self) -> Mapping[str, Any]:
        """The request's `metadata`, as the page gave it."""
        ...

    @property
    def model(self) -> str | None:
        """The model to use; None: the deployment's."""
        ...

    def ask_approval(self, calls: Sequence[tuple[str, str]], state: str) -> None:
        """The run waits for the user's consent to these calls (name, and arguments to be read): keep it, and ask."""
        ...

    async def next_call(self) -> None:
        """Awaited before each call to the model: it is counted, and the limits may want it to wait."""
        ...

    def add_usage(self, *, requests: int, input_tokens: int, output_tokens: int) -> None:
        """Count the model calls of a run that said what they used, and their tokens; an unfinished run's included."""
        ...


class Secrets(Protocol):
    """Makes sessions for users. `workers.sessions.issuer.SecretIssuer` says what is raised."""

    async def start(self, owner: Owner, *, seed: str) -> Issued:
        """A new session; the same `seed` makes the same one again."""
        ...

    async def renew(self, owner: Owner, session_id: str) -> Issued:
        """A new client secret for a session of the owner's."""
        ...


class Outcomes(Protocol):
    """What pages report of effects. Raises StateAwayError."""

    async def wait(self, owner: Owner, action_id: str, within: timedelta) -> Reported | None:
        """The first report of a page of the owner's; None: there is none in time. Zero asks once."""
        ...


class States(Protocol):
    """What the pages of a user said last. Raises DatabaseError."""

    async def of(self, owner: Owner, session_id: str | None) -> PageState | None:
        """The state of a session of the user's; None: nothing was said in it."""
        ...


@dataclass(frozen=True, slots=True)
class PageAccess:
    """How tools reach the user's pages, and what they may send. What is None is not to be had in this process."""

    secrets: Secrets | None = None
    actions: ActionRules = ANY_ACTION
    outcomes: Outcomes | None = None
    states: States | None = None


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One thing that a service knows: an order, an invoice, an account."""

    kind: str
    key: str
    facts: dict[str, str]


class ServiceDirectory(Protocol):
    """The services behind the service orchestrator. Replace it to connect your own."""

    async def look_up(self, kind: str, key: str, *, tenant: str, user: str) -> ServiceRecord | None:
        """The record, or None when this user has no such record."""
        ...

    def kinds(self) -> Sequence[str]:
        """The kinds of record that can be looked up."""
        ...
