"""The CloudEvents 1.0 envelope of a ChatKit event, its ids, and the one parser that every way in uses."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from schemas.chatkit import TURN_REQUESTS, request_adapter, request_types
from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.sessions import NAME_PATTERN, SESSION_EVENTS, Name, SessionEventData
from schemas.ui import UI_EVENTS

MAX_EVENT_BYTES = 1_048_576
"""Default bound of one event, in bytes of JSON."""

DEFAULT_TENANT = "default"

PREFIX = "chatkit."
UI_PREFIX = "chatkit.ui."
SESSION_PREFIX = "chatkit.session."
ACTION_SEND = "chatkit.action.send"

Priority = Literal["interactive", "background"]
TraceParent = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class ActionSend(BaseModel):
    """Data of `chatkit.action.send`: an effect for the thread's open clients, or a message into the thread."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    class Effect(BaseModel):
        """A client effect: its name and data."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        name: str = Field(min_length=1, max_length=200)
        data: dict[str, Any] = Field(default_factory=dict)

    thread_id: Name
    effect: Effect | None = None
    message: Annotated[str, StringConstraints(min_length=1, max_length=32_768)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ActionSend":
        if (self.effect is None) == (self.message is None):
            raise PydanticCustomError("one_of", "give either effect or message")
        return self


class Event(BaseModel):
    """A CloudEvent of type `chatkit.*`. Extension attributes that are not listed pass through unread."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    specversion: Literal["1.0"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    time: AwareDatetime | None = None
    subject: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    datacontenttype: Literal["application/json"] | None = None
    data: dict[str, Any]

    tenant: Name = DEFAULT_TENANT
    userid: Name
    expirytime: AwareDatetime | None = None
    traceparent: (
        Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None
    ) = None
    priority: Priority = "interactive"

    @cached_property
    def event_id(self) -> str:
        """The id inside the system: the same for every publication of the same event."""
        return event_id(self.source, self.id)

    @cached_property
    def thread_id(self) -> str | None:
        """The thread that the event belongs to; of `threads.create`, the one it will make."""
        if self.type == "chatkit.threads.create":
            return thread_id_of(self.event_id)
        if self.type == ACTION_SEND:
            return str(self.data["thread_id"])
        params = self.data.get("params")
        thread = (
            params.get("thread_id") if isinstance(params, dict) and not self.is_ui and not self.is_session else None
        )
        return thread if isinstance(thread, str) else None

    @property
    def is_ui(self) -> bool:
        return self.type.startswith(UI_PREFIX)

    @property
    def is_session(self) -> bool:
        return self.type.startswith(SESSION_PREFIX)

    @property
    def needs_turn(self) -> bool:
        """Whether it may call a model, and so gets a Celery task of its own."""
        return self.type.removeprefix(PREFIX) in TURN_REQUESTS

    @cached_property
    def lane(self) -> str:
        """`<tenant>/<thread id>`; without a thread `<tenant>/session:<session id, else user>`."""
        if self.thread_id is not None:
            return f"{self.tenant}/{self.thread_id}"
        session = self.data.get("session_id") if self.is_ui or self.is_session else None
        return f"{self.tenant}/session:{session or self.userid}"

    def to_json(self) -> str:
        """The event as structured-mode JSON, without what was not given."""
        return self.model_dump_json(exclude_unset=True)


def event_id(source: str, id_: str) -> str:
    """`evt_` + 26 characters of base32 of SHA-256 of `source + "\\n" + id`."""
    digest = hashlib.sha256(f"{source}\n{id_}".encode()).digest()
    return "evt_" + base64.b32encode(digest).decode().lower()[:26]


def thread_id_of(create_event_id: str) -> str:
    """The thread that a `threads.create` event makes: derived, so that a redelivery makes no second one."""
    return "thr_" + create_event_id.removeprefix("evt_")


def event_types() -> tuple[str, ...]:
    """Every event type that is taken, sorted."""
    return tuple(
        sorted(
            [PREFIX + name for name in request_types()]
            + [UI_PREFIX + name for name in UI_EVENTS]
            + [SESSION_PREFIX + name for name in SESSION_EVENTS]
            + [ACTION_SEND]
        )
    )


def parse_event(raw: bytes | str | Mapping[str, Any], *, max_bytes: int = MAX_EVENT_BYTES) -> Event:
    """Check one event in structured mode.

    Args:
        raw: UTF-8 JSON, or the decoded object.
        max_bytes: bound of the JSON, checked before it is parsed (decoded objects were bounded by their transport).

    Raises:
        EventTooLargeError: larger than `max_bytes`.
        InvalidEventError: names every wrong field, never its content.
    """
    fields = raw if isinstance(raw, Mapping) else decode_json(raw, max_bytes=max_bytes)
    if not isinstance(fields, Mapping):
        raise InvalidEventError([FieldProblem("event", "must be a JSON object")])
    try:
        event = Event.model_validate(fields)
    except ValidationError as error:
        raise InvalidEventError(_problems(error)) from None
    problems = _data_problems(event) or _subject_problems(event) or _extension_problems(event)
    if problems:
        raise InvalidEventError(problems)
    return event


def decode_json(raw: bytes | str, *, max_bytes: int) -> Any:
    """Decode bounded JSON. Raises `EventTooLargeError`, or `InvalidEventError` for what is not UTF-8 JSON."""
    data = raw.encode() if isinstance(raw, str) else raw
    if len(data) > max_bytes:
        raise EventTooLargeError(len(data), max_bytes)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidEventError([FieldProblem("event", f"is not UTF-8 (byte {error.start})")]) from None
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidEventError([FieldProblem("event", f"is not JSON: {error}")]) from None


def _problems(error: ValidationError, prefix: str = "") -> list[FieldProblem]:
    """Our own wording of a pydantic error: the place and the remedy, without the input."""
    problems = []
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        # a tagged union puts the tag into the path; the reader of the message knows it from `type`
        path = [str(part) for part in detail["loc"] if not (prefix and str(part) in request_types())]
        field = ".".join([prefix, *path] if prefix else path) or "event"
        problems.append(FieldProblem(field, _sentence(detail["msg"])))
    return problems


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _data_problems(event: Event) -> list[FieldProblem]:
    data = event.data
    name = event.type.removeprefix(PREFIX)
    try:
        if event.is_ui and (ui_model := UI_EVENTS.get(event.type.removeprefix(UI_PREFIX))) is not None:
            ui_model.model_validate(data)
        elif event.is_session and event.type.removeprefix(SESSION_PREFIX) in SESSION_EVENTS:
            SessionEventData.model_validate(data)
        elif event.type == ACTION_SEND:
            ActionSend.model_validate(data)
        elif name != event.type and name in request_types():
            if data.get("type") != name:
                return [FieldProblem("data.type", f"must be {name!r}, as the event's type says")]
            request_adapter().validate_python(data)
        else:
            return [FieldProblem("type", f"is not known; known types: {', '.join(event_types())}")]
    except ValidationError as error:
        return _problems(error, "data")
    return []


def _subject_problems(event: Event) -> list[FieldProblem]:
    if event.thread_id is not None and not NAME_PATTERN.fullmatch(event.thread_id):
        return [
            FieldProblem("data.params.thread_id", "must be 1 to 128 characters without white space, slash or braces")
        ]
    if event.subject is not None and event.thread_id is not None and event.subject != event.thread_id:
        return [FieldProblem("subject", "must be the thread id of data, or be left out")]
    return []


def _extension_problems(event: Event) -> list[FieldProblem]:
    extra = event.model_extra or {}
    return [
        FieldProblem(name, "is no CloudEvents attribute name (a-z and 0-9, at most 20)")
        for name in extra
        if not (name.isascii() and name.isalnum() and name == name.lower() and len(name) <= 20)
    ]


def is_stale(event: Event, now: datetime) -> bool:
    """Whether the event's `expirytime` has passed."""
    return event.expirytime is not None and event.expirytime <= now
