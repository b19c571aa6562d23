"""From a request of the ChatKit protocol to an event of the user who is signed in."""

import uuid

from fastapi import Request

from schemas.chatkit import request_types
from schemas.errors import FieldProblem, InvalidEventError
from schemas.events import PREFIX, Event, parse_event
from schemas.traces import HEADER, is_traceparent, new_traceparent
from workers.allow_lists import AllowLists
from workers.gateway.bodies import read_json
from workers.sessions.tokens import Identity
from workers.telemetry import spans
from workers.telemetry.sentry import started_trace


def source_of(identity: Identity) -> str:
    """The source of a user's events: with it, nobody can take up another user's Idempotency-Key."""
    return f"/tenants/{identity.tenant}/users/{identity.user}"


def traceparent_of(request: Request) -> str:
    """The trace that the caller is in, or a new one."""
    given = request.headers.get(HEADER, "")
    return given if is_traceparent(given) else spans.current().traceparent or started_trace() or new_traceparent()


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
    try:
        event = parse_event(attributes | {HEADER: traceparent_of(request)})
        allowed.check(event)
    except InvalidEventError as error:
        raise InvalidEventError([_of_request(problem) for problem in error.problems]) from None
    return event


def _of_request(problem: FieldProblem) -> FieldProblem:
    """The client sent a request, not an event: it knows no `data`, and calls the id Idempotency-Key."""
    field = "Idempotency-Key" if problem.field == "id" else problem.field.removeprefix("data.")
    return FieldProblem(field, problem.message)
