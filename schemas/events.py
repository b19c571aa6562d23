"""The CloudEvents 1.0 envelope of a ChatKit event, its ids, and the one parser that every way in uses."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from schemas.actions import ActionSend
from schemas.catalogue import ACTION_SEND, PREFIX, SESSION_PREFIX, UI_PREFIX, event_types
from schemas.chatkit import STREAMING_REQUESTS, TURN_REQUESTS
from schemas.checks import SESSION_LANE, data_problems, extension_problems, named_thread
from schemas.debounce import DEBOUNCED, debounce_of
from schemas.decode import decode_json, decode_object
from schemas.double_text import DoubleText, double_text_of
from schemas.errors import FieldProblem, InvalidEventError
from schemas.ids import derived_id
from schemas.names import JSON_TYPE_PATTERN, TEXT_PATTERN, Name, TraceParent
from schemas.wording import bounded, problems_of

__all__ = [
    "ACTION_SEND",
    "CREATE",
    "DEFAULT_TENANT",
    "MAX_EVENT_BYTES",
    "PREFIX",
    "SESSION_PREFIX",
    "UI_PREFIX",
    "ActionSend",
    "Event",
    "Priority",
    "check_fields",
    "decode_json",
    "event_id",
    "event_types",
    "lane_of",
    "parse_event",
    "thread_id_of",
]

MAX_EVENT_BYTES = 1_048_576
"""Default bound of one event, in bytes of JSON."""

DEFAULT_TENANT = "default"

CREATE = "chatkit.threads.create"

Priority = Literal["interactive", "background"]

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _timestamp(value: Any) -> Any:
    """pydantic would take a number, or a time without seconds or zone, as well."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise PydanticCustomError("timestamp", "not an RFC 3339 time")


Timestamp = Annotated[AwareDatetime, BeforeValidator(_timestamp)]


class Event(BaseModel):
    """A CloudEvent of type `chatkit.*`. Extension attributes that are not listed pass through unread."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    specversion: Literal["1.0"]
    # No control characters: `source + "\n" + id` is hashed, and two events must not get one id.
    id: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=TEXT_PATTERN)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=TEXT_PATTERN)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=TEXT_PATTERN)]
    time: Timestamp | None = None
    subject: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=TEXT_PATTERN)] | None = None
    datacontenttype: Annotated[str, StringConstraints(max_length=128, pattern=JSON_TYPE_PATTERN)] | None = None
    dataschema: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=TEXT_PATTERN)] | None = None
    data: dict[str, Any] = Field(default_factory=dict)

    tenant: Name = DEFAULT_TENANT
    userid: Name
    sessionid: Name | None = None
    expirytime: Timestamp | None = None
    traceparent: TraceParent | None = None
    priority: Priority = "interactive"

    @cached_property
    def event_id(self) -> str:
        """The id inside the system: the same for every publication of the same event."""
        return event_id(self.source, self.id)

    @cached_property
    def thread_id(self) -> str | None:
        """The thread that the event belongs to; of `threads.create`, the one it will make."""
        if self.type == CREATE:
            return thread_id_of(self.event_id)
        named = named_thread(self.type, self.data)
        return named[1] if named is not None else None

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

    @property
    def is_streamed(self) -> bool:
        """Whether it is a turn of a thread: answered by frames that everybody may follow who has the thread open."""
        return self.type.removeprefix(PREFIX) in STREAMING_REQUESTS

    @property
    def double_text(self) -> DoubleText | None:
        """What the request asks for, if it is a turn that may meet another one."""
        return double_text_of(self.data) if self.may_meet_a_turn else None

    @property
    def may_meet_a_turn(self) -> bool:
        """Whether another turn of its thread may run when it comes: that of its creation meets none."""
        return self.is_streamed and self.type != CREATE

    @property
    def debounce_seconds(self) -> float | None:
        """The quiet time that the request asks for, if it may begin a burst."""
        return debounce_of(self.data) if self.may_begin_a_burst else None

    @property
    def may_begin_a_burst(self) -> bool:
        """Whether it is a message, with which others may be answered."""
        return self.type.removeprefix(PREFIX) in DEBOUNCED

    @cached_property
    def lane(self) -> str:
        """`<tenant>/<thread id>`; without a thread `<tenant>/session:<session id, else user>`."""
        if self.thread_id is not None:
            return lane_of(self.tenant, self.thread_id)
        session = self.data.get("session_id") if self.is_ui or self.is_session else None
        return f"{self.tenant}/{SESSION_LANE}{session or self.userid}"

    def to_json(self) -> str:
        """The event as structured-mode JSON, without what was not given."""
        return self.model_dump_json(exclude_unset=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy. Ids and lane are worked out anew: those of the original may be wrong for it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("event_id", "thread_id", "lane"):
            copied.__dict__.pop(name, None)
        return copied


def event_id(source: str, id_: str) -> str:
    """`evt_` + 26 characters of base32 of SHA-256 of `source + "\\n" + id`."""
    return derived_id("evt", f"{source}\n{id_}".encode())


def lane_of(tenant: str, thread_id: str) -> str:
    """The lane of a thread."""
    return f"{tenant}/{thread_id}"


def thread_id_of(create_event_id: str) -> str:
    """The thread that a `threads.create` event makes: derived, so that a redelivery makes no second one."""
    return "thr_" + create_event_id.removeprefix("evt_")


def parse_event(raw: bytes | str | Mapping[str, Any], *, max_bytes: int = MAX_EVENT_BYTES) -> Event:
    """Check one event in structured mode.

    Args:
        raw: UTF-8 JSON, or the decoded object.
        max_bytes: bound of the JSON, checked before it is parsed.

    Raises:
        EventTooLargeError: larger than `max_bytes`.
        InvalidEventError: names every wrong field, never its content.
    """
    if isinstance(raw, Mapping):
        return check_fields(decode_object(raw, max_bytes=max_bytes))
    return check_fields(decode_json(raw, max_bytes=max_bytes))


def check_fields(value: Any) -> Event:
    """Check one event that `decode_json` gave (an element of a batch, say).

    Raises:
        InvalidEventError: names every wrong field of envelope, extensions and data at once.
    """
    if not isinstance(value, dict):
        raise InvalidEventError([FieldProblem("event", "must be a JSON object with the CloudEvents attributes")])
    # CloudEvents: an attribute that is null is an attribute that was not given
    fields = {name: attribute for name, attribute in value.items() if attribute is not None}
    event, problems = None, []
    try:
        event = Event.model_validate(fields)
    except ValidationError as error:
        problems = problems_of(error, fields)
    problems += extension_problems(fields, Event.model_fields)
    problems += data_problems(fields.get("type"), fields.get("data"))
    if "subject" in fields:
        problems += _subject_problems(fields, {problem.field for problem in problems})
    if problems or event is None:
        raise InvalidEventError(bounded(problems))
    return event


def _subject_problems(fields: Mapping[str, Any], wrong: Collection[str]) -> list[FieldProblem]:
    """Also when other fields are wrong, as long as those that it depends on can be read."""
    named = _thread_named_by(fields, wrong)
    if named is None or "subject" in wrong or fields["subject"] == named:
        return []
    return [FieldProblem("subject", "must be the thread id that data names, or be left out")]


def _thread_named_by(fields: Mapping[str, Any], wrong: Collection[str]) -> str | None:
    if "type" in wrong:
        return None
    if fields.get("type") == CREATE:
        readable = not {"id", "source"} & set(wrong)
        return thread_id_of(event_id(fields["source"], fields["id"])) if readable else None
    data = fields.get("data")
    named = named_thread(fields["type"], data) if isinstance(data, Mapping) else None
    return named[1] if named is not None and named[0] not in wrong else None
