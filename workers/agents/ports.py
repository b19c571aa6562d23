"""What the agents ask of the turn that they answer, and of the services that they look things up in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agents import RunContextWrapper
from chatkit.agents import AgentContext

ToolContext = RunContextWrapper[AgentContext[Any]]
"""What a tool gets: `.context` is the turn's `AgentContext`, `.context.request_context` is a `Turn`."""


class Turn(Protocol):
    """The turn that is being answered, as `workers.chat` describes it."""

    @property
    def event_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def tenant(self) -> str: ...

    @property
    def user(self) -> str: ...

    @property
    def model(self) -> str | None:
        """The model to use; None: the deployment's."""
        ...

    async def next_call(self) -> None:
        """Awaited before each call to the model after the first: the limits may want it to wait."""
        ...

    def add_usage(self, *, requests: int, input_tokens: int, output_tokens: int) -> None:
        """Count the model calls and tokens of a run, an unfinished one included."""
        ...


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
