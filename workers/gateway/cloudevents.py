"""The HTTP binding of CloudEvents 1.0: structured, batched and binary mode become the same events."""

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from schemas.bindings import BATCH_TYPE, STRUCTURED_TYPE, is_binary, parse_batch, parse_binary
from schemas.errors import InvalidEventError
from schemas.events import Event, parse_event
from workers.gateway.bodies import media_type, read_body
from workers.gateway.problem import ProblemError

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
    media = media_type(request)
    if media == BATCH_TYPE:
        most = max(MAX_BATCH_BYTES, max_event_bytes)
        batch = parse_batch(await read_body(request, most), max_bytes=most, max_event_bytes=max_event_bytes)
        return Received(batch, is_batch=True)
    if media not in {STRUCTURED_TYPE, "application/json", ""}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send {STRUCTURED_TYPE}, {BATCH_TYPE}, or application/json with ce- headers",
        )
    body = await read_body(request, max_event_bytes)
    if media != STRUCTURED_TYPE and is_binary(request.headers):
        return Received([parse_binary(request.headers, body, max_bytes=max_event_bytes)], is_batch=False)
    return Received([parse_event(body, max_bytes=max_event_bytes)], is_batch=False)
