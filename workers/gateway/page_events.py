"""What a page may publish: the DOM events of its ChatKit element, in its user's name."""

from typing import Any

from fastapi import Request

from schemas.bindings import BATCH_TYPE, parse_batch
from schemas.errors import FieldProblem, InvalidEventError
from schemas.events import UI_PREFIX, Event
from workers.gateway.bodies import media_type, read_body
from workers.gateway.cloudevents import Received
from workers.gateway.problem import unauthorized
from workers.gateway.requests import source_of
from workers.sessions.tokens import Identity, TokenCode

MAX_PAGE_BATCH_BYTES = 256 * 1024
"""Fifty events, as the page helper sends them at most, take a tenth of it."""


async def receive_from_page(request: Request, identity: Identity) -> Received:
    """Read and check a batch. What an event says about its sender is replaced by what the token says.

    Raises:
        InvalidEventError: the batch as a whole cannot be taken.
        ProblemError: 401, it is no batch: what else is published needs a service key.
    """
    if media_type(request) != BATCH_TYPE:
        raise unauthorized(TokenCode.INVALID, f"a service key is needed; a page sends {BATCH_TYPE} of {UI_PREFIX}*")
    sender: dict[str, Any] = {
        "source": source_of(identity),
        "tenant": identity.tenant,
        "userid": identity.user,
        "sessionid": identity.session_id,
    }
    body = await read_body(request, MAX_PAGE_BATCH_BYTES)
    places = parse_batch(body, max_bytes=MAX_PAGE_BATCH_BYTES, sender=sender)
    return Received([_taken(place, identity) for place in places], is_batch=True)


def _taken(place: Event | InvalidEventError, identity: Identity) -> Event | InvalidEventError:
    """Requests of the chat come by `POST /chatkit`, where they meet the limits of their user; and a session is a lane,
    which is not for others to fill."""
    if isinstance(place, InvalidEventError):
        return place
    if not place.is_ui:
        return InvalidEventError([FieldProblem("type", f"a page publishes {UI_PREFIX}* only")])
    if place.data.get("session_id", identity.session_id) != identity.session_id:
        return InvalidEventError([FieldProblem("data.session_id", "must be the session of the client secret")])
    return place
