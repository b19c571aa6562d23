"""What a fake provider is told to say: answers, and every way in which a provider fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A message, streamed word by word."""

    text: str


@dataclass(frozen=True)
class Tool:
    """A tool call, or a handoff (`transfer_to_…`); `say` is text in front of it in the same response."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    say: str = ""


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    status: int
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "The prompt was: SECRET PROMPT"


@dataclass(frozen=True)
class Hang:
    """Silence after some deltas, until the client goes away."""

    after_deltas: int = 0


@dataclass(frozen=True)
class Cut:
    """The connection breaks after some deltas; `clean` ends the stream as if nothing were missing."""

    after_deltas: int = 2
    clean: bool = False


@dataclass(frozen=True)
class Failed:
    """The stream ends with `response.failed`, or with an `error` event."""

    code: str
    after_deltas: int = 1
    message: str = "SECRET PROMPT"
    as_error_event: bool = False


@dataclass(frozen=True)
class Incomplete:
    """The stream ends with `response.incomplete`."""

    reason: str = "max_output_tokens"


@dataclass(frozen=True)
class Garbage:
    """A stream whose data is no JSON."""


@dataclass(frozen=True)
class Refusal:
    """A message in which the model says that it will not."""

    text: str = "SECRET PROMPT? I can't help with that."


@dataclass(frozen=True)
class Late:
    """Another step, whose answer begins late."""

    seconds: float
    then: "Step"


Step = Garbage | Text | Tool | Status | Hang | Cut | Failed | Incomplete | Refusal | Late
