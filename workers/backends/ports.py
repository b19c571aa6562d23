"""What a backend is asked, and what comes of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from workers.backends.arguments import Schema


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a call is made.

    Args:
        tenant: of the turn, as it was verified.
        user: same.
        key: the idempotency key: the same in every attempt of this call, and of no other call.
        event_id: for logs.
        traceparent: the W3C trace header of the event, if it has one.
    """

    tenant: str
    user: str
    key: str
    event_id: str
    traceparent: str | None = None


class Fault(StrEnum):
    """Why a call gave no answer that can be used."""

    UNREACHED = "unreached"
    """It was not made: nothing can have happened."""
    UNANSWERED = "unanswered"
    """No answer came, or one that speaks of a fault there: it may have taken effect."""
    BUSY = "busy"
    """The service took nothing and asks for patience."""
    REFUSED = "refused"
    """The service said no."""
    UNUSABLE = "unusable"
    """An answer came, and it is of no use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said, `is_cut` where there was more of it."""

    text: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """`said` is for the model: a status, a reason, the beginning of what the service said. It is in no log."""

    fault: Fault
    said: str
    retry_after_seconds: float | None = None


Result = Answer | Failure


class Backend(Protocol):
    """A service, whatever way leads to it. It makes one attempt; all else is its caller's."""

    async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
        """Call it with arguments that fit its schema. It is cancelled when its time is up."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What a model is told of a tool: a text, and the JSON schema of its arguments."""

    text: str
    parameters: dict[str, Any]
    schema: Schema

    @classmethod
    def of(cls, text: str, parameters: Mapping[str, Any]) -> "Description":
        return cls(text, dict(parameters), Schema(parameters))


Describe = Callable[[], Awaitable[Description | None]]
"""The description of a tool; None: nobody knows it at the moment, so it is not offered."""
