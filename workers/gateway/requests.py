"""From a request of the ChatKit protocol to an event of the user who is signed in."""

import re
import uuid

from fastapi import Request

from schemas.chatkit import request_types
from schemas.errors import FieldProblem, InvalidEventError
from schemas.events import PREFIX, Event, parse_event
from schemas.names import TRACE_PATTERN
from workers.allow_lists import AllowLists
from workers.gateway.bodies import read_json
from workers.sessions.tokens import Identity

TRACEPARENT = re.compile(TRACE_PATTERN)


def source_of(identity: Identity) -> str:
    """The source of a user's events: with it, nobody can take up another user's Idempotency-Key."""
    return f"/tenants/{identity.tenant}/users/{identity.user}"


async def event_of(request: Request, identity: Identity, max_event_bytes: int, allowed: AllowLists) -> Event:
    """Check the request with the official types and the deployment's lists, and put the verified identity beside it.

    Raises:
        InvalidEventError: names each wrong field of the request.
    """
    body = await read_json(request, max_event_bytes)
    if not isinstance(body, dict) or body.get("type") not in request_types():
        raise InvalidEventError([FieldProblem("type", "is missing, or no request type of the ChatKit protocol")])
    attributes = {
        "specversion": "1.0",
        "id": request.headers.get("Idempotency-Key") or uuid.uuid4().hex,
        "source": source_of(identity),
        "type": PREFIX + body["type"],
        "datacontenttype": "application/json",
        "tenant": identity.tenant,
        "userid": identity.user,
        "sessionid": identity.session_id,
        "data": body,
    }
    traceparent = request.headers.get("traceparent", "")
    if TRACEPARENT.fullmatch(traceparent):
        attributes["traceparent"] = traceparent
    try:
        event = parse_event(attributes)
        allowed.check(event)
    except InvalidEventError as error:
        raise InvalidEventError([_of_request(problem) for problem in error.problems]) from None
    return event


def _of_request(problem: FieldProblem) -> FieldProblem:
    """The client sent a request, not an event: it knows no `data`, and calls the id Idempotency-Key."""
    field = "Idempotency-Key" if problem.field == "id" else problem.field.removeprefix("data.")
    return FieldProblem(field, problem.message)
