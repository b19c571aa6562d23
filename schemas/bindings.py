"""The other two content modes of CloudEvents over HTTP and AMQP: binary (attributes in headers) and batch."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from schemas.decode import decode_json
from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.events import MAX_EVENT_BYTES, Event, check_fields
from schemas.wording import bounded, showable

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
HEADER_PREFIX = "ce-"
REQUIRED_HEADERS = {"ce-specversion", "ce-id", "ce-source", "ce-type"}

MAX_BATCH_EVENTS = 1_000
"""Most events in one batch; its bytes are bounded by the caller."""


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether the headers carry an event, though perhaps not all of it: the content type says nothing about it."""
    return any(name.lower() in REQUIRED_HEADERS for name in headers)


def parse_binary(headers: Mapping[str, str], body: bytes, *, max_bytes: int = MAX_EVENT_BYTES) -> Event:
    """Check one event in binary mode: `ce-` headers (percent-encoded UTF-8) and the data as the body.

    Raises:
        EventTooLargeError: headers and body are larger than `max_bytes`.
        InvalidEventError: names every wrong field.
    """
    carried = [name + value for name, value in headers.items() if name.lower().startswith(HEADER_PREFIX)]
    size_bytes = len(body) + sum(map(len, carried))
    if size_bytes > max_bytes:
        raise EventTooLargeError(size_bytes, max_bytes)
    fields: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for header, value in headers.items():
        name = header.lower()
        if name == "content-type":
            fields["datacontenttype"] = value
        elif name.startswith(HEADER_PREFIX):
            attribute = name.removeprefix(HEADER_PREFIX)
            try:
                fields[attribute] = unquote_to_bytes(value.strip('"')).decode()
            except UnicodeDecodeError:
                problems.append(FieldProblem(showable(attribute), "is not percent-encoded UTF-8"))
    if body:
        try:
            fields["data"] = decode_json(body, max_bytes=max_bytes)
        except InvalidEventError as error:
            problems += [FieldProblem("data", problem.message) for problem in error.problems]
    return _with_problems(fields, problems)


def _with_problems(fields: dict[str, Any], problems: list[FieldProblem]) -> Event:
    """Check the fields that could be read; name them together with those that could not."""
    try:
        event = check_fields(fields)
    except InvalidEventError as error:
        named = {problem.field for problem in problems}  # not "is missing" as well
        problems = problems + [problem for problem in error.problems if problem.field not in named]
        raise InvalidEventError(bounded(problems)) from None
    if problems:
        raise InvalidEventError(bounded(problems))
    return event


def parse_batch(
    raw: bytes,
    *,
    max_bytes: int,
    max_event_bytes: int = MAX_EVENT_BYTES,
    sender: Mapping[str, Any] | None = None,
) -> list[Event | InvalidEventError]:
    """Check a batch. An event that cannot be taken leaves its error at its place, the others are not held up.

    Args:
        raw: a JSON list of events in structured mode.
        max_bytes: bound of the whole batch.
        max_event_bytes: bound of each event.
        sender: attributes that are known of whoever sent it; they replace what the events say.

    Raises:
        InvalidEventError: the batch itself cannot be read, or is too long.
    """
    try:
        values = decode_json(raw, max_bytes=max_bytes)
    except EventTooLargeError:
        raise
    except InvalidEventError as error:
        raise InvalidEventError([FieldProblem("batch", problem.message) for problem in error.problems]) from None
    if not isinstance(values, list) or len(values) > MAX_BATCH_EVENTS:
        raise InvalidEventError([FieldProblem("batch", f"must be a JSON list of at most {MAX_BATCH_EVENTS} events")])
    return [
        _one({**value, **sender} if sender and isinstance(value, dict) else value, max_event_bytes) for value in values
    ]


def _one(value: Any, max_bytes: int) -> Event | InvalidEventError:
    try:
        event = check_fields(value)
    except InvalidEventError as error:
        return error
    size_bytes = len(event.to_json().encode())
    return EventTooLargeError(size_bytes, max_bytes) if size_bytes > max_bytes else event
