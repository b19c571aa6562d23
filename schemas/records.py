"""Records about events that users read: acceptances, states, dead letters."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.outcome import DeadReason, EventState


class Published(BaseModel):
    """What a publisher is told: the id inside the system and the thread, the same at every publication."""

    model_config = ConfigDict(frozen=True)

    id: str
    thread_id: str | None = None


class Acceptance(Published):
    """Answer of `POST /v1/events`: what the queue did with one event."""

    state: EventState
    duplicate: bool


class EventStatus(BaseModel):
    """Answer of `GET /v1/events/{id}`. Times are UTC; `eta_seconds` is an estimate."""

    model_config = ConfigDict(frozen=True)

    id: str
    source: str
    type: str
    lane: str
    state: EventState
    reason: str | None = None
    attempt: int
    place: int | None = None
    eta_seconds: float | None = None
    accepted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_frame_id: str | None = None
    traceparent: str | None = None
    joined: str | None = None
    """The event whose turn this message has joined: from then on it is as that one is."""


class PageState(BaseModel):
    """Answer of `GET /v1/sessions/{id}`: what the pages of a session said last. No text of the user's is in it.

    `ready`: the page was well when it spoke last. `open_thread_id`: null where it shows none. `last_error`: the name of
    the last error since it was loaded.
    """

    model_config = ConfigDict(frozen=True)

    session_id: str
    tenant: str
    user: str
    ready: bool
    open_thread_id: str | None = None
    last_event: str
    last_error: str | None = None
    last_seen_at: datetime | None = None


class EndFrame(BaseModel):
    """Data of the last frame of every stream, `event: end`: how the event ended."""

    model_config = ConfigDict(frozen=True)

    state: EventState
    reason: str | None = None


class TurnEndFrame(EndFrame):
    """Data of `event: turn.end` in the stream of a thread: which of its turns ended, and how."""

    id: str


class FailedAttempt(BaseModel):
    """One attempt that failed: when, and with what (class and cleaned message)."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    error: str


class DeadLetter(BaseModel):
    """A dead letter. `body` is the event as JSON, or the raw bytes as base64 when it never parsed (`raw`)."""

    model_config = ConfigDict(frozen=True)

    id: str
    source: str | None = None
    type: str | None = None
    thread_id: str | None = None
    tenant: str | None = None
    reason: DeadReason
    error: str | None = None
    attempts: tuple[FailedAttempt, ...] = ()
    died_at: datetime
    trace_id: str | None = None
    worker: str | None = None
    body: str | None = None
    raw: bool = False
