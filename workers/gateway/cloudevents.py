"""The HTTP binding of CloudEvents 1.0: structured, batched and binary mode become the same raw events."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import pydantic_core
from fastapi import Request

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.events import Event, decode_json, parse_event
from workers.gateway.bodies import read_body
from workers.gateway.problem import ProblemError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
BINARY_PREFIX = "ce-"

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """What one request held. Each place of a batch is an event or says why it is none."""

    events: list[Event | InvalidEventError]
    is_batch: bool


async def receive(request: Request, max_event_bytes: int) -> Received:
    """Read and check the event or events of a request.

    Raises:
        InvalidEventError: the one event, or the batch as a whole, cannot be taken.
        ProblemError: 415, another content type.
    """
    media = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media == BATCH:
        body = await read_body(request, max(MAX_BATCH_BYTES, max_event_bytes))
        return Received(_batch(body, max_event_bytes), is_batch=True)
    binary = "ce-id" in request.headers or "ce-type" in request.headers
    if media not in {STRUCTURED, "application/json", ""}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {STRUCTURED}, {BATCH}, or application/json with ce- headers"
        )
    body = await read_body(request, max_event_bytes)
    if binary and media != STRUCTURED:
        return Received([parse_event(_binary(request.headers, body, max_event_bytes))], is_batch=False)
    return Received([parse_event(body, max_bytes=max_event_bytes)], is_batch=False)


def _batch(body: bytes, max_event_bytes: int) -> list[Event | InvalidEventError]:
    items = decode_json(body, max_bytes=len(body))
    if not isinstance(items, list):
        raise InvalidEventError([FieldProblem("batch", "must be a JSON array of events")])
    if len(items) > MAX_BATCH_EVENTS:
        raise InvalidEventError([FieldProblem("batch", f"has {len(items)} events, at most {MAX_BATCH_EVENTS}")])
    # the size of one event shows only once it stands alone, and no event is larger than its batch
    measure = len(body) > max_event_bytes
    return [_parsed(item, max_event_bytes if measure else None) for item in items]


def _parsed(item: Any, max_bytes: int | None) -> Event | InvalidEventError:
    try:
        if max_bytes is not None and (size := len(pydantic_core.to_json(item))) > max_bytes:
            raise EventTooLargeError(size, max_bytes)
        if not isinstance(item, dict):
            raise InvalidEventError([FieldProblem("event", "must be a JSON object")])
        return parse_event(item)
    except InvalidEventError as error:
        return error


def _binary(headers: Mapping[str, str], body: bytes, max_event_bytes: int) -> dict[str, Any]:
    """Attributes from `ce-` headers, percent-encoded as the binding says; the body is the data."""
    attributes: dict[str, Any] = {
        name.removeprefix(BINARY_PREFIX): unquote(value.strip('"'))
        for name, value in headers.items()
        if name.startswith(BINARY_PREFIX)
    }
    return {**attributes, "datacontenttype": "application/json", "data": decode_json(body, max_bytes=max_event_bytes)}
