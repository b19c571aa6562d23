"""Spans: what of an event took how long, each under the trace that the event carries. While nobody exports them, they
cost next to nothing.

An event outlives processes, so its spans are not nested in each other but hang on the place that its `traceparent`
names (of its publisher, or of the request that brought it); what happens inside of a run hangs on the run. Attributes
are ids, names that a deployment declares, and numbers: never a text of a conversation.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

Value = str | int | float | bool
Attributes = Mapping[str, Value]

EVENT_ID = "chatkit.event_id"
EVENT_TYPE = "chatkit.event_type"
ATTEMPT = "chatkit.attempt"
OUTCOME = "chatkit.outcome"
REASON = "chatkit.reason"


class Kind(StrEnum):
    """What a span is to the processes beside it, as OpenTelemetry has it."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


class Span(Protocol):
    """One that has begun."""

    @property
    def traceparent(self) -> str | None:
        """The place that others may hang on; None: nobody exports it."""

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""

    def fail(self, error: str) -> None:
        """It went wrong. `error` is a class or a reason, no message: those quote prompts."""

    def end(self, at_ns: int | None = None) -> None:
        """It is over, now or then."""


class NoSpan:
    """Nobody wants to know."""

    traceparent = None

    def set(self, attributes: Attributes) -> None:
        """Nothing."""

    def fail(self, error: str) -> None:
        """Nothing."""

    def end(self, at_ns: int | None = None) -> None:
        """Nothing."""


NOBODY = NoSpan()


class Tracer(Protocol):
    """Begins spans; `workers.telemetry.otlp` has the one that exports them."""

    def begin(
        self, name: str, parent: str | None, kind: Kind, attributes: Attributes, at_ns: int | None, *, own: bool
    ) -> Span:
        """See `begin`."""


_tracer: Tracer | None = None
_current: ContextVar[Span] = ContextVar("span", default=NOBODY)


def install(tracer: Tracer | None) -> None:
    """Have the spans of this process exported; None: no more."""
    global _tracer
    _tracer = tracer


def is_on() -> bool:
    """Whether anybody exports them."""
    return _tracer is not None


def current() -> Span:
    """The span that this task is inside of."""
    return _current.get()


def begin(
    name: str,
    parent: str | None = None,
    *,
    kind: Kind = Kind.INTERNAL,
    attributes: Attributes | None = None,
    at_ns: int | None = None,
    own: bool = False,
) -> Span:
    """Begin a span, to be ended by the caller.

    Args:
        name: one of few.
        parent: the traceparent that it hangs on; by default the span that this task is inside of, else none.
        kind: what it is to others.
        attributes: bounded in number and in length.
        at_ns: when it began, in ns since 1970; now by default.
        own: `parent` is the place of this very span, which begins the trace.
    """
    if _tracer is None:
        return NOBODY
    parent = parent or _current.get().traceparent
    return _tracer.begin(name, parent, kind, attributes or {}, at_ns, own=own)


@contextmanager
def span(
    name: str,
    parent: str | None = None,
    *,
    kind: Kind = Kind.INTERNAL,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """A span that is as long as the block, and what this task and those it starts are inside of. `begin` has the
    arguments."""
    if _tracer is None:
        yield NOBODY
        return
    begun = begin(name, parent, kind=kind, attributes=attributes)
    token = _current.set(begun)
    try:
        yield begun
    except BaseException as error:
        begun.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        begun.end()


def past(name: str, parent: str, seconds: float, attributes: Attributes, *, own: bool = False) -> None:
    """A span that is over now, after so many seconds. `begin` has the arguments."""
    if _tracer is not None:
        now = time.time_ns()
        begin(name, parent, attributes=attributes, at_ns=now - round(seconds * 1e9), own=own).end(now)
